#include "memd/daemon.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <optional>
#include <thread>

#include "base/log.h"
#include "base/map_shared.h"
#include "base/status.h"
#include "memd/agents/agent_server.h"
#include "memd/cluster/etcd_ref_store.h"
#include "memd/cluster/wake_event.h"
#include "memd/descriptor_budget.h"
#include "memd/proven_refs.h"
#include "memd/remote_store.h"
#include "memd/state_lock.h"
#include "memd/store/rocks_store.h"
#include "memd/tenant_registry.h"

namespace agentmem {

// Destroyed from the bottom up: first who uses, then what is used.
struct Daemon::Parts {
  ~Parts() {
    EndProving();
    agents.reset();
    reactor.reset();
    // Reads may be under way: its threads before the memory that they use.
    store.reset();
    // The network before the memory that it was told of.
    if (pool == nullptr) return;
    pool->node.reset();
    pool->transport.reset();
  }

  struct TenantMemory {
    SharedMemory index;
    SharedMemory data;
  };

  // Doors to them, in the configuration's order.
  absl::StatusOr<std::vector<TenantDoor>> OpenTenants(
      const Config& config, std::uint64_t descriptors);
  absl::Status OpenDisk(const Config& config, const StoreWrapper& wrap);
  void AddAgents(const Config& config, const Clock* clock);
  absl::StatusOr<TenantIdentity> LoadTenant(const std::string& name) {
    return proven_refs == nullptr ? LoadOrMakeTenant(refs, name)
                                  : proven_refs->LoadTenant(name);
  }
  // A thread asks until the cluster answers; memd ends if it means others.
  void StartProving();
  void EndProving() {
    proving_ends = true;
    proving_wake.Signal();
    if (prover.joinable()) prover.join();
  }

  std::uint64_t instance = 0;
  RefStore* refs = nullptr;      // the store's, or the cluster's
  BlockStore* blocks = nullptr;  // the store's, or other nodes'
  std::optional<StateLock> lock;
  LiveNodes live;
  // Its memory outlives the store, which reads into it for peers.
  std::unique_ptr<PoolParts> pool;
  std::unique_ptr<EtcdClient> etcd;
  std::unique_ptr<EtcdRefStore> cluster_refs;
  std::unique_ptr<ProvenRefs> proven_refs;    // with a store of its own
  std::deque<DescriptorAccount> accounts;     // one for each tenant
  std::unique_ptr<RocksStore> store;          // null: it is remote
  std::unique_ptr<RemoteStore> remote_store;  // null: it is this node's
  std::deque<TenantMemory> memory;            // addresses stay
  std::unique_ptr<Node> node;
  std::unique_ptr<Populator> populator;
  std::unique_ptr<Reactor> reactor;
  std::unique_ptr<AgentServer> agents;
  WakeEvent proving_wake;
  std::atomic<bool> proving_ends = false;
  absl::Status disproven;  // of the prover, until it has ended
  std::thread prover;
};

namespace {

// An index is touched as a whole when it is put into huge pages. One that was
// configured larger than this stays sparse.
constexpr std::uint64_t kTouchedIndexBytesMax = 256ULL << 20;

// Between two looks for a cluster that was away at the start.
constexpr DurationNs kProveAgainNs = kSecondNs / 5;

std::uint64_t DescriptorLimit() {
  rlimit limit = {};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 1024;
}

// A link to each peer, and a connection of each, twice for one that comes back.
std::uint64_t DescriptorsOfFabric(const ClusterConfig& config) {
  if (!config.enabled()) return 0;
  const std::uint64_t peers =
      config.etcd.empty() ? config.peers.size() : kFabricPeers;
  return peers * (kDescriptorsOfLink + 2);
}

// Whole huge pages, unless it is smaller than one.
std::uint64_t IndexBytes(const IndexWriter::Shape& shape) {
  const std::uint64_t bytes = IndexWriter::BytesFor(shape);
  if (bytes < kHugePageBytes) return bytes;
  return (bytes + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
}

// A tenant is the same on two nodes if its secret is.
std::uint64_t ClusterIdOf(const TenantIdentity& identity) {
  const std::string label = "agentmem pool";
  std::array<std::uint8_t, 32> digest;
  unsigned int bytes = 0;
  HMAC(EVP_sha256(), identity.key.data(), static_cast<int>(identity.key.size()),
       reinterpret_cast<const unsigned char*>(label.data()), label.size(),
       digest.data(), &bytes);
  std::uint64_t id = 0;
  std::memcpy(&id, digest.data(), sizeof(id));
  return id;
}

absl::Status OpenEtcd(const ClusterConfig& config, RocksStore* store,
                      std::unique_ptr<EtcdClient>* client,
                      std::unique_ptr<EtcdRefStore>* refs) {
  EtcdOptions options;
  options.endpoints = config.etcd;
  options.ca_file = config.etcd_authority;
  options.certificate_file = config.etcd_certificate;
  options.key_file = config.etcd_key;
  AGENTMEM_ASSIGN_OR_RETURN(*client, EtcdClient::Make(options));
  EtcdRefStoreOptions ref_options;
  ref_options.cluster = config.name;
  // (Nobody commits blocks with refs that are shared; without a disk nobody
  // could.)
  if (store != nullptr) {
    ref_options.write_blocks = [store](std::span<const RefBlock> blocks) {
      return store->refs().Commit({}, blocks);
    };
  }
  AGENTMEM_ASSIGN_OR_RETURN(*refs,
                            EtcdRefStore::Make(client->get(), ref_options));
  return absl::OkStatus();
}

absl::StatusOr<TenantDoor> OpenTenant(const TenantConfig& config,
                                      const TenantIdentity& identity,
                                      std::uint64_t instance,
                                      bool durable_in_pool,
                                      const StoreConfig& config_store,
                                      Node* node, SharedMemory* index,
                                      SharedMemory* data) {
  const IndexWriter::Shape shape =
      IndexWriter::ShapeFor(config.slots, config.index_entries);
  AGENTMEM_ASSIGN_OR_RETURN(
      *index,
      SharedMemory::Create("agentmem-index-" + config.name, IndexBytes(shape),
                           SharedMemory::Access::kClientsRead));
  // A hit is two or three cache misses; with small pages each would be a miss
  // of the TLB too.
  const std::string small =
      "the index of tenant " + config.name + " is in pages of 4 KiB: ";
  if (index->bytes() > kTouchedIndexBytesMax) {
    LogInfo(small + std::to_string(index->bytes() >> 20) +
            " MiB are too many to touch at the start");
  } else if (const absl::Status huge = index->UseHugePages(); !huge.ok()) {
    LogInfo(small + StatusMessage(huge) + "; hits are slower");
  }
  AGENTMEM_ASSIGN_OR_RETURN(
      *data,
      SharedMemory::Create("agentmem-data-" + config.name, config.dram_bytes,
                           SharedMemory::Access::kClientsWrite));
  TenantOptions options;
  options.name = config.name;
  options.id = identity.id;
  options.cluster_id = ClusterIdOf(identity);
  options.durable_in_pool = durable_in_pool;
  options.serves = config_store.serve_bytes != 0;
  options.store_elsewhere = config_store.remote;
  options.dram_bytes = config.dram_bytes;
  options.slots = config.slots;
  options.index_entries = config.index_entries;
  options.store_quota_bytes = config.store_quota_bytes;
  options.hold_quota_bytes = config.hold_quota_bytes;
  options.grant_quota_bytes = config.grant_quota_bytes;
  TenantDoor door;
  door.tenant = node->AddTenant(
      options, Tenant::Memory{index->base(), data->base(), instance});
  door.index = index;
  door.data = data;
  door.users = config.users;
  if (door.users.empty()) door.users.push_back(geteuid());
  door.key = identity.key;
  return door;
}

}  // namespace

absl::StatusOr<std::vector<TenantDoor>> Daemon::Parts::OpenTenants(
    const Config& config, std::uint64_t descriptors) {
  std::vector<TenantDoor> doors;
  for (const TenantConfig& tenant : config.tenants) {
    TenantMemory& mine = memory.emplace_back();
    AGENTMEM_ASSIGN_OR_RETURN(const TenantIdentity identity,
                              LoadTenant(tenant.name));
    if (store != nullptr) store->NameTenant(identity.id, tenant.name);
    AGENTMEM_ASSIGN_OR_RETURN(
        TenantDoor door,
        OpenTenant(tenant, identity, instance,
                   config.cluster.enabled() && config.pool.durable,
                   config.store, node.get(), &mine.index, &mine.data));
    const std::size_t index = populator->Add(&mine.data);
    door.populator_index = index;
    door.tenant->TellOfLent([this, index](std::uint32_t extent, bool lent) {
      if (lent) {
        populator->Lend(index, extent);
      } else {
        populator->TakeBack(index, extent);
      }
    });
    door.descriptors = &accounts.emplace_back(descriptors);
    doors.push_back(std::move(door));
  }
  return doors;
}

void Daemon::Parts::StartProving() {
  if (proven_refs == nullptr || proven_refs->proven()) return;
  prover = std::thread([this] {
    while (!proving_ends) {
      absl::Status status = proven_refs->Prove();
      if (status.ok()) {
        return LogInfo("the cluster's refs answer, and mean its tenants");
      }
      if (status.code() == absl::StatusCode::kFailedPrecondition) {
        disproven = std::move(status);
        return reactor->Stop();
      }
      proving_wake.Wait(MonotonicNowNs() + kProveAgainNs);
    }
  });
}

absl::Status Daemon::Parts::OpenDisk(const Config& config,
                                     const StoreWrapper& wrap) {
  RocksStoreOptions options;
  options.path = config.state_directory + "/store";
  options.read_threads = static_cast<std::uint32_t>(config.store_read_threads);
  options.write_threads =
      static_cast<std::uint32_t>(config.store_write_threads);
  AGENTMEM_ASSIGN_OR_RETURN(store, RocksStore::Open(options));
  if (wrap) store = wrap(std::move(store));
  refs = &store->refs();
  blocks = &store->blocks();
  return absl::OkStatus();
}

void Daemon::Parts::AddAgents(const Config& config, const Clock* clock) {
  HbmRules rules;
  rules.device_bytes = config.hbm.device_bytes;
  rules.leave_ns =
      static_cast<DurationNs>(config.hbm.leave_ms) * kMillisecondNs;
  rules.reload_ns =
      static_cast<DurationNs>(config.hbm.reload_ms) * kMillisecondNs;
  agents = std::make_unique<AgentServer>(reactor.get(), refs, blocks, clock,
                                         instance, rules);
  for (std::size_t i = 0; i < config.tenants.size(); ++i) {
    const TenantOptions& tenant = node->tenants()[i]->options();
    TenantLimits limits;
    limits.name = tenant.name;
    limits.id = tenant.id;
    limits.dram_bytes = tenant.dram_bytes;
    if (pool != nullptr && pool->transport->limits().pins_memory) {
      limits.dram = RegionMemory::Dram::kPinned;
    }
    if (const std::uint64_t quota = config.tenants[i].region_quota_bytes) {
      limits.region_bytes_max = quota;
    }
    limits.sessions_max =
        std::max<std::uint64_t>(1, config.clients_max / config.tenants.size());
    limits.descriptors = &accounts[i];
    limits.hbm_quota_bytes = config.tenants[i].hbm_quota_bytes;
    if (etcd != nullptr) {
      SharedRefs& shared = limits.shared.emplace();
      shared.node = config.cluster.node;
      shared.instance = instance;
      shared.is_alive = [this](const std::string& other, std::uint64_t run) {
        return live.IsAlive(other, run);
      };
      shared.is_reachable = [this] { return live.IsReachable(); };
      shared.epoch = [this] { return live.Get().epoch.value(); };
      shared.refresh_ns = CollectionThread::kLookRounds *
                          static_cast<DurationNs>(config.collect_ms) *
                          kMillisecondNs;
    }
    agents->AddTenant(limits);
  }
}

Daemon::Daemon(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Daemon::~Daemon() = default;

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Open(const Config& config,
                                                     const Clock* clock,
                                                     const StoreWrapper& wrap) {
  auto parts = std::make_unique<Parts>();
  AGENTMEM_ASSIGN_OR_RETURN(auto lock,
                            StateLock::Acquire(config.state_directory));
  parts->lock.emplace(std::move(lock));

  if (!config.store.remote) {
    AGENTMEM_RETURN_IF_ERROR(parts->OpenDisk(config, wrap));
  }
  std::uint64_t& instance = parts->instance;
  if (getrandom(&instance, sizeof(instance), 0) != sizeof(instance)) {
    return ErrnoStatus("getrandom");
  }
  if (!config.cluster.etcd.empty()) {
    AGENTMEM_RETURN_IF_ERROR(OpenEtcd(config.cluster, parts->store.get(),
                                      &parts->etcd, &parts->cluster_refs));
    parts->refs = parts->cluster_refs.get();
    if (parts->store != nullptr) {
      parts->proven_refs = std::make_unique<ProvenRefs>(
          parts->cluster_refs.get(), &parts->store->refs());
      parts->refs = parts->proven_refs.get();
    }
  }
  if (config.cluster.enabled()) {
    AGENTMEM_ASSIGN_OR_RETURN(parts->pool, PoolParts::Open(config, instance));
  }
  if (config.store.remote) {
    PoolNode* const pool_node = parts->pool->node.get();
    pool_node->UseRemoteStore(config.store.nodes);
    AGENTMEM_ASSIGN_OR_RETURN(parts->remote_store,
                              RemoteStore::Make(pool_node));
    parts->blocks = parts->remote_store.get();
  }
  parts->node = std::make_unique<Node>(parts->blocks);
  parts->populator = std::make_unique<Populator>();
  const std::uint64_t descriptors =
      DescriptorsOfEach(DescriptorLimit(), config.tenants.size(),
                        DescriptorsOfFabric(config.cluster));
  AGENTMEM_ASSIGN_OR_RETURN(std::vector<TenantDoor> doors,
                            parts->OpenTenants(config, descriptors));
  AGENTMEM_ASSIGN_OR_RETURN(const std::uint64_t strangers,
                            parts->node->Recover());
  if (strangers != 0) {
    LogWarning("the store has " + std::to_string(strangers) +
               " blocks of tenants that are not configured; they are kept");
  }

  if (parts->pool != nullptr) {
    parts->pool->populator_index =
        parts->populator->Add(&parts->pool->export_memory);
  }
  ReactorOptions options;
  options.pool = parts->pool.get();
  options.live = &parts->live;
  options.remote_store = parts->remote_store.get();
  options.serve_bytes = config.store.serve_bytes;
  options.socket_path = config.socket_path;
  options.state_directory = config.state_directory;
  if (const std::uint64_t fit =
          descriptors / kDescriptorsOfClient * config.tenants.size();
      fit < config.clients_max) {
    LogWarning("clients_max is " + std::to_string(config.clients_max) +
               ", but memd may have " + std::to_string(DescriptorLimit()) +
               " descriptors, enough for " + std::to_string(fit) +
               "; raise LimitNOFILE (ulimit -n), or lower clients_max");
  }
  options.clients_max = config.clients_max;
  options.spin_ns = static_cast<DurationNs>(config.spin_us) * kMicrosecondNs;
  options.stop_ns = static_cast<DurationNs>(config.stop_ms) * kMillisecondNs;
  options.instance = instance;
  options.populator = parts->populator.get();
  RocksStore* store = parts->store.get();
  if (ProvenRefs* const proven = parts->proven_refs.get(); proven != nullptr) {
    options.proven = [proven] { return proven->proven(); };
  }
  if (store != nullptr) options.losses = store->losses();
  options.disk_bytes = [store]() -> std::uint64_t {
    return store == nullptr ? 0 : store->disk_bytes();
  };
  parts->reactor = std::make_unique<Reactor>(options, clock, parts->node.get(),
                                             parts->blocks, std::move(doors));
  parts->AddAgents(config, clock);
  parts->reactor->SetAgents(parts->agents.get());
  AGENTMEM_RETURN_IF_ERROR(parts->reactor->Start());
  parts->agents->StartCollecting(static_cast<DurationNs>(config.collect_ms) *
                                 kMillisecondNs);
  parts->StartProving();
  return std::unique_ptr<Daemon>(new Daemon(std::move(parts)));
}

absl::Status Daemon::Run() {
  if (!parts_->reactor->Run()) {
    return absl::CancelledError("told to stop twice: it ends at once");
  }
  parts_->EndProving();
  const absl::Status flushed = parts_->blocks->Flush();
  AGENTMEM_RETURN_IF_ERROR(parts_->disproven);
  if (const std::uint64_t left = parts_->node->dirty_bytes(); left != 0) {
    return DataLoss(std::to_string(left) +
                    " bytes of state blocks could not be written down; see the "
                    "store's errors above");
  }
  return flushed;
}

void Daemon::Stop() { parts_->reactor->Stop(); }
bool Daemon::StopNow() { return parts_->reactor->StopNow(); }

PoolHost* Daemon::pool_host() {
  return parts_->pool == nullptr ? nullptr : parts_->reactor.get();
}

EtcdClient* Daemon::etcd() { return parts_->etcd.get(); }

AdminBackend& Daemon::admin() { return *parts_->reactor; }

}  // namespace agentmem
