// Agents: named owners of regions that outlive their processes.
//
//   auto agent = client->Agents().Open("coder-7", {.write = true,
//                                                  .create = true});
//   auto region = agent->OpenRegion("heap", {.bytes = 1 << 30});
//   agent->SetPhase(Phase::kTool, "pytest", 30s);
//   agent->Commit();                       // all its regions, at one instant
//   for (const auto& version : *client->Agents().History("coder-7", "heap")) ..
//
// Ownership: an Agent owns its handle and must end after its Regions and before
//   its Client; Agents borrows the Client. Agent is move only. Threads:
//   thread-safe, but for the moves. Errors: those of agents.h. Cost: a request
//   to memd each.
#ifndef AGENTMEM_AGENTS_HPP_
#define AGENTMEM_AGENTS_HPP_

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "agentmem/agents.h"
#include "agentmem/region.hpp"
#include "agentmem/status.hpp"
#include "agentmem/types.hpp"

namespace agentmem {
inline namespace v0 {

enum class Phase : agentmem_phase {
  kReasoning = AGENTMEM_REASONING,
  kTool = AGENTMEM_TOOL,
  kHumanWait = AGENTMEM_HUMAN_WAIT,
  kIdle = AGENTMEM_IDLE,
  kDone = AGENTMEM_DONE,
};

struct AgentOptions {
  bool write = false;
  bool create = false;     // make it if there is none; needs write
  bool take_over = false;  // fence off a writer that lives; needs write
  Labels labels = {};      // of one that is made
  // How long a touch of what is not there waits once memd is gone.
  Timeout fault_timeout = std::chrono::seconds(10);
  Timeout timeout = kDefaultTimeout;
};

class Agent {
 public:
  ~Agent() { agentmem_agent_close(agent_); }
  Agent(Agent&& other) noexcept
      : agent_(std::exchange(other.agent_, nullptr)) {}
  Agent& operator=(Agent&& other) noexcept {
    if (this == &other) return *this;
    agentmem_agent_close(agent_);
    agent_ = std::exchange(other.agent_, nullptr);
    return *this;
  }

  agentmem_agent* raw() const { return agent_; }

  Result<Region> OpenRegion(const std::string& name,
                            const RegionOptions& options = {},
                            Timeout timeout = kDefaultTimeout) {
    agentmem_region_options raw = {};
    raw.size = sizeof(raw);
    raw.force_explicit = options.force_explicit ? 1 : 0;
    raw.bytes = options.bytes;
    raw.version = options.version;
    agentmem_region* region = nullptr;
    agentmem_error error;
    const agentmem_code code = agentmem_region_open(
        agent_, name.c_str(), &raw, TimeoutNs(timeout), &region, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return Region(region);
  }
  // A version of each open region, all at one instant.
  Status Commit(const CommitOptions& options = {}) {
    const RawCommitOptions raw(options);
    agentmem_error error;
    return Status::From(
        agentmem_agent_commit(agent_, raw.get(), TimeoutNs(options.timeout),
                              &error),
        error);
  }
  // `eta`: when the phase ends, from now; 0: unknown.
  Result<HintAnswer> SetPhase(Phase phase, const std::string& tool = {},
                              Timeout eta = Timeout(0),
                              Timeout timeout = kDefaultTimeout) {
    agentmem_answer answer = 0;
    agentmem_error error;
    const agentmem_code code = agentmem_agent_phase(
        agent_, static_cast<agentmem_phase>(phase),
        tool.empty() ? nullptr : tool.c_str(), TimeoutNs(eta),
        TimeoutNs(timeout), &answer, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return static_cast<HintAnswer>(answer);
  }
  Status SetLabels(const Labels& labels, Timeout timeout = kDefaultTimeout) {
    const std::vector<agentmem_label> raw = RawLabels(labels);
    agentmem_error error;
    return Status::From(
        agentmem_agent_set_labels(agent_, raw.data(), raw.size(),
                                  TimeoutNs(timeout), &error),
        error);
  }

 private:
  friend class Agents;

  explicit Agent(agentmem_agent* agent) : agent_(agent) {}

  agentmem_agent* agent_;
};

struct RegionInfo {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t version = 0;  // 0: nothing was committed yet
  std::uint64_t oldest_version = 0;
  std::uint64_t resident_bytes = 0;
  std::uint64_t dirty_bytes = 0;
};

struct AgentInfo {
  std::string name;
  std::string writer;  // its client's name; empty: none now
  std::int32_t writer_pid = 0;
  std::uint32_t region_count = 0;
  Phase phase = Phase::kIdle;
  std::uint64_t region_bytes = 0;
  std::uint64_t resident_bytes = 0;
  std::uint64_t versions = 0;
  std::uint64_t committed_unix_ns = 0;
  std::vector<RegionInfo> regions;  // of Show alone
};

struct VersionInfo {
  std::uint64_t number = 0;
  std::uint64_t parent = 0;  // 0: none
  std::uint64_t origin = 0;  // see flags
  std::uint64_t unix_ns = 0;
  std::uint64_t region_bytes = 0;
  std::uint64_t changed_bytes = 0;
  std::uint32_t changed_pages = 0;
  std::uint32_t flags = 0;  // AGENTMEM_VERSION_IS_...
  std::string message;
  Labels labels;
  std::array<std::uint8_t, 16> trace_id = {};
};

// Agents by their names.
class Agents {
 public:
  explicit Agents(agentmem_client* client) : client_(client) {}

  Result<Agent> Open(const std::string& name,
                     const AgentOptions& options = {}) {
    const std::vector<agentmem_label> labels = RawLabels(options.labels);
    agentmem_agent_options raw = {};
    raw.size = sizeof(raw);
    raw.mode = options.write ? AGENTMEM_AGENT_WRITE : AGENTMEM_AGENT_READ;
    raw.create = options.create ? 1 : 0;
    raw.take_over = options.take_over ? 1 : 0;
    raw.labels = labels.data();
    raw.label_count = static_cast<std::uint32_t>(labels.size());
    // 0 is the C ABI's default.
    raw.fault_timeout_ns =
        std::max<std::uint64_t>(TimeoutNs(options.fault_timeout), 1);
    agentmem_agent* agent = nullptr;
    agentmem_error error;
    const agentmem_code code =
        agentmem_agent_open(client_, name.c_str(), &raw,
                            TimeoutNs(options.timeout), &agent, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return Agent(agent);
  }

  Result<std::vector<AgentInfo>> List(const std::string& prefix = {},
                                      Timeout timeout = kDefaultTimeout) {
    std::vector<AgentInfo> agents;
    const auto note = [](void* context, const agentmem_agent_info* info) {
      static_cast<std::vector<AgentInfo>*>(context)->push_back(From(*info));
    };
    agentmem_error error;
    const agentmem_code code = agentmem_agent_list(
        client_, prefix.c_str(), TimeoutNs(timeout), note, &agents, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return agents;
  }
  Result<AgentInfo> Show(const std::string& name,
                         Timeout timeout = kDefaultTimeout) {
    AgentInfo agent;
    const auto note_agent = [](void* context, const agentmem_agent_info* info) {
      *static_cast<AgentInfo*>(context) = From(*info);
    };
    const auto note_region = [](void* context,
                                const agentmem_region_info* info) {
      static_cast<AgentInfo*>(context)->regions.push_back(
          {info->name, info->bytes, info->version, info->oldest_version,
           info->resident_bytes, info->dirty_bytes});
    };
    agentmem_error error;
    const agentmem_code code =
        agentmem_agent_show(client_, name.c_str(), TimeoutNs(timeout),
                            note_agent, note_region, &agent, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return agent;
  }

  // A new agent with what `from` has committed. `version`: see agents.h.
  Status Fork(const std::string& from, const std::string& to,
              std::uint64_t version = 0, Timeout timeout = kDefaultTimeout) {
    agentmem_error error;
    return Status::From(
        agentmem_agent_fork(client_, from.c_str(), version, to.c_str(),
                            TimeoutNs(timeout), &error),
        error);
  }
  Result<agentmem_hibernate_stats> Hibernate(
      const std::string& name, Timeout timeout = std::chrono::seconds(60)) {
    agentmem_hibernate_stats stats = {};
    agentmem_error error;
    const agentmem_code code = agentmem_agent_hibernate(
        client_, name.c_str(), TimeoutNs(timeout), &stats, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return stats;
  }
  // How many blocks are asked for.
  Result<std::uint64_t> Resume(const std::string& name,
                               Timeout timeout = kDefaultTimeout) {
    std::uint64_t blocks = 0;
    agentmem_error error;
    const agentmem_code code = agentmem_agent_resume(
        client_, name.c_str(), TimeoutNs(timeout), &blocks, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return blocks;
  }
  Status Delete(const std::string& name, Timeout timeout = kDefaultTimeout) {
    agentmem_error error;
    return Status::From(agentmem_agent_delete(client_, name.c_str(),
                                              TimeoutNs(timeout), &error),
                        error);
  }
  Status RetainAll(const std::string& name) {
    return Retain(name, AGENTMEM_RETAIN_ALL, 0);
  }
  Status RetainLast(const std::string& name, std::uint64_t versions) {
    return Retain(name, AGENTMEM_RETAIN_LAST, versions);
  }
  Status RetainYoungerThan(const std::string& name, Timeout age) {
    return Retain(name, AGENTMEM_RETAIN_AGE, TimeoutNs(age));
  }

  // Newest first, from `from` (0: the newest) down; at most `count` (0: all).
  Result<std::vector<VersionInfo>> History(const std::string& agent,
                                           const std::string& region,
                                           std::uint64_t from = 0,
                                           std::uint64_t count = 0,
                                           Timeout timeout = kDefaultTimeout) {
    std::vector<VersionInfo> versions;
    const auto note = [](void* context, const agentmem_version_info* info) {
      static_cast<std::vector<VersionInfo>*>(context)->push_back(From(*info));
    };
    agentmem_error error;
    const agentmem_code code = agentmem_region_history(
        client_, agent.c_str(), region.c_str(), from, count, TimeoutNs(timeout),
        note, &versions, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return versions;
  }
  Result<std::vector<Range>> Diff(const std::string& agent,
                                  const std::string& region, std::uint64_t from,
                                  std::uint64_t to,
                                  Timeout timeout = kDefaultTimeout) {
    std::vector<Range> ranges;
    const auto note = [](void* context, const agentmem_range* range) {
      static_cast<std::vector<Range>*>(context)->push_back(
          {range->offset, range->bytes});
    };
    agentmem_error error;
    const agentmem_code code =
        agentmem_region_diff(client_, agent.c_str(), region.c_str(), from, to,
                             TimeoutNs(timeout), note, &ranges, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return ranges;
  }
  // The number of the new version, which is equal to `version`.
  Result<std::uint64_t> Revert(const std::string& agent,
                               const std::string& region, std::uint64_t version,
                               Timeout timeout = kDefaultTimeout) {
    std::uint64_t made = 0;
    agentmem_error error;
    const agentmem_code code =
        agentmem_region_revert(client_, agent.c_str(), region.c_str(), version,
                               TimeoutNs(timeout), &made, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return made;
  }

 private:
  Status Retain(const std::string& name, agentmem_retention retention,
                std::uint64_t value) {
    agentmem_error error;
    return Status::From(
        agentmem_agent_set_retention(client_, name.c_str(), retention, value,
                                     TimeoutNs(kDefaultTimeout), &error),
        error);
  }
  static AgentInfo From(const agentmem_agent_info& info) {
    return {info.name,
            info.writer,
            info.writer_pid,
            info.regions,
            static_cast<Phase>(info.phase),
            info.region_bytes,
            info.resident_bytes,
            info.versions,
            info.committed_unix_ns,
            {}};
  }
  static VersionInfo From(const agentmem_version_info& info) {
    VersionInfo version = {info.number,
                           info.parent,
                           info.origin,
                           info.unix_ns,
                           info.region_bytes,
                           info.changed_bytes,
                           info.changed_pages,
                           info.flags,
                           info.message,
                           {},
                           {}};
    for (std::size_t i = 0; i < info.label_count; ++i) {
      version.labels.emplace_back(info.labels[i].key, info.labels[i].value);
    }
    std::copy(std::begin(info.trace_id), std::end(info.trace_id),
              version.trace_id.begin());
    return version;
  }

  agentmem_client* client_;
};

}  // namespace v0
}  // namespace agentmem

#endif  // AGENTMEM_AGENTS_HPP_
