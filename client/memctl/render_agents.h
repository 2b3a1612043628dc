// What memctl shows of agents and regions: tables for people, JSON for
// programs.
//
// JSON keys are stable; bytes and nanoseconds are raw integers.
//
// Threads: pure functions. Errors: none. Cost: allocates.
#ifndef AGENTMEM_CLIENT_MEMCTL_RENDER_AGENTS_H_
#define AGENTMEM_CLIENT_MEMCTL_RENDER_AGENTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "client/memctl/agent_client.h"
#include "client/memctl/invocation.h"
#include "client/memctl/region_client.h"

namespace agentmem::memctl {

std::string RenderAgents(const std::vector<AgentFacts>& agents, Output output);
// `newest`: the newest version of each of its regions; number 0: none.
std::string RenderAgent(const AgentFacts& agent,
                        const std::vector<VersionFacts>& newest, Output output);

struct LoggedVersion {
  std::string region;
  VersionFacts version;
};
std::string RenderLog(const std::string& agent,
                      const std::vector<LoggedVersion>& log, Output output);

struct VersionDiff {
  std::uint64_t from = 0;
  std::uint64_t to = 0;
  std::vector<ByteSpan> spans;
};
std::string RenderDiff(const RegionName& name, const VersionDiff& diff,
                       Output output);

std::string RenderRevert(const RegionName& name, std::uint64_t made,
                         std::uint64_t revert_of, Output output);
std::string RenderFork(const std::string& from, const AgentFacts& made,
                       Output output);
std::string RenderHibernate(const std::string& agent,
                            const HibernateFacts& facts, Output output);
std::string RenderResume(const std::string& agent, std::uint64_t asked_blocks,
                         Output output);
// `agent`: as it was.
std::string RenderDelete(const AgentFacts& agent, Output output);

std::string RenderWrite(const RegionName& name, std::uint64_t version,
                        const ByteSpan& written, Output output);
struct ExportFacts {
  std::uint64_t version = 0;
  std::uint64_t bytes = 0;    // the file's length
  std::uint64_t written = 0;  // of them; the others are holes
  std::string file;
};
std::string RenderExport(const RegionName& name, const ExportFacts& facts,
                         Output output);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_RENDER_AGENTS_H_
