#include "memd/dram/data_pool.h"

#include <algorithm>

#include "base/check.h"

namespace agentmem {
namespace {

std::uint32_t PlacesOf(std::uint8_t size_class) {
  return static_cast<std::uint32_t>(kExtentBytes / SizeClassBytes(size_class));
}

}  // namespace

DataPool::DataPool(std::uint64_t bytes) : extents_(bytes / kExtentBytes) {
  std::fill(std::begin(partial_heads_), std::end(partial_heads_), kNone);
  for (std::uint32_t i = static_cast<std::uint32_t>(extents_.size()); i > 0;
       --i) {
    free_extents_.push_back(i - 1);
  }
}

bool DataPool::HasRoom(std::uint8_t size_class) const {
  return partial_heads_[size_class] != kNone || !free_extents_.empty();
}

std::optional<std::uint64_t> DataPool::Allocate(std::uint8_t size_class,
                                                SlotIndex owner) {
  if (partial_heads_[size_class] == kNone) {
    if (free_extents_.empty()) return std::nullopt;
    const std::uint32_t index = free_extents_.back();
    free_extents_.pop_back();
    extents_touched_ = std::max(extents_touched_, index + 1);
    Extent& extent = extents_[index];
    extent.size_class = size_class;
    extent.free_head = kNone;
    extent.carved = 0;
    extent.owners.assign(PlacesOf(size_class), 0);
    extent.taken.assign(PlacesOf(size_class), false);
    PushPartial(index);
  }
  const std::uint32_t index = partial_heads_[size_class];
  Extent& extent = extents_[index];
  std::uint32_t place = extent.free_head;
  if (place != kNone) {
    extent.free_head = extent.owners[place];
  } else {
    place = extent.carved++;
  }
  extent.owners[place] = owner.value();
  extent.taken[place] = true;
  ++extent.used;
  used_bytes_ += SizeClassBytes(size_class);
  if (extent.used == PlacesOf(size_class)) DropPartial(index);
  return index * kExtentBytes +
         static_cast<std::uint64_t>(place) * SizeClassBytes(size_class);
}

void DataPool::Free(std::uint64_t offset) {
  const std::uint32_t index = ExtentOf(offset);
  AGENTMEM_CHECK(index < extents_.size());
  Extent& extent = extents_[index];
  AGENTMEM_CHECK(extent.size_class != kNoClass);
  const std::uint32_t slot_bytes = SizeClassBytes(extent.size_class);
  const std::uint32_t place =
      static_cast<std::uint32_t>((offset % kExtentBytes) / slot_bytes);
  AGENTMEM_CHECK(offset % kExtentBytes % slot_bytes == 0 &&
                 extent.taken[place]);
  const bool was_full = extent.used == PlacesOf(extent.size_class);
  extent.taken[place] = false;
  extent.owners[place] = extent.free_head;
  extent.free_head = place;
  --extent.used;
  used_bytes_ -= slot_bytes;
  if (was_full) PushPartial(index);
  if (extent.used == 0) {
    DropPartial(index);
    extent.size_class = kNoClass;
    free_extents_.push_back(index);
  }
}

void DataPool::PushPartial(std::uint32_t index) {
  Extent& extent = extents_[index];
  std::uint32_t& head = partial_heads_[extent.size_class];
  extent.previous = kNone;
  extent.next = head;
  if (head != kNone) extents_[head].previous = index;
  head = index;
}

void DataPool::DropPartial(std::uint32_t index) {
  Extent& extent = extents_[index];
  if (extent.previous != kNone) {
    extents_[extent.previous].next = extent.next;
  } else {
    partial_heads_[extent.size_class] = extent.next;
  }
  if (extent.next != kNone) extents_[extent.next].previous = extent.previous;
}

}  // namespace agentmem
