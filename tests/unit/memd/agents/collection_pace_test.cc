// When garbage is collected: early where there is no room, and not more often
// than that is worth, whoever fills the memory.
#include "memd/agents/collection_pace.h"

#include <gtest/gtest.h>

namespace agentmem {
namespace {

constexpr DurationNs kEvery = 10 * kSecondNs;
constexpr std::uint64_t kMuch = 1000;

class CollectionPaceTest : public ::testing::Test {
 protected:
  // Rounds for so long, with room short all the time; each takes `takes`, and
  // drops so many blocks. How many of them were early.
  int RoundsIn(DurationNs span, std::uint64_t dropped, DurationNs takes = 0) {
    int early = 0;
    const TimeNs end = now_ + span;
    while (pace_.Next(true) < end) {
      now_ = std::max(now_, pace_.Next(true));
      early += pace_.IsEarly(now_);
      const TimeNs began = now_;
      now_ += takes;
      pace_.Ended(began, now_, dropped);
    }
    now_ = end;
    return early;
  }

  TimeNs now_ = 5 * kSecondNs;
  CollectionPace pace_{kEvery, now_};
};

TEST_F(CollectionPaceTest, WithRoomARoundComesEverySoOften) {
  EXPECT_EQ(pace_.Next(false), now_ + kEvery);
  now_ += kEvery;
  EXPECT_FALSE(pace_.IsEarly(now_));
  pace_.Ended(now_, now_ + kSecondNs, 0);
  EXPECT_EQ(pace_.Next(false), now_ + kSecondNs + kEvery);
}

TEST_F(CollectionPaceTest, WithoutRoomItComesBeforeAPutGivesUp) {
  EXPECT_EQ(pace_.Next(true), now_ + CollectionPace::kPauseNsMin);
  const TimeNs usual = pace_.Next(false);
  EXPECT_EQ(RoundsIn(kEvery - 1, kMuch), 24);
  EXPECT_EQ(pace_.Next(false), usual) << "the usual ones come all the same";
}

// While the nodes cannot agree, say.
TEST_F(CollectionPaceTest, RoundsThatWereNoneSayNothingOfTheirWorth) {
  for (int i = 0; i < 20; ++i) {
    now_ = pace_.Next(true);
    pace_.Skipped(now_);
    EXPECT_EQ(pace_.Next(true), now_ + CollectionPace::kPauseNsMin);
  }
  EXPECT_GT(pace_.Next(false), now_);
  EXPECT_LE(pace_.Next(false), now_ + kEvery);
}

TEST_F(CollectionPaceTest, RoundsThatFreeLittleBecomeRare) {
  EXPECT_LE(RoundsIn(kEvery, CollectionPace::kWorthBlocks - 1), 5);
  const DurationNs longest = CollectionPace::kPauseTimes * kEvery;
  RoundsIn(10 * longest, 0);
  EXPECT_LE(RoundsIn(10 * longest, 0), 10);
  // One that frees something, also a usual one, ends that.
  while (pace_.IsEarly(now_)) now_ = pace_.Next(false);
  pace_.Ended(now_, now_, kMuch);
  EXPECT_EQ(pace_.Next(true), now_ + CollectionPace::kPauseNsMin);
}

TEST_F(CollectionPaceTest, LongRoundsRestForLonger) {
  now_ = pace_.Next(true);
  pace_.Ended(now_, now_ + kSecondNs, kMuch);
  EXPECT_EQ(pace_.Next(true) - (now_ + kSecondNs),
            CollectionPace::kRestTimes * kSecondNs);
}

TEST_F(CollectionPaceTest, WhereRoundsAreFrequentEarlyOnesAreNoMoreSo) {
  CollectionPace pace(20 * kMillisecondNs, now_);
  EXPECT_EQ(pace.Next(true), pace.Next(false));
}

}  // namespace
}  // namespace agentmem
