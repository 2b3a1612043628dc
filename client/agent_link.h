// A client's way to memd for agents: the current AgentConnection, made at the
// first call that needs one, and again after memd died.
//
// Ownership: a reference to the current connection. Threads: thread-safe.
// Errors: UNAVAILABLE when no memd answers until the deadline; UNIMPLEMENTED
// when it has no agents. Cost: Acquire of a live one is a system call.
#ifndef AGENTMEM_CLIENT_AGENT_LINK_H_
#define AGENTMEM_CLIENT_AGENT_LINK_H_

#include <memory>

#include "client/agent_connection.h"
#include "client/deadline.h"
#include "client/handshake_client.h"
#include "client/timed_mutex.h"
#include "proto/outcome.h"

namespace agentmem::client {

class AgentLink {
 public:
  explicit AgentLink(Endpoint endpoint) : endpoint_(std::move(endpoint)) {}

  Outcome Acquire(const Deadline& deadline,
                  std::shared_ptr<AgentConnection>* out)
      AGENTMEM_EXCLUDES(turn_);

  // On the current connection, and again on the next one when memd died before
  // the request was sent or, of an operation that may be `repeated`, answered.
  // `used` may be null.
  enum class Repeat { kNever, kMayBe };
  Outcome Call(Exchange* exchange, Repeat repeat, const Deadline& deadline,
               std::shared_ptr<AgentConnection>* used = nullptr);

 private:
  const Endpoint endpoint_;
  TimedMutex turn_;
  std::shared_ptr<AgentConnection> current_ AGENTMEM_GUARDED_BY(turn_);
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_AGENT_LINK_H_
