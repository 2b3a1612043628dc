// What memd asks of etcd, call by call: ranges, transactions, leases,
// compaction. The streams are memd/cluster/etcd_watch.h and etcd_keep_alive.h.
//
// A read is asked again elsewhere until its deadline. A change is sent once:
// when its answer is lost, it is UNAVAILABLE, and may have been made.
//
// Ownership: shares its channels with the streams. Threads: thread-safe.
// Errors: UNAVAILABLE (no answer by the deadline, whatever the cause),
// OUT_OF_RANGE (the revision is compacted), NOT_FOUND (no such lease),
// INVALID_ARGUMENT (etcd's limits), RESOURCE_EXHAUSTED (etcd's space).
// Cost: blocks for one round trip, at most until the deadline; never on the
// reactor.
#ifndef AGENTMEM_MEMD_CLUSTER_ETCD_CLIENT_H_
#define AGENTMEM_MEMD_CLUSTER_ETCD_CLIENT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "memd/cluster/etcd_channels.h"
#include "memd/cluster/etcd_options.h"

namespace agentmem {

// etcd's own limits at its defaults (--max-txn-ops, --max-request-bytes); a
// request has room for its framing.
inline constexpr std::size_t kEtcdTxnOpsMax = 128;
inline constexpr std::size_t kEtcdRequestBytesMax = (3 << 19) - (16 << 10);

struct EtcdKeyValue {
  std::string key;
  std::string value;
  std::int64_t mod_revision = 0;
  std::int64_t lease = 0;
};

struct EtcdRangeRequest {
  std::string key;
  std::string range_end;      // exclusive; empty: the key alone
  std::int64_t limit = 0;     // 0: none
  std::int64_t revision = 0;  // 0: the newest
};

struct EtcdRangeResult {
  std::int64_t revision = 0;  // of etcd, when it answered
  bool more = false;
  std::vector<EtcdKeyValue> values;  // in byte order of their keys
};

struct EtcdOp {
  enum class Kind { kGet, kPut, kDelete };
  Kind kind = Kind::kGet;
  std::string key;
  std::string value = {};
  std::int64_t lease = 0;
};

struct EtcdTxn {
  // Holds if each key's last change was this revision (0: it is not there).
  std::vector<std::pair<std::string, std::int64_t>> unchanged;
  std::vector<EtcdOp> then;
  std::vector<EtcdOp> otherwise;
};

struct EtcdTxnResult {
  bool held = false;
  std::int64_t revision = 0;
  std::vector<EtcdKeyValue> values;  // what the gets of the branch found
};

struct EtcdLease {
  std::int64_t id = 0;
  DurationNs ttl_ns = 0;  // as granted
};

// The end of the range of all keys with this prefix (not empty, nor all 0xff).
std::string EtcdPrefixEnd(std::string prefix);

class EtcdClient {
 public:
  static absl::StatusOr<std::unique_ptr<EtcdClient>> Make(
      const EtcdOptions& options);

  // Linearizable.
  absl::StatusOr<EtcdRangeResult> Range(const EtcdRangeRequest& request,
                                        TimeNs deadline);
  absl::StatusOr<EtcdTxnResult> Txn(const EtcdTxn& txn, TimeNs deadline);
  // Forgets the history before `revision`; what is there now stays.
  absl::Status Compact(std::int64_t revision, TimeNs deadline);
  // etcd may grant more than was asked for.
  absl::StatusOr<EtcdLease> GrantLease(std::int64_t ttl_s, TimeNs deadline);
  absl::Status RevokeLease(std::int64_t id, TimeNs deadline);

  const std::shared_ptr<EtcdChannels>& channels() const { return channels_; }

 private:
  explicit EtcdClient(std::shared_ptr<EtcdChannels> channels)
      : channels_(std::move(channels)) {}

  const std::shared_ptr<EtcdChannels> channels_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CLUSTER_ETCD_CLIENT_H_
