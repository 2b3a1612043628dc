#include "memd/pool/export_pool.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "proto/size_class.h"

namespace agentmem {
namespace {

// How many of the coldest blocks are looked at for one that makes room.
constexpr int kVictimsTried = 64;

}  // namespace

ExportPool::ExportPool(std::span<char> memory, std::uint64_t generation)
    : memory_(memory), pool_(memory.size()), next_generation_(generation) {}

std::uint32_t ExportPool::NewRecord() {
  if (free_records_.empty()) {
    records_.emplace_back();
    return static_cast<std::uint32_t>(records_.size() - 1);
  }
  const std::uint32_t index = free_records_.back();
  free_records_.pop_back();
  return index;
}

bool ExportPool::WasDropped(const Name& name, std::uint64_t generation) const {
  const auto found = dropped_.find(name);
  return found != dropped_.end() && generation < found->second;
}

void ExportPool::Use(std::uint32_t index, BlockClass block_class) {
  Record& record = records_[index];
  if (!record.block.MayLeave()) return;
  Unlink(index);
  if (block_class == BlockClass::kState) {
    record.block.block_class = BlockClass::kState;
  }
  if (record.block.MayLeave()) {
    Link(index);
  } else {
    ++state_;
  }
}

// Somebody counts on the copy that is there as if he had put it.
void ExportPool::Keep(std::uint32_t index, const Block& put) {
  Block& kept = records_[index].block;
  kept.copies = std::max(kept.copies, put.copies);
  if (!kept.below || put.below) return;
  Unlink(index);
  kept.below = false;
  kept.owner = put.owner;
  if (kept.MayLeave()) {
    Link(index);
  } else {
    ++state_;
  }
}

Code ExportPool::Reserve(Block* block, TimeNs now, bool repair) {
  const std::size_t size_class = SizeClassOf(block->length);
  if (size_class == kSizeClasses) return Code::kInvalidArgument;
  if (repair && dropped_.contains(block->name)) return Code::kAborted;
  if (const auto found = by_name_.find(block->name); found != by_name_.end()) {
    const Block& there = records_[found->second].block;
    if (there.length == block->length) {
      Use(found->second, block->block_class);
      Keep(found->second, *block);
      *block = there;
      return Code::kAlreadyExists;
    }
    if (there.block_class == BlockClass::kState) return Code::kAborted;
  }
  return TakePlace(block, static_cast<std::uint8_t>(size_class), now);
}

Code ExportPool::Stage(Block* block, TimeNs now) {
  const std::size_t size_class = SizeClassOf(block->length);
  if (size_class == kSizeClasses) return Code::kInvalidArgument;
  block->below = true;  // so that it does not run out
  return TakePlace(block, static_cast<std::uint8_t>(size_class), now);
}

Code ExportPool::TakePlace(Block* block, std::uint8_t size_class, TimeNs now) {
  if (!pool_.HasRoom(size_class) && !MakeRoom(size_class)) {
    return Code::kResourceExhausted;
  }
  const std::uint32_t index = NewRecord();
  const auto offset = pool_.Allocate(size_class, SlotIndex(index));
  AGENTMEM_CHECK(offset.has_value());
  block->offset = *offset;
  block->generation = next_generation_++;
  block->checksum = 0;
  Record& record = records_[index];
  record = Record();
  record.block = *block;
  record.used = true;
  reserved_[block->generation] = index;
  reservations_.push_back({block->generation, now});
  return Code::kOk;
}

Code ExportPool::Commit(const Name& name, std::uint64_t generation,
                        std::uint64_t checksum, const SealedHeader& seal) {
  const auto reserved = reserved_.find(generation);
  if (reserved == reserved_.end()) return Code::kNotFound;
  const std::uint32_t index = reserved->second;
  Block& block = records_[index].block;
  if (block.name != name) return Code::kNotFound;
  // Its writer has ended, so its place may be used again when it is not needed.
  if (WasDropped(name, generation)) {
    Free(index);
    return Code::kNotFound;
  }
  if (const auto there = by_name_.find(name); there != by_name_.end()) {
    const std::uint32_t first = there->second;
    const bool same = records_[first].block.length == block.length;
    if (same || records_[first].block.block_class == BlockClass::kState) {
      if (same) Use(first, block.block_class);
      if (same) Keep(first, block);
      Free(index);
      return same ? Code::kAlreadyExists : Code::kAborted;
    }
    Evict(first);  // of another length: computed anew
  }
  reserved_.erase(generation);
  by_name_[name] = index;
  records_[index].committed = true;
  block.checksum = checksum;
  block.seal = seal;
  ++committed_;
  if (block.MayLeave()) {
    Link(index);
  } else {
    ++state_;
  }
  return Code::kOk;
}

const ExportPool::Block* ExportPool::Find(const Name& name) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return nullptr;
  Use(found->second, BlockClass::kCache);
  return &records_[found->second].block;
}

Code ExportPool::Drop(const Name& name, TimeNs now) {
  drops_.push_back({name, next_generation_, now});
  dropped_[name] = next_generation_;
  if (drops_.size() > kDropsMax) ForgetDrop();
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return Code::kNotFound;
  Free(found->second);
  return Code::kOk;
}

void ExportPool::Abandon(std::uint64_t generation) {
  const auto reserved = reserved_.find(generation);
  if (reserved != reserved_.end()) Free(reserved->second);
}

Code ExportPool::Leave(const Name& name, std::uint64_t generation) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end() ||
      records_[found->second].block.generation != generation) {
    return Code::kNotFound;
  }
  Free(found->second);
  return Code::kOk;
}

void ExportPool::ForgetDrop() {
  const Dropped& oldest = drops_.front();
  const auto found = dropped_.find(oldest.name);
  if (found != dropped_.end() && found->second == oldest.generation) {
    dropped_.erase(found);
  }
  drops_.pop_front();
}

void ExportPool::ExpireReservations(TimeNs now) {
  while (!reservations_.empty()) {
    const Reservation oldest = reservations_.front();
    const auto reserved = reserved_.find(oldest.generation);
    if (reserved != reserved_.end()) {
      if (now - oldest.at < kReservationNs) break;
      if (records_[reserved->second].block.below) {
        // This node's store reads or writes there: it says when it has ended.
        reservations_.push_back({oldest.generation, now});
      } else {
        ++expired_;
        Free(reserved->second);
      }
    }
    reservations_.pop_front();
  }
  while (!drops_.empty() && now - drops_.front().at > kReservationNs) {
    ForgetDrop();
  }
}

std::size_t ExportPool::Walk(
    std::size_t cursor, std::size_t count_max,
    absl::FunctionRef<void(const Block&)> visit) const {
  const std::size_t end = std::min(records_.size(), cursor + count_max);
  for (; cursor < end; ++cursor) {
    const Record& record = records_[cursor];
    if (record.used && record.committed) visit(record.block);
  }
  return cursor == records_.size() ? 0 : cursor;
}

bool ExportPool::MayGo(std::uint32_t index) const {
  const Record& record = records_[index];
  return record.used && record.committed && record.block.MayLeave();
}

// The coldest block that makes room by leaving, alone or with those beside it.
bool ExportPool::MakeRoom(std::uint8_t size_class) {
  std::uint32_t next = oldest_;
  for (int tried = 0; next != kNone && tried < kVictimsTried; ++tried) {
    const std::uint32_t index = next;
    next = records_[index].newer;
    const Block& block = records_[index].block;
    if (SizeClassOf(block.length) == size_class) {
      Evict(index);
    } else if (pool_.FindWindow(
                   block.offset, size_class,
                   [this](SlotIndex owner) { return MayGo(owner.value()); },
                   &window_)) {
      for (const SlotIndex owner : window_) Evict(owner.value());
    }
    if (pool_.HasRoom(size_class)) return true;
  }
  return false;
}

void ExportPool::Evict(std::uint32_t index) {
  const Block& block = records_[index].block;
  evicted_.push_back({block.name, block.generation, block.owner});
  ++evictions_;
  Free(index);
}

void ExportPool::Free(std::uint32_t index) {
  Record& record = records_[index];
  AGENTMEM_CHECK(record.used);
  if (record.committed) {
    --committed_;
    if (record.block.MayLeave()) {
      Unlink(index);
    } else {
      --state_;
    }
  }
  if (record.committed) {
    by_name_.erase(record.block.name);
  } else {
    reserved_.erase(record.block.generation);
  }
  pool_.Free(record.block.offset);
  record = Record();
  free_records_.push_back(index);
}

void ExportPool::Link(std::uint32_t index) {
  Record& record = records_[index];
  record.older = newest_;
  record.newer = kNone;
  if (newest_ != kNone) records_[newest_].newer = index;
  newest_ = index;
  if (oldest_ == kNone) oldest_ = index;
  cache_bytes_ += SizeClassBytes(SizeClassOf(record.block.length));
}

void ExportPool::Unlink(std::uint32_t index) {
  Record& record = records_[index];
  (record.older == kNone ? oldest_ : records_[record.older].newer) =
      record.newer;
  (record.newer == kNone ? newest_ : records_[record.newer].older) =
      record.older;
  record.older = kNone;
  record.newer = kNone;
  cache_bytes_ -= SizeClassBytes(SizeClassOf(record.block.length));
}

std::string ExportPool::CheckInvariants() const {
  std::uint64_t used = 0;
  std::uint64_t committed = 0;
  std::uint64_t state = 0;
  std::uint64_t cache = 0;
  std::size_t free = 0;
  for (std::uint32_t i = 0; i < records_.size(); ++i) {
    const Record& record = records_[i];
    if (!record.used) {
      ++free;
      continue;
    }
    const std::uint64_t bytes =
        SizeClassBytes(SizeClassOf(record.block.length));
    used += bytes;
    if (!record.committed) {
      const auto found = reserved_.find(record.block.generation);
      if (found == reserved_.end() || found->second != i) {
        return "a reservation that its generation does not lead to";
      }
      continue;
    }
    const auto found = by_name_.find(record.block.name);
    if (found == by_name_.end() || found->second != i) {
      return "a block that its name does not lead to";
    }
    ++committed;
    if (record.block.MayLeave()) {
      cache += bytes;
    } else {
      ++state;
    }
  }
  if (free != free_records_.size()) return "free records are not in the list";
  if (by_name_.size() + reserved_.size() + free != records_.size()) {
    return "names, reservations and records";
  }
  if (reserved_.size() > reservations_.size()) return "reservations by age";
  if (dropped_.size() > drops_.size()) return "drops by age";
  if (used != pool_.used_bytes()) return "the pool's bytes and the records'";
  if (committed != committed_ || state != state_) return "counts of blocks";
  if (cache != cache_bytes_) return "bytes of cache blocks";
  std::uint64_t linked = 0;
  for (std::uint32_t i = oldest_; i != kNone; i = records_[i].newer) ++linked;
  return linked == committed - state ? "" : "the order of use";
}

}  // namespace agentmem
