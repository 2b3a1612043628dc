#include "benchmarks/comparison.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/status.h"

namespace agentmem::bench {
namespace {

// A side whose rounds take `ns`, one after the other, and which says so.
Side SideOf(const std::string& name, std::vector<double> ns,
            std::string* order = nullptr) {
  return {name, [=](int round, Samples* samples) -> absl::StatusOr<double> {
            if (order != nullptr) *order += name;
            const double one = ns[static_cast<std::size_t>(round) % ns.size()];
            samples->Add(one);
            return one;
          }};
}

TEST(ComparisonTest, TheSidesTakeTurnsInEveryRound) {
  std::string order;
  const auto result =
      Compare("case", Unit::Nanoseconds(), 3,
              {SideOf("A", {1}, &order), SideOf("B", {1}, &order)});
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(order, "ABABAB");
}

TEST(ComparisonTest, TheValueIsTheMedianOfTheRoundsAndNotTheirMean) {
  const auto result =
      Compare("case", Unit::Nanoseconds(), 3,
              {SideOf("ours", {10, 1000, 20}), SideOf("theirs", {5, 5, 500})});
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->value, 20);
  EXPECT_EQ(result->baseline_value, 5);
  EXPECT_EQ(result->Ratio(), 4);
}

TEST(ComparisonTest, PercentilesAreOfOursAlone) {
  const auto result =
      Compare("case", Unit::Nanoseconds(), 2,
              {SideOf("ours", {10, 12}), SideOf("theirs", {500})});
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->p50_ns, 10);
  EXPECT_EQ(result->p999_ns, 12);
}

TEST(ComparisonTest, OfSeveralBaselinesTheFastestCounts) {
  const auto result =
      Compare("case", Unit::Nanoseconds(), 1,
              {SideOf("ours", {8}), SideOf("slow", {9}), SideOf("fast", {4})});
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->baseline, "fast");
  EXPECT_EQ(result->Ratio(), 2);
}

TEST(ComparisonTest, ASideThatFailsIsNamedWithItsCase) {
  const Side broken = {"theirs", [](int, Samples*) -> absl::StatusOr<double> {
                         return Unavailable("gone");
                       }};
  const auto result =
      Compare("case", Unit::Nanoseconds(), 1, {SideOf("ours", {1}), broken});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(StatusMessage(result.status()), "case, theirs: gone");
}

TEST(UnitTest, NanosecondsBecomeRates) {
  EXPECT_EQ(Unit::OpsPerSecond().Of(100), 1e7);
  // 1 MB in 1 ms is 1 GB/s.
  EXPECT_DOUBLE_EQ(Unit::MegabytesPerSecond(1e6).Of(1e6), 1000);
  EXPECT_EQ(Unit::OpsPerSecond().Of(0), 0);
}

}  // namespace
}  // namespace agentmem::bench
