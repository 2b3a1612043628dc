#include "memd/cluster/etcd_membership.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "memd/cluster/cluster_keys.h"
#include "memd/cluster/member_record.h"

namespace agentmem {
namespace {

constexpr std::int64_t kLeaseSecondsMax = 60;
constexpr DurationNs kTryAgainNs = 100 * kMillisecondNs;
// How long etcd may take to see an expired lease, and a node to take another.
constexpr DurationNs kSettleNs = kSecondNs;

}  // namespace

absl::StatusOr<std::unique_ptr<EtcdMembership>> EtcdMembership::Make(
    EtcdClient* client, EtcdMembershipOptions options) {
  AGENTMEM_RETURN_IF_ERROR(
      CheckClusterName("the cluster's name", options.cluster));
  if (options.lease_s < 1 || options.lease_s > kLeaseSecondsMax) {
    return InvalidArgument(
        "a node's lease of " + std::to_string(options.lease_s) +
        " s: allowed are 1 to " + std::to_string(kLeaseSecondsMax));
  }
  return std::unique_ptr<EtcdMembership>(
      new EtcdMembership(client, std::move(options)));
}

EtcdMembership::EtcdMembership(EtcdClient* client,
                               EtcdMembershipOptions options)
    : client_(client),
      options_(std::move(options)),
      prefix_(NodesPrefix(options_.cluster)) {}

EtcdMembership::~EtcdMembership() {
  stopping_ = true;
  WakeWatcher();
  if (thread_.joinable()) thread_.join();
  lease_.reset();
}

absl::Status EtcdMembership::Start(const MemberInfo& self, Callback callback) {
  if (lease_ != nullptr) {
    return FailedPrecondition("the membership was started before");
  }
  AGENTMEM_RETURN_IF_ERROR(CheckMember(self));
  if (self.instance == 0) {
    return InvalidArgument("node \"" + self.node +
                           "\" has no instance: each run of memd has its own");
  }
  self_ = self;
  callback_ = std::move(callback);
  NodeLeaseOptions lease;
  lease.key = prefix_ + self.node;
  lease.self = self;
  lease.ttl_s = options_.lease_s;
  lease.on_held = options_.on_held;
  lease.on_reachable = [this](bool reachable) {
    lease_reachable_ = reachable;
    WakeWatcher();
  };
  lease_ = std::make_unique<NodeLease>(client_, std::move(lease));
  if (absl::Status status = lease_->Start(); !status.ok()) {
    lease_.reset();
    return status;
  }
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void EtcdMembership::WakeWatcher() {
  wake_.Signal();
  MutexLock lock(&mutex_);
  if (watch_ != nullptr) watch_->Wake();
}

void EtcdMembership::Run() {
  while (!stopping_) {
    const absl::Status status = Follow();
    if (stopping_) return;
    if (status.code() == absl::StatusCode::kOutOfRange) {
      seen_revision_ = 0;  // compacted: the list is read anew
    }
    // A stream that broke may be opened again before anybody need know.
    if (std::exchange(watching_, false)) continue;
    Publish();
    wake_.Wait(MonotonicNowNs() + kTryAgainNs);
  }
}

absl::Status EtcdMembership::Follow() {
  const TimeNs deadline = MonotonicNowNs() + lease_->ttl_ns() / 2;
  AGENTMEM_RETURN_IF_ERROR(CatchUp(deadline));
  AGENTMEM_ASSIGN_OR_RETURN(const std::unique_ptr<EtcdWatch> watch,
                            EtcdWatch::Open(client_->channels(), prefix_,
                                            seen_revision_ + 1, deadline));
  {
    MutexLock lock(&mutex_);
    watch_ = watch.get();
  }
  watching_ = true;
  absl::Status status;
  while (!stopping_ && status.ok()) {
    Publish();
    const auto events = watch->Next(NextLook());
    status = events.status();
    if (!status.ok()) break;
    for (const EtcdEvent& event : *events) Apply(event);
  }
  MutexLock lock(&mutex_);
  watch_ = nullptr;
  return status;
}

absl::Status EtcdMembership::CatchUp(TimeNs deadline) {
  if (seen_revision_ == 0) {
    // At first as of this node's own coming, which all others see too.
    const std::int64_t revision = epoch_ == 0 ? lease_->revision() : 0;
    const absl::Status status = ReadList(revision, deadline);
    if (status.code() != absl::StatusCode::kOutOfRange) return status;
    return ReadList(0, deadline);
  }
  AGENTMEM_ASSIGN_OR_RETURN(const EtcdRangeResult now,
                            client_->Range({prefix_ + self_.node}, deadline));
  if (now.revision >= seen_revision_) return absl::OkStatus();
  LogError("etcd has lost its history: it was at revision " +
           std::to_string(seen_revision_) + ", and is at " +
           std::to_string(now.revision) +
           "; refs may have been lost with it: restore its data");
  return ReadList(0, deadline);
}

absl::Status EtcdMembership::ReadList(std::int64_t revision, TimeNs deadline) {
  AGENTMEM_ASSIGN_OR_RETURN(
      const EtcdRangeResult list,
      client_->Range({prefix_, EtcdPrefixEnd(prefix_), 0, revision}, deadline));
  Entries entries;
  for (const EtcdKeyValue& value : list.values) Insert(value, &entries);
  const bool same =
      epoch_ != 0 &&
      std::equal(entries.begin(), entries.end(), entries_.begin(),
                 entries_.end(), [](const auto& a, const auto& b) {
                   return a.first == b.first &&
                          a.second.revision == b.second.revision;
                 });
  seen_revision_ = revision != 0 ? revision : list.revision;
  if (same) return absl::OkStatus();
  entries_ = std::move(entries);
  epoch_ = std::max(epoch_ + 1, static_cast<std::uint64_t>(seen_revision_));
  return absl::OkStatus();
}

void EtcdMembership::Apply(const EtcdEvent& event) {
  if (!event.value.key.starts_with(prefix_)) return;
  const std::int64_t revision = event.value.mod_revision;
  const std::string name = event.value.key.substr(prefix_.size());
  entries_.erase(name);
  if (!event.deleted) Insert(event.value, &entries_);
  if (name == self_.node) {
    const auto self = entries_.find(name);
    if (self == entries_.end() ||
        self->second.member.instance != self_.instance) {
      lease_->NoteChange(revision);
    }
  }
  seen_revision_ = revision;
  const auto epoch = static_cast<std::uint64_t>(revision);
  // (Smaller only after etcd has lost its history.)
  epoch_ = epoch >= epoch_ ? epoch : epoch_ + 1;
}

void EtcdMembership::Insert(const EtcdKeyValue& value, Entries* entries) const {
  if (!value.key.starts_with(prefix_)) return;
  const std::string name = value.key.substr(prefix_.size());
  auto member = DecodeMember(name, value.value);
  if (!member.ok()) {
    LogWarning("left out of the cluster's list: " +
               StatusMessage(member.status()));
    return;
  }
  (*entries)[name] = {std::move(*member), value.mod_revision};
}

void EtcdMembership::Publish() {
  const TimeNs now = MonotonicNowNs();
  const bool reachable = lease_reachable_ && watching_;
  const bool first_list = published_.epoch == ClusterEpoch();
  bool news = !std::exchange(published_once_, true);
  if (news && epoch_ == 0) published_.members = {self_};
  if (news || reachable != published_.reachable) {
    if (reachable) believe_from_ = now + lease_->ttl_ns() + kSettleNs;
    published_.reachable = reachable;
    news = true;
  }
  if (reachable && published_.epoch.value() != epoch_ &&
      (first_list || now >= believe_from_ || LacksNobody())) {
    published_.epoch = ClusterEpoch(epoch_);
    published_.members.clear();
    for (const auto& [name, entry] : entries_) {
      published_.members.push_back(entry.member);
    }
    if (first_list) believe_from_ = now;
    news = true;
  }
  if (news) callback_(published_);
}

bool EtcdMembership::LacksNobody() const {
  return std::all_of(published_.members.begin(), published_.members.end(),
                     [this](const MemberInfo& member) {
                       return entries_.contains(member.node);
                     });
}

TimeNs EtcdMembership::NextLook() const {
  const bool waits = published_.epoch.value() != epoch_;
  return waits && published_.reachable ? believe_from_ : kNoDeadline;
}

}  // namespace agentmem
