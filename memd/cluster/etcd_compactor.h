// Looks after etcd's history: without compaction every change of a ref stays on
// etcd's disks until its quota is used up, and then nobody writes any more.
//
// All nodes run one; one of them compacts in each interval:
//
//   a turn: replace the cluster's mark if it is the one that this node saw in
//           its last turn; who succeeds compacts up to the mark it replaced
//           (an interval old), the others remember the new one
//
// So at least one interval of history is kept, no clock is compared with
// another, and a node costs two small messages an interval.
//
// Ownership: borrows the client; owns its thread. Threads: thread-compatible;
// Turn is for tests and for the thread. Errors: Turn: the client's; the thread
// tries again in the next interval. Cost: Turn blocks for two round trips.
#ifndef AGENTMEM_MEMD_CLUSTER_ETCD_COMPACTOR_H_
#define AGENTMEM_MEMD_CLUSTER_ETCD_COMPACTOR_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "memd/cluster/etcd_client.h"
#include "memd/cluster/wake_event.h"

namespace agentmem {

struct EtcdCompactorOptions {
  std::string cluster;
  DurationNs interval_ns = 300 * kSecondNs;
};

class EtcdCompactor {
 public:
  static absl::StatusOr<std::unique_ptr<EtcdCompactor>> Make(
      EtcdClient* client, const EtcdCompactorOptions& options);
  ~EtcdCompactor();

  // A turn each interval from here on, by a thread.
  void Start();

  // Up to which revision it compacted; 0: it was not this node's turn.
  absl::StatusOr<std::int64_t> Turn();

  std::uint64_t compactions() const { return compactions_.load(); }

 private:
  EtcdCompactor(EtcdClient* client, const EtcdCompactorOptions& options);

  void Run();

  EtcdClient* const client_;
  const std::string key_;
  const DurationNs interval_ns_;
  std::int64_t mark_ = -1;  // as last seen; -1: never looked, 0: there is none
  std::atomic<std::uint64_t> compactions_ = 0;
  std::atomic<bool> stopping_ = false;
  WakeEvent wake_;
  std::thread thread_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CLUSTER_ETCD_COMPACTOR_H_
