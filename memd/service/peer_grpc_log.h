// gRPC's own log of errors, as lines of ours, each once.
//
// A handshake that fails before there is a call (no certificate, one of another
// authority, an expired one, garbage) is known to gRPC alone, which writes a
// line on standard error each time. Here each different line is said once, and
// "no match for server name", which means nothing between peers and comes with
// each connection, never.
//
// Ownership: gRPC calls it until the process ends. Threads: thread-safe; set it
// before the first use of gRPC. Errors: none. Cost: remembers at most 64 lines;
// others are dropped after a last one that says so.
#ifndef AGENTMEM_MEMD_SERVICE_PEER_GRPC_LOG_H_
#define AGENTMEM_MEMD_SERVICE_PEER_GRPC_LOG_H_

namespace agentmem {

// For main().
void LogGrpcErrorsOnce();

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_PEER_GRPC_LOG_H_
