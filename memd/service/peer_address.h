// host:port of a peer's door: "node7.example:7400", "10.0.0.7:7400",
// "[fe80::7]:7400".
//
// Ownership: a value. Threads: pure functions. Errors: INVALID_ARGUMENT: the
// text and what is allowed. Cost: one pass.
#ifndef AGENTMEM_MEMD_SERVICE_PEER_ADDRESS_H_
#define AGENTMEM_MEMD_SERVICE_PEER_ADDRESS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace agentmem {

// `port_min` is 0 for an address to listen at, else 1.
absl::Status CheckPeerAddress(const std::string& address,
                              std::uint32_t port_min);

// "ipv4:10.0.0.7:51234", as gRPC names a caller, without the port, which is
// another for each connection.
std::string HostOf(const std::string& grpc_peer);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_PEER_ADDRESS_H_
