// What changes under a prefix of etcd's keys, in order, from a revision on.
//
// Ownership: shares the channels; its destructor ends the stream. Threads:
// thread-compatible; Wake from any thread. Errors: UNAVAILABLE (the stream is
// broken: open another, from the last revision that was seen), OUT_OF_RANGE
// (that revision is compacted: read all anew). Cost: Next blocks until there is
// an event, a wake-up, or the deadline; nothing is asked meanwhile.
#ifndef AGENTMEM_MEMD_CLUSTER_ETCD_WATCH_H_
#define AGENTMEM_MEMD_CLUSTER_ETCD_WATCH_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "memd/cluster/etcd_client.h"

namespace agentmem {

struct EtcdEvent {
  bool deleted = false;
  EtcdKeyValue value;  // of a deletion: its key and revision
};

class EtcdWatch {
 public:
  static absl::StatusOr<std::unique_ptr<EtcdWatch>> Open(
      const std::shared_ptr<EtcdChannels>& channels, const std::string& prefix,
      std::int64_t from_revision, TimeNs deadline);
  ~EtcdWatch();

  // Empty: a wake-up, the deadline, or nothing of note.
  absl::StatusOr<std::vector<EtcdEvent>> Next(TimeNs deadline);

  void Wake();

 private:
  struct Impl;
  explicit EtcdWatch(std::unique_ptr<Impl> impl);

  const std::unique_ptr<Impl> impl_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CLUSTER_ETCD_WATCH_H_
