#include "memd/agents/region_memory.h"

#include <gtest/gtest.h>

#include "base/status.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kDramBytes = 16 * kExtentBytes;
constexpr std::uint64_t kRegionsMax = 14 * kExtentBytes;  // two are for blocks

// A tenant whose blocks are asked for room, and that has none.
class FullPool : public PortSource {
 public:
  absl::StatusOr<PortHandle> OpenPort(const std::string&, const std::string&,
                                      std::int32_t) override {
    ++asked;
    return Unavailable("memd is shutting down");
  }
  absl::StatusOr<LentBlocks> WalkLent(const std::string&,
                                      std::size_t) override {
    return LentBlocks();
  }

  int asked = 0;
};

TEST(RegionMemoryTest, OfDramThatADeviceHasPinnedNothingIsLent) {
  FullPool pool;
  const ManualClock clock;
  RegionMemory memory(&pool, &clock, "t", kDramBytes,
                      RegionMemory::Dram::kPinned);
  for (int round = 0; round < 2; ++round) {
    for (std::uint64_t used = 0; used < kRegionsMax; used += kExtentBytes) {
      EXPECT_TRUE(memory.Take(kExtentBytes)) << used;
    }
    EXPECT_FALSE(memory.Take(1)) << "regions have a limit all the same";
    EXPECT_EQ(memory.used_bytes(), kRegionsMax);
    memory.Give(kRegionsMax);
  }
  EXPECT_EQ(pool.asked, 0);
}

TEST(RegionMemoryTest, OtherDramIsLentOrRegionsHaveNothing) {
  FullPool pool;
  const ManualClock clock;
  RegionMemory memory(&pool, &clock, "t", kDramBytes,
                      RegionMemory::Dram::kLendable);
  EXPECT_FALSE(memory.Take(1));
  EXPECT_EQ(pool.asked, 1);
  EXPECT_EQ(memory.used_bytes(), 0u);
}

}  // namespace
}  // namespace agentmem
