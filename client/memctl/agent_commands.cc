#include "client/memctl/agent_commands.h"

#include <utility>
#include <vector>

#include "base/status.h"
#include "client/memctl/human_text.h"
#include "client/memctl/render_agents.h"
#include "client/memctl/render_hbm.h"

namespace agentmem::memctl {
namespace {

absl::StatusOr<std::unique_ptr<AgentClient>> Agents(
    const Invocation& invocation, const World& world) {
  return world.connect_agents(invocation.socket_path, invocation.tenant,
                              invocation.timeout);
}

absl::StatusOr<std::unique_ptr<RegionClient>> Regions(
    const Invocation& invocation, const World& world) {
  return world.connect_regions(invocation.socket_path, invocation.tenant,
                               invocation.timeout);
}

// Those of all regions, by time, but each region's in their own order: a clock
// may have been set back between two of them.
std::vector<LoggedVersion> ByTime(
    const std::vector<std::vector<LoggedVersion>>& histories) {
  std::vector<std::size_t> next(histories.size(), 0);
  std::vector<LoggedVersion> merged;
  for (;;) {
    std::size_t latest = histories.size();
    for (std::size_t i = 0; i < histories.size(); ++i) {
      if (next[i] == histories[i].size()) continue;
      if (latest == histories.size() ||
          histories[i][next[i]].version.unix_ns >
              histories[latest][next[latest]].version.unix_ns) {
        latest = i;
      }
    }
    if (latest == histories.size()) return merged;
    merged.push_back(histories[latest][next[latest]++]);
  }
}

}  // namespace

absl::Status ListAgents(const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(const auto agents, Agents(invocation, world));
  AGENTMEM_ASSIGN_OR_RETURN(const std::vector<AgentFacts> listed,
                            agents->List(invocation.prefix));
  *world.output << RenderAgents(listed, invocation.output);
  return absl::OkStatus();
}

absl::Status ShowAgent(const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(const auto agents, Agents(invocation, world));
  AGENTMEM_ASSIGN_OR_RETURN(const AgentFacts agent,
                            agents->Show(invocation.name.agent));
  AGENTMEM_ASSIGN_OR_RETURN(const auto regions, Regions(invocation, world));
  std::vector<VersionFacts> newest(agent.regions.size());
  for (std::size_t i = 0; i < newest.size(); ++i) {
    if (agent.regions[i].version == 0) continue;
    AGENTMEM_ASSIGN_OR_RETURN(
        std::vector<VersionFacts> versions,
        regions->History({agent.name, agent.regions[i].name}, 1));
    if (!versions.empty()) newest[i] = std::move(versions.front());
  }
  *world.output << RenderAgent(agent, newest, invocation.output);
  return absl::OkStatus();
}

absl::Status LogAgent(const Invocation& invocation, const World& world) {
  const RegionName& name = invocation.name;
  std::vector<std::string> wanted = {name.region};
  if (name.region.empty()) {
    wanted.clear();
    AGENTMEM_ASSIGN_OR_RETURN(const auto agents, Agents(invocation, world));
    AGENTMEM_ASSIGN_OR_RETURN(const AgentFacts agent, agents->Show(name.agent));
    for (const RegionFacts& region : agent.regions) {
      if (region.version != 0) wanted.push_back(region.name);
    }
  }
  AGENTMEM_ASSIGN_OR_RETURN(const auto regions, Regions(invocation, world));
  std::vector<std::vector<LoggedVersion>> histories;
  for (const std::string& region : wanted) {
    AGENTMEM_ASSIGN_OR_RETURN(
        std::vector<VersionFacts> versions,
        regions->History({name.agent, region}, invocation.count));
    auto& history = histories.emplace_back();
    for (VersionFacts& version : versions) {
      history.push_back({region, std::move(version)});
    }
  }
  std::vector<LoggedVersion> log = ByTime(histories);
  if (invocation.count != 0 && log.size() > invocation.count) {
    log.resize(invocation.count);
  }
  *world.output << RenderLog(name.agent, log, invocation.output);
  return absl::OkStatus();
}

absl::Status DiffRegion(const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(const auto regions, Regions(invocation, world));
  AGENTMEM_ASSIGN_OR_RETURN(
      const std::vector<ByteSpan> spans,
      regions->Diff(invocation.name, invocation.from_version,
                    invocation.version));
  *world.output << RenderDiff(
      invocation.name, {invocation.from_version, invocation.version, spans},
      invocation.output);
  return absl::OkStatus();
}

absl::Status RevertRegion(const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(const auto regions, Regions(invocation, world));
  AGENTMEM_ASSIGN_OR_RETURN(
      const std::uint64_t made,
      regions->Revert(invocation.name, invocation.version));
  *world.output << RenderRevert(invocation.name, made, invocation.version,
                                invocation.output);
  return absl::OkStatus();
}

absl::Status ForkAgent(const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(const auto agents, Agents(invocation, world));
  AGENTMEM_RETURN_IF_ERROR(agents->Fork(
      invocation.name.agent, invocation.version, invocation.fork_to));
  AGENTMEM_ASSIGN_OR_RETURN(const AgentFacts made,
                            agents->Show(invocation.fork_to));
  *world.output << RenderFork(invocation.name.agent, made, invocation.output);
  return absl::OkStatus();
}

absl::Status HibernateAgent(const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(const auto agents, Agents(invocation, world));
  AGENTMEM_ASSIGN_OR_RETURN(const HibernateFacts facts,
                            agents->Hibernate(invocation.name.agent));
  *world.output << RenderHibernate(invocation.name.agent, facts,
                                   invocation.output);
  return absl::OkStatus();
}

absl::Status ResumeAgent(const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(const auto agents, Agents(invocation, world));
  AGENTMEM_ASSIGN_OR_RETURN(const std::uint64_t blocks,
                            agents->Resume(invocation.name.agent));
  *world.output << RenderResume(invocation.name.agent, blocks,
                                invocation.output);
  return absl::OkStatus();
}

absl::Status ShowHbm(const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(const auto agents, Agents(invocation, world));
  AGENTMEM_ASSIGN_OR_RETURN(const std::vector<HbmProcessFacts> processes,
                            agents->ListHbm());
  *world.output << (invocation.by_agent
                        ? RenderHbmAgents(processes, invocation.output)
                        : RenderHbm(processes, invocation.output));
  return absl::OkStatus();
}

absl::Status DeleteAgent(const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(const auto agents, Agents(invocation, world));
  AGENTMEM_ASSIGN_OR_RETURN(const AgentFacts agent,
                            agents->Show(invocation.name.agent));
  if (!invocation.sure) {
    return FailedPrecondition("agent \"" + agent.name +
                              "\" would be gone for ever (regions: " +
                              std::to_string(agent.region_count) + " of " +
                              HumanBytes(agent.region_bytes) +
                              ", versions: " + std::to_string(agent.versions) +
                              "); nothing was done: --yes deletes it");
  }
  AGENTMEM_RETURN_IF_ERROR(agents->Delete(agent.name));
  *world.output << RenderDelete(agent, invocation.output);
  return absl::OkStatus();
}

}  // namespace agentmem::memctl
