// The allocator of a tenant's data memfd: slots of a size class in extents of
// 4 MiB. It knows offsets only and touches no memory.
//
// An extent is free, or belongs to one size class and is cut into its slots.
// It returns to the free extents with its last slot; so memory moves between
// classes an extent at a time.
//
// Ownership: owns its books. Threads: reactor-only. Errors: Allocate answers
// nothing when there is neither a free slot of the class nor a free extent.
// Cost: O(1), and no allocation after the first use of an extent by a class.
#ifndef AGENTMEM_MEMD_DRAM_DATA_POOL_H_
#define AGENTMEM_MEMD_DRAM_DATA_POOL_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "proto/size_class.h"
#include "proto/types.h"

namespace agentmem {

class DataPool {
 public:
  // `bytes` is rounded down to whole extents.
  explicit DataPool(std::uint64_t bytes);

  // The offset of a slot of the class, remembered as `owner`'s.
  std::optional<std::uint64_t> Allocate(std::uint8_t size_class,
                                        SlotIndex owner);
  void Free(std::uint64_t offset);

  bool HasRoom(std::uint8_t size_class) const;
  std::uint32_t ExtentOf(std::uint64_t offset) const {
    return static_cast<std::uint32_t>(offset / kExtentBytes);
  }
  // The owners of the used slots of the extent of `offset`, if `accept` takes
  // all of them; else false, after the first that it does not take.
  template <typename Accept>
  bool OwnersInExtentOf(std::uint64_t offset, Accept accept,
                        std::vector<SlotIndex>* owners) const {
    const Extent& extent = extents_[ExtentOf(offset)];
    owners->clear();
    for (std::uint32_t place = 0; place < extent.carved; ++place) {
      if (!extent.taken[place]) continue;
      owners->push_back(SlotIndex(extent.owners[place]));
      if (!accept(owners->back())) return false;
    }
    return true;
  }

  std::uint64_t capacity_bytes() const {
    return extents_.size() * kExtentBytes;
  }
  std::uint64_t used_bytes() const { return used_bytes_; }
  // Extents below this one have been used at some time: what to touch ahead.
  std::uint32_t extents_touched() const { return extents_touched_; }
  std::uint32_t extents() const {
    return static_cast<std::uint32_t>(extents_.size());
  }

 private:
  static constexpr std::uint8_t kNoClass = 0xff;
  static constexpr std::uint32_t kNone = 0xffffffff;

  struct Extent {
    std::uint8_t size_class = kNoClass;
    std::uint32_t used = 0;
    std::uint32_t free_head = kNone;  // chain through `owners` of free places
    std::uint32_t carved = 0;         // places from here on were never used
    // In the list of extents of its class that have room.
    std::uint32_t previous = kNone;
    std::uint32_t next = kNone;
    // A used place: the owner's slot. A free one: the next free place.
    std::vector<std::uint32_t> owners;
    std::vector<bool> taken;
  };

  void PushPartial(std::uint32_t extent);
  void DropPartial(std::uint32_t extent);

  std::vector<Extent> extents_;
  std::vector<std::uint32_t> free_extents_;  // a stack, lowest index on top
  std::uint32_t partial_heads_[kSizeClasses];
  std::uint64_t used_bytes_ = 0;
  std::uint32_t extents_touched_ = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_DRAM_DATA_POOL_H_
