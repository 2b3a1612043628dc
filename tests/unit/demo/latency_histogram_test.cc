#include "tests/demo/latency_histogram.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <vector>

namespace agentmem::demo {
namespace {

TEST(LatencyHistogram, AnEmptyOneAnswersZero) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.QuantileNs(0.5), 0u);
  EXPECT_EQ(histogram.QuantileNs(1), 0u);
}

TEST(LatencyHistogram, SmallValuesAreExact) {
  LatencyHistogram histogram;
  for (int value = 1; value <= 60; ++value) histogram.Record(value);
  EXPECT_EQ(histogram.QuantileNs(0.5), 30u);
  EXPECT_EQ(histogram.QuantileNs(1), 60u);
}

TEST(LatencyHistogram, QuantilesAreNeverBelowAndAtMostAThirtiethAbove) {
  std::mt19937_64 random(7);
  std::vector<std::uint64_t> values;
  LatencyHistogram histogram;
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t value = random() >> (25 + random() % 38);
    values.push_back(value);
    histogram.Record(static_cast<std::int64_t>(value));
  }
  std::sort(values.begin(), values.end());
  for (const double quantile : {0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const auto rank = static_cast<std::size_t>(
        std::ceil(quantile * static_cast<double>(values.size())));
    const double truth = static_cast<double>(values[rank - 1]);
    const double answer = static_cast<double>(histogram.QuantileNs(quantile));
    EXPECT_GE(answer, truth) << quantile;
    EXPECT_LE(answer, truth * 31 / 30 + 1) << quantile;
  }
}

TEST(LatencyHistogram, AQuantileIsNeverAboveTheLargestValue) {
  LatencyHistogram histogram;
  histogram.Record(1'000'003);
  EXPECT_EQ(histogram.QuantileNs(0.5), 1'000'003u);
}

TEST(LatencyHistogram, ValuesBeyondItsRangeAndNegativeOnesAreCounted) {
  LatencyHistogram histogram;
  histogram.Record(INT64_MAX);
  histogram.Record(-5);
  EXPECT_EQ(histogram.count(), 2u);
  EXPECT_EQ(histogram.QuantileNs(0.5), 0u);
  EXPECT_EQ(histogram.max_ns(), static_cast<std::uint64_t>(INT64_MAX));
}

TEST(LatencyHistogram, AddingIsTheSameAsRecordingBoth) {
  LatencyHistogram one;
  LatencyHistogram other;
  LatencyHistogram both;
  for (int i = 0; i < 1000; ++i) {
    (i % 3 == 0 ? one : other).Record(i * 100);
    both.Record(i * 100);
  }
  one.Add(other);
  EXPECT_EQ(one.count(), both.count());
  for (const double quantile : {0.25, 0.5, 0.99}) {
    EXPECT_EQ(one.QuantileNs(quantile), both.QuantileNs(quantile));
  }
}

}  // namespace
}  // namespace agentmem::demo
