#include "client/memctl/agent_client.h"

#include <map>
#include <utility>

#include "agentmem/agents.h"
#include "agentmem/kv.h"
#include "base/status.h"
#include "client/memctl/abi_connection.h"

namespace agentmem::memctl {
namespace {

const char* PhaseName(agentmem_phase phase) {
  switch (phase) {
    case AGENTMEM_REASONING:
      return "reasoning";
    case AGENTMEM_TOOL:
      return "tool";
    case AGENTMEM_HUMAN_WAIT:
      return "human_wait";
    case AGENTMEM_IDLE:
      return "idle";
    case AGENTMEM_DONE:
      return "done";
    default:
      return "unknown";
  }
}

AgentFacts FactsOf(const agentmem_agent_info& info) {
  AgentFacts facts;
  facts.name = info.name;
  facts.phase = PhaseName(info.phase);
  facts.writer = info.writer;
  facts.writer_pid = info.writer_pid;
  facts.writing = info.writing != 0;
  facts.region_count = info.regions;
  facts.region_bytes = info.region_bytes;
  facts.resident_bytes = info.resident_bytes;
  facts.versions = info.versions;
  return facts;
}

const char* WishName(std::uint32_t wish) {
  switch (wish) {
    case AGENTMEM_HBM_NO_WISH:
      return "";
    case AGENTMEM_HBM_EMPTY:
      return "empty";
    case AGENTMEM_HBM_BRING_BACK:
      return "bring_back";
    default:
      return "unknown";
  }
}

void NoteHbm(void* context, const agentmem_hbm_info* info) {
  auto* const processes = static_cast<std::vector<HbmProcessFacts>*>(context);
  // (The list may have changed between two of its parts.)
  if (*info->agent == '\0' || processes->empty() ||
      processes->back().pid != info->pid) {
    HbmProcessFacts& process = processes->emplace_back();
    process.pid = info->pid;
    process.client = info->client;
    process.device = info->device;
  }
  HbmProcessFacts& process = processes->back();
  if (*info->agent == '\0') {
    process.budget_bytes = info->budget_bytes;
    process.allocated_bytes = info->allocated_bytes;
    process.wanted_bytes = info->wanted_bytes;
    process.used_bytes = info->bytes;
    process.blocks = info->blocks;
    process.hits = info->hits;
    process.hit_bytes = info->hit_bytes;
    return;
  }
  HbmAgentFacts& agent = process.agents.emplace_back();
  agent.name = info->agent;
  agent.bytes = info->bytes;
  agent.blocks = info->blocks;
  agent.wish = WishName(info->wish);
  if (info->wish != AGENTMEM_HBM_NO_WISH) {
    agent.phase = PhaseName(static_cast<agentmem_phase>(info->phase));
  }
  agent.wish_open = info->wish_open != 0;
  agent.wish_late = info->wish_late != 0;
  agent.wish_ns = info->wish_ns;
}

class AbiAgentClient final : public AgentClient {
 public:
  AbiAgentClient(AbiClient client, DurationNs timeout)
      : client_(std::move(client)),
        timeout_(static_cast<std::uint64_t>(timeout)) {}

  absl::StatusOr<std::vector<AgentFacts>> List(
      const std::string& prefix) override {
    std::vector<AgentFacts> agents;
    const auto note = [](void* context, const agentmem_agent_info* info) {
      static_cast<std::vector<AgentFacts>*>(context)->push_back(FactsOf(*info));
    };
    agentmem_error error = {};
    AGENTMEM_RETURN_IF_ERROR(
        FromAbi(agentmem_agent_list(client_.get(), prefix.c_str(), timeout_,
                                    note, &agents, &error),
                error));
    AGENTMEM_ASSIGN_OR_RETURN(const auto bytes, HbmBytes());
    for (AgentFacts& agent : agents) {
      const auto its = bytes.find(agent.name);
      if (its != bytes.end()) agent.hbm_bytes = its->second;
    }
    return agents;
  }

  absl::StatusOr<AgentFacts> Show(const std::string& agent) override {
    AgentFacts facts;
    const auto note_agent = [](void* context, const agentmem_agent_info* info) {
      *static_cast<AgentFacts*>(context) = FactsOf(*info);
    };
    const auto note_region = [](void* context,
                                const agentmem_region_info* info) {
      static_cast<AgentFacts*>(context)->regions.push_back(
          {info->name, info->bytes, info->version, info->oldest_version});
    };
    agentmem_error error = {};
    AGENTMEM_RETURN_IF_ERROR(
        FromAbi(agentmem_agent_show(client_.get(), agent.c_str(), timeout_,
                                    note_agent, note_region, &facts, &error),
                error));
    AGENTMEM_ASSIGN_OR_RETURN(auto bytes, HbmBytes());
    facts.hbm_bytes = bytes[facts.name];
    return facts;
  }

  absl::Status Fork(const std::string& from, std::uint64_t version,
                    const std::string& to) override {
    agentmem_error error = {};
    return FromAbi(agentmem_agent_fork(client_.get(), from.c_str(), version,
                                       to.c_str(), timeout_, &error),
                   error);
  }

  absl::StatusOr<HibernateFacts> Hibernate(const std::string& agent) override {
    agentmem_hibernate_stats stats = {};
    agentmem_error error = {};
    AGENTMEM_RETURN_IF_ERROR(
        FromAbi(agentmem_agent_hibernate(client_.get(), agent.c_str(), timeout_,
                                         &stats, &error),
                error));
    return HibernateFacts{stats.written_bytes, stats.released_bytes};
  }

  absl::StatusOr<std::uint64_t> Resume(const std::string& agent) override {
    std::uint64_t blocks = 0;
    agentmem_error error = {};
    AGENTMEM_RETURN_IF_ERROR(
        FromAbi(agentmem_agent_resume(client_.get(), agent.c_str(), timeout_,
                                      &blocks, &error),
                error));
    return blocks;
  }

  absl::Status Delete(const std::string& agent) override {
    agentmem_error error = {};
    return FromAbi(
        agentmem_agent_delete(client_.get(), agent.c_str(), timeout_, &error),
        error);
  }

  absl::StatusOr<std::vector<HbmProcessFacts>> ListHbm() override {
    std::vector<HbmProcessFacts> processes;
    agentmem_error error = {};
    AGENTMEM_RETURN_IF_ERROR(FromAbi(
        agentmem_hbm_list(client_.get(), timeout_, NoteHbm, &processes, &error),
        error));
    return processes;
  }

 private:
  // By agent. A memd that knows of no blocks in device memory has none.
  absl::StatusOr<std::map<std::string, std::uint64_t>> HbmBytes() {
    std::map<std::string, std::uint64_t> bytes;
    const absl::StatusOr<std::vector<HbmProcessFacts>> processes = ListHbm();
    if (processes.status().code() == absl::StatusCode::kUnimplemented) {
      return bytes;
    }
    AGENTMEM_RETURN_IF_ERROR(processes.status());
    for (const HbmProcessFacts& process : *processes) {
      for (const HbmAgentFacts& agent : process.agents) {
        bytes[agent.name] += agent.bytes;
      }
    }
    return bytes;
  }

  const AbiClient client_;
  const std::uint64_t timeout_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AgentClient>> ConnectAgents(
    const std::string& socket_path, const std::string& tenant,
    DurationNs timeout) {
  AGENTMEM_ASSIGN_OR_RETURN(AbiClient client,
                            ConnectAbi(socket_path, tenant, timeout));
  return std::unique_ptr<AgentClient>(
      std::make_unique<AbiAgentClient>(std::move(client), timeout));
}

}  // namespace agentmem::memctl
