// What the administration sees: copies of a node's state at one moment.
//
// Sizes in bytes, times in nanoseconds.
//
// Ownership: plain values. Threads: made on the reactor, read by gRPC threads.
// Errors: AdminBackend's stand beside its methods. Cost: of a copy.
#ifndef AGENTMEM_MEMD_SERVICE_SNAPSHOT_H_
#define AGENTMEM_MEMD_SERVICE_SNAPSHOT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/status.h"
#include "memd/pool/pool_peer.h"
#include "memd/transport/fabric_provider.h"
#include "memd/transport/rdma_devices.h"
#include "proto/types.h"

namespace agentmem {

struct TierSnapshot {
  Tier tier = Tier::kNone;
  std::uint64_t budget_bytes = 0;  // 0: no limit
  std::uint64_t used_bytes = 0;    // of slots in use (dram), of records (store)
  std::uint64_t blocks = 0;
  std::uint64_t hits = 0;       // reads that were served from here
  std::uint64_t reads = 0;      // blocks promoted out of it
  std::uint64_t writes = 0;     // blocks written into it
  std::uint64_t evictions = 0;  // copies dropped from it
  std::uint64_t hit_bytes = 0;  // of hits; of tier hbm alone
};

struct TenantSnapshot {
  std::string name;
  TenantId id;
  // As its processes say: budgets, what they allocated, blocks of each agent,
  // hits since memd began; the rest is not known. None: no process has had any.
  std::optional<TierSnapshot> hbm;
  TierSnapshot dram;
  TierSnapshot pool;  // what this node knows to be in other nodes' memory
  TierSnapshot store;
  std::uint64_t clients = 0;
  std::uint64_t puts = 0;
  std::uint64_t puts_failed = 0;
  // Of those: no room in DRAM, or what the tenant or the client may have is
  // used up; the store failed; no other node took a copy. The rest was wrong.
  std::uint64_t puts_failed_room = 0;
  std::uint64_t puts_failed_quota = 0;
  std::uint64_t puts_failed_store = 0;
  std::uint64_t puts_failed_replica = 0;
  std::uint64_t misses = 0;  // fetches of blocks stored nowhere
  std::uint64_t granted_bytes = 0;
  std::uint64_t pinned_bytes = 0;  // pins seen just now
  std::uint64_t held_bytes = 0;
  std::uint64_t registered_bytes = 0;  // of extents held for devices, each once
  std::uint64_t limbo_bytes = 0;
  std::uint64_t dirty_bytes = 0;     // state blocks not yet below
  std::uint64_t notes_lost = 0;      // access notes that came too fast
  std::uint64_t corrupt_blocks = 0;  // copies that failed their checksum
  std::uint64_t slots_used = 0;
  std::uint64_t slots = 0;
};

struct HoldSnapshot {
  Key key;
  std::uint64_t bytes = 0;
  DurationNs age_ns = 0;
};

struct ClientSnapshot {
  ClientId id;
  std::string name;
  std::string tenant;
  std::int32_t pid = 0;
  std::uint32_t uid = 0;
  DurationNs connected_ns = 0;  // since
  std::uint64_t pins = 0;
  std::uint64_t pinned_bytes = 0;
  std::uint64_t holds = 0;
  std::uint64_t held_bytes = 0;
  std::uint64_t registered_bytes = 0;  // of extents that it holds for devices
  DurationNs oldest_hold_ns = 0;
  std::uint64_t grants = 0;
  std::uint64_t granted_bytes = 0;
  std::uint64_t limbo_bytes = 0;           // unpublished, but pinned by it
  bool socket_closed = false;              // hung up, but its pidfd says alive
  std::vector<HoldSnapshot> oldest_holds;  // at most 8
};

struct NodeSnapshot {
  std::string version;
  std::string state;  // "starting", "serving", "draining"
  std::string state_directory;
  std::string socket_path;
  std::int32_t pid = 0;
  std::uint64_t instance = 0;
  DurationNs uptime_ns = 0;
  std::uint64_t store_disk_bytes = 0;
  std::uint64_t clients_died = 0;
  std::uint64_t clients_refused = 0;
  std::vector<TenantSnapshot> tenants;
  std::vector<ClientSnapshot> clients;
};

struct BlockSnapshot {
  Key key;
  std::string tenant;
  BlockClass block_class = BlockClass::kCache;
  std::uint32_t length = 0;
  bool in_dram = false;
  bool in_store = false;
  std::uint32_t pool_copies = 0;
  std::uint64_t slot = 0;
  std::uint64_t generation = 0;
  std::uint64_t holds = 0;
  std::uint64_t pins = 0;
};

struct ClusterMemberSnapshot {
  std::string node;
  std::string address;  // of its peers' gRPC door
  std::string rack;
  std::uint64_t weight = 0;    // bytes that it exports
  std::uint64_t instance = 0;  // which run of its memd; 0: not known
};

struct LeftMemberSnapshot {
  std::string node;
  DurationNs left_ns = 0;  // since it left
};

struct ClusterSnapshot {
  std::string name;
  std::string kind = "none";  // "none": alone; "static"; "etcd"
  std::uint64_t epoch = 0;    // 0: a static list
  bool reachable = true;      // what the members agree by
  std::vector<ClusterMemberSnapshot> members;  // by name; this node among them
  std::vector<LeftMemberSnapshot> left;  // the last first, until it is back
};

// What is wrong with this node as a whole, and in no tenant's numbers.
struct Trouble {
  std::string name;  // stable: a key for scripts
  std::string text;  // what is so
  std::string remedy;
  DurationNs since_ns = 0;  // 0: not told
};

// What this node's bytes travel over, and to whom.
struct FabricSnapshot {
  std::string provider;  // libfabric's name; empty: no fabric is open
  std::string domain;
  std::string address;  // of the interface
  bool rdma = false;
  bool rdma_asked = false;  // by the configuration: TCP is a failure then
  std::uint64_t fallbacks = 0;
  bool pins_memory = false;  // regions have memory beside the tenants' DRAM
  std::vector<FabricCandidate> candidates;
  FabricCounters counters;
  std::uint64_t inbound = 0;  // connections of peers; 0: not known
  RdmaSurvey devices;
  PoolSnapshot pool;
  ClusterSnapshot cluster;
  bool peers_insecure = false;  // peers are believed what they say: no TLS
  std::uint64_t spin_us = 0;    // looks for answers so long before it sleeps
  std::vector<std::string> warnings;  // what else an operator should know
  // Rounds of collection that came early, as copies found no room; and what
  // they dropped.
  std::uint64_t early_collections = 0;
  std::uint64_t early_dropped = 0;
  std::vector<Trouble> troubles;  // of a node that is alone, too
};

// What the gRPC service asks of the daemon. Thread-safe; each call posts to the
// reactor and waits for its answer (UNAVAILABLE when it is shutting down).
class AdminBackend {
 public:
  virtual ~AdminBackend() = default;
  virtual absl::StatusOr<NodeSnapshot> Snapshot() = 0;
  // NOT_FOUND: no such tenant, or the tenant has no such block.
  virtual absl::StatusOr<BlockSnapshot> ShowBlock(const std::string& tenant,
                                                  const Key& key) = 0;
  // UNIMPLEMENTED: this backend knows of no fabric.
  virtual absl::StatusOr<FabricSnapshot> Fabric() {
    return MakeStatus(absl::StatusCode::kUnimplemented,
                      "this memd tells nothing of its fabric");
  }
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_SNAPSHOT_H_
