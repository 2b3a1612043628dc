// Tenant: writing blocks down and keeping the books of the store.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "memd/tenant.h"

namespace agentmem {
namespace {

// Bytes on their way to the store at most: two batches of its writer (16 MiB
// each), so that one is gathered while the other is written.
constexpr std::uint64_t kWriteBytesInflightMax = 32 << 20;
// Lazy writes (cache, ahead of eviction) leave room for urgent ones. Neither
// takes more of the pool than its eighth: a slot being read by the store cannot
// be evicted.
constexpr std::uint64_t kLazyBytesInflightMax = 16 << 20;
constexpr std::uint64_t kInflightShare = 8;
constexpr DurationNs kRetryFailedNs = kSecondNs;
constexpr std::size_t kDecisionsPerRound = 64;

}  // namespace

std::uint64_t Tenant::NewTicket(const Inflight& op) {
  const std::uint64_t ticket =
      (static_cast<std::uint64_t>(options_.id.value()) << 40) |
      (++next_ticket_ & ((1ULL << 40) - 1));
  inflight_[ticket] = op;
  return ticket;
}

void Tenant::ApplyDecisions(TimeNs now) {
  if (draining_) return;  // what is written down then, BeginDrain says
  decisions_.clear();
  policy_->Decide(now, kDecisionsPerRound, &decisions_);
  for (const tiering::Decision& decision : decisions_) {
    const std::uint32_t slot = decision.slot.value();
    if (slots_[slot].state != SlotState::kPublished) continue;
    auto block = directory_.find(slots_[slot].key);
    if (block->second.stored == Stored::kNo) QueueWrite(slot, false);
  }
}

void Tenant::QueueWrite(std::uint32_t index, bool durable) {
  SlotRecord& slot = slots_[index];
  if (slot.io != 0) return;  // FinishWrite looks for what is still wanted
  const bool urgent =
      durable ||
      directory_.find(slot.key)->second.block_class == BlockClass::kState;
  if (slot.write_queued && (!durable || slot.write_durable)) return;
  slot.write_queued = true;
  slot.write_durable = slot.write_durable || durable;
  (urgent ? urgent_writes_ : lazy_writes_).push_back({index, slot.generation});
  // Those whose blocks were dropped meanwhile stay until their turn, which a
  // slow disk may keep from coming.
  if (lazy_writes_.size() <= 2 * slots_.size()) return;
  std::erase_if(lazy_writes_, [this](const QueuedWrite& write) {
    const SlotRecord& queued = slots_[write.slot];
    return queued.generation != write.generation || !queued.write_queued;
  });
}

void Tenant::PumpStore(TimeNs now) {
  if (cluster_pool_ != nullptr) PumpPool(now);
  // Reads first: somebody waits for them.
  while (!load_queue_.empty() && !StoreShareUsed()) {
    const Key key = load_queue_.front();
    auto load = loads_.find(key);
    AGENTMEM_CHECK(load != loads_.end() && load->second.slot != kNoSlot);
    const SlotRecord& slot = slots_[load->second.slot];
    Inflight op;
    op.slot = load->second.slot;
    op.key = key;
    op.length = slot.length;
    const auto record = directory_.find(key);
    op.copy = record == directory_.end() ? 0 : record->second.copy;
    const bool from_pool = !load->second.past_pool &&
                           record != directory_.end() &&
                           record->second.pooled != 0;
    op.io = from_pool ? Io::kPoolGet : Io::kStoreGet;
    const std::uint64_t ticket = NewTicket(op);
    char* const to = memory_.data + slot.data_offset;
    const bool taken =
        from_pool ? GetFromPool(op, record->second.block_class, to, ticket)
                  : source_->Fetch(options_.id, key, to, slot.length, ticket);
    if (!taken) {
      inflight_.erase(ticket);
      return;
    }
    load_queue_.pop_front();
  }
  if (!PumpDeletes()) return;
  for (auto* queue : {&urgent_writes_, &lazy_writes_}) {
    const std::uint64_t limit =
        std::min(queue == &urgent_writes_ ? kWriteBytesInflightMax
                                          : kLazyBytesInflightMax,
                 pool_.capacity_bytes() / kInflightShare);
    while (!queue->empty()) {
      const QueuedWrite write = queue->front();
      SlotRecord& slot = slots_[write.slot];
      if (slot.generation != write.generation || !slot.write_queued ||
          slot.io != 0) {
        queue->pop_front();
        continue;
      }
      if (write_bytes_inflight_ >= limit || StoreShareUsed()) break;
      const BlockRecord& block = directory_.find(slot.key)->second;
      // Other nodes' memory is nearer than the disk.
      if (block.block_class == BlockClass::kCache && !slot.write_durable &&
          PoolUsable(now)) {
        const bool under_way = slot.pool_io != 0;
        if (!under_way && !PutIntoPool(write.slot)) return;
        slot.write_queued = false;
        queue->pop_front();
        continue;
      }
      Inflight inflight;
      inflight.io = Io::kStorePut;
      inflight.slot = write.slot;
      inflight.key = slot.key;
      inflight.durable = slot.write_durable;
      inflight.block_class = block.block_class;
      inflight.length = slot.length;
      StoreOp op;
      op.kind = StoreOp::Kind::kPut;
      op.durable = inflight.durable;
      op.block_class = inflight.block_class;
      op.tenant = options_.id;
      op.key = slot.key;
      op.bytes[0] = {memory_.data + slot.data_offset, slot.length};
      op.ticket = NewTicket(inflight);
      if (store_->Submit({&op, 1}) != 1) {
        inflight_.erase(op.ticket);
        return;
      }
      slot.write_queued = false;
      ++slot.io;
      write_bytes_inflight_ += slot.length;
      queue->pop_front();
    }
  }
}

void Tenant::OnStoreCompletion(const StoreCompletion& completion, TimeNs now) {
  auto found = inflight_.find(completion.ticket);
  AGENTMEM_CHECK(found != inflight_.end());
  Inflight op = found->second;
  op.store_node = completion.node;
  inflight_.erase(found);
  switch (op.io) {
    case Io::kStoreGet:
      FinishLoad(op, completion.code, now);
      break;
    case Io::kStorePut:
      FinishWrite(op, completion.code, now);
      break;
    default:
      break;
  }
  retry_wanted_ = true;
}

void Tenant::AfterCompletions(TimeNs now) {
  ApplyDecisions(now);
  PumpStore(now);
  if (!demotes_.empty()) DemoteWanted(now);
  if (retry_wanted_) RetryRoomWaiters(now);
}

void Tenant::FinishWrite(const Inflight& op, Code code, TimeNs now) {
  SlotRecord& slot = slots_[op.slot];
  --slot.io;
  write_bytes_inflight_ -= op.length;
  // A slot with I/O is not evicted, so the block is still in it.
  BlockRecord& block = directory_.find(op.key)->second;
  AGENTMEM_CHECK(block.slot == op.slot);
  NoteDrained(op, code);
  if (code != Code::kOk) {
    for (const OpRef& waiter : TakeDurableWaiters(op.slot)) {
      ++puts_failed_;
      ++puts_failed_store_;
      FailStore(waiter, code, op);
    }
    store_record_.Failed(code, now);
    if (IsDirty(block)) {
      failed_writes_.push_back({op.slot, slot.generation});
      retry_failed_at_ = std::min(retry_failed_at_, now + kRetryFailedNs);
    }
    return;
  }
  store_record_.Succeeded(now);
  ++store_writes_;
  if (block.block_class != op.block_class) {
    // Put as state while it was written as cache: that copy may be dropped.
    QueueWrite(op.slot, slot.awaited);
    return;
  }
  block.copy = ++next_copy_;
  if (block.stored == Stored::kNo) {
    ++stored_blocks_;
    stored_bytes_ += block.length;
    block.stored = Stored::kYes;
    UpdateDirty(block);
    policy_->StoredBelow(SlotIndex(op.slot), now);
    if (KeepsOrder() && block.block_class == BlockClass::kCache) {
      stored_cache_fifo_.push_back(op.key);
    }
  }
  if (op.durable) block.stored = Stored::kDurable;
  if (op.durable) {
    SettleDurable(op.slot);
  } else if (slot.awaited) {
    QueueWrite(op.slot, true);  // asked for while the other was under way
  }
  KeepStoreQuota();
}

// The store failed it: this node's, or the one of the node that is named.
void Tenant::FailStore(const OpRef& op, Code code, const Inflight& io) {
  std::array<std::uint64_t, 3> name = {};
  static_assert(sizeof(name) == sizeof(io.store_node));
  std::memcpy(name.data(), io.store_node.data(), sizeof(name));
  Fail(op, code, name[0] != 0 ? Reason::kRemoteStore : Reason::kStoreFailed,
       name[0], name[1], name[2]);
}

std::vector<Tenant::OpRef> Tenant::TakeDurableWaiters(std::uint32_t slot) {
  auto found = durable_waiters_.find(slot);
  if (found == durable_waiters_.end()) return {};
  std::vector<OpRef> waiters = std::move(found->second);
  durable_waiters_.erase(found);
  slots_[slot].awaited = false;
  return waiters;
}

// The books without the stored copy; what becomes of the copy is the caller's.
void Tenant::VoidStored(BlockRecord* block) {
  block->copy = ++next_copy_;
  block->corrupt = false;
  if (block->stored == Stored::kNo) return;
  block->stored = Stored::kNo;
  --stored_blocks_;
  stored_bytes_ -= block->length;
}

void Tenant::QueueDelete(const Key& key, BlockClass block_class) {
  const auto [queued, is_new] = deletes_.try_emplace(key, block_class);
  if (is_new) delete_queue_.push_back(key);
  if (block_class == BlockClass::kState) queued->second = block_class;
  const auto arriving = arriving_.find(key);
  if (arriving != arriving_.end()) arriving->second.dropped = true;
}

bool Tenant::SubmitDelete(const Key& key) {
  const auto queued = deletes_.find(key);
  StoreOp op;
  op.kind = StoreOp::Kind::kDelete;
  op.block_class = queued->second;
  op.tenant = options_.id;
  op.key = key;
  Inflight inflight;
  inflight.io = Io::kStoreDelete;
  inflight.key = key;
  op.ticket = NewTicket(inflight);
  if (store_->Submit({&op, 1}) != 1) {
    inflight_.erase(op.ticket);
    return false;
  }
  deletes_.erase(queued);
  return true;
}

// False: the store's queue is full.
bool Tenant::PumpDeletes() {
  while (!delete_queue_.empty() && !StoreShareUsed()) {
    const Key key = delete_queue_.front();
    if (deletes_.contains(key) && !SubmitDelete(key)) return false;
    delete_queue_.pop_front();
  }
  return true;
}

bool Tenant::DeleteFirst(const Key& key) {
  return !deletes_.contains(key) || SubmitDelete(key);
}

void Tenant::ForgetStored(const Key& key, bool is_there) {
  auto found = directory_.find(key);
  BlockRecord& block = found->second;
  if (block.stored == Stored::kNo) return;
  VoidStored(&block);
  // A write that is under way replaces the copy; a delete would come after it.
  if (is_there && (block.slot == kNoSlot || slots_[block.slot].io == 0)) {
    QueueDelete(key, block.block_class);
  }
  UpdateDirty(block);
  if (block.slot != kNoSlot) return;
  if (block.pooled != 0) {
    SetEntry(key, &block,
             BelowEntry(key, EntryKind::kInPool, block.block_class));
    NoteHearsay(key, &block);
    return;
  }
  SetEntry(key, &block, 0);
  directory_.erase(found);
}

void Tenant::KeepStoreQuota() {
  if (options_.store_quota_bytes != 0 &&
      stored_bytes_ > options_.store_quota_bytes) {
    DropStoredCache(stored_bytes_ - options_.store_quota_bytes);
  }
}

std::uint64_t Tenant::DropStoredCache(std::uint64_t bytes) {
  const std::uint64_t before = stored_bytes_;
  while (before - stored_bytes_ < bytes && !stored_cache_fifo_.empty()) {
    const Key key = stored_cache_fifo_.front();
    stored_cache_fifo_.pop_front();
    auto found = directory_.find(key);
    if (found == directory_.end() || found->second.stored == Stored::kNo ||
        found->second.block_class != BlockClass::kCache) {
      continue;
    }
    if (found->second.slot != kNoSlot && slots_[found->second.slot].io != 0) {
      stored_cache_fifo_.push_back(key);  // being written again: later
      break;
    }
    ++store_evictions_;
    ForgetStored(key);
  }
  return before - stored_bytes_;
}

}  // namespace agentmem
