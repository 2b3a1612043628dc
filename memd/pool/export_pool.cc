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

void ExportPool::Share(std::uint32_t index) {
  Record& record = records_[index];
  const bool shared = record.used && !record.ahead && !record.block.MayLeave();
  if (shared == record.shared) return;
  record.shared = shared;
  const std::uint64_t bytes = SizeClassBytes(SizeClassOf(record.block.length));
  if (shared) {
    shares_.Take(record.block.name.tenant, bytes);
  } else {
    shares_.Give(record.block.name.tenant, bytes);
  }
}

bool ExportPool::IsShareUsed(const Block& block) const {
  return !block.MayLeave() &&
         !shares_.MayTake(block.name.tenant,
                          SizeClassBytes(SizeClassOf(block.length)),
                          room_bytes());
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
  Share(index);
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
  Share(index);
}

Code ExportPool::Reserve(Block* block, TimeNs now, bool repair) {
  if (SizeClassOf(block->length) == kSizeClasses) return Code::kInvalidArgument;
  if (repair && dropped_.contains(block->name)) return Code::kAborted;
  if (const auto found = by_name_.find(block->name); found != by_name_.end()) {
    const Block& there = records_[found->second].block;
    if (there.length == block->length) {
      Block wanted = there;
      wanted.below = there.below && block->below;
      if (block->block_class == BlockClass::kState) {
        wanted.block_class = BlockClass::kState;
      }
      if (there.MayLeave() && IsShareUsed(wanted)) return Refuse();
      Use(found->second, block->block_class);
      Keep(found->second, *block);
      *block = there;
      return Code::kAlreadyExists;
    }
    if (there.block_class == BlockClass::kState) return Code::kAborted;
  }
  if (IsShareUsed(*block)) return Refuse();
  return Place(block, now, /*ahead=*/false);
}

Code ExportPool::ReserveAhead(Block* block, TimeNs now) {
  const std::size_t size_class = SizeClassOf(block->length);
  if (size_class == kSizeClasses) return Code::kInvalidArgument;
  if (ahead_bytes_ + SizeClassBytes(size_class) >
          capacity_bytes() / kAheadPart ||
      room_bytes() < capacity_bytes() / kAheadLeftPart) {
    return Code::kResourceExhausted;
  }
  return Place(block, now, /*ahead=*/true);
}

Code ExportPool::NameReserved(const Block& block) {
  const auto reserved = reserved_.find(block.generation);
  if (reserved == reserved_.end()) return Code::kNotFound;
  Record& record = records_[reserved->second];
  if (!record.ahead || record.block.owner != block.owner) {
    return Code::kNotFound;
  }
  const std::size_t size_class = SizeClassOf(record.block.length);
  if (block.length == 0 || SizeClassOf(block.length) != size_class) {
    return Code::kInvalidArgument;
  }
  if (IsShareUsed(block)) return Refuse();
  record.ahead = false;
  --ahead_;
  ahead_bytes_ -= SizeClassBytes(size_class);
  record.block.name = block.name;
  record.block.block_class = block.block_class;
  record.block.length = block.length;
  record.block.copies = block.copies;
  Share(reserved->second);
  return Code::kOk;
}

Code ExportPool::Stage(Block* block, TimeNs now) {
  if (SizeClassOf(block->length) == kSizeClasses) return Code::kInvalidArgument;
  block->below = true;  // so that it does not run out
  return Place(block, now, /*ahead=*/false);
}

// Takes room for it, if there is or can be made.
Code ExportPool::Place(Block* block, TimeNs now, bool ahead) {
  const auto size_class = static_cast<std::uint8_t>(SizeClassOf(block->length));
  if (!pool_.HasRoom(size_class) && !MakeRoom(size_class)) {
    return ahead || block->MayLeave() ? Code::kResourceExhausted : Refuse();
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
  record.ahead = ahead;
  if (ahead) {
    ++ahead_;
    ahead_bytes_ += SizeClassBytes(size_class);
  }
  reserved_[block->generation] = index;
  reservations_.push_back({block->generation, now});
  Share(index);
  return Code::kOk;
}

Code ExportPool::Commit(const Name& name, std::uint64_t generation,
                        std::uint64_t checksum, const SealedHeader& seal) {
  const auto reserved = reserved_.find(generation);
  if (reserved == reserved_.end()) return Code::kNotFound;
  const std::uint32_t index = reserved->second;
  Block& block = records_[index].block;
  if (block.name != name || records_[index].ahead) return Code::kNotFound;
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

const ExportPool::Block* ExportPool::Reserved(std::uint64_t generation) const {
  const auto reserved = reserved_.find(generation);
  return reserved == reserved_.end() ? nullptr
                                     : &records_[reserved->second].block;
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
  if (record.ahead) {
    --ahead_;
    ahead_bytes_ -= SizeClassBytes(SizeClassOf(record.block.length));
  }
  if (record.committed) {
    by_name_.erase(record.block.name);
  } else {
    reserved_.erase(record.block.generation);
  }
  record.used = false;
  Share(index);
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

}  // namespace agentmem
