// memctl's connection through libagentmem's C ABI, which its clients share.
//
// Ownership: AbiClient closes the connection at its end.
// Threads: any. Errors: those of agentmem.h, as absl::Status; UNAVAILABLE: no
//   memd (the message says how to start one).
// Cost: a handshake; waits at most the timeout.
#ifndef AGENTMEM_CLIENT_MEMCTL_ABI_CONNECTION_H_
#define AGENTMEM_CLIENT_MEMCTL_ABI_CONNECTION_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agentmem/agentmem.h"
#include "base/clock.h"

namespace agentmem::memctl {

struct CloseAbiClient {
  void operator()(agentmem_client* client) const { agentmem_close(client); }
};
using AbiClient = std::unique_ptr<agentmem_client, CloseAbiClient>;

// An empty tenant is the user's default one.
absl::StatusOr<AbiClient> ConnectAbi(const std::string& socket_path,
                                     const std::string& tenant,
                                     DurationNs timeout);

// Reads `error` only when `code` is not OK.
absl::Status FromAbi(agentmem_code code, const agentmem_error& error);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_ABI_CONNECTION_H_
