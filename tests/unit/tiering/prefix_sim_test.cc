#include "tiering/sim/prefix_sim.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tiering/policies/lru_policy.h"
#include "tiering/traces/mooncake_trace.h"

#ifndef AGENTMEM_SOURCE_DIR
#define AGENTMEM_SOURCE_DIR "."
#endif

namespace agentmem::tiering {
namespace {

class ListedTrace final : public TraceSource {
 public:
  explicit ListedTrace(std::vector<std::vector<std::uint64_t>> requests)
      : requests_(std::move(requests)) {}

  absl::StatusOr<bool> Next(TraceRequest* request) override {
    if (next_ == requests_.size()) return false;
    *request = TraceRequest{};
    request->block_ids = requests_[next_++];
    return true;
  }

 private:
  std::vector<std::vector<std::uint64_t>> requests_;
  std::size_t next_ = 0;
};

TEST(PrefixSimTest, HitsEndAtTheFirstMissingBlock) {
  ListedTrace trace({{1, 2, 3}, {1, 9, 3}, {1, 9, 3}});
  const auto policy = MakeLruPolicy({.slots = 4, .budget_bytes = 4});
  const auto result =
      RunPrefixSim({.capacity_blocks = 4}, &trace, policy.get());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->references, 9u);
  EXPECT_EQ(result->prefix_hits, 1u + 3u);
  EXPECT_EQ(result->inserts, 4u);
  EXPECT_EQ(result->evictions, 0u);
}

TEST(PrefixSimTest, EvictsTheLeastRecentlyUsedWhenFull) {
  ListedTrace trace({{1}, {2}, {1}, {3}, {1}, {2}});
  const auto policy = MakeLruPolicy({.slots = 2, .budget_bytes = 2});
  const auto result =
      RunPrefixSim({.capacity_blocks = 2}, &trace, policy.get());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->prefix_hits, 2u);  // 1 twice; 2 had to leave for 3
  EXPECT_EQ(result->evictions, 2u);
}

TEST(PrefixSimTest, CapacityOfNothingIsRefused) {
  ListedTrace trace({{1}, {1}});
  const auto policy = MakeLruPolicy({.slots = 1, .budget_bytes = 1});
  EXPECT_EQ(RunPrefixSim({.capacity_blocks = 0}, &trace, policy.get())
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

struct Expectation {
  const char* name;
  std::uint32_t capacity_blocks;
  bool store_below;
  double hit_ratio;
};

// The figures were measured with a simulator of its own, not with this code.
class RealTraceTest : public ::testing::TestWithParam<Expectation> {};

TEST_P(RealTraceTest, LruReachesTheHitRatioThatOthersMeasured) {
  const std::string path =
      std::string(AGENTMEM_SOURCE_DIR) +
      "/../shared/traces/mooncake_conversation_trace.jsonl";
  if (access(path.c_str(), R_OK) != 0) {
    GTEST_SKIP() << "the trace is not beside the repository: " << path;
  }
  auto trace = MooncakeTraceReader::Open(path);
  ASSERT_TRUE(trace.ok()) << trace.status();
  const std::uint32_t capacity = GetParam().capacity_blocks;
  const auto policy =
      MakeLruPolicy({.slots = capacity, .budget_bytes = capacity});
  const auto result = RunPrefixSim(
      {.capacity_blocks = capacity, .store_below = GetParam().store_below},
      trace->get(), policy.get());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->requests, 12'031u);
  EXPECT_EQ(result->references, 288'500u);
  EXPECT_NEAR(result->HitRatio(), GetParam().hit_ratio, 0.005);
  if (GetParam().store_below) {
    EXPECT_GT(result->write_throughs, capacity);
  }
}

// 182,790 unique blocks.
INSTANTIATE_TEST_SUITE_P(
    Capacities, RealTraceTest,
    ::testing::Values(Expectation{"Of3Percent", 5'483, false, 0.125},
                      Expectation{"Of10Percent", 18'279, false, 0.278},
                      Expectation{"Of10PercentCleanFirst", 18'279, true, 0.278},
                      Expectation{"Unbounded", 182'790, false, 0.366}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace agentmem::tiering
