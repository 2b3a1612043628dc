#include "cuda/ring_spans.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <utility>
#include <vector>

namespace agentmem {
namespace {

TEST(RingSpansTest, SpansFollowOneAnotherAndDoNotGoAroundTheEnd) {
  RingSpans ring(10);
  EXPECT_EQ(ring.Take(4), 0u);
  EXPECT_EQ(ring.Take(4), 4u);
  EXPECT_EQ(ring.Take(3), std::nullopt);  // 2 are left at the end
  ring.GiveBackOldest();
  EXPECT_EQ(ring.Take(5), std::nullopt);
  EXPECT_EQ(ring.Take(4), 0u);  // 8 and 9 are skipped
  EXPECT_EQ(ring.Take(1), std::nullopt);
  ring.GiveBackOldest();
  EXPECT_EQ(ring.Take(4), 4u);
  ring.GiveBackOldest();  // with what it skipped
  EXPECT_EQ(ring.Take(2), 8u);
}

TEST(RingSpansTest, AnEmptyRingTakesItsWholeSizeAndNoMore) {
  RingSpans ring(10);
  EXPECT_EQ(ring.Take(7), 0u);
  ring.GiveBackOldest();
  EXPECT_TRUE(ring.empty());
  EXPECT_EQ(ring.Take(11), std::nullopt);
  EXPECT_EQ(ring.Take(0), std::nullopt);
  EXPECT_EQ(ring.Take(10), 0u);
  EXPECT_EQ(ring.Take(1), std::nullopt);
}

TEST(RingSpansTest, TheNewestGivenBackLeavesTheRingAsItWas) {
  RingSpans ring(10);
  EXPECT_EQ(ring.Take(6), 0u);
  EXPECT_EQ(ring.Take(2), 6u);
  ring.GiveBackOldest();
  EXPECT_EQ(ring.Take(5), 0u);  // 8 and 9 are skipped
  ring.GiveBackNewest();
  EXPECT_EQ(ring.Take(2), 8u);
}

TEST(RingSpansTest, NoPlaceIsInTwoSpans) {
  constexpr std::uint32_t kPlaces = 64;
  constexpr unsigned kSeed = 5;
  std::mt19937 random(kSeed);
  RingSpans ring(kPlaces);
  std::deque<std::pair<std::uint32_t, std::uint32_t>> spans;
  std::vector<bool> used(kPlaces);
  const auto mark = [&](std::pair<std::uint32_t, std::uint32_t> span, bool is) {
    for (std::uint32_t i = 0; i < span.second; ++i) {
      ASSERT_LT(span.first + i, kPlaces);
      ASSERT_NE(used[span.first + i], is);
      used[span.first + i] = is;
    }
  };
  int taken = 0;
  for (int round = 0; round < 20000; ++round) {
    const std::uint32_t count = 1 + random() % 24;
    if (random() % 2 != 0) {
      const auto first = ring.Take(count);
      if (!first.has_value()) continue;
      ++taken;
      spans.emplace_back(*first, count);
      mark(spans.back(), true);
    } else if (!spans.empty() && random() % 4 != 0) {
      mark(spans.front(), false);
      spans.pop_front();
      ring.GiveBackOldest();
    } else if (!spans.empty()) {
      mark(spans.back(), false);
      spans.pop_back();
      ring.GiveBackNewest();
    }
    ASSERT_FALSE(HasFatalFailure()) << "round " << round << ", seed " << kSeed;
    ASSERT_EQ(ring.empty(), spans.empty());
  }
  EXPECT_GT(taken, 5000);
}

}  // namespace
}  // namespace agentmem
