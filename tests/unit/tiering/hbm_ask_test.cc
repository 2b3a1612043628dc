#include "tiering/hbm_ask.h"

#include <gtest/gtest.h>

namespace agentmem::tiering {
namespace {

constexpr DurationNs kReload = kSecondNs;

HbmAsk Ask(Phase phase, DurationNs eta = 0, bool left = false) {
  return AskOf(phase, eta, kReload, left);
}

TEST(HbmAskTest, WhoWaitsForAHumanOrForNothingLeaves) {
  for (const Phase phase : {Phase::kHumanWait, Phase::kIdle, Phase::kDone}) {
    for (const bool left : {false, true}) {
      EXPECT_EQ(Ask(phase, 0, left), HbmAsk::kEmpty);
      EXPECT_EQ(Ask(phase, 1, left), HbmAsk::kEmpty);
    }
  }
}

TEST(HbmAskTest, WhoReasonsComesBackIfItLeft) {
  EXPECT_EQ(Ask(Phase::kReasoning, 0, true), HbmAsk::kBringBack);
  EXPECT_EQ(Ask(Phase::kReasoning, 0, false), HbmAsk::kNothing);
}

TEST(HbmAskTest, AToolIsWaitedForOutsideOnlyIfThatPays) {
  constexpr DurationNs kMedian = 300 * kMillisecondNs;
  constexpr DurationNs kP99 = 216 * kSecondNs;
  EXPECT_EQ(Ask(Phase::kTool), HbmAsk::kNothing);  // it says nothing
  EXPECT_EQ(Ask(Phase::kTool, kMedian), HbmAsk::kNothing);
  EXPECT_EQ(Ask(Phase::kTool, kP99), HbmAsk::kEmpty);
  EXPECT_EQ(Ask(Phase::kTool, kToolReloads * kReload), HbmAsk::kNothing);
  EXPECT_EQ(Ask(Phase::kTool, kToolReloads * (kReload + 1)), HbmAsk::kEmpty);
  // A tool that follows a human does not bring back.
  EXPECT_EQ(Ask(Phase::kTool, kMedian, true), HbmAsk::kNothing);
  EXPECT_EQ(AskOf(Phase::kTool, kMedian, kMillisecondNs, false),
            HbmAsk::kEmpty);
  EXPECT_EQ(AskOf(Phase::kTool, INT64_MAX, INT64_MAX, false), HbmAsk::kNothing);
}

}  // namespace
}  // namespace agentmem::tiering
