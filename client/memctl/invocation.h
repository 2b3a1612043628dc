// What a command line asks for. Plain values; made by ParseCommandLine.
#ifndef AGENTMEM_CLIENT_MEMCTL_INVOCATION_H_
#define AGENTMEM_CLIENT_MEMCTL_INVOCATION_H_

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "client/memctl/region_client.h"
#include "proto/types.h"

namespace agentmem::memctl {

enum class Verb {
  kNone,
  kStatus,
  kTiers,
  kTenants,
  kClients,
  kFabric,
  kBlockShow,
  kBlockPut,
  kBlockGet,
  kDoctor,
  kAgentList,
  kAgentShow,
  kAgentLog,
  kAgentDiff,
  kAgentFork,
  kAgentRevert,
  kAgentHibernate,
  kAgentResume,
  kAgentDelete,
  kRegionRead,
  kRegionWrite,
  kRegionExport,
  kHbm,
};

enum class Output { kTable, kJson };

struct Invocation {
  Verb verb = Verb::kNone;
  std::string socket_path;
  std::string tenant;  // empty: all tenants, or for bytes the user's default
  Output output = Output::kTable;
  DurationNs timeout = 5 * kSecondNs;
  // block
  Key key;
  BlockClass block_class = BlockClass::kCache;
  Ack ack = Ack::kVisible;
  std::string file = "-";  // "-": standard input or output
  // agent and region
  RegionName name;     // agent log: an empty region: all of them
  std::string prefix;  // of agents to list
  std::string fork_to;
  std::uint64_t version = 0;  // 0: the newest
  std::uint64_t from_version = 0;
  std::uint64_t count = 0;  // of versions to log; 0: all
  std::uint64_t offset = 0;
  std::uint64_t length = UINT64_MAX;  // that: up to the region's end
  WriterOptions writer;
  std::string message;
  Labels labels;
  bool sure = false;       // what is asked for cannot be undone
  bool overwrite = false;  // a file that exists
  // hbm
  bool by_agent = false;  // a row for each agent, not for each process
  // doctor
  std::string state_directory;
};

// What memctl takes from the process's environment, read by main() alone.
struct Environment {
  bool root = false;
  unsigned uid = 0;
  std::string agentmem_socket;  // $AGENTMEM_SOCKET
  std::string xdg_runtime_dir;  // $XDG_RUNTIME_DIR
  std::string xdg_state_home;   // $XDG_STATE_HOME
  std::string home;             // $HOME
};

// Longer for what writes or moves a region's bytes.
DurationNs DefaultTimeout(Verb verb);

// The same rule as libagentmem's.
std::string DefaultSocketPath(const Environment& environment);
// The same rule as memd's.
std::string DefaultStateDirectory(const Environment& environment);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_INVOCATION_H_
