#include "benchmarks/samples.h"

#include <gtest/gtest.h>

namespace agentmem::bench {
namespace {

TEST(SamplesTest, PercentilesAreNearestRanksOfWhatWasAdded) {
  Samples samples;
  for (int i = 1000; i >= 1; --i) samples.Add(i);
  EXPECT_EQ(samples.Percentile(0.5), 500);
  EXPECT_EQ(samples.Percentile(0.99), 990);
  EXPECT_EQ(samples.Percentile(0.999), 999);
  EXPECT_EQ(samples.Percentile(1), 1000);
  EXPECT_EQ(samples.Percentile(0), 1);
}

TEST(SamplesTest, ASampleAddedAfterAPercentileCounts) {
  Samples samples;
  samples.Add(7);
  EXPECT_EQ(samples.Percentile(0.5), 7);
  samples.Add(1);
  samples.Add(2);
  EXPECT_EQ(samples.Percentile(0.5), 2);
}

TEST(SamplesTest, FewSamplesGiveTheirLargestForHighPercentiles) {
  Samples samples;
  samples.Add(3);
  samples.Add(9);
  EXPECT_EQ(samples.Percentile(0.999), 9);
}

TEST(SamplesTest, NoSamplesGiveZero) {
  EXPECT_EQ(Samples().Percentile(0.5), 0);
  EXPECT_EQ(Median({}), 0);
}

TEST(SamplesTest, TheMedianOfAnEvenNumberIsTheMeanOfTheMiddleTwo) {
  EXPECT_EQ(Median({9, 1, 5}), 5);
  EXPECT_EQ(Median({9, 1, 5, 7}), 6);
}

}  // namespace
}  // namespace agentmem::bench
