#include "memd/node.h"

#include <array>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "tiering/policies/lru_policy.h"

namespace agentmem {
namespace {

std::optional<WriteFailure> LongestFailure(
    const std::vector<std::unique_ptr<Tenant>>& tenants,
    WriteRecord* (Tenant::*record_of)(), TimeNs now) {
  std::optional<WriteFailure> longest;
  for (const auto& tenant : tenants) {
    WriteRecord* const record = (tenant.get()->*record_of)();
    if (!record->IsFailing(now)) continue;
    if (longest.has_value() && longest->since <= record->since()) continue;
    longest = {record->code(), record->since(), record->failed_at(),
               tenant->options().name};
  }
  return longest;
}

}  // namespace

Tenant* Node::AddTenant(const TenantOptions& options,
                        const Tenant::Memory& memory) {
  tiering::LruOptions lru;
  lru.slots = static_cast<std::uint32_t>(options.slots);
  lru.budget_bytes = options.dram_bytes;
  // Grants, loads and half-used extents keep blocks from filling all of the
  // pool (some 15% of a small one), so the hot part must end well before: what
  // never turns cold is never written down, and is dropped without a copy.
  lru.cold_share = 0.4;
  return AddTenant(options, memory, tiering::MakeLruPolicy(lru));
}

Tenant* Node::AddTenant(const TenantOptions& options,
                        const Tenant::Memory& memory,
                        std::unique_ptr<tiering::Policy> policy) {
  tenants_.push_back(std::make_unique<Tenant>(
      options, memory, store_, std::make_unique<StoreSource>(store_),
      std::move(policy)));
  by_id_[options.id.value()] = tenants_.back().get();
  return tenants_.back().get();
}

absl::StatusOr<std::uint64_t> Node::Recover() {
  std::uint64_t strangers = 0;
  AGENTMEM_RETURN_IF_ERROR(store_->Scan([&](const StoredBlock& block) {
    auto tenant = by_id_.find(block.tenant.value());
    if (tenant == by_id_.end()) {
      ++strangers;
    } else {
      tenant->second->AddStored(block);
    }
  }));
  return strangers;
}

void Node::ServePeers(PoolNode* pool) {
  pool_ = pool;
  pool->UseStore(this);
}

Tenant* Node::FindServed(std::uint64_t cluster_id) const {
  for (const auto& tenant : tenants_) {
    if (tenant->options().cluster_id == cluster_id) return tenant.get();
  }
  return nullptr;
}

bool Node::Lookup(std::uint64_t tenant, const Key& key, Found* found) {
  const Tenant* const known = FindServed(tenant);
  return known != nullptr && known->FindStored(key, found);
}

bool Node::Load(std::uint64_t tenant, const Key& key, char* to,
                std::uint32_t length, std::uint64_t generation) {
  Tenant* const known = FindServed(tenant);
  if (known == nullptr) return false;
  StoreOp op;
  op.kind = StoreOp::Kind::kGet;
  op.tenant = known->options().id;
  op.key = key;
  op.bytes[0] = {to, length};
  op.ticket = NextPeerTicket();
  if (store_->Submit({&op, 1}) != 1) return false;
  peer_loads_[op.ticket] = {generation, known, key};
  return true;
}

void Node::ServeStore(std::uint64_t serve_bytes) {
  serve_bytes_ = serve_bytes;
  pool_->ServeStore(this);
}

StoreVerdict Node::Admit(const ServedBlock& block) {
  Tenant* const tenant = FindServed(block.tenant);
  if (tenant == nullptr) {
    return {Code::kFailedPrecondition, StoreRefusal::kNoTenant, 0, 0};
  }
  const StoreVerdict verdict = tenant->Admit(block);
  if (verdict.code != Code::kOk) return verdict;
  if (serve_bytes_ == 0) return verdict;  // LentDrain asks, and no peer
  // Cache gives way, this tenant's own first.
  std::uint64_t used = used_bytes();
  if (used + block.length > serve_bytes_) {
    tenant->DropStoredCache(used + block.length - serve_bytes_);
    used = used_bytes();
  }
  if (used + block.length > serve_bytes_) {
    return {Code::kResourceExhausted, StoreRefusal::kBudget, serve_bytes_,
            used};
  }
  return {};
}

bool Node::Write(const ServedBlock& block, const char* bytes,
                 std::uint64_t generation) {
  Tenant* const tenant = FindServed(block.tenant);
  AGENTMEM_CHECK(tenant != nullptr);  // it was admitted
  if (!tenant->DeleteFirst(block.key)) return false;
  StoreOp op;
  op.kind = StoreOp::Kind::kPut;
  op.durable = block.durable;
  op.block_class = block.block_class;
  op.tenant = tenant->options().id;
  op.key = block.key;
  op.bytes[0] = {const_cast<char*>(bytes), block.length};
  op.ticket = NextPeerTicket();
  if (store_->Submit({&op, 1}) != 1) return false;
  tenant->BeginServed(block);
  peer_writes_[op.ticket] = {generation, tenant, block};
  return true;
}

bool Node::Erase(std::uint64_t cluster_id, const Key& key,
                 BlockClass block_class) {
  Tenant* const tenant = FindServed(cluster_id);
  return tenant == nullptr || tenant->EraseServed(key, block_class);
}

std::uint64_t Node::used_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& tenant : tenants_) bytes += tenant->stored_bytes();
  return bytes;
}

bool Node::TakePeers(const StoreCompletion& completion, TimeNs now) {
  if (const auto load = peer_loads_.extract(completion.ticket)) {
    if (completion.code == Code::kDataLoss) {
      load.mapped().tenant->OnCorrupt(load.mapped().key);
    }
    pool_->OnLoaded(load.mapped().generation, completion.code);
    return true;
  }
  const auto write = peer_writes_.extract(completion.ticket);
  if (!write) return false;
  const PeerWrite& ended = write.mapped();
  WriteRecord* const record = ended.tenant->store_record();
  if (completion.code == Code::kOk) {
    record->Succeeded(now);
  } else {
    record->Failed(completion.code, now);
  }
  StoreVerdict verdict;
  verdict.code = ended.tenant->EndServed(ended.block, completion.code, now);
  if (verdict.code == Code::kAborted) {
    verdict.refusal = StoreRefusal::kOtherBlock;
  } else if (completion.code != Code::kOk) {
    verdict.refusal = completion.code == Code::kResourceExhausted
                          ? StoreRefusal::kDiskFull
                          : StoreRefusal::kDevice;
  } else if (verdict.code != Code::kOk) {
    verdict.refusal = StoreRefusal::kBusy;  // dropped meanwhile: once more
  }
  if (lent_ == nullptr || !lent_->OnStored(ended.generation, verdict)) {
    pool_->OnStored(ended.generation, verdict);
  }
  return true;
}

std::size_t Node::TakePoolCompletions(
    std::span<const PoolCompletion> completions, TimeNs now) {
  for (const PoolCompletion& completion : completions) {
    const auto tenant =
        by_id_.find(static_cast<std::uint32_t>(completion.ticket >> 40));
    AGENTMEM_CHECK(tenant != by_id_.end());
    tenant->second->OnPoolCompletion(completion, now);
  }
  for (std::size_t i = 0; !completions.empty() && i < tenants_.size(); ++i) {
    tenants_[(first_ + i) % tenants_.size()]->AfterCompletions(now);
  }
  if (!completions.empty()) ++first_;
  return completions.size();
}

void Node::OnRevoked(std::uint64_t cluster_id, const Key& key) {
  for (const auto& tenant : tenants_) {
    if (tenant->options().cluster_id == cluster_id) tenant->OnRevoked(key);
  }
}

std::size_t Node::PollStore(TimeNs now) {
  std::array<StoreCompletion, 64> completions;
  const std::size_t count = store_->Poll(completions);
  for (std::size_t i = 0; i < count; ++i) {
    if (TakePeers(completions[i], now)) continue;
    const auto tenant =
        by_id_.find(static_cast<std::uint32_t>(completions[i].ticket >> 40));
    AGENTMEM_CHECK(tenant != by_id_.end());
    tenant->second->OnStoreCompletion(completions[i], now);
  }
  // In turns: who comes first takes the room in the store's queue.
  for (std::size_t i = 0; count != 0 && i < tenants_.size(); ++i) {
    tenants_[(first_ + i) % tenants_.size()]->AfterCompletions(now);
  }
  if (count != 0) ++first_;
  return count;
}

void Node::Tick(TimeNs now) {
  for (const auto& tenant : tenants_) tenant->Tick(now);
}

void Node::BeginDrain() {
  for (const auto& tenant : tenants_) tenant->BeginDrain();
  if (pool_ != nullptr) lent_ = pool_->DrainLent(this);
}

bool Node::DrainOn() {
  for (const auto& tenant : tenants_) {
    if (!tenant->Drained()) return false;
  }
  // (Also what peers have asked this store to keep.)
  return (lent_ == nullptr || lent_->Pump()) && peer_writes_.empty();
}

DrainReport Node::ReportDrain() {
  DrainReport report;
  for (const auto& tenant : tenants_) tenant->ReportDrain(&report);
  if (lent_ == nullptr) return report;
  report.lent_written = lent_->written();
  for (const auto& [refusal, sum] : lent_->refused()) {
    DrainSum& left = report.lent_left[TextOfRefusal(refusal)];
    left.blocks += sum.blocks;
    left.bytes += sum.bytes;
  }
  if (const DrainSum late = lent_->CountLeft(); late.blocks != 0) {
    report.lent_left[DrainReport::kTimeRanOut] = late;
  }
  return report;
}

std::optional<WriteFailure> Node::StoreFailure(TimeNs now) const {
  return LongestFailure(tenants_, &Tenant::store_record, now);
}

std::optional<WriteFailure> Node::CopyFailure(TimeNs now) const {
  return LongestFailure(tenants_, &Tenant::copy_record, now);
}

std::uint64_t Node::dirty_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& tenant : tenants_) bytes += tenant->dirty_bytes();
  return bytes;
}

bool Node::restless() const {
  for (const auto& tenant : tenants_) {
    if (tenant->restless()) return true;
  }
  return false;
}

bool Node::store_busy() const {
  if (!peer_loads_.empty() || !peer_writes_.empty()) return true;
  for (const auto& tenant : tenants_) {
    if (tenant->store_busy()) return true;
  }
  return false;
}

Tenant* Node::FindTenant(const std::string& name) const {
  for (const auto& tenant : tenants_) {
    if (tenant->options().name == name) return tenant.get();
  }
  return nullptr;
}

}  // namespace agentmem
