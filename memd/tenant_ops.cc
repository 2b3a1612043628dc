// Tenant: what clients ask through their rings.
#include <algorithm>

#include "base/check.h"
#include "memd/tenant.h"

namespace agentmem {
namespace {

// One submission asks for at most this many slots ahead.
constexpr std::uint32_t kGrantsPerRequestMax = 32;

}  // namespace

std::size_t Tenant::Drain(Client* client, std::size_t count_max, TimeNs now) {
  SubmissionEntry entry;
  std::size_t count = 0;
  while (count < count_max && client->NextSubmission(&entry)) {
    ++count;
    Handle(client, entry, now);
  }
  if (count != 0) {
    ApplyDecisions(now);
    PumpStore(now);
    if (!demotes_.empty()) DemoteWanted(now);
  }
  if (retry_wanted_) RetryRoomWaiters(now);
  return count;
}

void Tenant::Handle(Client* client, const SubmissionEntry& entry, TimeNs now) {
  switch (entry.op) {
    case Op::kPublish:
      return Publish(client, entry, now);
    case Op::kFetch:
      return Fetch(client, entry, now);
    case Op::kPrefetch:
      return Prefetch(client, entry, now);
    case Op::kHold:
      return Hold(client, entry, now);
    case Op::kRelease:
      return Release(client, entry);
    case Op::kWantGrants:
      return WantGrants(client, entry, now);
    case Op::kAbandon:
      return Abandon(client, entry);
    case Op::kExtentReleased:
      return ExtentReleased(client, entry);
    case Op::kHoldExtents:
      return HoldExtents(client, entry, now);
    case Op::kReleaseExtents:
      return ReleaseExtents(client, entry);
    case Op::kClose:
      client->Dismiss();
      client->closed = true;  // the reactor removes it
      return;
    case Op::kMakeDurable:
      return MakeDurable(client, entry, now);
    case Op::kFindTier:
      return FindTier(client, entry);
    case Op::kAddStored:
    case Op::kDrop:
    case Op::kDemote:
      if (client->identity().is_port) return HandlePort(client, entry, now);
      break;
    case Op::kNone:
      break;
  }
  Fail({client->identity().id, entry.op_id}, Code::kInvalidArgument,
       Reason::kBadField, offsetof(SubmissionEntry, op),
       static_cast<std::uint64_t>(entry.op));
}

void Tenant::Publish(Client* client, const SubmissionEntry& entry, TimeNs now) {
  const OpRef op = {client->identity().id, entry.op_id, entry.deadline_ns};
  ++puts_;
  client->last_put = now;
  const std::uint32_t slot = client->Settle(entry.grant, entry.sequence);
  if (slot == kNoSlot) {
    ++puts_failed_;
    return Fail(op, Code::kInvalidArgument, Reason::kBadGrant, entry.grant,
                entry.sequence);
  }
  const std::uint8_t size_class = slots_[slot].size_class;
  const auto refuse = [&](Code code, Reason reason, std::uint64_t a = 0,
                          std::uint64_t b = 0) {
    ++puts_failed_;
    if (reason == Reason::kStoreQuota) ++puts_failed_quota_;
    if (reason == Reason::kNoReplica) ++puts_failed_replica_;
    FreeSlot(slot);
    Fail(op, code, reason, a, b);
  };
  if (draining_) return refuse(Code::kUnavailable, Reason::kShutdown);
  if (entry.length == 0 || entry.length > SizeClassBytes(size_class)) {
    return refuse(Code::kInvalidArgument, Reason::kBadLength, entry.length,
                  SizeClassBytes(size_class));
  }
  if (!IsValid(entry.block_class)) {
    return refuse(Code::kInvalidArgument, Reason::kBadField,
                  offsetof(SubmissionEntry, block_class),
                  static_cast<std::uint64_t>(entry.block_class));
  }
  if (!IsValid(entry.ack)) {
    return refuse(Code::kInvalidArgument, Reason::kBadField,
                  offsetof(SubmissionEntry, ack),
                  static_cast<std::uint64_t>(entry.ack));
  }
  if (entry.ack == Ack::kReplicated &&
      (cluster_pool_ == nullptr || cluster_pool_->places_elsewhere() == 0)) {
    return refuse(Code::kFailedPrecondition, Reason::kNoReplica);
  }
  const bool must_store =
      entry.block_class == BlockClass::kState || entry.ack == Ack::kDurable;
  if (must_store && options_.store_quota_bytes != 0 &&
      stored_cache_fifo_.empty() &&
      stored_bytes_ + dirty_bytes_ + entry.length >
          options_.store_quota_bytes) {
    return refuse(Code::kResourceExhausted, Reason::kStoreQuota,
                  options_.store_quota_bytes, stored_bytes_);
  }

  auto found = directory_.find(entry.key);
  if (found != directory_.end() && found->second.slot != kNoSlot) {
    // It is here already, and blocks never change: the first bytes stay.
    FreeSlot(slot);
    if (entry.block_class == BlockClass::kState) Upgrade(&found->second);
  } else if (found != directory_.end() && found->second.stored != Stored::kNo &&
             KeepStored(entry)) {
    FreeSlot(slot);
    Answer(op);
    GiveGrants(client, size_class, 1, Need::kAhead, now);
    return;
  } else {
    // Copies that are not of this block, or that may be dropped, or that we
    // only heard of, do not count. (A put into the pool takes their place
    // there.)
    if (found != directory_.end() &&
        (found->second.length != entry.length || !found->second.elsewhere ||
         (found->second.block_class == BlockClass::kCache &&
          entry.block_class == BlockClass::kState))) {
      SetPooled(&found->second, 0);
    }
    if (client->identity().is_port && (entry.flags & kPublishStored) != 0) {
      NoteStored(entry.key, entry.length, entry.block_class);
    }
    PublishSlot(slot, entry.key, entry.length, entry.block_class,
                tiering::InsertCause::kPut, now);
  }
  const BlockRecord& record = directory_.find(entry.key)->second;
  const std::uint32_t published = record.slot;
  if (entry.ack == Ack::kReplicated && !record.elsewhere) {
    AwaitReplica(record.slot, op);
  } else if (entry.ack != Ack::kDurable || IsDurable(record)) {
    Answer(op);
  } else {
    AwaitDurable(record.slot, op);
  }
  // Keep the producer supplied: what it used it will want again. Not by
  // dropping what it has just put, though.
  ++slots_[published].holds;
  GiveGrants(client, size_class, 1, Need::kAhead, now);
  --slots_[published].holds;
}

// A put of a block that only the store has. True: the stored bytes stay, and
// are all that was asked for. False: the new bytes become resident, and the
// stored copy counts from here on only if it is as good as they are.
bool Tenant::KeepStored(const SubmissionEntry& entry) {
  BlockRecord& record = directory_.find(entry.key)->second;
  const bool upgrade = entry.block_class == BlockClass::kState &&
                       record.block_class == BlockClass::kCache;
  if (!record.corrupt && record.length != entry.length && !upgrade &&
      (entry.ack != Ack::kDurable || IsDurable(record)) &&
      (entry.ack != Ack::kReplicated || record.elsewhere)) {
    return true;
  }
  if (record.corrupt || record.length != entry.length) {
    VoidStored(&record);
    // Goes before any later write.
    QueueDelete(entry.key, record.block_class);
  } else if (upgrade) {
    VoidStored(&record);  // it says "cache"; the write to come replaces it
  }
  return false;
}

// A resident cache block was put as state: its copy below, if any, says that it
// may be dropped, so it does not count.
void Tenant::Upgrade(BlockRecord* record) {
  if (record->block_class == BlockClass::kState) return;
  VoidStored(record);
  SetPooled(record, 0);  // others have it as cache
  record->block_class = BlockClass::kState;
  SlotRecord& slot = slots_[record->slot];
  if (record->entry != 0) {
    SetEntry(slot.key, record,
             ResidentEntry(HashKey(slot.key), SlotIndex(record->slot),
                           BlockClass::kState));
  }
  UpdateDirty(*record);
}

void Tenant::Fetch(Client* client, const SubmissionEntry& entry, TimeNs now) {
  const OpRef op = {client->identity().id, entry.op_id, entry.deadline_ns};
  auto found = directory_.find(entry.key);
  if (found == directory_.end()) {
    if (cluster_pool_ != nullptr) {
      return StartFind(entry.key, &op);
    }
    ++misses_;
    return Fail(op, Code::kNotFound, Reason::kNoSuchBlock);
  }
  if (found->second.slot != kNoSlot) {
    ++dram_hits_;
    policy_->Accessed(SlotIndex(found->second.slot), now);
    return AnswerFetch(op, found->second.slot, Tier::kDram, now);
  }
  auto [load, is_new] = loads_.try_emplace(entry.key);
  load->second.waiters.push_back(op);
  if (is_new) StartLoad(entry.key, now);
}

void Tenant::Prefetch(Client* client, const SubmissionEntry& entry,
                      TimeNs now) {
  const OpRef op = {client->identity().id, entry.op_id, entry.deadline_ns};
  auto found = directory_.find(entry.key);
  if (found == directory_.end()) {
    if (cluster_pool_ == nullptr) {
      return Fail(op, Code::kNotFound, Reason::kNoSuchBlock);
    }
    StartFind(entry.key, nullptr);
    return Answer(op);
  }
  if (found->second.slot == kNoSlot) {
    // Ahead at most an eighth of the pool: prefetching must not wash it out.
    const std::uint64_t loads_max =
        std::max<std::uint64_t>(1, pool_.capacity_bytes() / 8 / kMaxBlockBytes);
    if (loads_.size() < std::max<std::uint64_t>(loads_max, 64)) {
      if (loads_.try_emplace(entry.key).second) StartLoad(entry.key, now);
    }
  }
  Answer(op);
}

void Tenant::StartLoad(const Key& key, TimeNs now) {
  if (BeginLoad(key, now)) return;
  if (!IsLoadWanted(key)) {
    EndLoad(key);
    return;
  }
  RoomWaiter waiter;
  waiter.since = now;
  waiter.length = directory_.find(key)->second.length;
  waiter.key = key;
  room_waiters_.push_back(waiter);
  retry_wanted_ = true;
}

// Does anybody wait for it, or is it a prefetch?
bool Tenant::IsLoadWanted(const Key& key) {
  return !loads_[key].waiters.empty() || durable_loads_.contains(key);
}

// The block is in `slot`: what kMakeDurable waited for can be written.
void Tenant::WriteWanted(const Key& key, std::uint32_t slot) {
  const auto wanted = durable_loads_.find(key);
  if (wanted == durable_loads_.end()) return;
  const std::vector<OpRef> waiters = std::move(wanted->second);
  durable_loads_.erase(wanted);
  for (const OpRef& op : waiters) AwaitDurable(slot, op);
}

bool Tenant::BeginLoad(const Key& key, TimeNs now) {
  const std::uint32_t length = directory_.find(key)->second.length;
  Load& load = loads_.find(key)->second;
  // A prefetch gives way.
  const Need need = IsLoadWanted(key) ? Need::kNow : Need::kAhead;
  const std::uint32_t slot = Allocate(SizeClassOf(length), need, now);
  if (slot == kNoSlot) return false;
  load.slot = slot;
  slots_[slot].state = SlotState::kLoading;
  slots_[slot].key = key;
  slots_[slot].length = length;
  load_queue_.push_back(key);
  PumpStore(now);
  return true;
}

void Tenant::FinishLoad(const Inflight& op, Code code, TimeNs now) {
  auto found = loads_.find(op.key);
  AGENTMEM_CHECK(found != loads_.end());
  const bool from_pool = op.io == Io::kPoolGet;
  const std::vector<OpRef> waiters = std::move(found->second.waiters);
  loads_.erase(found);
  auto record = directory_.find(op.key);
  const bool current =
      record != directory_.end() && record->second.copy == op.copy;
  const bool below =
      record != directory_.end() && record->second.slot == kNoSlot;
  if (!current && below) {
    // Another copy took the place of the one that was read: read that.
    FreeSlot(op.slot);
    if (waiters.empty() && !durable_loads_.contains(op.key)) return;
    loads_[op.key].waiters = waiters;
    return StartLoad(op.key, now);
  }
  if (current && below && code == Code::kOk) {
    // A stored copy that is corrupt is written anew from this one.
    const bool again = record->second.corrupt;
    if (again) VoidStored(&record->second);
    ++promotions_;
    PublishSlot(op.slot, op.key, op.length, record->second.block_class,
                tiering::InsertCause::kPromoted, now);
    WriteWanted(op.key, op.slot);
    if (again) QueueWrite(op.slot, true);
  } else {
    FreeSlot(op.slot);  // put meanwhile, failed, or dropped for quota
  }
  bool lost = false;
  if (code == Code::kDataLoss) ++corrupt_;
  if (from_pool) {
    // Only here if no other tier has it (FinishPoolLoad).
    lost = current && below && code != Code::kOk &&
           code != Code::kUnavailable &&
           record->second.block_class == BlockClass::kState;
    if (current && code != Code::kOk && code != Code::kUnavailable) {
      ForgetPooled(op.key);
    }
  } else if (current && (code == Code::kNotFound || code == Code::kDataLoss)) {
    // A lost state block goes on being DATA_LOSS until somebody puts it again;
    // anything else is a miss from here on.
    const bool others = record->second.pooled != 0;  // that do not answer now
    lost = below && code == Code::kDataLoss && !others &&
           record->second.block_class == BlockClass::kState;
    const bool promised = !below && record->second.stored == Stored::kDurable;
    if (lost) {
      record->second.corrupt = true;
    } else {
      ForgetStored(op.key, /*is_there=*/code == Code::kDataLoss);
    }
    // A durable put was answered on the word of that copy.
    if (promised) QueueWrite(record->second.slot, true);
    if (below && others) code = Code::kUnavailable;
  }
  EraseIfNowhere(op.key);
  AnswerLoad(waiters, op, code, lost, now);
}

void Tenant::AnswerLoad(const std::vector<OpRef>& waiters, const Inflight& op,
                        Code code, bool lost, TimeNs now) {
  const bool from_pool = op.io == Io::kPoolGet;
  if (auto wanted = durable_loads_.find(op.key);
      wanted != durable_loads_.end()) {
    for (const OpRef& waiter : wanted->second) {
      if (!lost && !from_pool) {
        FailStore(waiter, Code::kUnavailable, op);
        continue;
      }
      Fail(waiter, lost ? Code::kDataLoss : Code::kUnavailable,
           lost ? Reason::kCorrupt : Reason::kPoolFailed);
    }
    durable_loads_.erase(wanted);
  }
  const auto record = directory_.find(op.key);
  const bool here =
      record != directory_.end() && record->second.slot != kNoSlot;
  for (const OpRef& waiter : waiters) {
    if (here) {
      ++(from_pool ? pool_hits_ : store_hits_);
      AnswerFetch(waiter, record->second.slot,
                  from_pool ? Tier::kPool : source_->tier(), now);
    } else if (code == Code::kUnavailable || code == Code::kResourceExhausted) {
      if (from_pool) {
        Fail(waiter, Code::kUnavailable, Reason::kPoolFailed);
      } else {
        FailStore(waiter, Code::kUnavailable, op);
      }
    } else if (lost) {
      Fail(waiter, Code::kDataLoss, Reason::kCorrupt);
    } else {
      ++misses_;
      Fail(waiter, Code::kNotFound, Reason::kNoSuchBlock);
    }
  }
}

void Tenant::AnswerFetch(const OpRef& op, std::uint32_t slot, Tier tier,
                         TimeNs now) {
  auto found = clients_.find(op.client);
  if (found == clients_.end()) return;
  Client* client = found->second.get();
  if (!AddHold(client, slot, now)) {
    return Fail(op, Code::kResourceExhausted, Reason::kHoldQuota,
                options_.hold_quota_bytes, client->held_bytes,
                static_cast<std::uint64_t>(client->identity().pid));
  }
  CompletionEntry entry = {};
  entry.op_id = op.op_id;
  entry.kind = CompletionKind::kOp;
  entry.tier = static_cast<std::uint8_t>(tier);
  entry.slot = slot;
  entry.length = slots_[slot].length;
  entry.generation = slots_[slot].generation;
  client->Complete(entry);
}

bool Tenant::AddHold(Client* client, std::uint32_t slot, TimeNs now) {
  const std::uint64_t bytes = SizeClassBytes(slots_[slot].size_class);
  auto found = client->holds.find(slot);
  if (found != client->holds.end()) {
    ++found->second.count;
    return true;
  }
  // One block is always allowed: a quota below it would mean "never".
  if (client->held_bytes != 0 && !client->identity().is_port &&
      client->held_bytes + bytes > options_.hold_quota_bytes) {
    return false;
  }
  client->holds[slot] = {1, now};
  client->held_bytes += bytes;
  ++slots_[slot].holds;
  return true;
}

void Tenant::DropHold(Client* client, std::uint32_t slot) {
  auto found = client->holds.find(slot);
  if (--found->second.count != 0) return;
  client->holds.erase(found);
  client->held_bytes -= SizeClassBytes(slots_[slot].size_class);
  --slots_[slot].holds;
  retry_wanted_ = true;
}

// Are the bytes that `generation` published still in the slot? In limbo too:
// whoever pinned them in time may go on to hold them.
bool Tenant::StillHas(std::uint32_t index, std::uint64_t generation) const {
  if (index >= slots_.size()) return false;
  const SlotRecord& slot = slots_[index];
  if (slot.state == SlotState::kPublished) return slot.generation == generation;
  return slot.state == SlotState::kLimbo && slot.generation == generation + 1;
}

void Tenant::Hold(Client* client, const SubmissionEntry& entry, TimeNs now) {
  const OpRef op = {client->identity().id, entry.op_id, entry.deadline_ns};
  if (!StillHas(entry.slot, entry.sequence)) {
    return Fail(op, Code::kFailedPrecondition, Reason::kStaleSlot);
  }
  AnswerFetch(op, entry.slot, Tier::kDram, now);
}

void Tenant::Release(Client* client, const SubmissionEntry& entry) {
  client->Dismiss();
  if (!StillHas(entry.slot, entry.sequence) ||
      !client->holds.contains(entry.slot)) {
    return;  // not its hold: nothing to end
  }
  DropHold(client, entry.slot);
}

void Tenant::WantGrants(Client* client, const SubmissionEntry& entry,
                        TimeNs now) {
  const OpRef op = {client->identity().id, entry.op_id, entry.deadline_ns};
  client->last_put = now;
  if (draining_) return Fail(op, Code::kUnavailable, Reason::kShutdown);
  if (entry.length == 0 || entry.length > kMaxBlockBytes) {
    return Fail(op, Code::kInvalidArgument, Reason::kBadLength, entry.length,
                kMaxBlockBytes);
  }
  const bool to_empty =
      client->identity().is_port && (entry.flags & kWantToEmpty) != 0;
  AGENTMEM_CHECK(!to_empty || entry.length == kExtentBytes);
  const std::uint32_t count =
      std::clamp<std::uint32_t>(entry.slot, 1, kGrantsPerRequestMax);
  RoomWaiter waiter;
  waiter.op = op;
  waiter.since = now;
  waiter.is_grant = true;
  waiter.to_empty = to_empty;
  waiter.length = entry.length;
  waiter.count = count;
  room_waiters_.push_back(waiter);
  retry_wanted_ = true;
}

bool Tenant::OverGrantQuota(const Client& client,
                            std::uint8_t size_class) const {
  return client.granted_bytes != 0 && !client.identity().is_port &&
         client.granted_bytes + SizeClassBytes(size_class) >
             options_.grant_quota_bytes;
}

// No room in the world helps a client that is at its own limit.
bool Tenant::OverOwnLimit(const Client& client, std::uint32_t length) const {
  return OverGrantQuota(client, SizeClassOf(length)) ||
         !client.HasFreeGrantEntry();
}

bool Tenant::GiveGrants(Client* client, RoomKind kind, std::uint32_t count,
                        Need need, TimeNs now) {
  const std::uint8_t size_class = ClassOf(kind);
  if (OverGrantQuota(*client, size_class)) {
    // Offers of other sizes, made ahead and not used, give way.
    for (std::uint32_t i = 0; i < kGrantEntries; ++i) {
      const std::uint32_t slot = client->grants[i].slot;
      if (slot != kNoSlot && client->grants[i].size_class != size_class &&
          client->Revoke(i)) {
        FreeSlot(slot);
      }
    }
  }
  std::uint32_t given = 0;
  for (; given < count; ++given) {
    if (OverOwnLimit(*client, SizeClassBytes(size_class))) break;
    const std::uint32_t slot =
        Allocate(kind, given == 0 ? need : Need::kAhead, now);
    if (slot == kNoSlot) break;
    slots_[slot].state = SlotState::kGranted;
    AGENTMEM_CHECK(
        client->Offer(slot, slots_[slot].data_offset, size_class, now));
  }
  return given != 0;
}

void Tenant::Abandon(Client* client, const SubmissionEntry& entry) {
  client->Dismiss();
  const std::uint32_t slot = client->Settle(entry.grant, entry.sequence);
  if (slot == kNoSlot) return;
  if (client->identity().is_port && (entry.flags & kAbandonEmptied) != 0) {
    pool_.NoteEmptied(slots_[slot].data_offset);
  }
  FreeSlot(slot);
}

void Tenant::MakeDurable(Client* client, const SubmissionEntry& entry,
                         TimeNs now) {
  const OpRef op = {client->identity().id, entry.op_id, entry.deadline_ns};
  auto found = directory_.find(entry.key);
  if (found == directory_.end()) {
    if (cluster_pool_ != nullptr) {
      return StartFind(entry.key, &op, Wanted::kDurable);
    }
    return Fail(op, Code::kNotFound, Reason::kNoSuchBlock);
  }
  const BlockRecord& record = found->second;
  if (record.corrupt) return Fail(op, Code::kDataLoss, Reason::kCorrupt);
  if (IsDurable(record)) return Answer(op);
  if (record.slot != kNoSlot) return AwaitDurable(record.slot, op);
  durable_loads_[entry.key].push_back(op);
  if (loads_.try_emplace(entry.key).second) StartLoad(entry.key, now);
}

}  // namespace agentmem
