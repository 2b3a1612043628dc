// Reactor: the pool's turn, and peers that come and go.
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <future>

#include "base/status.h"
#include "memd/reactor.h"
#include "memd/transport/rdma_system.h"

namespace agentmem {
namespace {

constexpr DurationNs kPoolTickBusyNs = 10 * kMillisecondNs;
constexpr DurationNs kPoolTickIdleNs = 100 * kMillisecondNs;
// A Turn with nothing to do takes less.
constexpr DurationNs kMovedNs = 10 * kMicrosecondNs;

// A peer that comes back leaves an older connection for a while.
constexpr std::uint64_t kInboundOfMember = 2;

void WarnOfPeers(std::size_t known_at_start, FabricSnapshot* snapshot) {
  const std::size_t members = snapshot->cluster.members.size();
  const std::string many =
      TooManyPeers(snapshot->provider, members, known_at_start);
  if (!many.empty()) snapshot->warnings.push_back(many);
  if (snapshot->inbound >
      kInboundOfMember * std::max<std::size_t>(members, 2)) {
    snapshot->warnings.push_back(
        std::to_string(snapshot->inbound) +
        " connections came in to this node's fabric address, of " +
        std::to_string(members) +
        " members: somebody else may reach it; let the members alone through "
        "the firewall");
  }
}

}  // namespace

std::size_t Reactor::PoolTurn(TimeNs now) {
  PoolNode* const pool = options_.pool->node.get();
  std::array<PoolCompletion, 64> completions;
  const std::size_t count = pool->Poll(now, completions);
  // Bytes that peers write here make no event; that Poll took its time tells of
  // them, and that more is coming.
  if (options_.pool->spin_ns != 0 && clock_->Now() - now > kMovedNs) {
    last_work_ = last_pool_work_ = now;
  }
  node_->TakePoolCompletions(std::span(completions).first(count), now);
  if (now >= next_pool_tick_) {
    pool->Tick(now);
    NoteAddress();
    for (const ExportPool::Name& name : pool->TakeRevoked()) {
      node_->OnRevoked(name.tenant, name.key);
    }
    next_pool_tick_ = now + kPoolTickIdleNs;
  }
  if (const PoolNode::Shortage lack = pool->TakeShortage();
      (lack.here || lack.elsewhere) && options_.agents != nullptr) {
    options_.agents->RoomIsShort(lack.here);
  }
  // (They end in the next turn.)
  if (options_.remote_store != nullptr) options_.remote_store->Collect();
  if (pool->busy()) {
    next_pool_tick_ = std::min(next_pool_tick_, now + kPoolTickBusyNs);
  }
  const std::size_t work = count + pool->TakeActivity();
  if (work != 0) last_pool_work_ = now;
  return work;
}

void Reactor::NoteAddress() {
  MutexLock lock(&identity_mutex_);
  fabric_address_ = options_.pool->transport->address();
}

absl::Status Reactor::WatchPool() {
  NoteAddress();
  for (TenantDoor& door : doors_) {
    const auto memory = options_.pool->node->Register(
        {door.data->base(), static_cast<std::size_t>(door.data->bytes())});
    if (!memory.ok()) return memory.status();
    door.tenant->UsePool(options_.pool->node.get(), *memory);
    if (options_.remote_store != nullptr) {
      const TenantOptions& tenant = door.tenant->options();
      options_.remote_store->AddTenant(tenant.id, tenant.cluster_id, *memory);
    }
  }
  // What is in another node's store is that node's to answer for.
  if (options_.remote_store == nullptr) {
    node_->ServePeers(options_.pool->node.get());
  }
  if (options_.serve_bytes != 0) node_->ServeStore(options_.serve_bytes);
  Watch(options_.pool->transport->wait_fd(), kTagFabric, EPOLLIN);
  return absl::OkStatus();
}

PoolIdentity Reactor::identity() const {
  PoolIdentity identity = options_.pool->identity;
  MutexLock lock(&identity_mutex_);
  identity.fabric_address = fabric_address_;
  return identity;
}

void Reactor::AddPeer(const PoolPeer& peer) {
  Post([this, peer] { options_.pool->node->AddPeer(peer, clock_->Now()); });
}

void Reactor::RemovePeer(const std::string& node) {
  Post([this, node] { options_.pool->node->RemovePeer(node, clock_->Now()); });
}

absl::StatusOr<std::vector<PoolPeerSnapshot>> Reactor::Peers() {
  auto promise =
      std::make_shared<std::promise<std::vector<PoolPeerSnapshot>>>();
  auto future = promise->get_future();
  const bool posted = Post([this, promise] {
    promise->set_value(options_.pool->node->Snapshot(clock_->Now()).peers);
  });
  if (!posted) return Unavailable("memd is shutting down, or overloaded");
  return future.get();
}

absl::StatusOr<FabricSnapshot> Reactor::Fabric() {
  auto promise = std::make_shared<std::promise<FabricSnapshot>>();
  auto future = promise->get_future();
  const bool posted = Post([this, promise] {
    FabricSnapshot now;
    now.troubles = Troubles(clock_->Now());
    if (options_.pool != nullptr) {
      now.pool = options_.pool->node->Snapshot(clock_->Now());
      const FabricTransport& transport = *options_.pool->transport;
      now.counters = transport.counters();
      now.warnings = transport.Warnings();
      now.inbound = transport.CountInbound();
      if (options_.agents != nullptr) {
        const EarlyCollections early = options_.agents->early();
        now.early_collections = early.rounds;
        now.early_dropped = early.dropped;
      }
    }
    promise->set_value(std::move(now));
  });
  if (!posted) return Unavailable("memd is shutting down, or overloaded");
  FabricSnapshot snapshot = future.get();
  if (options_.pool == nullptr) {
    // By the caller's thread: it opens every device.
    MutexLock lock(&survey_mutex_);
    if (!survey_.has_value()) survey_ = SurveyRdma({}, LinuxRdmaSystem());
    snapshot.devices = *survey_;
    return snapshot;
  }
  // Constant after Open.
  const FabricChoice& choice = options_.pool->transport->choice();
  snapshot.provider = choice.provider;
  snapshot.domain = choice.domain;
  snapshot.address = choice.address;
  snapshot.rdma = choice.rdma;
  snapshot.pins_memory = options_.pool->transport->limits().pins_memory;
  snapshot.rdma_asked = options_.pool->rdma_asked;
  snapshot.fallbacks = choice.fallbacks;
  snapshot.candidates = choice.candidates;
  snapshot.devices = options_.pool->devices;
  snapshot.spin_us =
      static_cast<std::uint64_t>(options_.pool->spin_ns / kMicrosecondNs);
  const ClusterView view = options_.live->Get();
  snapshot.peers_insecure = view.insecure;
  snapshot.cluster.name = view.name;
  snapshot.cluster.kind = view.kind;
  snapshot.cluster.epoch = view.epoch.value();
  snapshot.cluster.reachable = view.reachable;
  for (const ClusterView::Member& member : view.members) {
    snapshot.cluster.members.push_back({member.node, member.address,
                                        member.rack, member.weight,
                                        member.instance});
  }
  for (const ClusterView::Left& left : view.left) {
    snapshot.cluster.left.push_back({left.node, clock_->Now() - left.left_at});
  }
  WarnOfPeers(options_.pool->peers_at_start, &snapshot);
  if (options_.proven && !options_.proven()) {
    snapshot.warnings.push_back(
        "this node started without etcd, with the tenants that its store "
        "knows: agents and refs are UNAVAILABLE until etcd answers; start it, "
        "nothing else is to be done");
  }
  return snapshot;
}

void Reactor::ShowCluster(const ClusterView& view) {
  std::vector<std::string> nodes;
  for (const ClusterView::Member& member : view.members) {
    nodes.push_back(member.node);
  }
  Post([this, nodes] { options_.pool->node->ExpectMembers(nodes); });
  options_.live->Set(view);
}

}  // namespace agentmem
