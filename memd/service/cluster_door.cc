#include "memd/service/cluster_door.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "memd/service/member_changes.h"
#include "memd/service/peer_client.h"
#include "memd/service/peer_server.h"
#include "proto/pool_messages.h"
#include "proto/store_messages.h"

namespace agentmem {
namespace {

constexpr DurationNs kHelloNs = 2 * kSecondNs;
constexpr DurationNs kLookNs = kSecondNs;

}  // namespace

class ClusterDoor::Impl final : public PeerBackend {
 public:
  Impl(const ClusterConfig& config, std::unique_ptr<Membership> membership,
       PoolHost* host)
      : config_(config),
        host_(host),
        changes_(config.node),
        membership_(std::move(membership)) {}

  ~Impl() override {
    membership_.reset();  // no more lists
    stopping_ = true;
    Wake();
    if (thread_.joinable()) thread_.join();
    client_.reset();  // no more answers
  }

  absl::Status Start();

  // From gRPC's threads.
  absl::StatusOr<PeerCard> Hello(const PeerCard& from) override {
    if (from.provider != host_->identity().provider) {
      return FailedPrecondition(
          "node " + from.node + " uses fabric provider \"" + from.provider +
          "\", node " + config_.node + " uses \"" + host_->identity().provider +
          "\"; configure the same [fabric] provider on both");
    }
    AGENTMEM_ASSIGN_OR_RETURN(const PeerCard own, CardFor(from.node));
    Add(from, own.token);
    return own;
  }

 private:
  absl::StatusOr<PeerCard> CardFor(const std::string& node)
      AGENTMEM_EXCLUDES(mutex_);
  void Add(const PeerCard& card, std::uint64_t token_given);
  void OnMembers(const MemberList& list) AGENTMEM_EXCLUDES(mutex_);
  void Run();
  void Look();
  void SayHello(const MemberInfo& member) AGENTMEM_EXCLUDES(mutex_);
  void TakeAnswers() AGENTMEM_EXCLUDES(mutex_);
  bool TakeChange() AGENTMEM_EXCLUDES(mutex_) {
    MutexLock lock(&mutex_);
    return std::exchange(is_changed_, false);
  }
  void Wake() {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t put =
        ::write(wake_.get(), &one, sizeof(one));
  }

  const ClusterConfig config_;
  PoolHost* const host_;
  UniqueFd wake_{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::shared_ptr<PeerSecurity> security_;
  std::unique_ptr<PeerClient> client_;
  std::atomic<bool> stopping_ = false;

  struct Answer {
    std::string node;
    std::uint64_t token = 0;  // that it was given
    absl::StatusOr<PeerCard> card;
  };

  Mutex mutex_;
  MemberList members_ AGENTMEM_GUARDED_BY(mutex_);
  bool is_changed_ AGENTMEM_GUARDED_BY(mutex_) = false;
  std::vector<Answer> answers_ AGENTMEM_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, std::uint64_t> tokens_
      AGENTMEM_GUARDED_BY(mutex_);

  MemberChanges changes_;  // of the membership's calls, one at a time

  // Of the thread: told to the host; and said Hello to, without an answer yet.
  std::vector<std::string> known_;
  absl::flat_hash_set<std::string> asked_;
  std::thread thread_;
  std::unique_ptr<PeerServer> server_;  // goes before what it calls
  std::unique_ptr<Membership> membership_;
};

absl::Status ClusterDoor::Impl::Start() {
  if (!wake_.valid()) return ErrnoStatus("eventfd");
  if (config_.insecure) {
    LogWarning("[cluster] insecure = true: whoever reaches " + config_.listen +
               " may read and write this cluster's blocks");
    security_ = PeerSecurity::Insecure();
  } else {
    AGENTMEM_ASSIGN_OR_RETURN(
        security_, PeerSecurity::FromFiles(
                       {config_.certificate, config_.key, config_.authority},
                       config_.name, config_.node));
  }
  client_ = std::make_unique<PeerClient>(security_);
  PeerServerOptions options;
  options.listen = config_.listen;
  options.cluster = config_.name;
  options.node = config_.node;
  options.pool_version = kPoolVersion;
  options.security = security_;
  AGENTMEM_ASSIGN_OR_RETURN(server_, PeerServer::Start(options, this));
  MemberInfo self;
  self.node = config_.node;
  self.peer_address = config_.advertise;
  self.instance = host_->identity().instance;
  self.rack = config_.rack;
  self.weight = host_->identity().export_bytes;
  AGENTMEM_RETURN_IF_ERROR(membership_->Start(
      self, [this](const MemberList& list) { OnMembers(list); }));
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

absl::StatusOr<PeerCard> ClusterDoor::Impl::CardFor(const std::string& node) {
  const PoolIdentity identity = host_->identity();
  PeerCard card;
  card.cluster = config_.name;
  card.node = config_.node;
  card.instance = identity.instance;
  card.rack = config_.rack;
  card.provider = identity.provider;
  card.fabric_address = identity.fabric_address;
  card.pool_version = kPoolVersion;
  card.export_address = identity.export_address;
  card.export_key = identity.export_key;
  card.export_bytes = identity.export_bytes;
  card.store_version = kStoreVersion;
  card.store_bytes = identity.store_bytes;
  card.store_path = identity.store_path;
  MutexLock lock(&mutex_);
  std::uint64_t& token = tokens_[node];
  while (token == 0) {
    if (getrandom(&token, sizeof(token), 0) != sizeof(token)) {
      return ErrnoStatus("getrandom");
    }
  }
  card.token = token;
  return card;
}

void ClusterDoor::Impl::Add(const PeerCard& card, std::uint64_t token_given) {
  PoolPeer peer;
  peer.node = card.node;
  peer.instance = card.instance;
  peer.rack = card.rack;
  peer.fabric_address = card.fabric_address;
  peer.token = card.token;
  peer.token_given = token_given;
  peer.export_address = card.export_address;
  peer.export_key = card.export_key;
  peer.export_bytes = card.export_bytes;
  peer.store_version = card.store_version;
  peer.store_bytes = card.store_bytes;
  peer.store_path = Shown(card.store_path);
  host_->AddPeer(peer);
}

void ClusterDoor::Impl::OnMembers(const MemberList& list) {
  ClusterView view;
  view.name = config_.name;
  view.kind = config_.etcd.empty() ? "static" : "etcd";
  view.insecure = config_.insecure;
  view.epoch = list.epoch;
  view.reachable = list.reachable;
  for (const MemberInfo& member : list.members) {
    view.members.push_back({member.node, member.peer_address, member.rack,
                            member.weight, member.instance});
  }
  for (const MemberChanges::Line& line :
       changes_.Take(list, MonotonicNowNs())) {
    Log(line.level, line.text);
  }
  view.left = changes_.left();
  host_->ShowCluster(view);
  {
    MutexLock lock(&mutex_);
    members_ = list;
    is_changed_ = true;
  }
  Wake();
}

void ClusterDoor::Impl::Run() {
  TimeNs look_at = 0;
  while (!stopping_) {
    TakeAnswers();
    if (TakeChange() || MonotonicNowNs() >= look_at) {
      Look();
      look_at = MonotonicNowNs() + kLookNs;
    }
    const DurationNs left = std::max<DurationNs>(0, look_at - MonotonicNowNs());
    pollfd wait = {wake_.get(), POLLIN, 0};
    ::poll(&wait, 1,
           static_cast<int>((left + kMillisecondNs - 1) / kMillisecondNs));
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t got =
        ::read(wake_.get(), &count, sizeof(count));
  }
}

void ClusterDoor::Impl::Look() {
  MemberList members;
  {
    MutexLock lock(&mutex_);
    members = members_;
  }
  const auto peers = host_->Peers();
  if (!peers.ok()) return;
  std::erase_if(known_, [&](const std::string& node) {
    const bool stays =
        std::any_of(members.members.begin(), members.members.end(),
                    [&](const MemberInfo& one) { return one.node == node; });
    if (!stays) host_->RemovePeer(node);
    return !stays;
  });
  for (const MemberInfo& member : members.members) {
    if (member.node == config_.node || stopping_) continue;
    const bool up = std::any_of(
        peers->begin(), peers->end(), [&](const PoolPeerSnapshot& peer) {
          return peer.node == member.node && peer.state == PoolPeerState::kUp &&
                 (member.instance == 0 || member.instance == peer.instance);
        });
    if (std::find(known_.begin(), known_.end(), member.node) == known_.end()) {
      known_.push_back(member.node);
    }
    if (!up) SayHello(member);
  }
}

void ClusterDoor::Impl::SayHello(const MemberInfo& member) {
  const auto own = CardFor(member.node);
  if (!own.ok() || !asked_.insert(member.node).second) return;
  client_->Hello(member.peer_address, member.node, *own,
                 MonotonicNowNs() + kHelloNs,
                 [this, node = member.node,
                  token = own->token](const absl::StatusOr<PeerCard>& card) {
                   {
                     MutexLock lock(&mutex_);
                     answers_.push_back({node, token, card});
                   }
                   Wake();
                 });
}

// By the thread, so that who has left the list meanwhile is not met.
void ClusterDoor::Impl::TakeAnswers() {
  std::vector<Answer> answers;
  {
    MutexLock lock(&mutex_);
    answers.swap(answers_);
  }
  for (const Answer& answer : answers) {
    asked_.erase(answer.node);
    const bool stays =
        std::find(known_.begin(), known_.end(), answer.node) != known_.end();
    // What went wrong the client has logged, once a peer and cause.
    if (answer.card.ok() && stays) Add(*answer.card, answer.token);
  }
}

ClusterDoor::ClusterDoor(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ClusterDoor::~ClusterDoor() = default;

absl::StatusOr<std::unique_ptr<ClusterDoor>> ClusterDoor::Start(
    const ClusterConfig& config, std::unique_ptr<Membership> membership,
    PoolHost* host) {
  auto impl = std::make_unique<Impl>(config, std::move(membership), host);
  AGENTMEM_RETURN_IF_ERROR(impl->Start());
  return std::unique_ptr<ClusterDoor>(new ClusterDoor(std::move(impl)));
}

}  // namespace agentmem
