#include "memd/dram/data_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

namespace agentmem {
namespace {

TEST(DataPoolTest, SlotsOfAPoolNeverOverlapWhateverTheOrder) {
  DataPool pool(8 * kExtentBytes);
  std::mt19937_64 random(1);
  std::map<std::uint64_t, std::uint32_t> used;  // offset -> bytes
  std::uint64_t used_bytes = 0;
  for (int i = 0; i < 50'000; ++i) {
    if (random() % 2 == 0) {
      const auto size_class =
          static_cast<std::uint8_t>(random() % kSizeClasses);
      const bool room = pool.HasRoom(size_class);
      const auto offset = pool.Allocate(size_class, SlotIndex(1));
      ASSERT_EQ(room, offset.has_value());
      if (!offset.has_value()) continue;
      const std::uint32_t bytes = SizeClassBytes(size_class);
      ASSERT_LE(*offset + bytes, pool.capacity_bytes());
      const auto next = used.lower_bound(*offset);
      ASSERT_TRUE(next == used.end() || *offset + bytes <= next->first);
      if (next != used.begin()) {
        const auto before = std::prev(next);
        ASSERT_LE(before->first + before->second, *offset);
      }
      used[*offset] = bytes;
      used_bytes += bytes;
    } else if (!used.empty()) {
      auto victim = used.lower_bound(random() % pool.capacity_bytes());
      if (victim == used.end()) victim = used.begin();
      pool.Free(victim->first);
      used_bytes -= victim->second;
      used.erase(victim);
    }
    ASSERT_EQ(pool.used_bytes(), used_bytes);
  }
  for (const auto& [offset, bytes] : used) pool.Free(offset);
  EXPECT_EQ(pool.used_bytes(), 0u);
  for (std::uint32_t i = 0; i < pool.extents(); ++i) {
    EXPECT_TRUE(pool.Allocate(kSizeClasses - 1, SlotIndex(0)).has_value());
  }
}

TEST(DataPoolTest, HeldExtentsAreUsedFirstAndFoundByNobodyWhoMustNotHaveThem) {
  DataPool pool(4 * kExtentBytes);
  constexpr std::uint8_t kPage = SizeClassOf(DataPool::kPageBytes);
  pool.SetHeld(1, true);
  pool.SetHeld(2, true);
  const auto block = pool.Allocate(kPage, SlotIndex(1));
  ASSERT_TRUE(block.has_value());
  EXPECT_EQ(pool.ExtentOf(*block), 2u);
  pool.SetHeld(2, false);  // in use, and so in no list of free ones
  std::vector<std::uint64_t> found;
  while (const auto offset = pool.AllocateUnheld(SlotIndex(2))) {
    found.push_back(*offset / kExtentBytes);
  }
  std::sort(found.begin(), found.end());
  EXPECT_EQ(found, (std::vector<std::uint64_t>{0, 3}));
  EXPECT_FALSE(pool.HasUnheld());
  pool.Free(*block);
  EXPECT_EQ(pool.AllocateUnheld(SlotIndex(3)), 2 * kExtentBytes);
  pool.SetHeld(1, false);
  EXPECT_EQ(pool.AllocateUnheld(SlotIndex(3)), 1 * kExtentBytes);
  pool.SetHeld(1, true);
  pool.Free(kExtentBytes);  // held while it was in use
  EXPECT_FALSE(pool.HasUnheld());
  EXPECT_EQ(pool.FindFreeHeld([](std::uint32_t) { return true; }), 1u);
  EXPECT_FALSE(pool.FindFreeHeld([](std::uint32_t) { return false; }));
}

TEST(DataPoolTest, AnExtentThatWasEmptiedIsToBeTouchedWhenItHoldsSlotsAgain) {
  DataPool pool(2 * kExtentBytes);
  constexpr std::uint8_t kWhole = kSizeClasses - 1;
  const auto first = pool.Allocate(kWhole, SlotIndex(1));
  ASSERT_TRUE(first.has_value());
  pool.NoteEmptied(*first);
  pool.Free(*first);
  EXPECT_TRUE(pool.TakeEmptiedInUse().empty()) << "nobody uses it";
  ASSERT_EQ(pool.Allocate(kWhole, SlotIndex(1)), first);
  EXPECT_TRUE(pool.TakeEmptiedInUse().empty()) << "as a whole it is lent";
  pool.Free(*first);
  ASSERT_TRUE(pool.Allocate(0, SlotIndex(2)).has_value());
  EXPECT_EQ(pool.TakeEmptiedInUse(),
            std::vector<std::uint32_t>{pool.ExtentOf(*first)});
  ASSERT_TRUE(pool.Allocate(1, SlotIndex(3)).has_value());
  EXPECT_TRUE(pool.TakeEmptiedInUse().empty()) << "once is enough";
}

std::vector<std::uint32_t> Sorted(const std::vector<SlotIndex>& owners) {
  std::vector<std::uint32_t> values;
  for (SlotIndex owner : owners) values.push_back(owner.value());
  std::sort(values.begin(), values.end());
  return values;
}

TEST(DataPoolTest, AWindowIsTheFewestSlotsThatMustGo) {
  DataPool pool(kExtentBytes);
  const std::uint8_t mib = SizeClassOf(1 << 20);
  std::vector<std::uint64_t> offsets;
  for (std::uint32_t i = 0; i < 4; ++i) {
    offsets.push_back(*pool.Allocate(mib, SlotIndex(10 + i)));
  }
  const auto all = [](SlotIndex) { return true; };
  const auto not_11 = [](SlotIndex owner) { return owner.value() != 11; };
  std::vector<SlotIndex> owners;
  // Half a MiB: the slot itself. Two: the slot and a neighbour.
  EXPECT_TRUE(pool.FindWindow(offsets[2], SizeClassOf(1 << 19), all, &owners));
  EXPECT_EQ(Sorted(owners), std::vector<std::uint32_t>{12});
  EXPECT_TRUE(
      pool.FindWindow(offsets[2], SizeClassOf(2 << 20), not_11, &owners));
  EXPECT_EQ(Sorted(owners), (std::vector<std::uint32_t>{12, 13}));
  // Free pages cost nothing.
  pool.Free(offsets[3]);
  EXPECT_TRUE(pool.FindWindow(offsets[2], SizeClassOf(2 << 20), all, &owners));
  EXPECT_EQ(Sorted(owners), std::vector<std::uint32_t>{12});
  // No window has the slot: another one of the extent does.
  EXPECT_TRUE(
      pool.FindWindow(offsets[0], SizeClassOf(2 << 20), not_11, &owners));
  EXPECT_EQ(Sorted(owners), std::vector<std::uint32_t>{12});
  EXPECT_FALSE(
      pool.FindWindow(offsets[0], SizeClassOf(4 << 20), not_11, &owners));
}

// The same question, answered by trying every place.
bool SomeWindow(const std::map<std::uint64_t, std::uint32_t>& blocked,
                std::uint64_t extent, std::uint64_t bytes) {
  const std::uint64_t pages =
      (bytes + DataPool::kPageBytes - 1) / DataPool::kPageBytes;
  for (std::uint64_t first = 0; first + pages <= DataPool::kExtentPages;
       ++first) {
    const std::uint64_t from = extent + first * DataPool::kPageBytes;
    const std::uint64_t to = from + pages * DataPool::kPageBytes;
    bool free = true;
    for (const auto& [offset, length] : blocked) {
      free = free && (offset >= to || offset + length <= from);
    }
    if (free) return true;
  }
  return false;
}

TEST(DataPoolTest, WhenTheOwnersOfAWindowAreFreedTheSlotFits) {
  std::mt19937_64 random(2);
  int found = 0;
  int refused = 0;
  for (int round = 0; round < 400; ++round) {
    DataPool pool(kExtentBytes);
    std::map<std::uint32_t, std::uint64_t> offset_of;  // by owner
    // Large classes only: each slot is a run of whole pages, as SomeWindow has
    // it.
    const auto any_class = [&] {
      const auto least = SizeClassOf(64 << 10);
      return static_cast<std::uint8_t>(least +
                                       random() % (kSizeClasses - least));
    };
    for (std::uint32_t owner = 0; owner < 64; ++owner) {
      if (const auto offset = pool.Allocate(any_class(), SlotIndex(owner))) {
        offset_of[owner] = *offset;
      }
    }
    std::map<std::uint32_t, bool> stays;
    std::map<std::uint64_t, std::uint32_t> blocked;
    const std::uint64_t one_in = 1 + random() % 12;
    const std::uint64_t used = pool.used_bytes();
    for (const auto& [owner, offset] : offset_of) {
      stays[owner] = random() % one_in == 0;
    }
    // The length of each is what freeing it gives back.
    DataPool copy = pool;
    for (const auto& [owner, offset] : offset_of) {
      const std::uint64_t before = copy.used_bytes();
      copy.Free(offset);
      if (stays[owner]) {
        blocked[offset] =
            static_cast<std::uint32_t>(before - copy.used_bytes());
      }
    }
    EXPECT_EQ(copy.used_bytes(), 0u) << used;

    const std::uint8_t wanted = any_class();
    std::vector<SlotIndex> owners;
    const bool has = pool.FindWindow(
        offset_of.begin()->second, wanted,
        [&](SlotIndex owner) { return !stays[owner.value()]; }, &owners);
    ASSERT_EQ(has, SomeWindow(blocked, 0, SizeClassBytes(wanted))) << round;
    if (!has) {
      ++refused;
      continue;
    }
    ++found;
    for (SlotIndex owner : owners) {
      ASSERT_FALSE(stays[owner.value()]);
      pool.Free(offset_of[owner.value()]);
    }
    ASSERT_TRUE(pool.HasRoom(wanted)) << round;
    ASSERT_TRUE(pool.Allocate(wanted, SlotIndex(99)).has_value());
  }
  EXPECT_GT(found, 50);
  EXPECT_GT(refused, 50);
}

TEST(DataPoolTest, FreePagesOfSmallSlotsBecomeRoomForLargeOnes) {
  DataPool pool(kExtentBytes);
  std::vector<std::uint64_t> offsets;
  for (const std::uint32_t bytes :
       {512u, 1024u, 4096u, 6144u, 12288u, 24576u, 49152u}) {
    for (int i = 0; i < 3; ++i) {
      offsets.push_back(*pool.Allocate(SizeClassOf(bytes), SlotIndex(1)));
    }
  }
  EXPECT_FALSE(pool.HasRoom(kSizeClasses - 1));
  for (std::uint64_t offset : offsets) pool.Free(offset);
  EXPECT_TRUE(pool.HasRoom(kSizeClasses - 1));
}

}  // namespace
}  // namespace agentmem
