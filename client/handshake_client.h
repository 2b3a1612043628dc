// The client's side of proto/handshake.h: connects to memd's socket and comes
// back with the Welcome and its descriptors; or, on a connection for agents,
// with AgentWelcome and the board.
//
// Ownership: the descriptors of a Connection are its own. Threads: thread-safe.
// Errors: UNAVAILABLE: nobody answers, or memd is going (worth another try);
// FAILED_PRECONDITION: another version, both named; else memd's refusal.
// Cost: system calls; waits until the deadline.
#ifndef AGENTMEM_CLIENT_HANDSHAKE_CLIENT_H_
#define AGENTMEM_CLIENT_HANDSHAKE_CLIENT_H_

#include <string>

#include "base/unique_fd.h"
#include "client/deadline.h"
#include "proto/agent_messages.h"
#include "proto/handshake.h"
#include "proto/outcome.h"

namespace agentmem::client {

struct Endpoint {
  std::string socket_path;
  std::string tenant;  // empty: the user's default tenant
  std::string name;    // for people
};

struct Connection {
  UniqueFd socket;
  UniqueFd index;
  UniqueFd data;
  UniqueFd client_file;
  UniqueFd doorbell;
  Welcome welcome = {};
};

struct AgentSocket {
  UniqueFd socket;
  UniqueFd board;
  AgentWelcome welcome = {};
};

// One attempt.
Outcome Handshake(const Endpoint& endpoint, const Deadline& deadline,
                  Connection* connection);

// One attempt. UNIMPLEMENTED: that memd has no agents.
Outcome AgentHandshake(const Endpoint& endpoint, const Deadline& deadline,
                       AgentSocket* out);

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_HANDSHAKE_CLIENT_H_
