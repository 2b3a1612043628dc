// Everything that a running memd is made of, in the order of its making: lock,
// store, tenants with their memory, reactor. The administration's server is
// put in front by main, which alone sees gRPC.
//
// Ownership: owns all of it. Threads: Open and Run belong to one thread;
// StopNow is thread-safe, Stop async-signal-safe. Errors: Open says what could
// not be had and what to do. Cost: Open reads the store's list of blocks.
#ifndef AGENTMEM_MEMD_DAEMON_H_
#define AGENTMEM_MEMD_DAEMON_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "memd/cluster/etcd_client.h"
#include "memd/config.h"
#include "memd/reactor.h"
#include "memd/store/rocks_store.h"

namespace agentmem {

class Daemon {
 public:
  // `wrap`, where tests stand between memd and its store.
  using StoreWrapper = std::function<std::unique_ptr<RocksStore>(
      std::unique_ptr<RocksStore> store)>;
  static absl::StatusOr<std::unique_ptr<Daemon>> Open(
      const Config& config, const Clock* clock, const StoreWrapper& wrap = {});
  ~Daemon();

  // Serves until Stop; returns when everything is written down. CANCELLED:
  // StopNow came before that; the process is to end without a destructor.
  absl::Status Run();
  void Stop();
  // False: too late for it; what was written is being made stable.
  bool StopNow();
  AdminBackend& admin();
  // Of a node with [cluster]; null: it is alone.
  PoolHost* pool_host();
  EtcdClient* etcd();  // null: none is configured

 private:
  struct Parts;
  explicit Daemon(std::unique_ptr<Parts> parts);
  const std::unique_ptr<Parts> parts_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_DAEMON_H_
