#include "memd/dram/data_pool.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

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

TEST(DataPoolTest, OwnersOfAnExtentAreThoseThatHaveASlotInIt) {
  DataPool pool(2 * kExtentBytes);
  const std::uint8_t mib = SizeClassOf(1 << 20);
  std::vector<std::uint64_t> offsets;
  for (std::uint32_t i = 0; i < 4; ++i) {
    offsets.push_back(*pool.Allocate(mib, SlotIndex(10 + i)));
  }
  pool.Free(offsets[2]);
  std::vector<SlotIndex> owners;
  EXPECT_TRUE(pool.OwnersInExtentOf(
      offsets[0], [](SlotIndex) { return true; }, &owners));
  EXPECT_EQ(owners, (std::vector<SlotIndex>{SlotIndex(10), SlotIndex(11),
                                            SlotIndex(13)}));
  EXPECT_FALSE(pool.OwnersInExtentOf(
      offsets[0], [](SlotIndex owner) { return owner != SlotIndex(11); },
      &owners));
}

}  // namespace
}  // namespace agentmem
