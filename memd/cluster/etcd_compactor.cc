#include "memd/cluster/etcd_compactor.h"

#include "base/log.h"
#include "base/status.h"
#include "memd/cluster/cluster_keys.h"

namespace agentmem {

absl::StatusOr<std::unique_ptr<EtcdCompactor>> EtcdCompactor::Make(
    EtcdClient* client, const EtcdCompactorOptions& options) {
  AGENTMEM_RETURN_IF_ERROR(
      CheckClusterName("the cluster's name", options.cluster));
  if (options.interval_ns < kSecondNs) {
    return InvalidArgument("compaction of etcd's history each " +
                           std::to_string(options.interval_ns) +
                           " ns: allowed is a second and more");
  }
  return std::unique_ptr<EtcdCompactor>(new EtcdCompactor(client, options));
}

EtcdCompactor::EtcdCompactor(EtcdClient* client,
                             const EtcdCompactorOptions& options)
    : client_(client),
      key_(CompactionKey(options.cluster)),
      interval_ns_(options.interval_ns) {}

EtcdCompactor::~EtcdCompactor() {
  stopping_ = true;
  wake_.Signal();
  if (thread_.joinable()) thread_.join();
}

void EtcdCompactor::Start() {
  thread_ = std::thread([this] { Run(); });
}

void EtcdCompactor::Run() {
  bool failed = false;
  while (!stopping_) {
    const absl::Status status = Turn().status();
    // etcd's absence is told by those who need it.
    if (!status.ok() && !failed &&
        status.code() != absl::StatusCode::kUnavailable) {
      LogWarning("etcd's history is not compacted: " + StatusMessage(status));
    }
    failed = !status.ok();
    wake_.Wait(MonotonicNowNs() + interval_ns_);
  }
}

absl::StatusOr<std::int64_t> EtcdCompactor::Turn() {
  const TimeNs deadline = MonotonicNowNs() + kEtcdCallNs;
  if (mark_ < 0) {  // seen only now: not an interval ago
    AGENTMEM_ASSIGN_OR_RETURN(const EtcdRangeResult there,
                              client_->Range({key_}, deadline));
    mark_ = there.values.empty() ? 0 : there.values[0].mod_revision;
    return 0;
  }
  EtcdTxn txn;
  txn.unchanged = {{key_, mark_}};
  txn.then = {{EtcdOp::Kind::kPut, key_, "mark"}};
  txn.otherwise = {{EtcdOp::Kind::kGet, key_}};
  auto result = client_->Txn(txn, deadline);
  if (!result.ok()) {
    mark_ = -1;  // whether it was replaced is not known
    return result.status();
  }
  if (!result->held) {
    mark_ = result->values.empty() ? 0 : result->values[0].mod_revision;
    return 0;
  }
  const std::int64_t old = mark_;
  mark_ = result->revision;
  if (old == 0) return 0;
  const absl::Status status = client_->Compact(old, deadline);
  // OUT_OF_RANGE: somebody else compacted further.
  if (!status.ok() && status.code() != absl::StatusCode::kOutOfRange) {
    return status;
  }
  ++compactions_;
  return old;
}

}  // namespace agentmem
