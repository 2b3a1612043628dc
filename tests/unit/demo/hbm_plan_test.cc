#include "tests/demo/hbm_plan.h"

#include <gtest/gtest.h>

#include <set>

namespace agentmem::demo {
namespace {

constexpr std::uint32_t kAgents = 6;

TEST(HbmPlan, EachAgentWaitsForAHumanAndNotInEachRound) {
  const HbmPlan plan(1, kAgents, true);
  for (std::uint32_t agent = 0; agent < kAgents; ++agent) {
    std::uint32_t waits = 0;
    for (std::uint32_t round = 0; round < HbmPlan::kRounds; ++round) {
      waits += plan.WaitsForHuman(round, agent) ? 1 : 0;
    }
    EXPECT_GT(waits, 0u);
    EXPECT_LT(waits, HbmPlan::kRounds);
  }
}

TEST(HbmPlan, EnginesDieInLoadsAndInStoresAndMemdDies) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const HbmPlan plan(seed, kAgents, true);
    std::set<HbmStrike> engines;
    bool memd = false;
    EXPECT_FALSE(plan.KillOf(0).has_value());
    EXPECT_FALSE(plan.KillOf(HbmPlan::kRounds - 1).has_value());
    for (std::uint32_t round = 1; round + 1 < HbmPlan::kRounds; ++round) {
      const auto kill = plan.KillOf(round);
      ASSERT_TRUE(kill.has_value());
      EXPECT_LT(kill->agent, kAgents);
      if (kill->memd) {
        memd = true;
      } else {
        engines.insert(kill->strike);
      }
      EXPECT_LT(plan.DelayNs(round), 1'000'000'000u);
    }
    EXPECT_EQ(engines, (std::set{HbmStrike::kInLoad, HbmStrike::kInStore}));
    EXPECT_TRUE(memd);
  }
}

TEST(HbmPlan, WithoutRecoveryNoMemdDies) {
  const HbmPlan plan(1, kAgents, false);
  for (std::uint32_t round = 0; round < HbmPlan::kRounds; ++round) {
    const auto kill = plan.KillOf(round);
    EXPECT_FALSE(kill.has_value() && kill->memd);
  }
}

TEST(HbmPlan, AllRoundsTogetherMakeTheState) {
  const std::uint64_t state = 256 << 20;
  const std::uint64_t made =
      std::uint64_t{HbmPlan::AppendedBlocks(state, kAgents)} * kAgents *
      HbmPlan::kRounds * kKvBlockBytes;
  EXPECT_LE(made, state);
  EXPECT_GT(made, state * 9 / 10);
  EXPECT_EQ(HbmPlan::AppendedBlocks(1, kAgents), 1u);
}

}  // namespace
}  // namespace agentmem::demo
