// The C ABI: agents.
#include "client/c_api_agents.h"

#include <utility>

#include "agentmem/kv.h"
#include "client/agent_queries.h"

namespace agentmem::client {

Outcome AddLabels(const agentmem_label* labels, std::size_t count,
                  FieldWriter* fields) {
  if (count > kLabelsMax || (labels == nullptr && count != 0)) {
    return Fail(Code::kInvalidArgument,
                std::to_string(count) + " labels; at most " +
                    std::to_string(kLabelsMax) +
                    " are allowed, and labels must not be NULL then");
  }
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const agentmem_label& label = labels[i];
    if (label.key == nullptr || *label.key == '\0') {
      return Fail(Code::kInvalidArgument,
                  "label " + std::to_string(i) + " has no key");
    }
    const std::string_view value = label.value == nullptr ? "" : label.value;
    bytes += std::strlen(label.key) + value.size();
    if (bytes > kLabelsBytesMax) {
      return Fail(Code::kInvalidArgument, "labels of more than the " +
                                              std::to_string(kLabelsBytesMax) +
                                              " bytes that are allowed");
    }
    fields->Add(label.key);
    fields->Add(value);
  }
  return {};
}

void SetAnswer(std::uint8_t answered, agentmem_answer* answer) {
  if (answer != nullptr) *answer = answered;
}

namespace {

constexpr DurationNs kDefaultFaultTimeoutNs = 10 * kSecondNs;

Outcome ReadAgentOptions(const agentmem_agent_options* raw,
                         Agent::Options* out) {
  agentmem_agent_options read;
  if (Outcome sized = ReadOptions("agentmem_agent_options", raw, &read);
      !sized.ok()) {
    return sized;
  }
  if (read.mode > AGENTMEM_AGENT_WRITE) {
    return Fail(Code::kInvalidArgument,
                "mode is " + std::to_string(read.mode) +
                    "; AGENTMEM_AGENT_READ and _WRITE are allowed");
  }
  const bool writes = read.mode == AGENTMEM_AGENT_WRITE;
  if (!writes && (read.create != 0 || read.take_over != 0)) {
    return Fail(Code::kInvalidArgument,
                "create and take_over need AGENTMEM_AGENT_WRITE");
  }
  out->open_flags = (writes ? kOpenWrite : 0) |
                    (read.create != 0 ? kOpenCreate : 0) |
                    (read.take_over != 0 ? kOpenTakeOver : 0);
  out->fault_timeout_ns = kDefaultFaultTimeoutNs;
  if (read.fault_timeout_ns != 0) {
    out->fault_timeout_ns = static_cast<DurationNs>(std::min<std::uint64_t>(
        read.fault_timeout_ns, static_cast<std::uint64_t>(kNoDeadline)));
  }
  FieldWriter labels;
  Outcome added = AddLabels(read.labels, read.label_count, &labels);
  out->labels = labels.bytes();
  return added;
}

// An operation on an agent by its name.
Outcome CallByName(agentmem_client* client, Exchange* exchange,
                   const char* name, AgentLink::Repeat repeat,
                   std::uint64_t timeout_ns) {
  if (Outcome named = SetName("agent's name", name, exchange->request.agent);
      !named.ok()) {
    return named;
  }
  return client->agents().Call(exchange, repeat, Deadline::After(timeout_ns));
}

agentmem_agent_info InfoOf(const AgentEntry& entry) {
  agentmem_agent_info info = {};
  info.name = entry.name;
  info.writer = entry.writer;
  info.writer_pid = entry.writer_pid;
  info.regions = entry.regions;
  info.phase = static_cast<agentmem_phase>(entry.phase);
  info.writing = entry.writing;
  info.region_bytes = entry.region_bytes;
  info.resident_bytes = entry.resident_bytes;
  info.versions = entry.versions;
  info.committed_unix_ns = entry.committed_unix_ns;
  return info;
}

}  // namespace
}  // namespace agentmem::client

using agentmem::AgentOp;
using agentmem::Fail;
using agentmem::Outcome;
using agentmem::client::Agent;
using agentmem::client::AgentLink;
using agentmem::client::Answer;
using agentmem::client::CallByName;
using agentmem::client::Deadline;
using agentmem::client::Exchange;

extern "C" {

agentmem_code agentmem_agent_open(agentmem_client* client, const char* name,
                                  const agentmem_agent_options* options,
                                  uint64_t timeout_ns, agentmem_agent** agent,
                                  agentmem_error* error) {
  AGENTMEM_REQUIRE(agent != nullptr, "agent is NULL", error);
  *agent = nullptr;
  AGENTMEM_ENTER(client, error);
  AGENTMEM_REQUIRE(name != nullptr, "name is NULL", error);
  Agent::Options read;
  if (Outcome outcome = agentmem::client::ReadAgentOptions(options, &read);
      !outcome.ok()) {
    return Answer(outcome, error);
  }
  std::shared_ptr<Agent> opened;
  const Outcome outcome = Agent::Open(&client->agents(), name, read,
                                      Deadline::After(timeout_ns), &opened);
  if (outcome.ok()) *agent = new agentmem_agent{std::move(opened)};
  return Answer(outcome, error);
}

void agentmem_agent_close(agentmem_agent* agent) {
  if (agent == nullptr || agent->Forked()) return;
  delete agent;
}

agentmem_code agentmem_agent_phase(agentmem_agent* agent, agentmem_phase phase,
                                   const char* tool, uint64_t eta_ns,
                                   uint64_t timeout_ns, agentmem_answer* answer,
                                   agentmem_error* error) {
  AGENTMEM_ENTER_HANDLE("agent", agent, error);
  AGENTMEM_REQUIRE(agentmem::IsValid(static_cast<agentmem::AgentPhase>(phase)),
                   "phase is none of AGENTMEM_REASONING to AGENTMEM_DONE",
                   error);
  AGENTMEM_REQUIRE(tool == nullptr || phase == AGENTMEM_TOOL,
                   "tool is given, and phase is not AGENTMEM_TOOL", error);
  AGENTMEM_REQUIRE(
      tool == nullptr || std::strlen(tool) <= AGENTMEM_AGENT_NAME_MAX,
      "tool is longer than AGENTMEM_AGENT_NAME_MAX", error);
  std::uint8_t answered = 0;
  const Outcome outcome = agent->agent->Phase(
      static_cast<agentmem::AgentPhase>(phase), tool == nullptr ? "" : tool,
      eta_ns, Deadline::After(timeout_ns), &answered);
  if (outcome.ok()) agentmem::client::SetAnswer(answered, answer);
  return Answer(outcome, error);
}

agentmem_code agentmem_agent_set_labels(agentmem_agent* agent,
                                        const agentmem_label* labels,
                                        size_t count, uint64_t timeout_ns,
                                        agentmem_error* error) {
  AGENTMEM_ENTER_HANDLE("agent", agent, error);
  agentmem::FieldWriter fields;
  if (Outcome added = agentmem::client::AddLabels(labels, count, &fields);
      !added.ok()) {
    return Answer(added, error);
  }
  return Answer(
      agent->agent->SetLabels(fields.bytes(), Deadline::After(timeout_ns)),
      error);
}

agentmem_code agentmem_agent_set_retention(agentmem_client* client,
                                           const char* name,
                                           agentmem_retention retention,
                                           uint64_t value, uint64_t timeout_ns,
                                           agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  AGENTMEM_REQUIRE(retention <= AGENTMEM_RETAIN_AGE,
                   "retention is none of AGENTMEM_RETAIN_ALL, _LAST and _AGE",
                   error);
  AGENTMEM_REQUIRE(retention == AGENTMEM_RETAIN_ALL || value != 0,
                   "value is 0; AGENTMEM_RETAIN_LAST and _AGE need 1 or more",
                   error);
  Exchange exchange(AgentOp::kAgentRetention);
  exchange.request.arg[0] = retention + 1;  // RetentionKind's numbers
  exchange.request.arg[1] = value;
  return Answer(CallByName(client, &exchange, name, AgentLink::Repeat::kMayBe,
                           timeout_ns),
                error);
}

agentmem_code agentmem_agent_hibernate(agentmem_client* client,
                                       const char* name, uint64_t timeout_ns,
                                       agentmem_hibernate_stats* stats,
                                       agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  Exchange exchange(AgentOp::kAgentHibernate);
  const Outcome outcome = CallByName(client, &exchange, name,
                                     AgentLink::Repeat::kMayBe, timeout_ns);
  if (outcome.ok() && stats != nullptr) {
    *stats = {exchange.reply.value[0], exchange.reply.value[1]};
  }
  return Answer(outcome, error);
}

agentmem_code agentmem_agent_resume(agentmem_client* client, const char* name,
                                    uint64_t timeout_ns, uint64_t* asked_blocks,
                                    agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  Exchange exchange(AgentOp::kAgentResume);
  const Outcome outcome = CallByName(client, &exchange, name,
                                     AgentLink::Repeat::kMayBe, timeout_ns);
  if (outcome.ok() && asked_blocks != nullptr) {
    *asked_blocks = exchange.reply.value[0];
  }
  return Answer(outcome, error);
}

agentmem_code agentmem_agent_delete(agentmem_client* client, const char* name,
                                    uint64_t timeout_ns,
                                    agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  Exchange exchange(AgentOp::kAgentDelete);
  return Answer(CallByName(client, &exchange, name, AgentLink::Repeat::kNever,
                           timeout_ns),
                error);
}

agentmem_code agentmem_agent_fork(agentmem_client* client, const char* from,
                                  uint64_t version, const char* to,
                                  uint64_t timeout_ns, agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  Exchange exchange(AgentOp::kAgentFork);
  exchange.request.region_version = version;
  if (Outcome named = agentmem::client::SetName("new agent's name", to,
                                                exchange.request.other);
      !named.ok()) {
    return Answer(named, error);
  }
  return Answer(CallByName(client, &exchange, from, AgentLink::Repeat::kNever,
                           timeout_ns),
                error);
}

agentmem_code agentmem_agent_list(agentmem_client* client, const char* prefix,
                                  uint64_t timeout_ns,
                                  agentmem_agent_callback callback,
                                  void* context, agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  AGENTMEM_REQUIRE(callback != nullptr, "callback is NULL", error);
  return Answer(agentmem::client::ListAgents(
                    &client->agents(), prefix, Deadline::After(timeout_ns),
                    [=](const agentmem::AgentEntry& entry) {
                      const agentmem_agent_info info =
                          agentmem::client::InfoOf(entry);
                      callback(context, &info);
                    }),
                error);
}

agentmem_code agentmem_hbm_list(agentmem_client* client, uint64_t timeout_ns,
                                agentmem_hbm_callback callback, void* context,
                                agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  AGENTMEM_REQUIRE(callback != nullptr, "callback is NULL", error);
  return Answer(agentmem::client::ListHbm(
                    &client->agents(), Deadline::After(timeout_ns),
                    [=](const agentmem::HbmEntry& entry) {
                      agentmem_hbm_info info = {};
                      info.agent = entry.agent;
                      info.client = entry.client_name;
                      info.device = entry.device;
                      info.pid = entry.pid;
                      info.wish = static_cast<std::uint32_t>(entry.wish);
                      info.phase = static_cast<std::uint32_t>(entry.phase);
                      info.wish_open = entry.wish_open;
                      info.wish_late = entry.wish_late;
                      info.bytes = entry.bytes;
                      info.blocks = entry.blocks;
                      info.wish_ns = entry.wish_ns;
                      info.budget_bytes = entry.budget_bytes;
                      info.allocated_bytes = entry.allocated_bytes;
                      info.wanted_bytes = entry.wanted_bytes;
                      info.hits = entry.hits;
                      info.hit_bytes = entry.hit_bytes;
                      callback(context, &info);
                    }),
                error);
}

agentmem_code agentmem_agent_show(agentmem_client* client, const char* name,
                                  uint64_t timeout_ns,
                                  agentmem_agent_callback agent_callback,
                                  agentmem_region_callback region_callback,
                                  void* context, agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  return Answer(
      agentmem::client::ShowAgent(
          &client->agents(), name, Deadline::After(timeout_ns),
          [=](const agentmem::AgentEntry& entry) {
            if (agent_callback == nullptr) return;
            const agentmem_agent_info info = agentmem::client::InfoOf(entry);
            agent_callback(context, &info);
          },
          [=](const agentmem::RegionEntry& entry) {
            if (region_callback == nullptr) return;
            const agentmem_region_info info = {
                entry.name,           entry.bytes,          entry.version,
                entry.oldest_version, entry.resident_bytes, entry.dirty_bytes};
            region_callback(context, &info);
          }),
      error);
}

}  // extern "C"
