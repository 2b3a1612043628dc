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

Code ExportPool::Reserve(Block* block, TimeNs now) {
  const std::size_t size_class = SizeClassOf(block->length);
  if (size_class == kSizeClasses) return Code::kInvalidArgument;
  if (const auto found = by_name_.find(block->name); found != by_name_.end()) {
    Record& record = records_[found->second];
    if (record.committed && record.block.length == block->length) {
      if (block->block_class == BlockClass::kState &&
          record.block.block_class == BlockClass::kCache) {
        Unlink(found->second);
        record.block.block_class = BlockClass::kState;
        ++state_;
      }
      *block = record.block;
      return Code::kAlreadyExists;
    }
    if (!record.committed) {
      by_name_.erase(found);  // its writer gave up, or is the slower one
    } else if (record.block.block_class == BlockClass::kState) {
      return Code::kAborted;
    } else {
      Evict(found->second);  // of another length: computed anew
    }
  }
  if (!pool_.HasRoom(static_cast<std::uint8_t>(size_class)) &&
      !MakeRoom(static_cast<std::uint8_t>(size_class))) {
    return Code::kResourceExhausted;
  }
  const std::uint32_t index = NewRecord();
  const auto offset =
      pool_.Allocate(static_cast<std::uint8_t>(size_class), SlotIndex(index));
  AGENTMEM_CHECK(offset.has_value());
  block->offset = *offset;
  block->generation = next_generation_++;
  block->checksum = 0;
  Record& record = records_[index];
  record = Record();
  record.block = *block;
  record.used = true;
  record.reserved_at = now;
  by_name_[block->name] = index;
  reservations_.push_back({index, block->generation, now});
  return Code::kOk;
}

Code ExportPool::Commit(const Name& name, std::uint64_t generation,
                        std::uint64_t checksum) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return Code::kNotFound;
  Record& record = records_[found->second];
  if (record.committed || record.block.generation != generation) {
    return Code::kNotFound;
  }
  record.committed = true;
  record.block.checksum = checksum;
  ++committed_;
  if (record.block.block_class == BlockClass::kState) {
    ++state_;
  } else {
    Link(found->second);
  }
  return Code::kOk;
}

const ExportPool::Block* ExportPool::Find(const Name& name) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return nullptr;
  const Record& record = records_[found->second];
  if (!record.committed) return nullptr;
  if (record.block.block_class == BlockClass::kCache) {
    Unlink(found->second);
    Link(found->second);
  }
  return &record.block;
}

Code ExportPool::Drop(const Name& name, std::uint64_t generation) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return Code::kNotFound;
  const Record& record = records_[found->second];
  if (generation != 0 && record.block.generation != generation) {
    return Code::kNotFound;
  }
  // A reservation's writer may still write: its place comes back by age.
  if (!record.committed) return Code::kAborted;
  Free(found->second);
  return Code::kOk;
}

void ExportPool::ExpireReservations(TimeNs now) {
  while (!reservations_.empty()) {
    const Reservation& oldest = reservations_.front();
    const Record& record = records_[oldest.index];
    const bool stands = record.used && !record.committed &&
                        record.block.generation == oldest.generation;
    if (stands && now - oldest.at < kReservationNs) return;
    const std::uint32_t index = oldest.index;
    reservations_.pop_front();
    if (!stands) continue;
    ++expired_;
    Free(index);
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
  return record.used && record.committed &&
         record.block.block_class == BlockClass::kCache;
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
    if (record.block.block_class == BlockClass::kState) {
      --state_;
    } else {
      Unlink(index);
    }
  }
  pool_.Free(record.block.offset);
  const auto named = by_name_.find(record.block.name);
  if (named != by_name_.end() && named->second == index) by_name_.erase(named);
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
    if (!record.committed) continue;
    const auto found = by_name_.find(record.block.name);
    if (found == by_name_.end() || found->second != i) {
      return "a block that its name does not lead to";
    }
    ++committed;
    if (record.block.block_class == BlockClass::kState) {
      ++state;
    } else {
      cache += bytes;
    }
  }
  if (free != free_records_.size()) return "free records are not in the list";
  if (by_name_.size() + free > records_.size()) return "names and records";
  if (used != pool_.used_bytes()) return "the pool's bytes and the records'";
  if (committed != committed_ || state != state_) return "counts of blocks";
  if (cache != cache_bytes_) return "bytes of cache blocks";
  std::uint64_t linked = 0;
  for (std::uint32_t i = oldest_; i != kNone; i = records_[i].newer) ++linked;
  return linked == committed - state ? "" : "the order of use";
}

}  // namespace agentmem
