// The stream on which leases of etcd are kept alive, one message a beat.
//
// Ownership: shares the channels; its destructor ends the stream. Threads:
// thread-compatible. Errors: Beat: NOT_FOUND (there is no such lease any more),
// UNAVAILABLE (no answer by the deadline, or the stream is broken: open
// another). Cost: Beat blocks for a round trip, at most until the deadline.
#ifndef AGENTMEM_MEMD_CLUSTER_ETCD_KEEP_ALIVE_H_
#define AGENTMEM_MEMD_CLUSTER_ETCD_KEEP_ALIVE_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "memd/cluster/etcd_channels.h"

namespace agentmem {

class EtcdKeepAlive {
 public:
  static absl::StatusOr<std::unique_ptr<EtcdKeepAlive>> Open(
      const std::shared_ptr<EtcdChannels>& channels, TimeNs deadline);
  ~EtcdKeepAlive();

  absl::Status Beat(std::int64_t lease, TimeNs deadline);

 private:
  struct Impl;
  explicit EtcdKeepAlive(std::unique_ptr<Impl> impl);

  const std::unique_ptr<Impl> impl_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CLUSTER_ETCD_KEEP_ALIVE_H_
