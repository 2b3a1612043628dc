#include "client/hbm_pool.h"

#include <algorithm>
#include <utility>

#include "tiering/policies/lru_policy.h"

namespace agentmem::client {
namespace {

std::uint32_t EntriesMax(std::uint64_t wanted_bytes) {
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(wanted_bytes / (64 << 10), 4096, 4 << 20));
}

std::unique_ptr<tiering::Policy> NewPolicy(const HbmPool::Options& options) {
  tiering::LruOptions lru;
  lru.slots = EntriesMax(options.wanted_bytes);
  lru.budget_bytes = options.wanted_bytes;
  return tiering::MakeLruPolicy(lru);
}

}  // namespace

HbmPool::HbmPool(Options options)
    : options_(std::move(options)),
      entries_max_(EntriesMax(options_.wanted_bytes)),
      policy_(NewPolicy(options_)),
      agents_(1) {}

HbmPool::~HbmPool() {
  MutexLock lock(&mutex_);
  for (std::uint32_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].state != State::kFree) FreeEntry(i);
  }
  HbmSlabs::Memory memory;
  while (slabs_.RemoveEmpty(&memory)) options_.device->Free(memory.at);
}

bool HbmPool::Find(const Key& key, std::uint64_t bytes, HbmAgent agent,
                   HbmBlock* block, std::uint64_t tag) {
  MutexLock lock(&mutex_);
  ComesBack(agent.value());
  const auto found = by_key_.find(key);
  if (found == by_key_.end() ||
      entries_[found->second].state != State::kThere ||
      entries_[found->second].bytes != bytes ||
      entries_[found->second].tag != tag) {
    ++counts_.misses;
    return false;
  }
  ++counts_.hits;
  counts_.hit_bytes += bytes;
  policy_->Accessed(SlotIndex(found->second), options_.clock->Now());
  Own(found->second, agent);
  *block = Use(found->second);
  return true;
}

HbmFill HbmPool::BeginFill(const HbmNew& what, HbmCause cause,
                           HbmBlock* block) {
  HbmFill fill = HbmFill::kNoRoom;
  bool is_short = false;
  {
    MutexLock lock(&mutex_);
    fill = BeginFillLocked(what, cause, block);
    is_short = !sinking_.empty();
  }
  if (is_short) TellKeeper();
  return fill;
}

HbmFill HbmPool::BeginFillLocked(const HbmNew& what, HbmCause cause,
                                 HbmBlock* block) {
  if (agents_[what.agent.value()].is_away) return HbmFill::kNoRoom;
  const std::size_t size_class = SizeClassOf(what.bytes);
  if (size_class == kSizeClasses) return HbmFill::kNoRoom;
  if (const auto found = by_key_.find(what.key); found != by_key_.end()) {
    Entry& entry = entries_[found->second];
    if (entry.state != State::kThere) return HbmFill::kTaken;
    if (entry.bytes != what.bytes || entry.tag != what.tag) {
      return HbmFill::kOther;
    }
    if (what.block_class == BlockClass::kState) {
      entry.block_class = BlockClass::kState;
    }
    policy_->Accessed(SlotIndex(found->second), options_.clock->Now());
    Own(found->second, what.agent);
    *block = Use(found->second);
    return HbmFill::kThere;
  }
  std::uint32_t index = NewEntry();
  if (index == kNoEntry && cause != HbmCause::kBringBack &&
      EvictFor(kSizeClasses)) {
    index = NewEntry();
  }
  if (index == kNoEntry) return HbmFill::kNoRoom;
  {
    Entry& entry = entries_[index];
    entry.state = State::kFilling;
    entry.key = what.key;
    entry.tag = what.tag;
    entry.block_class = what.block_class;
    entry.cause = cause;
  }
  // Found as being filled, while memory is allocated for it.
  by_key_[what.key] = index;
  if (!TakeSlot(size_class, cause, index)) {
    FreeEntry(index);
    return HbmFill::kNoRoom;
  }
  entries_[index].bytes = static_cast<std::uint32_t>(what.bytes);
  ++counts_.blocks;
  counts_.used_bytes += what.bytes;
  if (agents_[what.agent.value()].is_away) {
    FreeEntry(index);  // it left while memory was allocated
    return HbmFill::kNoRoom;
  }
  Own(index, what.agent);
  *block = Use(index);
  return HbmFill::kBegun;
}

void HbmPool::EndFill(const HbmBlock& block, bool whole) {
  {
    MutexLock lock(&mutex_);
    Entry& entry = entries_[block.entry];
    --entry.uses;
    if (whole) {
      entry.state = State::kThere;
      tiering::BlockInfo info;
      info.slot = SlotIndex(block.entry);
      info.key = entry.key;
      info.block_class = entry.block_class;
      info.bytes = SizeClassBytes(slabs_.class_of(entry.slot.slab));
      // It came from below, or goes there with the store that brings it.
      info.below = true;
      policy_->Inserted(info, tiering::InsertCause::kPut,
                        options_.clock->Now());
      ++(entry.cause == HbmCause::kBringBack ? counts_.brought_back
                                             : counts_.filled);
    } else {
      FreeEntry(block.entry);
    }
  }
  TellKeeper();
}

void HbmPool::EndUse(const HbmBlock& block) {
  bool is_wanted = false;
  {
    MutexLock lock(&mutex_);
    const Entry& entry = entries_[block.entry];
    is_wanted = --entries_[block.entry].uses == 0 && entry.is_leaving;
  }
  if (is_wanted) TellKeeper();
}

HbmBlock HbmPool::Use(std::uint32_t index) {
  Entry& entry = entries_[index];
  ++entry.uses;
  HbmBlock block;
  block.entry = index;
  block.at = entry.slot.at;
  block.bytes = entry.bytes;
  block.key = entry.key;
  block.block_class = entry.block_class;
  return block;
}

std::uint32_t HbmPool::NewEntry() {
  if (!free_entries_.empty()) {
    const std::uint32_t index = free_entries_.back();
    free_entries_.pop_back();
    return index;
  }
  if (entries_.size() == entries_max_) return kNoEntry;
  entries_.emplace_back();
  return static_cast<std::uint32_t>(entries_.size() - 1);
}

// Of whatever is known of it nothing stays.
void HbmPool::FreeEntry(std::uint32_t index) {
  if (entries_[index].is_leaving) SetLeaving(index, false);
  Disown(index);
  Entry& entry = entries_[index];
  if (entry.state == State::kThere) {
    policy_->Removed(SlotIndex(index), options_.clock->Now());
  }
  sinking_.erase(index);
  by_key_.erase(entry.key);
  if (entry.bytes != 0) {
    slabs_.GiveBack(entry.slot);
    --counts_.blocks;
    counts_.used_bytes -= entry.bytes;
  }
  entry = Entry();
  free_entries_.push_back(index);
}

HbmCounts HbmPool::counts() {
  MutexLock lock(&mutex_);
  HbmCounts counts = counts_;
  counts.budget_bytes = budget_;
  counts.allocated_bytes = Allocated();
  counts.changed_agents = changed_.size();
  return counts;
}

}  // namespace agentmem::client
