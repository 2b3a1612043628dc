#include "memd/remote_store.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/status.h"

namespace agentmem {

absl::StatusOr<std::unique_ptr<RemoteStore>> RemoteStore::Make(PoolNode* node) {
  std::unique_ptr<RemoteStore> store(new RemoteStore(node));
  AGENTMEM_RETURN_IF_ERROR(store->completions_.Open());
  return store;
}

void RemoteStore::AddTenant(TenantId tenant, std::uint64_t cluster_id,
                            MemoryId memory) {
  tenants_[tenant] = {cluster_id, memory};
}

std::size_t RemoteStore::Submit(std::span<const StoreOp> ops) {
  std::size_t taken = 0;
  for (const StoreOp& op : ops) {
    const auto tenant = tenants_.find(op.tenant);
    AGENTMEM_CHECK(tenant != tenants_.end());
    const Name name = {op.tenant, op.key};
    const bool changes = op.kind != StoreOp::Kind::kGet;
    if (changes && changed_.contains(name)) break;
    PoolOp asked;
    asked.kind = op.kind == StoreOp::Kind::kPut   ? PoolOp::Kind::kKeep
                 : op.kind == StoreOp::Kind::kGet ? PoolOp::Kind::kGet
                                                  : PoolOp::Kind::kErase;
    asked.store = true;
    asked.durable = op.durable;
    asked.block_class = op.block_class;
    asked.tenant = tenant->second.cluster_id;
    asked.key = op.key;
    asked.memory = tenant->second.memory;
    asked.bytes = static_cast<char*>(op.bytes[0].iov_base);
    asked.length = static_cast<std::uint32_t>(op.bytes[0].iov_len);
    asked.ticket = op.ticket;
    if (!node_->Submit(asked)) break;
    if (changes) {
      changed_.insert(name);
      changing_.emplace(op.ticket, name);
    }
    ++taken;
  }
  return taken;
}

std::size_t RemoteStore::Collect() {
  std::array<PoolStoreDone, 64> done;
  std::array<StoreCompletion, 64> completions;
  std::size_t total = 0;
  for (;;) {
    const std::size_t count = node_->TakeStoreDone(done);
    for (std::size_t i = 0; i < count; ++i) {
      StoreCompletion& completion = completions[i];
      if (const auto ended = changing_.extract(done[i].ticket)) {
        changed_.erase(ended.mapped());
      }
      completion = {};
      completion.ticket = done[i].ticket;
      completion.code = done[i].code;
      completion.length = done[i].length;
      std::copy_n(done[i].node.data(),
                  std::min(done[i].node.size(), completion.node.size()),
                  completion.node.data());
    }
    if (count != 0) completions_.Push(std::span(completions).first(count));
    total += count;
    if (count < done.size()) return total;
  }
}

std::size_t RemoteStore::Poll(std::span<StoreCompletion> out) {
  // What ended at once, too.
  Collect();
  return completions_.Pop(out);
}

absl::Status RemoteStore::Scan(
    const std::function<void(const StoredBlock&)>& visit) {
  (void)visit;
  return absl::OkStatus();
}

absl::Status RemoteStore::ScanPrefix(
    TenantId tenant, std::uint64_t key_low,
    const std::function<void(const StoredBlock&)>& visit) {
  (void)tenant, (void)key_low, (void)visit;
  return absl::OkStatus();
}

}  // namespace agentmem
