#include "benchmarks/hbm_bench.h"

#include <gtest/gtest.h>

#include "cuda/host_device.h"

namespace agentmem::bench {
namespace {

TEST(HbmScaleTest, ACaseHasItsShareOfTheTimeAndWhatWasLeftBefore) {
  HbmScale scale;
  EXPECT_EQ(scale.RoundsUntil(1, 10), kNoDeadline);
  scale.begin = 1000;
  scale.budget_ns = 500;
  EXPECT_EQ(scale.RoundsUntil(1, 10), 1000 + 100 + 30);
  EXPECT_EQ(scale.RoundsUntil(5, 10), 1000 + 100 + 150);
  EXPECT_EQ(scale.RoundsUntil(10, 10), 1000 + 400);
  EXPECT_EQ(scale.RoundsUntil(11, 10), 1000 + 400) << "more than were expected";
}

class HbmBenchTest : public testing::Test {
 protected:
  // Each case of the copies, as it was told: how many rows there were.
  std::vector<std::size_t> Copy(HbmScale scale) {
    HostDevice device{HostDevice::Options()};
    result_.bars = HbmBench::CopyBars();
    HbmBench bench(&device, true, scale, 1, &result_);
    std::vector<std::size_t> rows;
    bench.Expect(HbmBench::CopyCases(),
                 [&] { rows.push_back(result_.cases.size()); });
    EXPECT_TRUE(bench.SetUp().ok());
    EXPECT_TRUE(bench.AddCopies().ok());
    return rows;
  }

  SuiteResult result_;
};

TEST_F(HbmBenchTest, WhatThereIsIsToldAfterEachCase) {
  const std::vector<std::size_t> rows = Copy({8 << 20, 8 << 20, 1, 1});
  ASSERT_EQ(rows.size(), HbmBench::CopyCases());
  for (std::size_t i = 1; i < rows.size(); ++i) EXPECT_GT(rows[i], rows[i - 1]);
  EXPECT_EQ(rows.back(), result_.cases.size());
}

TEST_F(HbmBenchTest, WithoutTimeACaseHasTwoRoundsAndThatIsNoted) {
  HbmScale scale = {8 << 20, 8 << 20, 1 << 30, 1};
  scale.begin = MonotonicNowNs() - kSecondNs;
  scale.budget_ns = 1;
  Copy(scale);
  ASSERT_EQ(result_.notes.size(), 2u) << "beside the crossover's";
  EXPECT_NE(result_.notes[1].find("this machine is slow: behind 0 rows"),
            std::string::npos)
      << result_.notes[1];
}

}  // namespace
}  // namespace agentmem::bench
