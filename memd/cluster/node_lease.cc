#include "memd/cluster/node_lease.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "memd/cluster/member_record.h"

namespace agentmem {
namespace {

// etcd removes an expired lease within half a second, and a key with it.
constexpr DurationNs kExpiryNs = 1500 * kMillisecondNs;
constexpr DurationNs kLookAgainNs = 100 * kMillisecondNs;
// A shutdown does not wait long for an etcd that is gone.
constexpr DurationNs kGoodbyeNs = kSecondNs;

}  // namespace

NodeLease::NodeLease(EtcdClient* client, NodeLeaseOptions options)
    : client_(client),
      options_(std::move(options)),
      ttl_ns_(options_.ttl_s * kSecondNs) {}

NodeLease::~NodeLease() {
  stopping_ = true;
  wake_.Signal();
  if (thread_.joinable()) thread_.join();
  beats_.reset();
  if (lease_ == 0) return;
  const absl::Status status =
      client_->RevokeLease(lease_, MonotonicNowNs() + kGoodbyeNs);
  if (!status.ok() && status.code() != absl::StatusCode::kNotFound) {
    LogWarning("leaving the cluster: " + StatusMessage(status) +
               "; the lease runs out by itself");
  }
}

absl::Status NodeLease::Start() {
  const TimeNs start = MonotonicNowNs();
  while (true) {
    // (Each try has its own time: one that runs out would hide that another
    // node has the name.)
    const absl::Status status = Register(MonotonicNowNs() + kEtcdCallNs);
    const bool taken = status.code() == absl::StatusCode::kFailedPrecondition;
    if (taken && MonotonicNowNs() < start + ttl_ns() + kExpiryNs) {
      wake_.Wait(MonotonicNowNs() + kLookAgainNs);
      continue;
    }
    if (!status.ok() && status.code() != absl::StatusCode::kUnavailable) {
      return status;
    }
    if (!status.ok()) {
      LogWarning("the cluster cannot be reached, this node starts alone: " +
                 StatusMessage(status));
    }
    SetReachable(status.ok());
    thread_ = std::thread([this] { Run(); });
    return absl::OkStatus();
  }
}

absl::Status NodeLease::Register(TimeNs deadline) {
  const TimeNs asked = MonotonicNowNs();
  AGENTMEM_ASSIGN_OR_RETURN(const EtcdLease lease,
                            client_->GrantLease(options_.ttl_s, deadline));
  ttl_ns_ = lease.ttl_ns;
  const absl::Status status = PutKey(lease.id, deadline);
  if (!status.ok()) {
    // What was put all the same goes with it.
    client_->RevokeLease(lease.id, std::min(deadline, asked + kEtcdCallNs))
        .IgnoreError();
    return status;
  }
  lease_ = lease.id;
  valid_until_ = asked + lease.ttl_ns;
  SetHeld(true);
  return absl::OkStatus();
}

absl::Status NodeLease::PutKey(std::int64_t lease, TimeNs deadline) {
  EtcdTxn txn;
  txn.unchanged = {{options_.key, 0}};
  txn.then = {
      {EtcdOp::Kind::kPut, options_.key, EncodeMember(options_.self), lease}};
  txn.otherwise = {{EtcdOp::Kind::kGet, options_.key}};
  AGENTMEM_ASSIGN_OR_RETURN(EtcdTxnResult result, client_->Txn(txn, deadline));
  if (!result.held && !result.values.empty()) {
    const EtcdKeyValue& there = result.values[0];
    AGENTMEM_ASSIGN_OR_RETURN(const MemberInfo other,
                              DecodeMember(options_.self.node, there.value));
    if (other.instance != options_.self.instance) {
      return FailedPrecondition(
          "node \"" + options_.self.node +
          "\" is in the cluster already: " + "instance " +
          std::to_string(other.instance) + " at " + other.peer_address +
          ", and this is instance " + std::to_string(options_.self.instance) +
          " at " + options_.self.peer_address +
          "; give one of them another name, or end the other");
    }
    // An earlier registration of this run: its answer, or its lease, was lost.
    txn.unchanged[0].second = there.mod_revision;
    AGENTMEM_ASSIGN_OR_RETURN(result, client_->Txn(txn, deadline));
  }
  if (!result.held) {
    return Unavailable("node \"" + options_.self.node +
                       "\": its key changed while it registered");
  }
  revision_ = result.revision;
  return absl::OkStatus();
}

void NodeLease::NoteChange(std::int64_t revision) {
  changed_in_ = revision;
  wake_.Signal();
}

void NodeLease::Run() {
  while (!stopping_) {
    const TimeNs next = MonotonicNowNs() + period_ns();
    Step();
    while (!stopping_ && changed_in_ <= revision_ && lease_ != 0) {
      if (!wake_.Wait(next)) break;
    }
    if (lease_ == 0 && !stopping_) wake_.Wait(next);
  }
}

void NodeLease::Step() {
  if (lease_ != 0 && changed_in_ > revision_) {
    Drop("its key was removed or replaced");
  }
  if (lease_ != 0) {
    const TimeNs sent = MonotonicNowNs();
    const absl::Status status = Beat(sent + patience_ns());
    if (status.ok()) {
      valid_until_ = sent + ttl_ns();
      SetReachable(true);
      SetHeld(true);
      return;
    }
    if (status.code() == absl::StatusCode::kUnavailable) {
      SetReachable(false);
      if (MonotonicNowNs() >= valid_until_) SetHeld(false);
      return;
    }
    Drop(StatusMessage(status));
  }
  const absl::Status status = Register(MonotonicNowNs() + ttl_ns());
  SetReachable(status.code() != absl::StatusCode::kUnavailable);
  if (status.ok()) {
    LogInfo("node \"" + options_.self.node + "\" is in the cluster again");
    refusal_logged_ = false;
  } else if (status.code() != absl::StatusCode::kUnavailable &&
             !std::exchange(refusal_logged_, true)) {
    LogError("this node is out of the cluster: " + StatusMessage(status));
  }
}

absl::Status NodeLease::Beat(TimeNs deadline) {
  if (beats_ == nullptr) {
    AGENTMEM_ASSIGN_OR_RETURN(
        beats_, EtcdKeepAlive::Open(client_->channels(), deadline));
  }
  const absl::Status status = beats_->Beat(lease_, deadline);
  if (!status.ok()) beats_.reset();
  return status;
}

void NodeLease::Drop(const std::string& why) {
  LogWarning("node \"" + options_.self.node +
             "\" was taken out of the cluster: " + why);
  const std::int64_t lease = std::exchange(lease_, 0);
  SetHeld(false);
  // Its key may be another's by now; the lease is of no use either way.
  client_->RevokeLease(lease, MonotonicNowNs() + patience_ns()).IgnoreError();
}

void NodeLease::SetReachable(bool reachable) {
  if (reachable_ == static_cast<int>(reachable)) return;
  reachable_ = static_cast<int>(reachable);
  if (options_.on_reachable) options_.on_reachable(reachable);
}

void NodeLease::SetHeld(bool held) {
  if (std::exchange(held_, held) == held) return;
  if (options_.on_held) options_.on_held(held);
}

}  // namespace agentmem
