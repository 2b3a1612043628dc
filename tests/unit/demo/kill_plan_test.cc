#include "tests/demo/kill_plan.h"

#include <gtest/gtest.h>

namespace agentmem::demo {
namespace {

TEST(KillPlan, EveryKillComesBeforeTheLastRequest) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    KillPlan plan(12, 100, seed);
    int kills = 0;
    for (; plan.Due(99); ++kills) plan.Take();
    EXPECT_EQ(kills, 12) << seed;
  }
}

TEST(KillPlan, KillsAreSpreadOverTheRun) {
  KillPlan plan(10, 1000, 3);
  for (std::uint64_t done = 100; done <= 1000; done += 100) {
    ASSERT_TRUE(plan.Due(done)) << done;
    plan.Take();
    EXPECT_FALSE(plan.Due(done - 1)) << done;
  }
}

TEST(KillPlan, HalfOfTheVictimsPoseAndSomeWithAChild) {
  KillPlan plan(12, 100, 1);
  int posed = 0;
  int with_child = 0;
  while (plan.Due(99)) {
    const KillKind kind = plan.Take();
    posed += kind != KillKind::kAnywhere;
    with_child += kind == KillKind::kPosedWithChild;
  }
  EXPECT_EQ(posed, 6);
  EXPECT_EQ(with_child, 2);
}

TEST(KillPlan, TheSeedDecides) {
  KillPlan one(5, 1000, 1);
  KillPlan same(5, 1000, 1);
  KillPlan other(5, 1000, 2);
  bool differs = false;
  for (std::uint64_t done = 0; done < 1000; ++done) {
    const bool due = one.Due(done);
    EXPECT_EQ(due, same.Due(done));
    differs = differs || due != other.Due(done);
    if (due) {
      one.Take();
      same.Take();
    }
    if (other.Due(done)) other.Take();
  }
  EXPECT_TRUE(differs);
}

TEST(KillPlan, NoKillsAreNoKills) {
  const KillPlan plan(0, 100, 1);
  EXPECT_FALSE(plan.Due(100));
}

}  // namespace
}  // namespace agentmem::demo
