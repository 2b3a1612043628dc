// memctl's side of agents: what memd says of them and does to them by name.
//
// Ownership: what ConnectAgents returns is the caller's; results are copies.
// Threads: thread-compatible.
// Errors: those of agents.h, as absl::Status; UNAVAILABLE: no memd.
// Cost: a request a call (List: one for each 128 agents), and one for each 128
//   agents with blocks in device memory where those are told; each waits at
//   most the timeout given at connecting.
#ifndef AGENTMEM_CLIENT_MEMCTL_AGENT_CLIENT_H_
#define AGENTMEM_CLIENT_MEMCTL_AGENT_CLIENT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"

namespace agentmem::memctl {

struct RegionFacts {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t version = 0;  // 0: nothing was committed yet
  std::uint64_t oldest_version = 0;
};

struct AgentFacts {
  std::string name;
  std::string phase;   // "idle"
  std::string writer;  // its client's name
  std::int32_t writer_pid = 0;
  bool writing = false;  // it has a writer now
  std::uint32_t region_count = 0;
  std::uint64_t region_bytes = 0;
  std::uint64_t resident_bytes = 0;
  std::uint64_t hbm_bytes = 0;       // in all processes
  std::uint64_t versions = 0;        // of all its regions, ever
  std::vector<RegionFacts> regions;  // of Show alone
};

struct HibernateFacts {
  std::uint64_t written_bytes = 0;
  std::uint64_t released_bytes = 0;
};

// What a process has of an agent in device memory.
struct HbmAgentFacts {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t blocks = 0;
  std::string wish;   // memd's last: "empty", "bring_back"; "": there was none
  std::string phase;  // that asked for it
  bool wish_open = false;
  bool wish_late = false;
  std::uint64_t wish_ns = 0;  // from the phase to the answer
};

// A process's pool of blocks in device memory.
struct HbmProcessFacts {
  std::int32_t pid = 0;
  std::string client;
  std::string device;
  std::uint64_t budget_bytes = 0;
  std::uint64_t allocated_bytes = 0;
  std::uint64_t wanted_bytes = 0;
  std::uint64_t used_bytes = 0;  // by its agents' blocks
  std::uint64_t blocks = 0;
  std::uint64_t hits = 0;  // 0: memd may not count them
  std::uint64_t hit_bytes = 0;
  std::vector<HbmAgentFacts> agents;  // by name
};

class AgentClient {
 public:
  virtual ~AgentClient() = default;
  // Those whose names begin with `prefix`, by name.
  virtual absl::StatusOr<std::vector<AgentFacts>> List(
      const std::string& prefix) = 0;
  virtual absl::StatusOr<AgentFacts> Show(const std::string& agent) = 0;
  // `version`: 0: the newest of each region; else of an agent with one region.
  virtual absl::Status Fork(const std::string& from, std::uint64_t version,
                            const std::string& to) = 0;
  virtual absl::StatusOr<HibernateFacts> Hibernate(
      const std::string& agent) = 0;
  // How many blocks were asked for.
  virtual absl::StatusOr<std::uint64_t> Resume(const std::string& agent) = 0;
  virtual absl::Status Delete(const std::string& agent) = 0;
  virtual absl::StatusOr<std::vector<HbmProcessFacts>> ListHbm() = 0;
};

// An empty tenant is the user's default one.
absl::StatusOr<std::unique_ptr<AgentClient>> ConnectAgents(
    const std::string& socket_path, const std::string& tenant,
    DurationNs timeout);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_AGENT_CLIENT_H_
