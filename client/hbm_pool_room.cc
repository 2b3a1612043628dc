// Who makes room for whom: slabs, the budget, and what leaves.
#include <algorithm>
#include <utility>

#include "client/hbm_pool.h"

namespace agentmem::client {
namespace {

// Of blocks, in one search for room: 0.1 ms.
constexpr int kLooksMax = 1024;
// That one search sends below; more would be written before they have to leave.
constexpr std::size_t kSinksMax = 8;
// Of those that are to leave, in one turn: a millisecond.
constexpr int kDropLooks = 4096;
// After memory could not be had.
constexpr DurationNs kAllocateAgainNs = kSecondNs;

}  // namespace

std::uint64_t HbmPool::Limit() const {
  const std::uint64_t most = std::min(budget_, options_.wanted_bytes);
  return options_.clock->Now() < ceiling_until_ ? std::min(most, ceiling_)
                                                : most;
}

// What is being freed is the device's only when Free has returned.
std::uint64_t HbmPool::Allocated() const {
  return slabs_.allocated_bytes() + freeing_bytes_;
}

void HbmPool::SetBudget(std::uint64_t bytes) {
  MutexLock lock(&mutex_);
  budget_ = bytes;
}

void HbmPool::SetCeiling(std::uint64_t bytes, DurationNs duration) {
  {
    MutexLock lock(&mutex_);
    ceiling_ = bytes;
    ceiling_until_ = options_.clock->Now() + duration;
  }
  TellKeeper();
}

bool HbmPool::TakeSlot(std::size_t size_class, HbmCause cause,
                       std::uint32_t entry) {
  for (;;) {
    // (Growing lets others in: entries_ may move.)
    HbmSlabs::Slot slot;
    if (slabs_.Take(size_class, entry, &slot)) {
      entries_[entry].slot = slot;
      return true;
    }
    if (Grow(size_class)) continue;
    if (cause == HbmCause::kBringBack || !EvictFor(size_class)) return false;
  }
}

// True: there may be a slot now.
bool HbmPool::Grow(std::size_t size_class) {
  if (is_growing_) {
    while (is_growing_) grown_.Wait(&mutex_);
    return true;
  }
  const std::uint64_t limit = Limit();
  const std::uint64_t allocated = Allocated();
  if (allocated >= limit) return false;
  const std::uint64_t granule = options_.granule_bytes;
  const std::uint64_t bytes =
      std::min(options_.slab_bytes, (limit - allocated) / granule * granule);
  if (bytes < SizeClassBytes(size_class)) return false;
  is_growing_ = true;
  mutex_.Unlock();
  HbmSlabs::Memory memory;
  memory.bytes = bytes;
  const Outcome outcome = options_.device->Allocate(bytes, &memory.at);
  mutex_.Lock();
  is_growing_ = false;
  grown_.NotifyAll();
  if (outcome.ok()) {
    slabs_.Add(memory);
    return true;
  }
  // (Who needs the pool's memory may have said so meanwhile.)
  const TimeNs now = options_.clock->Now();
  const TimeNs until = now + kAllocateAgainNs;
  const bool is_bound = now < ceiling_until_;
  ceiling_ = is_bound ? std::min(ceiling_, Allocated()) : Allocated();
  ceiling_until_ = is_bound ? std::max(ceiling_until_, until) : until;
  return false;
}

bool HbmPool::IsBelow(const Entry& entry) const {
  return options_.is_below(entry.key, entry.block_class);
}

// The first, in the order of the policy, of: a block of that class; a whole
// slab of another class, all of whose blocks come before.
bool HbmPool::EvictFor(std::size_t size_class) {
  std::vector<std::uint32_t> victims;
  std::vector<std::uint32_t> sinks;
  std::unordered_map<std::uint32_t, std::uint32_t> offered;  // of a slab
  int looks = 0;
  policy_->Coldest(
      options_.clock->Now(), [&](SlotIndex slot) AGENTMEM_REQUIRES(mutex_) {
        using tiering::Verdict;
        if (++looks > kLooksMax) return Verdict::kStop;
        const std::uint32_t index = slot.value();
        const Entry& entry = entries_[index];
        const std::uint32_t slab = entry.slot.slab;
        if (entry.uses != 0 || slabs_.is_closed(slab)) return Verdict::kSkip;
        if (!options_.is_below(entry.key, entry.block_class)) {
          if (sinks.size() < kSinksMax) sinks.push_back(index);
          return Verdict::kSkip;
        }
        if (size_class == kSizeClasses || slabs_.class_of(slab) == size_class) {
          victims = {index};
          return Verdict::kStop;
        }
        if (slabs_.bytes(slab) < SizeClassBytes(size_class) ||
            ++offered[slab] < slabs_.used(slab)) {
          return Verdict::kSkip;
        }
        victims = slabs_.EntriesOf(slab);
        return Verdict::kStop;
      });
  if (victims.empty()) {
    sinking_.insert(sinks.begin(), sinks.end());
  }
  for (const std::uint32_t victim : victims) Drop(victim);
  return !victims.empty();
}

void HbmPool::Drop(std::uint32_t index) {
  ++(entries_[index].was_written ? counts_.demoted : counts_.dropped);
  FreeEntry(index);
}

bool HbmPool::MayDrop(const Entry& entry) const {
  return entry.state == State::kThere && entry.uses == 0 && IsBelow(entry);
}

// In turns, so that others get the lock.
void HbmPool::DropLeaving() {
  std::vector<std::uint32_t> looked;
  auto at = leaving_.lower_bound(drop_next_);
  for (int i = 0; i < kDropLooks && i < static_cast<int>(leaving_.size());
       ++i, ++at) {
    if (at == leaving_.end()) at = leaving_.begin();
    looked.push_back(*at);
  }
  for (const std::uint32_t index : looked) {
    drop_next_ = index + 1;
    if (MayDrop(entries_[index])) Drop(index);
  }
}

bool HbmPool::GiveBack(Empty empty) {
  MutexLock lock(&mutex_);
  if (slabs_.allocated_bytes() <= Limit()) ReopenSlabs();
  DropLeaving();
  for (;;) {
    const std::uint64_t limit = Limit();
    const std::uint64_t allocated = slabs_.allocated_bytes();
    HbmSlabs::Memory memory;
    if ((allocated > limit || empty == Empty::kFreed) &&
        slabs_.RemoveEmpty(&memory)) {
      freeing_bytes_ += memory.bytes;
      mutex_.Unlock();
      options_.device->Free(memory.at);
      mutex_.Lock();
      freeing_bytes_ -= memory.bytes;
      continue;
    }
    if (allocated <= limit) return true;
    std::uint64_t closed_bytes = 0;
    for (const std::uint32_t slab : slabs_.closed()) {
      closed_bytes += slabs_.bytes(slab);
    }
    if (allocated - closed_bytes <= limit) return false;
    CloseSlabs(allocated - closed_bytes - limit);
    DropLeaving();
  }
}

// Those of which the policy would let go first, all of each; if that is not
// enough, those with the least in use.
void HbmPool::CloseSlabs(std::uint64_t bytes) {
  std::unordered_map<std::uint32_t, std::uint32_t> offered;
  std::vector<std::uint32_t> chosen;
  std::uint64_t found = 0;
  policy_->Coldest(options_.clock->Now(),
                   [&](SlotIndex slot) AGENTMEM_REQUIRES(mutex_) {
                     using tiering::Verdict;
                     const Entry& entry = entries_[slot.value()];
                     const std::uint32_t slab = entry.slot.slab;
                     if (entry.uses != 0 || slabs_.is_closed(slab))
                       return Verdict::kSkip;
                     if (++offered[slab] < slabs_.used(slab))
                       return Verdict::kSkip;
                     chosen.push_back(slab);
                     found += slabs_.bytes(slab);
                     return found < bytes ? Verdict::kSkip : Verdict::kStop;
                   });
  if (found < bytes) {
    std::vector<std::pair<std::uint32_t, std::uint32_t>> rest;  // uses, slab
    for (const std::uint32_t slab : slabs_.Open()) {
      const std::uint32_t in_use = slabs_.used(slab) - offered[slab];
      if (in_use != 0) rest.emplace_back(in_use, slab);
    }
    std::sort(rest.begin(), rest.end());
    for (const auto& [in_use, slab] : rest) {
      if (found >= bytes) break;
      chosen.push_back(slab);
      found += slabs_.bytes(slab);
    }
  }
  for (const std::uint32_t slab : chosen) {
    slabs_.Close(slab);
    for (const std::uint32_t index : slabs_.EntriesOf(slab)) {
      SetLeaving(index, true);
    }
  }
}

void HbmPool::ReopenSlabs() {
  const std::vector<std::uint32_t> closed(slabs_.closed().begin(),
                                          slabs_.closed().end());
  for (const std::uint32_t slab : closed) {
    slabs_.Reopen(slab);
    for (const std::uint32_t index : slabs_.EntriesOf(slab)) {
      if (!OwnersAreAway(entries_[index])) SetLeaving(index, false);
    }
  }
}

std::vector<HbmBlock> HbmPool::TakeToWrite(std::size_t count_max) {
  MutexLock lock(&mutex_);
  std::vector<HbmBlock> blocks;
  int looks = 0;
  for (const auto* set : {&leaving_, &sinking_}) {
    for (const std::uint32_t index : *set) {
      if (blocks.size() == count_max || ++looks > kDropLooks) return blocks;
      Entry& entry = entries_[index];
      if (entry.state != State::kThere || entry.uses != 0 || IsBelow(entry)) {
        continue;
      }
      blocks.push_back(Use(index));
    }
  }
  return blocks;
}

void HbmPool::EndWrite(const HbmBlock& block, HbmWritten written) {
  MutexLock lock(&mutex_);
  Entry& entry = entries_[block.entry];
  --entry.uses;
  sinking_.erase(block.entry);
  if (written == HbmWritten::kBelow) entry.was_written = true;
  if (!entry.is_leaving || entry.uses != 0) return;
  if (written == HbmWritten::kBelow) {
    Drop(block.entry);
  } else if (written == HbmWritten::kNoRoom &&
             entry.block_class == BlockClass::kCache) {
    ++counts_.forgotten;
    FreeEntry(block.entry);
  }
}

bool HbmPool::HasState() {
  MutexLock lock(&mutex_);
  return std::any_of(entries_.begin(), entries_.end(), [](const Entry& entry) {
    return entry.state == State::kThere &&
           entry.block_class == BlockClass::kState;
  });
}

void HbmPool::SendStateDown() {
  MutexLock lock(&mutex_);
  for (std::uint32_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    if (entry.state == State::kThere &&
        entry.block_class == BlockClass::kState && !IsBelow(entry)) {
      SetLeaving(i, true);
    }
  }
}

}  // namespace agentmem::client
