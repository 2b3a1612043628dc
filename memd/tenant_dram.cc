// Tenant: slots, eviction, limbo, and who waits for room.
#include <algorithm>
#include <bitset>
#include <utility>

#include "base/check.h"
#include "memd/tenant.h"

namespace agentmem {
namespace {

// Slots of the wanted class are freed some at a time, so that one scan of the
// pins serves several grants.
constexpr std::uint32_t kBatchSlots = 8;
constexpr std::uint64_t kBatchBytes = 1 << 20;

// How long a request waits for room when no slot becomes free, and nothing is
// on its way that could free one (no write, no load).
constexpr DurationNs kHopelessWaitNs = kSecondNs;

// An offer stands this long at least, or a client that was answered would find
// nothing.
constexpr DurationNs kOfferNs = 10 * kMillisecondNs;

// After a search in vain: some 20 times what it took, so that such searches
// take at most a twentieth of the thread.
constexpr DurationNs kPauseNsPerVisit = 200;
constexpr DurationNs kPauseNsPerClient = 10 * kMicrosecondNs;

}  // namespace

std::uint32_t Tenant::Allocate(RoomKind kind, Need need, TimeNs now) {
  if (free_slots_.empty() || !HasRoom(kind)) {
    if (!MakeRoom(kind, need, now)) return kNoSlot;
  }
  const std::uint32_t slot = free_slots_.back();
  const auto offset = kind == kToEmpty ? pool_.AllocateUnheld(SlotIndex(slot))
                                       : pool_.Allocate(kind, SlotIndex(slot));
  AGENTMEM_CHECK(offset.has_value());
  free_slots_.pop_back();
  SlotRecord& record = slots_[slot];
  AGENTMEM_CHECK(record.state == SlotState::kFree);
  record.data_offset = *offset;
  record.size_class = ClassOf(kind);
  record.lent = kind == kToEmpty;
  if (record.lent) {
    holds_.Lend(pool_.ExtentOf(*offset));
    if (on_lent_) on_lent_(pool_.ExtentOf(*offset), true);
  }
  return slot;
}

void Tenant::FreeSlot(std::uint32_t slot) {
  SlotRecord& record = slots_[slot];
  AGENTMEM_CHECK(record.state != SlotState::kFree && record.holds == 0 &&
                 record.io == 0 && record.pool_io == 0);
  record.state = SlotState::kFree;
  if (record.lent) {
    holds_.TakeBack(pool_.ExtentOf(record.data_offset));
    if (on_lent_) on_lent_(pool_.ExtentOf(record.data_offset), false);
  }
  pool_.Free(record.data_offset);
  free_slots_.push_back(slot);
  freed_since_look_ = true;
  retry_wanted_ = true;
}

void Tenant::PublishSlot(std::uint32_t slot, const Key& key,
                         std::uint32_t length, BlockClass block_class,
                         tiering::InsertCause cause, TimeNs now) {
  SlotRecord& record = slots_[slot];
  BlockRecord& block = directory_[key];
  AGENTMEM_CHECK(block.slot == kNoSlot);
  if (block.block_class == BlockClass::kState) block_class = block.block_class;
  AGENTMEM_CHECK(block.stored == Stored::kNo || block.length == length);
  block.slot = slot;
  block.length = length;
  block.block_class = block_class;
  record.key = key;
  record.length = length;
  record.state = SlotState::kPublished;
  record.write_queued = false;
  record.write_durable = false;
  record.pool_queued = false;
  record.pool_awaited = false;
  record.generation = index_.Publish(SlotIndex(slot), key, record.data_offset,
                                     length, block_class);
  SetEntry(key, &block,
           ResidentEntry(HashKey(key), SlotIndex(slot), block_class));
  ++dram_writes_;
  record.dirty = IsDirty(block);
  record.awaited = false;
  if (record.dirty) dirty_bytes_ += length;
  tiering::BlockInfo info;
  info.slot = SlotIndex(slot);
  info.key = key;
  info.block_class = block_class;
  info.bytes = SizeClassBytes(record.size_class);
  info.below = block.stored != Stored::kNo || block.pooled != 0;
  policy_->Inserted(info, cause, now);
  retry_wanted_ = true;  // it may be evicted for another
}

void Tenant::SetEntry(const Key& key, BlockRecord* record, std::uint64_t to) {
  if (record->entry == to) return;
  const bool fits = index_.Set(key, &record->cell, to);
  record->entry = fits ? to : 0;
}

bool Tenant::Evictable(std::uint32_t index) const {
  const SlotRecord& slot = slots_[index];
  return slot.state == SlotState::kPublished && slot.holds == 0 &&
         slot.io == 0 && slot.pool_io == 0 && !slot.dirty && !slot.awaited &&
         !slot.pool_awaited && !slot.leaving && !IsPinned(index);
}

bool Tenant::MakeRoom(RoomKind kind, Need need, TimeNs now) {
  const auto has_room = [&] { return !free_slots_.empty() && HasRoom(kind); };
  if (!MaySearch(kind, now)) return false;
  visited_ = 0;
  coldest_held_.reset();
  DrainNotes(now);
  ScanPins();
  SweepLimbo();
  if (!has_room()) EvictFor(kind, now);
  // Slots given ahead may lie in the way.
  if (!has_room() && need == Need::kNow && RevokeGrants(now, now - kOfferNs)) {
    if (!has_room()) EvictFor(kind, now);
  }
  if (!has_room()) {
    if (kind == kToEmpty && need == Need::kNow) RetireOne(now);
    SearchFailed(kind, now);
    return false;
  }
  searches_[kind].failed = false;
  return true;
}

bool Tenant::MaySearch(RoomKind kind, TimeNs now) const {
  return !searches_[kind].failed ||
         (kind == search_turn_ && now >= next_search_at_);
}

void Tenant::SearchFailed(RoomKind kind, TimeNs now) {
  searches_[kind] = {true, now};
  next_search_at_ =
      now + kPauseNsPerVisit * static_cast<DurationNs>(visited_) +
      kPauseNsPerClient * static_cast<DurationNs>(clients_.size());
}

// The coldest blocks leave. Where one is of another class, so do those beside
// it that are in the way of a slot of the wanted class: so memory moves between
// classes, and one block that must stay keeps little more than its own place
// from others. The pins are fresh.
void Tenant::EvictFor(RoomKind kind, TimeNs now) {
  const bool only_slot = HasRoom(kind);
  const std::uint8_t size_class = ClassOf(kind);
  std::vector<std::uint32_t> victims;
  std::vector<bool> closed(pool_.extents());  // no window in them
  std::uint64_t bytes = 0;
  const auto take = [&](std::uint32_t index) {
    slots_[index].leaving = true;
    victims.push_back(index);
    bytes += SizeClassBytes(slots_[index].size_class);
  };
  policy_->Coldest(now, [&](SlotIndex candidate) {
    const std::uint32_t index = candidate.value();
    ++visited_;
    if (victims.size() >= kBatchSlots || bytes >= kBatchBytes) {
      return tiering::Verdict::kStop;
    }
    if (!Evictable(index)) return tiering::Verdict::kSkip;
    const SlotRecord& slot = slots_[index];
    const std::uint32_t extent = pool_.ExtentOf(slot.data_offset);
    const bool may_empty = MayEmpty(kind, extent);
    if (only_slot || (slot.size_class == size_class && may_empty)) {
      take(index);
      return tiering::Verdict::kTake;
    }
    if (closed[extent]) return tiering::Verdict::kSkip;
    if (!pool_.FindWindow(
            slot.data_offset, size_class,
            [this](SlotIndex owner) {
              ++visited_;
              return Evictable(owner.value());
            },
            &window_)) {
      closed[extent] = true;
      return tiering::Verdict::kSkip;
    }
    if (!may_empty) {
      closed[extent] = true;
      if (!coldest_held_ && MayRetire(extent)) coldest_held_ = extent;
      return tiering::Verdict::kSkip;
    }
    for (SlotIndex owner : window_) take(owner.value());
    return slots_[index].leaving ? tiering::Verdict::kTake
                                 : tiering::Verdict::kSkip;
  });
  for (const std::uint32_t index : victims) slots_[index].leaving = false;
  if (!victims.empty()) Evict(victims, now);
}

void Tenant::Evict(const std::vector<std::uint32_t>& victims, TimeNs now) {
  for (const std::uint32_t index : victims) {
    SlotRecord& slot = slots_[index];
    auto found = directory_.find(slot.key);
    BlockRecord& block = found->second;
    AGENTMEM_CHECK(slot.state == SlotState::kPublished && block.slot == index &&
                   !IsDirty(block));
    block.slot = kNoSlot;
    // The index first: a reader of the old entry finds the generation changed
    // and asks memd, which is right whatever it finds.
    if (block.stored != Stored::kNo || block.pooled != 0) {
      SetEntry(slot.key, &block,
               BelowEntry(slot.key, BelowKind(block), block.block_class));
      NoteHearsay(slot.key, &block);
    } else {
      SetEntry(slot.key, &block, 0);
      directory_.erase(found);
    }
    index_.Unpublish(SlotIndex(index));
    ++slot.generation;
    slot.state = SlotState::kLimbo;
    slot.write_queued = false;
    policy_->Removed(SlotIndex(index), now);
    limbo_.push_back(index);
    ++dram_evictions_;
  }
  // Unpublish, then look for pins: never the other way round.
  ScanPins();
  SweepLimbo();
}

void Tenant::ScanPins() {
  ++scan_;
  for (const auto& entry : clients_) {
    const ClientId pinner = entry.first;
    Client* const client = entry.second.get();
    client->pinned_bytes = 0;
    client->ForEachPin([&](std::uint64_t word) {
      if (word - 1 >= slots_.size()) return;
      SlotRecord& slot = slots_[word - 1];
      if (slot.scan != scan_) {
        slot.pinners = 0;
        if (slot.state != SlotState::kFree) {
          client->pinned_bytes += SizeClassBytes(slot.size_class);
        }
      }
      slot.scan = scan_;
      slot.pinner = pinner;
      ++slot.pinners;
    });
  }
}

bool Tenant::SweepLimbo() {
  if (limbo_.empty()) return false;
  for (const auto& [id, client] : clients_) client->limbo_bytes = 0;
  const std::size_t before = limbo_.size();
  std::erase_if(limbo_, [this](std::uint32_t index) {
    SlotRecord& slot = slots_[index];
    if (IsPinned(index)) {
      auto pinner = clients_.find(slot.pinner);
      if (pinner != clients_.end()) {
        pinner->second->limbo_bytes += SizeClassBytes(slot.size_class);
      }
      return false;
    }
    if (slot.io != 0 || slot.pool_io != 0 || slot.holds != 0) return false;
    FreeSlot(index);
    return true;
  });
  return limbo_.size() != before;
}

bool Tenant::RevokeGrants(TimeNs put_before, TimeNs offered_before) {
  bool any = false;
  for (const auto& [id, client] : clients_) {
    if (client->granted_bytes == 0 || client->last_put > put_before) continue;
    for (std::uint32_t i = 0; i < kGrantEntries; ++i) {
      const std::uint32_t slot = client->grants[i].slot;
      if (slot == kNoSlot || client->grants[i].offered_at > offered_before ||
          !client->Revoke(i)) {
        continue;
      }
      FreeSlot(slot);
      any = true;
    }
  }
  return any;
}

void Tenant::DrainNotes(TimeNs now) {
  for (const auto& [id, client] : clients_) DrainNotesOf(client.get(), now);
}

void Tenant::DrainNotesOf(Client* client, TimeNs now) {
  dram_hits_ += client->DrainNotes(
      [&](std::uint64_t note) {
        const std::uint32_t index = static_cast<std::uint32_t>(note);
        if (index >= slots_.size()) return;
        const SlotRecord& slot = slots_[index];
        if (slot.state == SlotState::kPublished &&
            static_cast<std::uint32_t>(slot.generation) == note >> 32) {
          policy_->Accessed(SlotIndex(index), now);
        }
      },
      &notes_lost_);
}

// In order of arrival, and nobody holds up one who can be served: clients that
// keep blocks while they wait for more would wait for each other.
void Tenant::RetryRoomWaiters(TimeNs now) {
  retry_wanted_ = false;
  if (room_waiters_.empty()) return;
  ChooseSearch();
  std::bitset<kRoomKinds> full;
  absl::flat_hash_map<ClientId, std::size_t> over;  // from this class on
  const std::deque<RoomWaiter> waiters = std::exchange(room_waiters_, {});
  for (const RoomWaiter& waiter : waiters) {
    if (IsSettled(waiter, now)) continue;
    const RoomKind kind = KindOf(waiter);
    const std::size_t size_class = ClassOf(kind);
    const auto limit = over.find(waiter.op.client);
    if (full[kind] || (waiter.is_grant && limit != over.end() &&
                       limit->second <= size_class)) {
      room_waiters_.push_back(waiter);
      continue;
    }
    RoomOutcome outcome = RoomOutcome::kNoRoom;
    if (waiter.is_grant) {
      outcome = RetryGrant(waiter, now);
    } else if (BeginLoad(waiter.key, now)) {
      outcome = RoomOutcome::kDone;
    }
    if (outcome == RoomOutcome::kDone) continue;
    if (outcome == RoomOutcome::kNoRoom) {
      full.set(kind);
    } else {
      over[waiter.op.client] = size_class;
    }
    room_waiters_.push_back(waiter);
  }
  search_turn_ = kRoomKinds;
}

// Of the kinds that wait and were searched for in vain, the one whose last
// search is longest ago.
void Tenant::ChooseSearch() {
  search_turn_ = kRoomKinds;
  for (const RoomWaiter& waiter : room_waiters_) {
    const RoomKind kind = KindOf(waiter);
    if (!searches_[kind].failed) continue;
    if (search_turn_ == kRoomKinds ||
        searches_[kind].at < searches_[search_turn_].at) {
      search_turn_ = kind;
    }
  }
}

// Does it need no room any more?
bool Tenant::IsSettled(const RoomWaiter& waiter, TimeNs now) {
  if (waiter.is_grant) return !clients_.contains(waiter.op.client);
  const auto load = loads_.find(waiter.key);
  if (load == loads_.end() || load->second.slot != kNoSlot) {
    return true;  // settled, or begun by a later fetch
  }
  if (!IsLoadWanted(waiter.key)) {
    EndLoad(waiter.key);  // all of them gave up
    return true;
  }
  const auto record = directory_.find(waiter.key);
  if (record != directory_.end() && record->second.slot == kNoSlot) {
    return false;
  }
  // Put, or dropped from the store, while it waited.
  const std::vector<OpRef> ops = std::move(load->second.waiters);
  loads_.erase(load);
  if (record != directory_.end()) {
    WriteWanted(waiter.key, record->second.slot);
  } else if (const auto wanted = durable_loads_.extract(waiter.key)) {
    for (const OpRef& op : wanted.mapped()) {
      Fail(op, Code::kNotFound, Reason::kNoSuchBlock);
    }
  }
  for (const OpRef& op : ops) {
    if (record == directory_.end()) {
      ++misses_;
      Fail(op, Code::kNotFound, Reason::kNoSuchBlock);
    } else {
      AnswerFetch(op, record->second.slot, Tier::kDram, now);
    }
  }
  return true;
}

Tenant::RoomOutcome Tenant::RetryGrant(const RoomWaiter& waiter, TimeNs now) {
  auto client = clients_.find(waiter.op.client);
  if (GiveGrants(client->second.get(), KindOf(waiter), waiter.count, Need::kNow,
                 now) ||
      client->second->HasOffer(SizeClassOf(waiter.length))) {
    client->second->last_put = now;
    Answer(waiter.op);
    return RoomOutcome::kDone;
  }
  return OverOwnLimit(*client->second, waiter.length) ? RoomOutcome::kOverQuota
                                                      : RoomOutcome::kNoRoom;
}

void Tenant::ExpireWaiters(TimeNs now) {
  if (std::exchange(freed_since_look_, false)) last_freed_ = now;
  const bool busy = !inflight_.empty() || !urgent_writes_.empty() ||
                    !lazy_writes_.empty() || !load_queue_.empty() ||
                    !delete_queue_.empty() || !departed_.empty();
  std::vector<RoomWaiter> failed;
  std::erase_if(room_waiters_, [&](const RoomWaiter& waiter) {
    const bool late =
        (waiter.is_grant && now >= waiter.op.deadline) ||
        (!busy && now - std::max(waiter.since, last_freed_) >= kHopelessWaitNs);
    if (late) failed.push_back(waiter);
    return late;
  });
  if (failed.empty() && loads_.empty() && finds_.empty()) return;
  const PoolUse use = failed.empty() ? PoolUse{} : FindPoolUse();
  for (const RoomWaiter& waiter : failed) {
    if (waiter.is_grant) {
      ++puts_failed_;
      auto client = clients_.find(waiter.op.client);
      if (client == clients_.end()) continue;
      if (!OverOwnLimit(*client->second, waiter.length)) {
        ++puts_failed_room_;
        FailForRoom(waiter.op, use);
        continue;
      }
      ++puts_failed_quota_;
      Fail(waiter.op, Code::kResourceExhausted, Reason::kGrantQuota,
           options_.grant_quota_bytes, client->second->granted_bytes,
           static_cast<std::uint64_t>(client->second->identity().pid));
      continue;
    }
    auto load = loads_.find(waiter.key);
    if (load == loads_.end()) continue;
    std::vector<OpRef> ops = std::move(load->second.waiters);
    EndLoad(waiter.key);
    if (const auto wanted = durable_loads_.extract(waiter.key)) {
      ops.insert(ops.end(), wanted.mapped().begin(), wanted.mapped().end());
    }
    for (const OpRef& op : ops) FailForRoom(op, use);
  }
  const auto expire = [&](std::vector<OpRef>* ops) {
    std::erase_if(*ops, [&](const OpRef& op) {
      if (now < op.deadline) return false;
      Fail(op, Code::kDeadlineExceeded, Reason::kDeadline);
      return true;
    });
  };
  for (auto& [key, ops] : durable_loads_) expire(&ops);
  for (auto& [key, load] : loads_) expire(&load.waiters);
  for (auto& [key, find] : finds_) {
    expire(&find.waiters);
    expire(&find.durables);
    expire(&find.tiers);
  }
}

}  // namespace agentmem
