#include "benchmarks/bars.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace agentmem::bench {
namespace {

TEST(BarsTest, ABarIsMetOnItsSideOfTheLimitAndAtIt) {
  Bar least = {"a", 0.95};
  Bar most = {"b", 1.03, false};
  EXPECT_FALSE(least.met()) << "it was not measured";
  EXPECT_FALSE(most.met());
  least.measured = 0.949;
  most.measured = 1.031;
  EXPECT_FALSE(least.met());
  EXPECT_FALSE(most.met());
  least.measured = 0.95;
  most.measured = 1.03;
  EXPECT_TRUE(least.met());
  EXPECT_TRUE(most.met());
}

TEST(BarsTest, ItsTextSaysWhatIsWantedAndWhatCameOfIt) {
  EXPECT_EQ(BarText({"offload/2MiB", 0.97, true, 0.981}),
            "offload/2MiB: 0.981, bar at least 0.970: met");
  EXPECT_EQ(BarText({"sm_share/dma", 1.03, false, 1.2}),
            "sm_share/dma: 1.200, bar at most 1.030: MISSED");
  EXPECT_EQ(BarText({"sm_share/dma", 1.03, false}),
            "sm_share/dma: bar at most 1.030: NOT MEASURED");
}

TEST(BarsTest, TheJsonCountsThoseMetAndNamesTheOthersOnOneLine) {
  const std::string text = BarsJson({{"a", 1, true, 2.0},
                                     {"b", 1, true, 0.5},
                                     {"c", 1},
                                     {"d", 1, false, 0.5}});
  EXPECT_EQ(text.find('\n'), text.size() - 1);
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json["met"], 2);
  EXPECT_EQ(json["missed"],
            nlohmann::json({"b: 0.500, bar at least 1.000: MISSED"}));
  EXPECT_EQ(json["not_measured"], nlohmann::json({"c"}));
}

TEST(BarsDeathTest, ABarThatNobodyAnnouncedIsABug) {
  std::vector<Bar> bars = {{"a", 1}};
  FindBar(&bars, "a")->measured = 3;
  EXPECT_EQ(bars[0].measured, 3);
  EXPECT_DEATH(FindBar(&bars, "b"), "invariant broken");
}

}  // namespace
}  // namespace agentmem::bench
