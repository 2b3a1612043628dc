// After a change of placement blocks go to where they belong now: no more of
// them than that, no faster than allowed, and nothing that was dropped.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "memd/pool/pool_timing.h"
#include "tests/unit/pool/pool_node_fixture.h"

namespace agentmem {
namespace {

class PoolNodeRepairTest : public PoolNodeTest {};

TEST_F(PoolNodeRepairTest,
       AfterADeathStateHasTwoCopiesAgainAndACacheBlockMoves) {
  Make({"a", "b", "c", "d"});
  for (std::uint32_t i = 0; i < 200; ++i) {
    ASSERT_EQ(Put("a", i, 4096, BlockClass::kState), Code::kOk);
  }
  cluster_->Kill("b");
  cluster_->RunFor(5 * kSecondNs);
  for (std::uint32_t i = 0; i < 200; ++i) ASSERT_EQ(CopiesOf(i), 2u) << i;
  std::uint64_t repaired = 0;
  for (const char* name : {"a", "c", "d"}) {
    EXPECT_TRUE(Node(name).whole());
    repaired += Snapshot(name).repaired;
  }
  EXPECT_GT(repaired, 60u);
  EXPECT_LT(repaired, 140u) << "only what was lost";
}

TEST_F(PoolNodeRepairTest, ANodeThatJoinsGetsItsShareAndNothingElseMoves) {
  Make({"a", "b", "c"}, 32 << 20);
  for (std::uint32_t i = 0; i < 400; ++i) {
    ASSERT_EQ(Put("a", i, 4096), Code::kOk);
  }
  cluster_->Start("d", 32 << 20);
  cluster_->IntroduceAll();
  cluster_->RunFor(5 * kSecondNs);
  std::uint64_t moved = 0;
  for (const char* name : {"a", "b", "c"}) moved += Snapshot(name).moved;
  EXPECT_EQ(moved, Exports("d").blocks());
  EXPECT_GT(moved, 60u);
  EXPECT_LT(moved, 140u);
  for (std::uint32_t i = 0; i < 400; ++i) {
    ASSERT_EQ(CopiesOf(i), 1u);
    ASSERT_EQ(Get("a", i, 4096), Code::kOk);
  }
}

TEST_F(PoolNodeRepairTest, RepairWritesNoMoreThanItsBandwidth) {
  cluster_ = std::make_unique<PoolCluster>(Roomy());
  cluster_->repair_bytes_per_second = 16 << 20;
  cluster_->StartAll({"a", "b"}, 64 << 20);
  for (std::uint32_t i = 0; i < 48; ++i) {
    ASSERT_EQ(Put("a", i, 1 << 20, BlockClass::kState), Code::kOk);
  }
  cluster_->Kill("b");
  cluster_->Start("b", 64 << 20);
  cluster_->IntroduceAll();
  const TimeNs start = cluster_->now();
  cluster_->RunFor(10 * kSecondNs, [&] { return Exports("b").blocks() == 48; });
  EXPECT_EQ(Exports("b").blocks(), 48u);
  // 48 MiB at 16 MiB/s after a second's settling, but for what lay by.
  EXPECT_GE(cluster_->now() - start, 3 * kSecondNs);
  EXPECT_LE(cluster_->now() - start, 5 * kSecondNs);
  cluster_->RunFor(kSecondNs);
}

TEST_F(PoolNodeRepairTest, RepairThatFoundNoRoomComesAgain) {
  Make({"a", "b"}, 8 << 20);
  for (std::uint32_t i = 0; i < 6; ++i) {
    ASSERT_EQ(Put("a", i, 1 << 20, BlockClass::kState), Code::kOk);
  }
  cluster_->Kill("b");
  cluster_->Start("b", 4 << 20);  // too little for all of it
  cluster_->IntroduceAll();
  cluster_->RunFor(4 * kSecondNs);
  EXPECT_EQ(Exports("b").blocks(), 3u);
  EXPECT_FALSE(Node("a").whole());
  for (std::uint32_t i = 0; i < 6; ++i) {
    if (Holds("b", i) && Exports("a").blocks() > 3) Drop("a", i);
  }
  cluster_->RunFor(kRepairAgainNsMax);
  EXPECT_EQ(Exports("b").blocks(), Exports("a").blocks());
  EXPECT_TRUE(Node("a").whole());
}

TEST_F(PoolNodeRepairTest, ADropThatRacesWithRepairIsNotUndone) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    SimOptions options = Roomy();
    options.seed = seed;
    Make({"a", "b", "c", "d"}, 8 << 20, options);
    for (std::uint32_t i = 0; i < 60; ++i) {
      ASSERT_EQ(Put("a", i, 4096, BlockClass::kState), Code::kOk);
    }
    cluster_->Kill("b");
    // Repair begins a second later; it takes milliseconds.
    cluster_->RunFor(kRepairSettleNs);
    for (std::uint32_t i = 0; i < 60; ++i) {
      PoolOp op = OpOf(PoolOp::Kind::kDrop, i, 0);
      ASSERT_TRUE(Node("c").Submit(op));
      cluster_->RunFor(20 * kMicrosecondNs);
    }
    cluster_->RunFor(5 * kSecondNs);
    ASSERT_EQ(cluster_->at("c").done.size(), 60u);
    for (std::uint32_t i = 0; i < 60; ++i) {
      ASSERT_EQ(CopiesOf(i), 0u) << "block " << i << " seed " << seed;
    }
    if (HasFailure()) return;
  }
}

TEST_F(PoolNodeRepairTest,
       ABlockFromANodeThatSeesOtherNodesGoesWhereItBelongs) {
  Make({"a", "b", "c", "d"});
  cluster_->RunFor(5 * kSecondNs);
  cluster_->network().Cut("a", "d");
  cluster_->RunFor(2 * kSecondNs);
  ASSERT_EQ(Node("a").places(), 3u);
  ASSERT_EQ(Node("b").places(), 4u);
  for (std::uint32_t i = 0; i < 60; ++i) {
    ASSERT_EQ(Put("a", i, 4096, BlockClass::kState), Code::kOk);
    EXPECT_FALSE(Holds("d", i));
  }
  cluster_->network().HealAll();
  cluster_->RunFor(8 * kSecondNs);
  std::size_t there = 0;
  for (std::uint32_t i = 0; i < 60; ++i) {
    ASSERT_EQ(CopiesOf(i), 2u);
    there += Holds("d", i);
  }
  EXPECT_GT(there, 15u);
}

}  // namespace
}  // namespace agentmem
