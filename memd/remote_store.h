// BlockStore of a node without a disk: its blocks are in the stores of other
// nodes, and get there and back by the pool (PoolNode::UseRemoteStore).
//
// A put that is to be durable ends when the other node's disk has it, as safe
// as that node's own. Order: as RocksBlockStore's, for who waits for the end of
// what he has put before he puts or deletes the same key again. What is there
// already is not listed at start (Scan): a block that this node does not know
// is looked for when it is asked for, as any other in the cluster.
//
// Scans find nothing: who has the disk lists what is on it, and drops what no
// version needs any more.
//
// Ownership: borrows the pool node. Threads: as BlockStore. Errors: as
// BlockStore;
// UNAVAILABLE: no node that may have the block, or could take it, answers. The
// completion names the node. Cost: nothing blocks; a put costs three trips over
// the network, and the other disk.
#ifndef AGENTMEM_MEMD_REMOTE_STORE_H_
#define AGENTMEM_MEMD_REMOTE_STORE_H_

#include <memory>
#include <span>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "memd/pool/pool_node.h"
#include "memd/store/block_store.h"
#include "memd/store/completion_queue.h"

namespace agentmem {

class RemoteStore final : public BlockStore {
 public:
  // INTERNAL: no eventfd can be had.
  static absl::StatusOr<std::unique_ptr<RemoteStore>> Make(PoolNode* node);

  // `memory`: where its operations' bytes lie, as the pool knows it.
  void AddTenant(TenantId tenant, std::uint64_t cluster_id, MemoryId memory);
  // Takes what the pool has ended; after each of its Polls and Ticks. Returns
  // how much that was.
  std::size_t Collect();

  std::size_t Submit(std::span<const StoreOp> ops) override;
  std::size_t Poll(std::span<StoreCompletion> out) override;
  int completion_fd() const override { return completions_.fd(); }
  absl::Status Scan(
      const std::function<void(const StoredBlock&)>& visit) override;
  absl::Status ScanPrefix(
      TenantId tenant, std::uint64_t key_low,
      const std::function<void(const StoredBlock&)>& visit) override;
  std::unique_ptr<LoneReader> NewReader() override { return nullptr; }
  absl::Status Flush() override { return absl::OkStatus(); }

 private:
  struct TenantPlace {
    std::uint64_t cluster_id = 0;
    MemoryId memory;
  };

  using Name = std::pair<TenantId, Key>;

  explicit RemoteStore(PoolNode* node) : node_(node) {}

  PoolNode* const node_;
  // Puts and deletes under way. Another of the same block waits: a delete asks
  // one node after another, and a put may go to any of them.
  absl::flat_hash_map<std::uint64_t, Name> changing_;  // by ticket
  absl::flat_hash_set<Name> changed_;
  absl::flat_hash_map<TenantId, TenantPlace> tenants_;
  CompletionQueue completions_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_REMOTE_STORE_H_
