// How a node finds its peers: the list of members, a Hello with each, and what
// comes of it told to the pool.
//
// A thread says Hello to each member that the pool does not have up: after each
// change of the list, and then once a second. It waits for no answer: members
// that are silent hold up nobody else's. Both sides of a Hello learn of the
// other, so it does not matter who was first. Each peer gets a token of its
// own, the same for all of this run.
//
// Ownership: borrows the host, which must outlive it; owns server, client and
// threads. Threads: Start and the destructor belong to one thread. Errors: of
// Start: what the server, the membership or the files say. Cost: constant in
// the number of nodes while all are up: one look at the pool a second.
#ifndef AGENTMEM_MEMD_SERVICE_CLUSTER_DOOR_H_
#define AGENTMEM_MEMD_SERVICE_CLUSTER_DOOR_H_

#include <memory>

#include "absl/status/statusor.h"
#include "memd/cluster/membership.h"
#include "memd/config.h"
#include "memd/pool/pool_host.h"

namespace agentmem {

class ClusterDoor {
 public:
  // `membership`: who the members are.
  static absl::StatusOr<std::unique_ptr<ClusterDoor>> Start(
      const ClusterConfig& config, std::unique_ptr<Membership> membership,
      PoolHost* host);
  ~ClusterDoor();
  ClusterDoor(const ClusterDoor&) = delete;
  ClusterDoor& operator=(const ClusterDoor&) = delete;

 private:
  class Impl;
  explicit ClusterDoor(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_CLUSTER_DOOR_H_
