#include "tests/demo/workload.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "base/status.h"
#include "tests/demo/workload_builder.h"

namespace agentmem::demo {
namespace {

class ListedTrace final : public tiering::TraceSource {
 public:
  explicit ListedTrace(std::vector<std::vector<std::uint64_t>> requests)
      : requests_(std::move(requests)) {}

  absl::StatusOr<bool> Next(tiering::TraceRequest* request) override {
    if (next_ == requests_.size()) return false;
    request->block_ids = requests_[next_];
    request->session = next_ % 2;
    ++next_;
    return true;
  }

 private:
  const std::vector<std::vector<std::uint64_t>> requests_;
  std::size_t next_ = 0;
};

TEST(Workload, EqualIdsBecomeEqualNumbersAndEqualTokens) {
  ListedTrace trace({{500, 7}, {500, 9}});
  const auto region = LayOutWorkload(&trace, 10, {});
  ASSERT_TRUE(region.ok());
  const Workload workload(region->data());
  EXPECT_EQ(workload.header().requests, 2u);
  EXPECT_EQ(workload.header().blocks, 3u);
  const std::vector<std::uint32_t> one = workload.TokensOf(0);
  const std::vector<std::uint32_t> two = workload.TokensOf(1);
  ASSERT_EQ(one.size(), 2 * kBlockTokens);
  const auto end = one.begin() + kBlockTokens;
  EXPECT_TRUE(std::equal(one.begin(), end, two.begin()));
  EXPECT_FALSE(std::equal(end, one.end(), two.begin() + kBlockTokens));
}

TEST(Workload, RequestsWithoutBlocksAreLeftOutAndTheLimitHolds) {
  ListedTrace trace({{1}, {}, {2}, {3}});
  const auto region = LayOutWorkload(&trace, 2, {});
  ASSERT_TRUE(region.ok());
  const Workload workload(region->data());
  ASSERT_EQ(workload.header().requests, 2u);
  EXPECT_EQ(workload.BlocksOf(1).size(), 1u);
  EXPECT_EQ(workload.conversation()[0], workload.conversation()[1]);
}

TEST(Workload, ABlockIsStoredForTheFirstTimeOnce) {
  ListedTrace trace({{1, 2, 3}});
  const auto region = LayOutWorkload(&trace, 1, {});
  ASSERT_TRUE(region.ok());
  const Workload workload(region->data());
  EXPECT_FALSE(workload.IsStored(2));
  EXPECT_TRUE(workload.MarkStored(2));
  EXPECT_FALSE(workload.MarkStored(2));
  EXPECT_TRUE(workload.IsStored(2));
  EXPECT_FALSE(workload.IsStored(1));
}

TEST(Workload, ChosenBlocksMakeStateOfSeveralTimesTheBudget) {
  DemoOptions options;
  options.dram_bytes = 96 << 20;
  options.requests = 1000;
  const auto region = BuildWorkload(options);
  ASSERT_TRUE(region.ok());
  const WorkloadHeader& header = Workload(region->data()).header();
  const std::uint64_t state = header.blocks * header.block_bytes * 3 / 4;
  EXPECT_GT(state, 5 * options.dram_bytes);
  EXPECT_LT(state, 6 * options.dram_bytes);
}

TEST(Workload, ATraceWithoutBlocksIsRefused) {
  ListedTrace trace({{}, {}});
  EXPECT_FALSE(LayOutWorkload(&trace, 5, {}).ok());
}

TEST(Workload, ABrokenLineIsNamedWithFileAndLine) {
  const std::string path = testing::TempDir() + "broken_trace.jsonl";
  std::ofstream(path) << "{\"timestamp\": 0, \"input_length\": 5, "
                         "\"output_length\": 1, \"hash_ids\": [0]}\n{oops\n";
  DemoOptions options;
  options.trace = path;
  const auto region = BuildWorkload(options);
  std::remove(path.c_str());
  ASSERT_FALSE(region.ok());
  EXPECT_EQ(StatusMessage(region.status()).rfind(path + ":2: ", 0), 0u)
      << region.status();
}

}  // namespace
}  // namespace agentmem::demo
