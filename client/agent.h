// An open agent: its handle at memd, and what its regions share.
//
// Ends when the handle that the caller has and all regions of it are closed;
// only then is memd told, and the right to write goes.
//
// Ownership: shared by agentmem_agent and regions; keeps the connection alive.
// Threads: thread-safe. Errors: memd's. Cost: a request each.
#ifndef AGENTMEM_CLIENT_AGENT_H_
#define AGENTMEM_CLIENT_AGENT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "client/agent_connection.h"
#include "client/agent_link.h"
#include "client/deadline.h"
#include "proto/agent_messages.h"
#include "proto/outcome.h"

namespace agentmem::client {

class Agent {
 public:
  struct Options {
    std::uint32_t open_flags = 0;
    DurationNs fault_timeout_ns = 0;
    std::string labels;  // packed fields
  };

  static Outcome Open(AgentLink* link, const std::string& name,
                      const Options& options, const Deadline& deadline,
                      std::shared_ptr<Agent>* out);
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  AgentConnection& connection() const { return *connection_; }
  const std::string& name() const { return name_; }
  std::uint32_t handle() const { return handle_; }
  bool writes() const { return writes_; }
  DurationNs fault_timeout_ns() const { return fault_timeout_ns_; }

  Outcome Phase(AgentPhase phase, const std::string& tool, std::uint64_t eta_ns,
                const Deadline& deadline, std::uint8_t* answer);
  Outcome SetLabels(std::string packed, const Deadline& deadline);

 private:
  Agent(std::shared_ptr<AgentConnection> connection, std::string name)
      : connection_(std::move(connection)), name_(std::move(name)) {}

  const std::shared_ptr<AgentConnection> connection_;
  const std::string name_;
  std::uint32_t handle_ = 0;
  bool writes_ = false;
  DurationNs fault_timeout_ns_ = 0;
};

// A name of an agent or a region into its field of a request: INVALID_ARGUMENT
// when it is NULL, empty or too long.
Outcome CheckName(const char* what, const char* name, std::size_t field_bytes);
template <std::size_t N>
Outcome SetName(const char* what, const char* name, char (&field)[N]) {
  if (Outcome checked = CheckName(what, name, N); !checked.ok()) return checked;
  std::string_view(name).copy(field, N - 1);
  return {};
}

// How long a close waits for memd's answer.
inline constexpr std::uint64_t kCloseTimeoutNs = kSecondNs;

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_AGENT_H_
