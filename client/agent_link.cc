#include "client/agent_link.h"

#include <utility>

#include "client/channel.h"

namespace agentmem::client {

Outcome AgentLink::Acquire(const Deadline& deadline,
                           std::shared_ptr<AgentConnection>* out) {
  if (!turn_.Lock(deadline)) {
    return Fail(Code::kDeadlineExceeded, "connecting to memd at " +
                                             endpoint_.socket_path +
                                             " took until the deadline");
  }
  Outcome outcome;
  std::shared_ptr<AgentConnection> old;  // ends outside the lock
  if (current_ == nullptr || current_->Lost()) {
    old = std::move(current_);
    outcome = AgentConnection::Open(endpoint_, deadline, &current_);
  }
  *out = current_;
  turn_.Unlock();
  return outcome;
}

Outcome AgentLink::Call(Exchange* exchange, Repeat repeat,
                        const Deadline& deadline,
                        std::shared_ptr<AgentConnection>* used) {
  for (;;) {
    std::shared_ptr<AgentConnection> connection;
    Outcome outcome = Acquire(deadline, &connection);
    if (outcome.ok()) {
      exchange->sent = false;
      outcome = connection->Call(exchange, deadline);
      if (outcome.code != Code::kUnavailable || !connection->Lost() ||
          (exchange->sent && repeat == Repeat::kNever)) {
        if (used != nullptr) *used = std::move(connection);
        return outcome;
      }
    } else if (outcome.code != Code::kUnavailable) {
      return outcome;
    }
    if (deadline.Passed()) return outcome;
    Channel::Pause();
  }
}

}  // namespace agentmem::client
