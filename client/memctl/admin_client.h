// memctl's side of the administration: proto/admin.proto.
//
// Ownership: what ConnectAdmin returns is the caller's.
// Threads: thread-compatible.
// Errors: UNAVAILABLE: no memd answers (the message says how to start one);
//   PERMISSION_DENIED: the socket is another user's; DEADLINE_EXCEEDED;
//   FAILED_PRECONDITION: another version (both named); else as memd says.
// Cost: a round trip a call, bounded by the timeout.
#ifndef AGENTMEM_CLIENT_MEMCTL_ADMIN_CLIENT_H_
#define AGENTMEM_CLIENT_MEMCTL_ADMIN_CLIENT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "proto/admin.pb.h"
#include "proto/types.h"

namespace agentmem::memctl {

class AdminClient {
 public:
  virtual ~AdminClient() = default;
  virtual absl::StatusOr<admin::v1::NodeSnapshot> Snapshot() = 0;
  // An empty tenant asks every tenant of the node.
  virtual absl::StatusOr<admin::v1::ShowBlockResponse> ShowBlock(
      const std::string& tenant, const Key& key) = 0;
  virtual absl::StatusOr<admin::v1::FabricSnapshot> Fabric() = 0;
};

// The administration's socket lies beside the clients' one.
std::string AdminSocketPath(const std::string& socket_path);

absl::StatusOr<std::unique_ptr<AdminClient>> ConnectAdmin(
    const std::string& socket_path, DurationNs timeout, const Clock* clock);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_ADMIN_CLIENT_H_
