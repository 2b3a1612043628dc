#include "memd/dram/data_pool.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace agentmem {
namespace {

constexpr std::uint32_t kPageBytes = DataPool::kPageBytes;

// Slots below a page share a run: a page, or three where 3 divides the size.
constexpr std::uint32_t RunPages(std::uint8_t size_class) {
  const std::uint32_t bytes = SizeClassBytes(size_class);
  if (kPageBytes % bytes == 0) return 1;
  if (3 * kPageBytes % bytes == 0) return 3;
  return bytes / kPageBytes;
}

constexpr std::uint32_t SlotsOfRun(std::uint8_t size_class) {
  return RunPages(size_class) * kPageBytes / SizeClassBytes(size_class);
}

constexpr bool RunsHoldWholeSlots() {
  for (std::uint8_t i = 0; i < kSizeClasses; ++i) {
    if (RunPages(i) * kPageBytes % SizeClassBytes(i) != 0) return false;
    if (SlotsOfRun(i) > 64) return false;
  }
  return true;
}
static_assert(RunsHoldWholeSlots());

template <typename Mask>
std::uint32_t TrailingZeros(Mask mask) {  // mask is not 0; 128 bits
  const auto low = static_cast<std::uint64_t>(mask);
  if (low != 0) return std::countr_zero(low);
  return 64 + std::countr_zero(static_cast<std::uint64_t>(mask >> 64));
}

}  // namespace

DataPool::DataPool(std::uint64_t bytes)
    : pages_(bytes / kExtentBytes * kExtentPages),
      extents_(bytes / kExtentBytes) {
  by_longest_.fill(kNone);
  partial_.fill(kNone);
  // The lists are stacks: the lowest extent comes first.
  for (std::uint32_t i = extents(); i > 0; --i) {
    SetFree(i - 1, ~PageMask{0});
  }
}

bool DataPool::HasRoom(std::uint8_t size_class) const {
  if (partial_[size_class] != kNone) return true;
  for (std::uint32_t i = RunPages(size_class); i <= kUnheldList; ++i) {
    if (by_longest_[i] != kNone) return true;
  }
  return false;
}

std::optional<std::uint64_t> DataPool::Allocate(std::uint8_t size_class,
                                                SlotIndex owner) {
  if (!HasRoom(size_class)) return std::nullopt;
  const std::uint32_t bytes = SizeClassBytes(size_class);
  used_bytes_ += bytes;
  if (SlotsOfRun(size_class) == 1) {
    const std::uint32_t page = TakeRun(size_class, RunPages(size_class));
    pages_[page].content = owner.value();
    return std::uint64_t{page} * kPageBytes;
  }
  std::uint32_t index = partial_[size_class];
  if (index == kNone) index = NewSmallRun(size_class);
  SmallRun& run = small_runs_[index];
  const int place = std::countr_zero(run.free);
  run.free &= run.free - 1;
  run.owners[place] = owner.value();
  if (run.free == 0) DropPartial(index, size_class);
  return std::uint64_t{run.page} * kPageBytes +
         static_cast<std::uint64_t>(place) * bytes;
}

std::optional<std::uint64_t> DataPool::AllocateUnheld(SlotIndex owner) {
  if (!HasUnheld()) return std::nullopt;
  constexpr auto kWhole = static_cast<std::uint8_t>(SizeClassOf(kExtentBytes));
  static_assert(RunPages(kWhole) == kExtentPages);
  used_bytes_ += kExtentBytes;
  const std::uint32_t page = TakeRun(kWhole, kUnheldList);
  pages_[page].content = owner.value();
  return std::uint64_t{page} * kPageBytes;
}

void DataPool::SetHeld(std::uint32_t index, bool held) {
  Extent& extent = extents_[index];
  extent.held = held;
  if (extent.list < kExtentPages) return;  // not wholly free
  MoveToList(index, held ? kExtentPages : kUnheldList);
}

std::optional<std::uint32_t> DataPool::FindFreeHeld(
    absl::FunctionRef<bool(std::uint32_t)> may) const {
  for (std::uint32_t i = by_longest_[kExtentPages]; i != kNone;
       i = extents_[i].next) {
    if (may(i)) return i;
  }
  return std::nullopt;
}

void DataPool::Free(std::uint64_t offset) {
  AGENTMEM_CHECK(offset < capacity_bytes());
  std::uint32_t page = static_cast<std::uint32_t>(offset / kPageBytes);
  page -= pages_[page].back;
  const std::uint8_t size_class = pages_[page].size_class;
  AGENTMEM_CHECK(size_class != kFreePage);
  const std::uint32_t bytes = SizeClassBytes(size_class);
  const std::uint64_t within = offset - std::uint64_t{page} * kPageBytes;
  AGENTMEM_CHECK(within % bytes == 0);
  used_bytes_ -= bytes;
  const std::uint32_t slots = SlotsOfRun(size_class);
  if (slots == 1) return GiveRun(page, size_class);

  const std::uint32_t index = pages_[page].content;
  SmallRun& run = small_runs_[index];
  const std::uint64_t bit = 1ULL << (within / bytes);
  AGENTMEM_CHECK((run.free & bit) == 0);
  if (run.free == 0) PushPartial(index, size_class);
  run.free |= bit;
  if (std::popcount(run.free) != static_cast<int>(slots)) return;
  DropPartial(index, size_class);
  run.next = unused_small_run_;
  unused_small_run_ = index;
  GiveRun(page, size_class);
}

bool DataPool::FindWindow(std::uint64_t offset, std::uint8_t size_class,
                          absl::FunctionRef<bool(SlotIndex)> may_go,
                          std::vector<SlotIndex>* owners) const {
  const std::uint32_t base = ExtentOf(offset) * kExtentPages;
  // Page by page: is it in use, and may all of it go?
  PageMask movable = 0;
  PageMask used = 0;
  for (std::uint32_t i = 0; i < kExtentPages;) {
    const Page& page = pages_[base + i];
    if (page.size_class == kFreePage) {
      movable |= PageMask{1} << i++;
      continue;
    }
    owners->clear();
    const bool goes = MayGo(base + i, may_go, owners);
    for (std::uint32_t end = i + RunPages(page.size_class); i < end; ++i) {
      used |= PageMask{1} << i;
      if (goes) movable |= PageMask{1} << i;
    }
  }

  // Of the windows in which nothing must stay, the cheapest. A run that lies
  // partly in it goes as a whole, and costs as much.
  const std::uint32_t wanted =
      static_cast<std::uint32_t>(offset / kPageBytes) - base;
  const std::uint32_t pages = RunPages(size_class);
  std::uint32_t best = kNone;
  std::uint32_t best_cost = kNone;
  std::uint32_t used_in = 0;
  std::uint32_t first_open = 0;  // what must stay is below
  for (std::uint32_t end = 0; end < kExtentPages; ++end) {
    if (((movable >> end) & 1) == 0) first_open = end + 1;
    used_in += static_cast<std::uint32_t>((used >> end) & 1);
    if (end + 1 < pages) continue;
    const std::uint32_t first = end + 1 - pages;
    const Page& last = pages_[base + end];
    std::uint32_t cost = used_in + pages_[base + first].back;
    if (last.size_class != kFreePage) {
      cost += RunPages(last.size_class) - 1 - last.back;
    }
    if (wanted < first || wanted > end) cost += 3 * kExtentPages;
    if (first >= first_open && cost < best_cost) {
      best = first;
      best_cost = cost;
    }
    used_in -= static_cast<std::uint32_t>((used >> first) & 1);
  }
  if (best == kNone) return false;
  owners->clear();
  for (std::uint32_t i = base + best; i < base + best + pages;) {
    if (pages_[i].size_class == kFreePage) {
      ++i;
      continue;
    }
    const std::uint32_t head = i - pages_[i].back;
    MayGo(head, may_go, owners);
    i = head + RunPages(pages_[head].size_class);
  }
  return true;
}

// Appends the owners of the run that begins at `first_page`, until one may not
// go: false.
bool DataPool::MayGo(std::uint32_t first_page,
                     absl::FunctionRef<bool(SlotIndex)> may_go,
                     std::vector<SlotIndex>* owners) const {
  const Page& page = pages_[first_page];
  const std::uint32_t slots = SlotsOfRun(page.size_class);
  if (slots == 1) {
    owners->push_back(SlotIndex(page.content));
    return may_go(owners->back());
  }
  const SmallRun& run = small_runs_[page.content];
  for (std::uint32_t i = 0; i < slots; ++i) {
    if (((run.free >> i) & 1) != 0) continue;
    owners->push_back(SlotIndex(run.owners[i]));
    if (!may_go(owners->back())) return false;
  }
  return true;
}

// The first run of free pages at or after `from`; none: 0 pages.
DataPool::Run DataPool::NextRun(PageMask free, std::uint32_t from) {
  if (from >= kExtentPages || (free >> from) == 0) return {kExtentPages, 0};
  const std::uint32_t first = from + TrailingZeros(free >> from);
  const PageMask used_above = ~(free >> first);
  const std::uint32_t pages =
      used_above == 0 ? kExtentPages : TrailingZeros(used_above);
  return {first, std::min(pages, kExtentPages - first)};
}

std::uint32_t DataPool::TakeRun(std::uint8_t size_class, std::uint32_t list) {
  const std::uint32_t pages = RunPages(size_class);
  while (by_longest_[list] == kNone) ++list;
  const std::uint32_t extent = by_longest_[list];
  extents_touched_ = std::max(extents_touched_, extent + 1);
  // (A whole one may be for what is not written through the pool.)
  if (extents_[extent].emptied && pages < kExtentPages) {
    extents_[extent].emptied = false;
    emptied_in_use_.push_back(extent);
  }
  const PageMask free = extents_[extent].free;
  Run best;
  for (Run run = NextRun(free, 0); run.pages != 0;
       run = NextRun(free, run.first + run.pages)) {
    if (run.pages < pages) continue;
    if (best.pages == 0 || run.pages < best.pages) best = run;
  }
  const std::uint32_t first = best.first;
  PageMask taken = 0;
  for (std::uint32_t i = 0; i < pages; ++i) {
    Page& page = pages_[extent * kExtentPages + first + i];
    page.size_class = size_class;
    page.back = static_cast<std::uint8_t>(i);
    taken |= PageMask{1} << (first + i);
  }
  SetFree(extent, free & ~taken);
  return extent * kExtentPages + first;
}

void DataPool::NoteEmptied(std::uint64_t offset) {
  extents_[ExtentOf(offset)].emptied = true;
}

void DataPool::GiveRun(std::uint32_t page, std::uint8_t size_class) {
  const std::uint32_t extent = page / kExtentPages;
  PageMask given = 0;
  for (std::uint32_t i = page; i < page + RunPages(size_class); ++i) {
    pages_[i] = {};
    given |= PageMask{1} << (i % kExtentPages);
  }
  SetFree(extent, extents_[extent].free | given);
}

void DataPool::SetFree(std::uint32_t index, PageMask free) {
  Extent& extent = extents_[index];
  extent.free = free;
  std::uint32_t longest = 0;
  for (Run run = NextRun(free, 0); run.pages != 0;
       run = NextRun(free, run.first + run.pages)) {
    longest = std::max(longest, run.pages);
  }
  const bool unheld = longest == kExtentPages && !extent.held;
  MoveToList(index, unheld ? kUnheldList : longest);
}

void DataPool::MoveToList(std::uint32_t index, std::uint32_t list) {
  Extent& extent = extents_[index];
  if (list == extent.list) return;
  if (extent.previous != kNone) {
    extents_[extent.previous].next = extent.next;
  } else {
    by_longest_[extent.list] = extent.next;
  }
  if (extent.next != kNone) extents_[extent.next].previous = extent.previous;
  std::uint32_t& head = by_longest_[list];
  extent.list = static_cast<std::uint8_t>(list);
  extent.previous = kNone;
  extent.next = head;
  if (head != kNone) extents_[head].previous = index;
  head = index;
}

std::uint32_t DataPool::NewSmallRun(std::uint8_t size_class) {
  std::uint32_t index = unused_small_run_;
  if (index != kNone) {
    unused_small_run_ = small_runs_[index].next;
  } else {
    index = static_cast<std::uint32_t>(small_runs_.size());
    small_runs_.emplace_back();
  }
  SmallRun& run = small_runs_[index];
  run.free = ~0ULL >> (64 - SlotsOfRun(size_class));
  run.page = TakeRun(size_class, RunPages(size_class));
  pages_[run.page].content = index;
  PushPartial(index, size_class);
  return index;
}

void DataPool::PushPartial(std::uint32_t index, std::uint8_t size_class) {
  SmallRun& run = small_runs_[index];
  std::uint32_t& head = partial_[size_class];
  run.previous = kNone;
  run.next = head;
  if (head != kNone) small_runs_[head].previous = index;
  head = index;
}

void DataPool::DropPartial(std::uint32_t index, std::uint8_t size_class) {
  SmallRun& run = small_runs_[index];
  if (run.previous != kNone) {
    small_runs_[run.previous].next = run.next;
  } else {
    partial_[size_class] = run.next;
  }
  if (run.next != kNone) small_runs_[run.next].previous = run.previous;
}

}  // namespace agentmem
