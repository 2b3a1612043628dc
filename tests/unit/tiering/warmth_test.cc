#include "tiering/warmth.h"

#include <gtest/gtest.h>

namespace agentmem::tiering {
namespace {

constexpr TimeNs kSaid = 100 * kSecondNs;

Warmth After(Phase phase, DurationNs eta, DurationNs waited) {
  return WarmthOf({1, phase, eta}, kSaid, kSaid + waited);
}

TEST(WarmthTest, WhoIsNeededLaterLeavesSooner) {
  EXPECT_EQ(After(Phase::kDone, 0, 0), Warmth::kDone);
  EXPECT_EQ(After(Phase::kIdle, 0, 0), Warmth::kIdle);
  EXPECT_EQ(After(Phase::kHumanWait, 0, 0), Warmth::kHumanWait);
  EXPECT_EQ(After(Phase::kTool, 0, 0), Warmth::kTool);
  EXPECT_EQ(After(Phase::kReasoning, 0, 0), Warmth::kWorking);
  EXPECT_LT(Warmth::kDone, Warmth::kIdle);
  EXPECT_LT(Warmth::kIdle, Warmth::kHumanWait);
  EXPECT_LT(Warmth::kHumanWait, Warmth::kTool);
  EXPECT_LT(Warmth::kTool, Warmth::kWorking);
}

TEST(WarmthTest, APhaseThatEndsWithinASecondIsWorkAndNoLongerThanThat) {
  for (const Phase phase : {Phase::kTool, Phase::kHumanWait, Phase::kIdle}) {
    const Warmth usual = After(phase, 0, 0);
    EXPECT_EQ(After(phase, kSecondNs / 2, 0), Warmth::kWorking);
    EXPECT_EQ(After(phase, 10 * kSecondNs, 0), usual);
    EXPECT_EQ(After(phase, 10 * kSecondNs, 9 * kSecondNs), usual);
    EXPECT_EQ(After(phase, 10 * kSecondNs, 9 * kSecondNs + 1),
              Warmth::kWorking);
    EXPECT_EQ(After(phase, 10 * kSecondNs, 11 * kSecondNs - 1),
              Warmth::kWorking);
    // It was wrong: a hint is no promise.
    EXPECT_EQ(After(phase, 10 * kSecondNs, 11 * kSecondNs), usual);
    EXPECT_EQ(After(phase, INT64_MAX, INT64_MAX - kSaid), usual);
  }
  EXPECT_EQ(After(Phase::kDone, kSecondNs / 2, 0), Warmth::kDone);
}

TEST(WarmthTest, NextChangeIsTheFirstMomentOfAnotherAnswer) {
  for (const Phase phase : {Phase::kReasoning, Phase::kTool, Phase::kHumanWait,
                            Phase::kIdle, Phase::kDone}) {
    for (const DurationNs eta :
         {DurationNs{0}, kSecondNs / 3, kSecondNs, 30 * kSecondNs}) {
      const PhaseHint hint = {1, phase, eta};
      TimeNs now = kSaid;
      for (int changes = 0;; ++changes) {
        const TimeNs next = NextChange(hint, kSaid, now);
        const Warmth warmth = WarmthOf(hint, kSaid, now);
        if (next == kNoDeadline) {
          EXPECT_EQ(WarmthOf(hint, kSaid, now + 1000 * kSecondNs), warmth);
          break;
        }
        ASSERT_LT(changes, 2);
        ASSERT_GT(next, now);
        EXPECT_EQ(WarmthOf(hint, kSaid, next - 1), warmth);
        EXPECT_NE(WarmthOf(hint, kSaid, next), warmth);
        now = next;
      }
    }
  }
  EXPECT_EQ(NextChange({1, Phase::kTool, INT64_MAX}, kSaid, kSaid),
            kNoDeadline);
}

}  // namespace
}  // namespace agentmem::tiering
