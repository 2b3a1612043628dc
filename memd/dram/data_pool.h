// The allocator of a tenant's data memfd: slots of a size class, cut from runs
// of pages (32 KiB) within extents (4 MiB). It knows offsets only and touches
// no memory.
//
// A run is one slot of a large class, or is cut into the slots of a small one
// (at most 64). It is given back with its last slot, and joins the free pages
// beside it; so memory moves between classes by as little as a page, and a slot
// that nobody may move keeps no more than its own run from another use. Which
// slots would have to go to make room is asked with FindWindow.
//
// Of the free runs that are long enough, Allocate takes the shortest: extents
// that are wholly free last, and of those such that are held first. Who wants
// one that is not held (AllocateUnheld) finds it in O(1), however many are.
//
// Ownership: owns its books. Threads: reactor-only. Errors: Allocate answers
// nothing when no free slot or run is large enough.
// Cost: O(1) to allocate and free (a look at the 128 pages of an extent), and
// no allocation of memory in the steady state; FindWindow: O(slots of one
// extent). Books: 8 bytes a page, 280 bytes a run of small slots.
#ifndef AGENTMEM_MEMD_DRAM_DATA_POOL_H_
#define AGENTMEM_MEMD_DRAM_DATA_POOL_H_

#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "proto/size_class.h"
#include "proto/types.h"

namespace agentmem {

class DataPool {
 public:
  static constexpr std::uint64_t kPageBytes = 32 << 10;
  static constexpr std::uint32_t kExtentPages =
      static_cast<std::uint32_t>(kExtentBytes / kPageBytes);

  // `bytes` is rounded down to whole extents.
  explicit DataPool(std::uint64_t bytes);

  // The offset of a slot of the class, remembered as `owner`'s.
  std::optional<std::uint64_t> Allocate(std::uint8_t size_class,
                                        SlotIndex owner);
  void Free(std::uint64_t offset);
  // A whole extent that is not held.
  std::optional<std::uint64_t> AllocateUnheld(SlotIndex owner);

  bool HasRoom(std::uint8_t size_class) const;
  bool HasUnheld() const { return by_longest_[kUnheldList] != kNone; }
  // Is it somebody's who may have it registered with a device? (ExtentHolds)
  void SetHeld(std::uint32_t extent, bool held);
  // A held extent that is wholly free, and that `may` takes; asks O(those).
  std::optional<std::uint32_t> FindFreeHeld(
      absl::FunctionRef<bool(std::uint32_t)> may) const;
  std::uint32_t ExtentOf(std::uint64_t offset) const {
    return static_cast<std::uint32_t>(offset / kExtentBytes);
  }

  // Whose slots must go so that a slot of `size_class` fits into the extent of
  // the slot at `offset`: with that slot among them if that can be, and in few
  // used pages. All of them are such that `may_go`. False: no
  // set of them makes room.
  bool FindWindow(std::uint64_t offset, std::uint8_t size_class,
                  absl::FunctionRef<bool(SlotIndex)> may_go,
                  std::vector<SlotIndex>* owners) const;

  std::uint64_t capacity_bytes() const {
    return std::uint64_t{extents()} * kExtentBytes;
  }
  std::uint64_t used_bytes() const { return used_bytes_; }
  // Extents below this one have been used at some time: what to touch ahead.
  std::uint32_t extents_touched() const { return extents_touched_; }
  // The pages of the extent at `offset` were given back to the system.
  void NoteEmptied(std::uint64_t offset);
  // Such extents that have a slot again, smaller than an extent: what to touch
  // once more. Each is answered once.
  std::vector<std::uint32_t> TakeEmptiedInUse() {
    return std::exchange(emptied_in_use_, {});
  }
  std::uint32_t extents() const {
    return static_cast<std::uint32_t>(extents_.size());
  }

 private:
  static constexpr std::uint32_t kNone = 0xffffffff;
  static constexpr std::uint8_t kFreePage = 0xff;
  // The lists of extents: by their longest free run, and one more for those
  // that are wholly free and not held.
  static constexpr std::uint32_t kUnheldList = kExtentPages + 1;
  __extension__ typedef unsigned __int128 PageMask;  // a bit for each page
  static_assert(kExtentPages == 128);

  struct Page {
    // Of the first page of a run. One slot: its owner. Several: its SmallRun.
    std::uint32_t content = 0;
    std::uint8_t size_class = kFreePage;
    std::uint8_t back = 0;  // pages to the first one of the run; free: 0
  };
  struct SmallRun {
    std::uint64_t free = 0;          // a bit for each slot
    std::uint32_t page = 0;          // the first one, counted through the pool
    std::uint32_t previous = kNone;  // in the list of runs of its class that
    std::uint32_t next = kNone;      // have a free slot; or of unused SmallRuns
    std::array<std::uint32_t, 64> owners;
  };
  struct Extent {
    PageMask free = 0;
    std::uint8_t list = 0;  // which one it stands in
    bool emptied = false;   // since it was last touched
    bool held = false;
    std::uint32_t previous = kNone;  // in its list
    std::uint32_t next = kNone;
  };
  struct Run {
    std::uint32_t first = 0;
    std::uint32_t pages = 0;
  };

  static Run NextRun(PageMask free, std::uint32_t from);
  // Its first page. `list`: none of a shorter one will do.
  std::uint32_t TakeRun(std::uint8_t size_class, std::uint32_t list);
  void GiveRun(std::uint32_t page, std::uint8_t size_class);
  void SetFree(std::uint32_t extent, PageMask free);
  void MoveToList(std::uint32_t extent, std::uint32_t list);
  std::uint32_t NewSmallRun(std::uint8_t size_class);
  void PushPartial(std::uint32_t run, std::uint8_t size_class);
  void DropPartial(std::uint32_t run, std::uint8_t size_class);
  bool MayGo(std::uint32_t first_page,
             absl::FunctionRef<bool(SlotIndex)> may_go,
             std::vector<SlotIndex>* owners) const;

  std::vector<Page> pages_;
  std::vector<Extent> extents_;
  std::vector<SmallRun> small_runs_;
  std::uint32_t unused_small_run_ = kNone;
  std::array<std::uint32_t, kUnheldList + 1> by_longest_;  // heads
  std::array<std::uint32_t, kSizeClasses> partial_;        // heads
  std::uint64_t used_bytes_ = 0;
  std::uint32_t extents_touched_ = 0;
  std::vector<std::uint32_t> emptied_in_use_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_DRAM_DATA_POOL_H_
