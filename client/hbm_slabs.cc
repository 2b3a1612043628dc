#include "client/hbm_slabs.h"

namespace agentmem::client {

bool HbmSlabs::Take(std::size_t size_class, std::uint32_t entry, Slot* slot) {
  std::set<std::uint32_t>& with_room = with_room_[size_class];
  if (with_room.empty()) {
    for (const std::uint32_t empty : empty_) {
      if (slabs_[empty].memory.bytes < SizeClassBytes(size_class)) continue;
      Begin(empty, size_class);
      break;
    }
    if (with_room.empty()) return false;
  }
  slot->slab = *with_room.begin();
  Slab& slab = slabs_[slot->slab];
  slot->index = slab.free.back();
  slab.free.pop_back();
  slab.entries[slot->index] = entry;
  ++slab.used;
  if (slab.free.empty()) with_room.erase(slot->slab);
  slot->at =
      slab.memory.at + std::uint64_t{slot->index} * SizeClassBytes(size_class);
  return true;
}

void HbmSlabs::Begin(std::uint32_t index, std::size_t size_class) {
  Slab& slab = slabs_[index];
  const auto slots = static_cast<std::uint32_t>(slab.memory.bytes /
                                                SizeClassBytes(size_class));
  slab.size_class = size_class;
  slab.entries.assign(slots, kNoEntry);
  slab.free.clear();
  for (std::uint32_t i = slots; i-- > 0;) slab.free.push_back(i);
  empty_.erase(index);
  with_room_[size_class].insert(index);
}

void HbmSlabs::GiveBack(const Slot& slot) {
  Slab& slab = slabs_[slot.slab];
  slab.entries[slot.index] = kNoEntry;
  slab.free.push_back(slot.index);
  --slab.used;
  std::set<std::uint32_t>& with_room = with_room_[slab.size_class];
  if (slab.used == 0) {
    with_room.erase(slot.slab);
    slab.size_class = kSizeClasses;
    if (!slab.is_closed) empty_.insert(slot.slab);
  } else if (!slab.is_closed) {
    with_room.insert(slot.slab);
  }
}

void HbmSlabs::Add(const Memory& memory) {
  std::uint32_t place = 0;
  if (free_places_.empty()) {
    place = static_cast<std::uint32_t>(slabs_.size());
    slabs_.emplace_back();
  } else {
    place = free_places_.back();
    free_places_.pop_back();
  }
  slabs_[place] = Slab();
  slabs_[place].memory = memory;
  empty_.insert(place);
  allocated_bytes_ += memory.bytes;
}

// The newest, so that those that others are beside stay.
bool HbmSlabs::RemoveEmpty(Memory* memory) {
  std::uint32_t found = kNoEntry;
  for (const std::uint32_t slab : closed_) {
    if (slabs_[slab].used == 0) found = slab;
  }
  if (found == kNoEntry && !empty_.empty()) found = *empty_.rbegin();
  if (found == kNoEntry) return false;
  *memory = slabs_[found].memory;
  allocated_bytes_ -= memory->bytes;
  empty_.erase(found);
  closed_.erase(found);
  slabs_[found] = Slab();
  free_places_.push_back(found);
  return true;
}

void HbmSlabs::Close(std::uint32_t index) {
  Slab& slab = slabs_[index];
  slab.is_closed = true;
  closed_.insert(index);
  empty_.erase(index);
  if (slab.size_class != kSizeClasses) with_room_[slab.size_class].erase(index);
}

void HbmSlabs::Reopen(std::uint32_t index) {
  Slab& slab = slabs_[index];
  slab.is_closed = false;
  closed_.erase(index);
  if (slab.size_class == kSizeClasses) {
    empty_.insert(index);
  } else if (!slab.free.empty()) {
    with_room_[slab.size_class].insert(index);
  }
}

std::vector<std::uint32_t> HbmSlabs::EntriesOf(std::uint32_t slab) const {
  std::vector<std::uint32_t> entries;
  for (const std::uint32_t entry : slabs_[slab].entries) {
    if (entry != kNoEntry) entries.push_back(entry);
  }
  return entries;
}

std::vector<std::uint32_t> HbmSlabs::Open() const {
  std::vector<std::uint32_t> open;
  for (std::uint32_t i = 0; i < slabs_.size(); ++i) {
    const Slab& slab = slabs_[i];
    if (slab.used != 0 && !slab.is_closed) open.push_back(i);
  }
  return open;
}

}  // namespace agentmem::client
