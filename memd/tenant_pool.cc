// Tenant: blocks in other nodes' memory.
#include <algorithm>

#include "base/check.h"
#include "memd/pool/pool_timing.h"
#include "memd/tenant.h"

namespace agentmem {
namespace {

// After a node had no room, or did not answer.
constexpr DurationNs kPoolAgainNs = kSecondNs;
// Beside what goes to the store; see tenant_store.cc.
constexpr std::uint64_t kPoolBytesInflightMax = 16 << 20;
// Keys that others are asked for at a time; a client has as many submissions.
constexpr std::size_t kFindsMax = 4096;

}  // namespace

void Tenant::UsePool(Pool* pool, MemoryId memory) {
  cluster_pool_ = pool;
  pool_memory_ = memory;
}

bool Tenant::PoolUsable(TimeNs now) const {
  return cluster_pool_ != nullptr && cluster_pool_->usable() &&
         now >= pool_again_at_;
}

void Tenant::SetPooled(BlockRecord* record, std::uint8_t copies,
                       bool elsewhere) {
  record->elsewhere = elsewhere;
  if (record->pooled == 0 && copies != 0) {
    ++pooled_blocks_;
    pooled_bytes_ += record->length;
  } else if (record->pooled != 0 && copies == 0) {
    --pooled_blocks_;
    pooled_bytes_ -= record->length;
  }
  record->pooled = copies;
  UpdateDirty(*record);
  // A copy that is gone is made anew for who waits for it.
  if (!elsewhere && record->slot != kNoSlot) SettleDurable(record->slot);
}

// After a change of what makes a state block safe.
void Tenant::UpdateDirty(const BlockRecord& record) {
  if (record.slot == kNoSlot) return;
  SlotRecord& slot = slots_[record.slot];
  const bool dirty = IsDirty(record);
  if (slot.state != SlotState::kPublished || slot.dirty == dirty) return;
  slot.dirty = dirty;
  if (dirty) {
    dirty_bytes_ += record.length;
    QueueWrite(record.slot, false);
  } else {
    dirty_bytes_ -= record.length;
  }
}

void Tenant::AwaitDurable(std::uint32_t slot, const OpRef& op) {
  durable_waiters_[slot].push_back(op);
  slots_[slot].awaited = true;
  const BlockRecord& record = directory_.find(slots_[slot].key)->second;
  if (record.stored != Stored::kDurable) QueueWrite(slot, true);
  if (options_.durable_in_pool && !record.elsewhere) QueuePoolWrite(slot);
}

void Tenant::AwaitReplica(std::uint32_t slot, const OpRef& op) {
  replica_waiters_[slot].push_back(op);
  slots_[slot].pool_awaited = true;
  QueuePoolWrite(slot);
}

std::vector<Tenant::OpRef> Tenant::TakeReplicaWaiters(std::uint32_t slot) {
  const auto waiting = replica_waiters_.extract(slot);
  if (!waiting) return {};
  slots_[slot].pool_awaited = false;
  return waiting.mapped();
}

void Tenant::SettleDurable(std::uint32_t slot) {
  if (!slots_[slot].awaited) return;
  const BlockRecord& record = directory_.find(slots_[slot].key)->second;
  if (IsDurable(record)) {
    for (const OpRef& waiter : TakeDurableWaiters(slot)) Answer(waiter);
    return;
  }
  // What there was when they began to wait may have gone meanwhile.
  if (record.stored != Stored::kDurable) QueueWrite(slot, true);
  if (options_.durable_in_pool && !record.elsewhere) QueuePoolWrite(slot);
}

void Tenant::QueuePoolWrite(std::uint32_t index) {
  SlotRecord& slot = slots_[index];
  if (slot.pool_queued || slot.pool_io != 0) return;  // its end looks again
  slot.pool_queued = true;
  pool_writes_.push_back({index, slot.generation});
}

void Tenant::PumpPool(TimeNs now) {
  while (!find_queue_.empty() && !StoreShareUsed()) {
    const auto find = finds_.find(find_queue_.front());
    AGENTMEM_CHECK(find != finds_.end());
    // Who asked for the tier alone waits briefly, and others wait behind it.
    if (!find->second.load && find->second.tiers.empty()) {
      finds_.erase(find);
      find_queue_.pop_front();
      continue;
    }
    Inflight inflight;
    inflight.io = Io::kPoolFind;
    inflight.key = find_queue_.front();
    PoolOp op;
    op.kind = PoolOp::Kind::kFind;
    op.block_class =
        find->second.state ? BlockClass::kState : BlockClass::kCache;
    op.tenant = options_.cluster_id;
    op.key = inflight.key;
    op.ticket = NewTicket(inflight);
    if (!cluster_pool_->Submit(op)) {
      inflight_.erase(op.ticket);
      return;
    }
    find_queue_.pop_front();
  }
  while (!pool_drops_.empty() && !StoreShareUsed()) {
    Inflight inflight;
    inflight.io = Io::kPoolDrop;
    inflight.key = pool_drops_.front();
    PoolOp op;
    op.kind = PoolOp::Kind::kDrop;
    op.tenant = options_.cluster_id;
    op.key = inflight.key;
    op.ticket = NewTicket(inflight);
    if (!cluster_pool_->Submit(op)) {
      inflight_.erase(op.ticket);
      return;
    }
    pool_drops_.pop_front();
  }
  while (!room_retries_.empty() && room_retries_.front().first <= now) {
    pool_writes_.push_back(room_retries_.front().second);
    room_retries_.pop_front();
  }
  while (!pool_writes_.empty() && !StoreShareUsed()) {
    const QueuedWrite write = pool_writes_.front();
    const SlotRecord& slot = slots_[write.slot];
    if (slot.generation == write.generation && slot.pool_queued) {
      if (write_bytes_inflight_ >= kPoolBytesInflightMax) return;
      if (!PutIntoPool(write.slot, write.full_since)) return;
      slots_[write.slot].pool_queued = false;
    }
    pool_writes_.pop_front();
  }
}

bool Tenant::PutIntoPool(std::uint32_t index, TimeNs full_since) {
  SlotRecord& slot = slots_[index];
  const BlockRecord& block = directory_.find(slot.key)->second;
  Inflight inflight;
  inflight.io = Io::kPoolPut;
  inflight.slot = index;
  inflight.key = slot.key;
  inflight.block_class = block.block_class;
  inflight.length = slot.length;
  inflight.full_since = full_since;
  inflight.for_others =
      slot.pool_awaited || (slot.awaited && options_.durable_in_pool);
  PoolOp op;
  op.kind = PoolOp::Kind::kPut;
  op.block_class = block.block_class;
  const bool twice = block.block_class == BlockClass::kState ||
                     slot.pool_awaited ||
                     (slot.awaited && options_.durable_in_pool);
  op.copies = static_cast<std::uint8_t>(
      std::clamp<std::size_t>(cluster_pool_->places(), 1, twice ? 2 : 1));
  op.tenant = options_.cluster_id;
  op.key = slot.key;
  op.memory = pool_memory_;
  op.bytes = memory_.data + slot.data_offset;
  op.length = slot.length;
  op.ticket = NewTicket(inflight);
  if (!cluster_pool_->Submit(op)) {
    inflight_.erase(op.ticket);
    return false;
  }
  ++slot.pool_io;
  write_bytes_inflight_ += slot.length;
  return true;
}

bool Tenant::GetFromPool(const Inflight& inflight, BlockClass block_class,
                         char* to, std::uint64_t ticket) {
  PoolOp op;
  op.kind = PoolOp::Kind::kGet;
  op.block_class = block_class;
  op.tenant = options_.cluster_id;
  op.key = inflight.key;
  op.memory = pool_memory_;
  op.bytes = to;
  op.length = inflight.length;
  op.ticket = ticket;
  return cluster_pool_->Submit(op);
}

void Tenant::OnPoolCompletion(const PoolCompletion& completion, TimeNs now) {
  auto found = inflight_.find(completion.ticket);
  AGENTMEM_CHECK(found != inflight_.end());
  const Inflight op = found->second;
  inflight_.erase(found);
  switch (op.io) {
    case Io::kPoolGet:
      FinishPoolLoad(op, completion.code, now);
      break;
    case Io::kPoolPut:
      FinishPoolWrite(op, completion, now);
      break;
    case Io::kPoolFind:
      FinishFind(op, completion, now);
      break;
    default:
      break;
  }
  retry_wanted_ = true;
}

void Tenant::FinishPoolWrite(const Inflight& op,
                             const PoolCompletion& completion, TimeNs now) {
  const Code code = completion.code;
  SlotRecord& slot = slots_[op.slot];
  --slot.pool_io;
  write_bytes_inflight_ -= op.length;
  // A slot with I/O is not evicted, so the block is still in it.
  BlockRecord& block = directory_.find(op.key)->second;
  AGENTMEM_CHECK(block.slot == op.slot);
  const bool wanted_elsewhere =
      slot.pool_awaited || (slot.awaited && options_.durable_in_pool);
  if (code == Code::kOk && block.block_class == op.block_class) {
    ++pool_writes_made_;
    SetPooled(&block, completion.copies, completion.elsewhere != 0);
    if (!IsDirty(block)) policy_->StoredBelow(SlotIndex(op.slot), now);
    if (block.elsewhere) {
      copy_record_.Succeeded(now);
      for (const OpRef& waiter : TakeReplicaWaiters(op.slot)) Answer(waiter);
      return SettleDurable(op.slot);
    }
    // This node's own memory is no other's. It was asked for less, perhaps:
    // then once more, for what is wanted now.
    if (!wanted_elsewhere) return;
    if (cluster_pool_->places_elsewhere() != 0 && !op.for_others) {
      return QueuePoolWrite(op.slot);
    }
  } else if (code == Code::kOk) {
    // Put as state while it was written as cache: that copy may be dropped.
    if (wanted_elsewhere) QueuePoolWrite(op.slot);
    return;
  } else {
    pool_again_at_ = now + kPoolAgainNs;
    // The nodes collect, and there may be room soon.
    const TimeNs since = op.full_since == 0 ? now : op.full_since;
    const TimeNs again = now + kRoomAgainNs;
    if (code == Code::kResourceExhausted && again - since <= kPutPatienceNs &&
        FailForOthers(op.slot, code, again)) {
      slot.pool_queued = true;
      room_retries_.push_back({again, {op.slot, slot.generation, since}});
      return;
    }
  }
  if (wanted_elsewhere) copy_record_.Failed(code, now);
  FailForOthers(op.slot, code, kNoDeadline);
  // The store takes what the pool did not.
  if (block.block_class == BlockClass::kCache && block.stored == Stored::kNo) {
    QueueWrite(op.slot, false);
  }
}

// Who waits for copies on other nodes is told that there are none, but for
// those that can wait until then. True: somebody does.
bool Tenant::FailForOthers(std::uint32_t index, Code code, TimeNs wait_until) {
  const auto fail = [&](std::vector<OpRef> waiters) {
    std::erase_if(waiters, [&](const OpRef& waiter) {
      if (wait_until < waiter.deadline) return false;
      ++puts_failed_;
      ++puts_failed_replica_;
      Fail(waiter, Code::kUnavailable, Reason::kNoReplica,
           static_cast<std::uint64_t>(code));
      return true;
    });
    return waiters;
  };
  std::vector<OpRef> replicas = fail(TakeReplicaWaiters(index));
  std::vector<OpRef> durables;
  if (options_.durable_in_pool) durables = fail(TakeDurableWaiters(index));
  SlotRecord& slot = slots_[index];
  slot.pool_awaited = !replicas.empty();
  if (slot.pool_awaited) replica_waiters_[index] = std::move(replicas);
  if (!durables.empty()) {
    slot.awaited = true;
    durable_waiters_[index] = std::move(durables);
  }
  return slot.pool_awaited || (slot.awaited && options_.durable_in_pool);
}

// Another tier may have what the pool has not.
void Tenant::FinishPoolLoad(const Inflight& op, Code code, TimeNs now) {
  if (code == Code::kOk) {
    ++pool_reads_;
    return FinishLoad(op, code, now);
  }
  const auto record = directory_.find(op.key);
  const auto load = loads_.find(op.key);
  AGENTMEM_CHECK(load != loads_.end());
  if (record == directory_.end() || record->second.copy != op.copy ||
      record->second.slot != kNoSlot || record->second.stored == Stored::kNo) {
    return FinishLoad(op, code, now);
  }
  if (code != Code::kUnavailable) SetPooled(&record->second, 0);
  load->second.past_pool = true;
  load_queue_.push_back(op.key);
}

void Tenant::ForgetPooled(const Key& key) {
  const auto found = directory_.find(key);
  if (found == directory_.end() || found->second.pooled == 0) return;
  SetPooled(&found->second, 0);
  if (!loads_.contains(key)) EraseIfNowhere(key);  // else EndLoad does
}

// Nothing loads it any more; copies that went meanwhile are not counted on.
void Tenant::EndLoad(const Key& key) {
  loads_.erase(key);
  EraseIfNowhere(key);
}

void Tenant::EraseIfNowhere(const Key& key) {
  const auto found = directory_.find(key);
  if (found == directory_.end()) return;
  BlockRecord& block = found->second;
  if (block.slot != kNoSlot || block.stored != Stored::kNo ||
      block.pooled != 0) {
    return;
  }
  SetEntry(key, &block, 0);
  directory_.erase(found);
}

// Not in DRAM, not on this node's disk, and no promise that this node has
// given on the word of the others' memory: a find tells as much.
bool Tenant::IsHearsay(const BlockRecord& record) const {
  if (record.slot != kNoSlot) return false;
  if (record.stored != Stored::kNo) return options_.store_elsewhere;
  return record.block_class == BlockClass::kCache ||
         (options_.store_elsewhere && !record.elsewhere);
}

void Tenant::NoteHearsay(const Key& key, BlockRecord* record) {
  if (!IsHearsay(*record)) return;
  record->heard = ++next_heard_;
  hearsay_.push_back({key, record->heard});
  // Those that are being loaded stay, one more at most for each load.
  for (std::size_t over = hearsay_.size(); over > options_.index_entries;
       --over) {
    const Hearsay oldest = hearsay_.front();
    hearsay_.pop_front();
    const auto found = directory_.find(oldest.key);
    if (found == directory_.end() || found->second.heard != oldest.heard ||
        !IsHearsay(found->second)) {
      continue;
    }
    if (loads_.contains(oldest.key)) {
      hearsay_.push_back(oldest);
      continue;
    }
    forgot_state_ |= found->second.block_class == BlockClass::kState;
    VoidStored(&found->second);
    SetPooled(&found->second, 0);
    EraseIfNowhere(oldest.key);
  }
}

bool Tenant::FindStored(const Key& key, StoredBlocks::Found* stored) const {
  const auto found = directory_.find(key);
  if (found == directory_.end() || found->second.stored == Stored::kNo) {
    return false;
  }
  stored->block_class = found->second.block_class;
  stored->length = found->second.length;
  stored->corrupt = found->second.corrupt;
  return true;
}

void Tenant::OnRevoked(const Key& key) {
  const auto found = directory_.find(key);
  if (found == directory_.end() || found->second.pooled == 0) return;
  // State is never dropped by others; who says so is wrong, and a read decides.
  if (found->second.block_class == BlockClass::kState) return;
  ++pool_revoked_;
  ForgetPooled(key);
}

// Others are asked; `op` may be null: a prefetch.
void Tenant::StartFind(const Key& key, const OpRef* op, Wanted wanted) {
  if (finds_.size() >= kFindsMax && !finds_.contains(key)) {
    if (op != nullptr) Fail(*op, Code::kUnavailable, Reason::kPoolFailed);
    return;
  }
  const auto [find, is_new] = finds_.try_emplace(key);
  find->second.state |= forgot_state_;
  find->second.load |= wanted != Wanted::kTier;
  if (op != nullptr) {
    (wanted == Wanted::kDurable ? find->second.durables
     : wanted == Wanted::kTier  ? find->second.tiers
                                : find->second.waiters)
        .push_back(*op);
    const auto asker = clients_.find(op->client);
    find->second.state |=
        asker != clients_.end() && asker->second->identity().is_port;
  }
  if (is_new) find_queue_.push_back(key);
}

// Of a block that this node knows of, the books are the answer.
void Tenant::FindTier(Client* client, const SubmissionEntry& entry) {
  const OpRef op = {client->identity().id, entry.op_id, entry.deadline_ns};
  const auto found = directory_.find(entry.key);
  if (found != directory_.end()) return AnswerTier(op, found->second);
  if (cluster_pool_ != nullptr) {
    return StartFind(entry.key, &op, Wanted::kTier);
  }
  Fail(op, Code::kNotFound, Reason::kNoSuchBlock);
}

void Tenant::AnswerTier(const OpRef& op, const BlockRecord& record) {
  const auto client = clients_.find(op.client);
  if (client == clients_.end()) return;
  CompletionEntry entry = {};
  entry.op_id = op.op_id;
  entry.kind = CompletionKind::kOp;
  entry.tier = static_cast<std::uint8_t>(
      record.slot != kNoSlot                     ? Tier::kDram
      : BelowKind(record) == EntryKind::kInStore ? source_->tier()
                                                 : Tier::kPool);
  entry.length = record.length;
  client->second->Complete(entry);
}

void Tenant::FailFind(const OpRef& waiter, const PoolCompletion& completion,
                      Wanted wanted) {
  if (completion.code == Code::kUnavailable) {
    return Fail(waiter, Code::kUnavailable, Reason::kPoolFailed);
  }
  // A cache block that is corrupt is a miss.
  if (completion.code == Code::kDataLoss &&
      completion.block_class == BlockClass::kState) {
    return Fail(waiter, Code::kDataLoss, Reason::kCorrupt);
  }
  misses_ += wanted != Wanted::kTier;
  Fail(waiter, Code::kNotFound, Reason::kNoSuchBlock);
}

void Tenant::FinishFind(const Inflight& op, const PoolCompletion& completion,
                        TimeNs now) {
  const auto found = finds_.extract(op.key);
  if (!found) return;
  const std::vector<OpRef>& waiters = found.mapped().waiters;
  const std::vector<OpRef>& durables = found.mapped().durables;
  const std::vector<OpRef>& tiers = found.mapped().tiers;
  const auto [record, is_new] = directory_.try_emplace(op.key);
  if (is_new && completion.code == Code::kOk) {
    record->second.length = completion.length;
    record->second.block_class = completion.block_class;
    record->second.copy = ++next_copy_;
    SetPooled(&record->second,
              completion.block_class == BlockClass::kState ? 2 : 1);
    SetEntry(op.key, &record->second,
             BelowEntry(op.key, EntryKind::kInPool, completion.block_class));
    NoteHearsay(op.key, &record->second);
  } else if (is_new) {
    directory_.erase(record);
    const auto fail = [&](const std::vector<OpRef>& ops, Wanted wanted) {
      for (const OpRef& waiter : ops) FailFind(waiter, completion, wanted);
    };
    fail(waiters, Wanted::kBlock);
    fail(durables, Wanted::kDurable);
    fail(tiers, Wanted::kTier);
    return;
  }
  for (const OpRef& waiter : tiers) AnswerTier(waiter, record->second);
  if (!found.mapped().load) return;
  if (record->second.slot != kNoSlot) {  // put meanwhile
    const std::uint32_t slot = record->second.slot;
    for (const OpRef& waiter : waiters) {
      AnswerFetch(waiter, slot, Tier::kDram, now);
    }
    for (const OpRef& waiter : durables) AwaitDurable(slot, waiter);
    SettleDurable(slot);
    return;
  }
  if (!durables.empty()) {
    std::vector<OpRef>& wanting = durable_loads_[op.key];
    wanting.insert(wanting.end(), durables.begin(), durables.end());
  }
  auto [load, is_first] = loads_.try_emplace(op.key);
  load->second.waiters.insert(load->second.waiters.end(), waiters.begin(),
                              waiters.end());
  if (is_first) StartLoad(op.key, now);
}

}  // namespace agentmem
