#include "client/agent.h"

#include <cstring>

#include "proto/agent_fields.h"

namespace agentmem::client {

Outcome CheckName(const char* what, const char* name, std::size_t field_bytes) {
  if (name == nullptr || *name == '\0') {
    return Fail(Code::kInvalidArgument, std::string(what) + " is empty");
  }
  const std::size_t length = strnlen(name, field_bytes);
  if (length >= field_bytes) {
    return Fail(Code::kInvalidArgument, std::string(what) +
                                            " is longer than the " +
                                            std::to_string(field_bytes - 1) +
                                            " bytes that are allowed");
  }
  return {};
}

Outcome Agent::Open(AgentLink* link, const std::string& name,
                    const Options& options, const Deadline& deadline,
                    std::shared_ptr<Agent>* out) {
  Exchange exchange(AgentOp::kAgentOpen);
  exchange.request.flags = options.open_flags;
  exchange.tail = options.labels;
  if (Outcome named =
          SetName("agent's name", name.c_str(), exchange.request.agent);
      !named.ok()) {
    return named;
  }
  std::shared_ptr<AgentConnection> connection;
  if (Outcome opened = link->Call(&exchange, AgentLink::Repeat::kMayBe,
                                  deadline, &connection);
      !opened.ok()) {
    return opened;
  }
  std::shared_ptr<Agent> agent(new Agent(std::move(connection), name));
  agent->handle_ = static_cast<std::uint32_t>(exchange.reply.value[0]);
  agent->writes_ = (options.open_flags & kOpenWrite) != 0;
  agent->fault_timeout_ns_ = options.fault_timeout_ns;
  *out = std::move(agent);
  return {};
}

Agent::~Agent() {
  if (handle_ == 0 || connection_->Forked() || connection_->Lost()) return;
  Exchange exchange(AgentOp::kAgentClose);
  exchange.request.handle = handle_;
  // Without an answer it ends with the connection.
  [[maybe_unused]] const Outcome ignored =
      connection_->Call(&exchange, Deadline::After(kCloseTimeoutNs));
}

Outcome Agent::Phase(AgentPhase phase, const std::string& tool,
                     std::uint64_t eta_ns, const Deadline& deadline,
                     std::uint8_t* answer) {
  Exchange exchange(AgentOp::kAgentPhase);
  exchange.request.handle = handle_;
  exchange.request.arg[0] = static_cast<std::uint64_t>(phase);
  exchange.request.arg[1] = eta_ns;
  FieldWriter fields;
  fields.Add(tool);
  exchange.tail = fields.bytes();
  Outcome outcome = connection_->Call(&exchange, deadline);
  if (outcome.ok()) {
    *answer = static_cast<std::uint8_t>(exchange.reply.value[0]);
  }
  return outcome;
}

Outcome Agent::SetLabels(std::string packed, const Deadline& deadline) {
  Exchange exchange(AgentOp::kAgentLabels);
  exchange.request.handle = handle_;
  exchange.tail = std::move(packed);
  return connection_->Call(&exchange, deadline);
}

}  // namespace agentmem::client
