// The way from the threads that meet peers to the pool on the reactor's.
//
// Ownership: none. Threads: thread-safe. Errors: UNAVAILABLE: memd is shutting
// down. Cost: Peers waits for the reactor's next turn; the others post to it.
#ifndef AGENTMEM_MEMD_POOL_POOL_HOST_H_
#define AGENTMEM_MEMD_POOL_POOL_HOST_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memd/pool/pool_peer.h"
#include "proto/types.h"

namespace agentmem {

// What this node shows of its memory, the same for all of its run but for the
// address, which is another one when its end of the fabric had to be opened
// anew.
struct PoolIdentity {
  std::uint64_t instance = 0;
  std::string provider;
  std::string fabric_address;
  std::uint64_t export_address = 0;
  std::uint64_t export_key = 0;
  std::uint64_t export_bytes = 0;
  std::uint64_t store_bytes = 0;  // that its store takes; 0: it serves nobody
  std::string store_path;
};

// Who is in the cluster, for operators (memctl fabric).
struct ClusterView {
  struct Member {
    std::string node;
    std::string address;
    std::string rack;
    std::uint64_t weight = 0;
    std::uint64_t instance = 0;
  };
  struct Left {
    std::string node;
    TimeNs left_at = 0;
  };
  std::string name;
  std::string kind = "none";  // "static", "etcd"
  bool insecure = false;
  ClusterEpoch epoch;
  bool reachable = true;
  std::vector<Member> members;
  std::vector<Left> left;  // the last first, until it is back
};

class PoolHost {
 public:
  virtual ~PoolHost() = default;

  virtual PoolIdentity identity() const = 0;
  virtual void AddPeer(const PoolPeer& peer) = 0;
  virtual void RemovePeer(const std::string& node) = 0;
  virtual absl::StatusOr<std::vector<PoolPeerSnapshot>> Peers() = 0;
  virtual void ShowCluster(const ClusterView& view) = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_POOL_HOST_H_
