// This node's place in the cluster: a key in etcd under a lease that a thread
// keeps alive. When it was lost, it is taken again.
//
//   out --registered--> held --a beat--> held
//    ^                   |
//    +--etcd says that the lease is gone, or the key was removed or replaced
//
// By this node's own clock the lease may have run out before etcd can say so:
// `on_held(false)` comes then, at most one beat late. The lease counts from
// when the last answered beat was sent, so others think it alive longer, not
// shorter.
//
// etcd grants no lease shorter than 1.5 x its election timeout, in whole
// seconds, rounded up: 2 s at its defaults, 1 s with --election-timeout=500
// --heartbeat-interval=50. It looks for expired ones twice a second.
//
// Ownership: borrows the client; owns its thread; its destructor gives the
// lease back. Threads: thread-safe; callbacks come from its thread, or from
// Start, and must be quick. Errors: Start: FAILED_PRECONDITION (another run of
// memd lives under this name). Cost: four messages of 50 B a lease's time.
#ifndef AGENTMEM_MEMD_CLUSTER_NODE_LEASE_H_
#define AGENTMEM_MEMD_CLUSTER_NODE_LEASE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "memd/cluster/etcd_client.h"
#include "memd/cluster/etcd_keep_alive.h"
#include "memd/cluster/membership.h"
#include "memd/cluster/wake_event.h"

namespace agentmem {

struct NodeLeaseOptions {
  std::string key;
  MemberInfo self;
  std::int64_t ttl_s = 1;                            // etcd may grant more
  std::function<void(bool reachable)> on_reachable;  // each change, and first
  std::function<void(bool held)> on_held;            // each change
};

class NodeLease {
 public:
  NodeLease(EtcdClient* client, NodeLeaseOptions options);
  ~NodeLease();

  // Registers, waiting for the lease of an earlier run of this node to pass. OK
  // too when etcd cannot be reached: it is tried on.
  absl::Status Start();

  // The key was removed or replaced in this revision; was it ours?
  void NoteChange(std::int64_t revision);

  // Of the last registration; 0: never.
  std::int64_t revision() const { return revision_.load(); }
  // As etcd granted it; as asked for until then.
  DurationNs ttl_ns() const { return ttl_ns_.load(); }

 private:
  absl::Status Register(TimeNs deadline);
  absl::Status PutKey(std::int64_t lease, TimeNs deadline);
  void Run();
  void Step();
  absl::Status Beat(TimeNs deadline);
  void Drop(const std::string& why);
  void SetReachable(bool reachable);
  void SetHeld(bool held);
  // Four beats a lease, so that it outlives an election among etcd's members
  // at its defaults (1.1 s seen, of a lease of 2 s).
  DurationNs period_ns() const { return ttl_ns() / 4; }
  DurationNs patience_ns() const { return ttl_ns() / 3; }

  EtcdClient* const client_;
  const NodeLeaseOptions options_;
  std::atomic<std::int64_t> revision_ = 0;
  std::atomic<std::int64_t> changed_in_ = 0;
  std::atomic<DurationNs> ttl_ns_;
  std::atomic<bool> stopping_ = false;
  WakeEvent wake_;

  // Of Start, then of the thread, then of the destructor.
  std::int64_t lease_ = 0;  // 0: out
  TimeNs valid_until_ = 0;  // by this node's clock
  std::unique_ptr<EtcdKeepAlive> beats_;
  int reachable_ = -1;  // -1: not told yet
  bool held_ = false;
  bool refusal_logged_ = false;

  std::thread thread_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CLUSTER_NODE_LEASE_H_
