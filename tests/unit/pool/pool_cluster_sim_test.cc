// No acknowledged block is lost, and no wrong byte is given, whatever a seed
// does to a cluster.
//
// Other seeds than those of CI: each repetition, with shuffling, takes the next
// fifty. 2,000 of them:
//
//   unit_pool --gtest_filter='*PoolClusterSim*' --gtest_shuffle
//       --gtest_random_seed=1 --gtest_repeat=40
#include "tests/unit/pool/pool_cluster_sim.h"

#include <gtest/gtest.h>

#include <string>

namespace agentmem {
namespace {

constexpr std::uint64_t kShards = 10;
constexpr std::uint64_t kSeedsPerShard = 5;

class PoolClusterSimTest : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(PoolClusterSimTest, WhatWasAcknowledgedIsThereAfterTheFaults) {
  const auto block = static_cast<std::uint64_t>(
      ::testing::UnitTest::GetInstance()->random_seed());
  PoolClusterSim::Counts all;
  for (std::uint64_t i = 0; i < kSeedsPerShard; ++i) {
    const std::uint64_t seed =
        (block * kShards + GetParam()) * kSeedsPerShard + i + 1;
    PoolClusterSim sim(seed);
    EXPECT_EQ(sim.Run(), "")
        << "shard " << GetParam() << " of random seed " << block;
    const PoolClusterSim::Counts& counts = sim.counts();
    all.operations += counts.operations;
    all.acknowledged += counts.acknowledged;
    all.gets += counts.gets;
    all.failed += counts.failed;
    all.deaths += counts.deaths;
    all.lost += counts.lost;
    all.checked += counts.checked;
    all.repaired += counts.repaired;
    all.stale += counts.stale;
  }
  // A network on which nothing goes wrong proves nothing.
  EXPECT_GT(all.acknowledged, 100u);
  EXPECT_GT(all.gets, 500u);
  EXPECT_GT(all.checked, 100u);
  RecordProperty("operations", std::to_string(all.operations));
  RecordProperty("acknowledged", std::to_string(all.acknowledged));
  RecordProperty("gets", std::to_string(all.gets));
  RecordProperty("failed", std::to_string(all.failed));
  RecordProperty("deaths", std::to_string(all.deaths));
  RecordProperty("lost", std::to_string(all.lost));
  RecordProperty("checked", std::to_string(all.checked));
  RecordProperty("repaired", std::to_string(all.repaired));
  RecordProperty("stale", std::to_string(all.stale));
}

INSTANTIATE_TEST_SUITE_P(Shards, PoolClusterSimTest,
                         ::testing::Range(std::uint64_t{0}, kShards));

// A network on which nothing goes wrong proves nothing. Of ten seeds in a row
// every kind of fault happens in some.
TEST(PoolClusterSimSeedTest, EveryKindOfFaultHappens) {
  PoolClusterSim::Counts all;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    PoolClusterSim sim(seed);
    EXPECT_EQ(sim.Run(), "");
    const PoolClusterSim::Counts& counts = sim.counts();
    all.deaths += counts.deaths;
    all.puts_failed += counts.puts_failed;
    all.stale += counts.stale;
    all.repaired += counts.repaired;
    all.links_lost += counts.links_lost;
    all.torn += counts.torn;
    all.late_writes += counts.late_writes;
    all.retransmits += counts.retransmits;
    all.stalls += counts.stalls;
    all.stops += counts.stops;
  }
  EXPECT_GT(all.deaths, 0u);
  EXPECT_GT(all.puts_failed, 0u);
  EXPECT_GT(all.stale, 0u);
  EXPECT_GT(all.repaired, 0u);
  EXPECT_GT(all.links_lost, 0u);
  EXPECT_GT(all.torn, 0u);
  EXPECT_GT(all.late_writes, 0u);
  EXPECT_GT(all.retransmits, 0u);
  EXPECT_GT(all.stalls, 0u);
  EXPECT_GT(all.stops, 0u);
}

TEST(PoolClusterSimSeedTest, ASeedGivesTheSameRunTwice) {
  PoolClusterSim first(77);
  PoolClusterSim second(77);
  EXPECT_EQ(first.Run(), second.Run());
  EXPECT_EQ(first.trace_hash(), second.trace_hash());
  EXPECT_EQ(first.counts().operations, second.counts().operations);
}

}  // namespace
}  // namespace agentmem
