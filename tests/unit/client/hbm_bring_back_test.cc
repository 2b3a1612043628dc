// What comes back with an agent, when the pool has something else of it by
// then.
#include <cstring>

#include "gmock/gmock.h"
#include "tests/unit/client/hbm_test_base.h"

namespace agentmem {
namespace {

using testing::Each;

constexpr agentmem_tier kHbm = AGENTMEM_TIER_HBM;
constexpr HbmWishKind kEmpty = HbmWishKind::kEmpty;
constexpr HbmWishKind kBringBack = HbmWishKind::kBringBack;

class HbmBringBackTest : public HbmTest {
 protected:
  // Nobody's, in the pool: how many were made.
  unsigned FillOf(std::uint32_t number, std::uint64_t bytes,
                  std::uint64_t tag) {
    client::HbmNew one;
    one.key = Keys(number, 1)[0];
    one.bytes = bytes;
    one.tag = tag;
    client::HbmBlock block;
    if (pool_->BeginFill(one, client::HbmCause::kStore, &block) !=
        client::HbmFill::kBegun) {
      return 0;
    }
    pool_->EndFill(block, true);
    return 1;
  }
};

TEST_F(HbmBringBackTest, WhatIsThereAnotherWayDoesNotHoldUpWhoComesBack) {
  Store(11, 2, "ada");
  Store(1, 3, "ada");
  ASSERT_TRUE(StepUntilAnswered(link_.Wish(kEmpty, "ada", In(kSecondNs))));
  EXPECT_EQ(FillOf(11, 1024, 0), 1u) << "of another length";
  EXPECT_EQ(FillOf(12, 3072, 7), 1u) << "of another shape";
  const std::uint64_t back = link_.Wish(kBringBack, "ada", kNoDeadline);
  ASSERT_TRUE(StepUntilAnswered(back));
  EXPECT_EQ(link_.answers[back].blocks, 3u);
  EXPECT_THAT(Load(1, 3, "ada"), Each(kHbm));
}

TEST_F(HbmBringBackTest, WhatAnotherFillsJustNowIsWaitedForByWhoComesBack) {
  Store(1, 3, "ada");
  ASSERT_TRUE(StepUntilAnswered(link_.Wish(kEmpty, "ada", In(kSecondNs))));
  client::HbmNew one;
  one.key = Keys(1, 1)[0];
  one.bytes = 3072;
  client::HbmBlock block;
  ASSERT_EQ(pool_->BeginFill(one, client::HbmCause::kLoad, &block),
            client::HbmFill::kBegun);
  const std::uint64_t back = link_.Wish(kBringBack, "ada", kNoDeadline);
  ASSERT_TRUE(StepUntil([&] { return pool_->UseOf("ada").blocks == 2; }));
  EXPECT_FALSE(link_.answers.contains(back));
  std::memcpy(HostDevice::Bytes(block.at), memd_->BytesOf(one.key).data(),
              3072);
  pool_->EndFill(block, true);
  ASSERT_TRUE(StepUntilAnswered(back));
  EXPECT_EQ(link_.answers[back].blocks, 3u);
  EXPECT_THAT(Load(1, 3, "ada"), Each(kHbm));
}

// Wherever it fails: it is answered, no block of which a byte is wrong is ever
// found, and nothing stays in use (TearDown looks).
TEST_F(HbmBringBackTest, AFailureAtAnyPointHoldsUpNobody) {
  constexpr HostDevice::Point kPoints[] = {
      HostDevice::Point::kAllocate, HostDevice::Point::kPost,
      HostDevice::Point::kCopy, HostDevice::Point::kRecord,
      HostDevice::Point::kWait};
  const std::vector<Key> keys = Keys(1, 6);
  for (const HostDevice::Point point : kPoints) {
    for (std::uint64_t nth = 1; nth <= 8; ++nth) {
      SCOPED_TRACE(testing::Message()
                   << "point " << static_cast<int>(point) << ", " << nth);
      Store(1, 6, "ada");
      ASSERT_TRUE(StepUntilAnswered(link_.Wish(kEmpty, "ada", In(kSecondNs))));
      ASSERT_EQ(PoolBytes(), 0u);
      device_.FailNth({point, nth, Code::kInternal});
      const std::uint64_t back = link_.Wish(kBringBack, "ada", kNoDeadline);
      ASSERT_TRUE(StepUntilAnswered(back));
      device_.Disarm();
      device_.Mend();
      ExpectPoolIsRight(keys);
      clock_.Advance(2 * kSecondNs);  // the pool asks for memory again
      Load(1, 6, "ada");
      EXPECT_THAT(Load(1, 6, "ada"), Each(kHbm));
    }
  }
}

}  // namespace
}  // namespace agentmem
