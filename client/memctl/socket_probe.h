// Whether somebody answers at a UNIX socket, in a sentence for people.
//
// Threads: any. Errors: UNAVAILABLE: nobody answers (with how to start memd);
// PERMISSION_DENIED: another user's; INVALID_ARGUMENT: too long a path.
// Cost: a connection that is closed at once.
#ifndef AGENTMEM_CLIENT_MEMCTL_SOCKET_PROBE_H_
#define AGENTMEM_CLIENT_MEMCTL_SOCKET_PROBE_H_

#include <string>

#include "absl/status/status.h"

namespace agentmem::memctl {

enum class Door {
  kAdministration,  // a stream (gRPC)
  kClients,         // packets (proto/handshake.h)
};

absl::Status ProbeSocket(const std::string& path, Door door);

// What to do when no memd answers.
extern const char kHowToStartMemd[];

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_SOCKET_PROBE_H_
