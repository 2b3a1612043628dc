// The node's state machine: its tenants over one store, apart from threads.
//
// Nothing in here waits, reads a clock or makes a system call but through the
// interfaces that it was given; the reactor drives it, and tests do by hand.
//
// Ownership: owns tenants; borrows the store. Threads: reactor-only.
// Errors: AddTenant: what the store's scan says. Cost: as Tenant's.
#ifndef AGENTMEM_MEMD_NODE_H_
#define AGENTMEM_MEMD_NODE_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "memd/drain_report.h"
#include "memd/durability_watch.h"
#include "memd/pool/pool_node.h"
#include "memd/tenant.h"

namespace agentmem {

class Node final : public StoredBlocks, public ServedStore {
 public:
  explicit Node(BlockStore* store) : store_(store) {}

  Tenant* AddTenant(const TenantOptions& options, const Tenant::Memory& memory);
  Tenant* AddTenant(const TenantOptions& options, const Tenant::Memory& memory,
                    std::unique_ptr<tiering::Policy> policy);
  // Tells each tenant what the store has; before any client. Blocks of tenants
  // that are not configured are left alone; returns how many there are.
  absl::StatusOr<std::uint64_t> Recover();

  // Peers may ask for what the store has. Before any client.
  void ServePeers(PoolNode* pool);
  bool Lookup(std::uint64_t tenant, const Key& key, Found* found) override;
  bool Load(std::uint64_t tenant, const Key& key, char* to,
            std::uint32_t length, std::uint64_t generation) override;

  // Peers without a disk may keep blocks in the store, while all in it take
  // less than `serve_bytes`. After ServePeers.
  void ServeStore(std::uint64_t serve_bytes);
  StoreVerdict Admit(const ServedBlock& block) override;
  bool Write(const ServedBlock& block, const char* bytes,
             std::uint64_t generation) override;
  bool Erase(std::uint64_t tenant, const Key& key,
             BlockClass block_class) override;
  std::uint64_t used_bytes() const override;
  std::uint64_t serve_bytes() const override { return serve_bytes_; }

  // Takes the pool's completions; how many there were.
  std::size_t TakePoolCompletions(std::span<const PoolCompletion> completions,
                                  TimeNs now);
  void OnRevoked(std::uint64_t cluster_id, const Key& key);

  // Takes the store's completions; how many there were.
  std::size_t PollStore(TimeNs now);
  void Tick(TimeNs now);
  // Nothing new is taken; what is dirty, and `state` that only memory has, is
  // written down: this node's own first, then what it lends memory for.
  void BeginDrain();
  // Goes on with it; true: it has ended.
  bool DrainOn();
  DrainReport ReportDrain();
  // Of writes to the store, and of copies to other nodes' memory: the failure
  // that lasts longest, if any tenant's fail now.
  std::optional<WriteFailure> StoreFailure(TimeNs now) const;
  std::optional<WriteFailure> CopyFailure(TimeNs now) const;
  // Of class state, and not written down.
  std::uint64_t dirty_bytes() const;
  bool restless() const;
  bool store_busy() const;

  const std::vector<std::unique_ptr<Tenant>>& tenants() const {
    return tenants_;
  }
  Tenant* FindTenant(const std::string& name) const;

 private:
  BlockStore* const store_;
  std::vector<std::unique_ptr<Tenant>> tenants_;
  absl::flat_hash_map<std::uint32_t, Tenant*> by_id_;
  std::size_t first_ = 0;  // the tenant whose turn it is to be first
  PoolNode* pool_ = nullptr;
  // Loads and writes for peers, by their tickets (of tenant 0, which is none).
  struct PeerLoad {
    std::uint64_t generation = 0;
    Tenant* tenant = nullptr;
    Key key;
  };
  struct PeerWrite {
    std::uint64_t generation = 0;
    Tenant* tenant = nullptr;
    ServedBlock block;
  };
  std::uint64_t NextPeerTicket() {
    return ++next_peer_op_ & ((1ULL << 40) - 1);
  }
  Tenant* FindServed(std::uint64_t cluster_id) const;
  // False: the completion is none of a peer's operation.
  bool TakePeers(const StoreCompletion& completion, TimeNs now);

  absl::flat_hash_map<std::uint64_t, PeerLoad> peer_loads_;
  absl::flat_hash_map<std::uint64_t, PeerWrite> peer_writes_;
  std::uint64_t next_peer_op_ = 0;
  std::uint64_t serve_bytes_ = 0;
  std::unique_ptr<LentDrain> lent_;  // null: nothing is lent, or no drain
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_NODE_H_
