#include "tiering/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace agentmem::tiering {
namespace {

constexpr std::uint64_t kGiB = 1ULL << 30;

std::vector<std::string> NamesOf(const Placement& placement,
                                 std::uint32_t group, std::size_t copies) {
  std::vector<std::uint32_t> out(copies);
  out.resize(placement.Place(group, out));
  std::vector<std::string> names;
  for (const std::uint32_t node : out) {
    names.push_back(placement.nodes()[node].name);
  }
  return names;
}

std::map<std::string, int> FirstsOf(const Placement& placement,
                                    std::uint32_t groups) {
  std::map<std::string, int> firsts;
  for (std::uint32_t group = 0; group < groups; ++group) {
    ++firsts[NamesOf(placement, group, 1).at(0)];
  }
  return firsts;
}

TEST(PlacementTest, TheLogarithmIsRightFromOneEndToTheOther) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 200000; ++i) {
    const std::uint64_t hash = random() >> (random() % 64);
    const double real = 64 - std::log2(static_cast<double>(hash | 1));
    const double made = std::ldexp(NegativeLog2(hash | 1), -40);
    ASSERT_NEAR(made, real, 2e-7) << hash;
    ASSERT_GE(made, real - 1e-12) << hash;
  }
  EXPECT_EQ(NegativeLog2(1), 64ULL << 40);
  EXPECT_EQ(NegativeLog2(1ULL << 63), 1ULL << 40);
  EXPECT_GT(NegativeLog2(UINT64_MAX), 0u);
  EXPECT_EQ(NegativeLog2(0), NegativeLog2(1));
}

TEST(PlacementTest, ALargerHashNeverHasALargerLogarithm) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 100000; ++i) {
    const std::uint64_t a = random() >> (random() % 64);
    const std::uint64_t b = i % 2 == 0 ? a + 1 : random();
    EXPECT_GE(NegativeLog2(std::min(a, b)), NegativeLog2(std::max(a, b)));
  }
}

// Where blocks are is a format: nodes of two builds must agree on it.
TEST(PlacementTest, PlacesAreTheSameInEveryBuildAndOnEveryMachine) {
  const Placement placement({{"amber", 4 * kGiB, "r1", false},
                             {"birch", 1 * kGiB, "r1", false},
                             {"cedar", 2 * kGiB, "r2", false},
                             {"delta", 3 * kGiB, "r3", false}});
  using Names = std::vector<std::string>;
  EXPECT_EQ(NamesOf(placement, 0, 2), (Names{"amber", "delta"}));
  EXPECT_EQ(NamesOf(placement, 1, 2), (Names{"cedar", "birch"}));
  EXPECT_EQ(NamesOf(placement, 2, 2), (Names{"amber", "delta"}));
  EXPECT_EQ(NamesOf(placement, 0xffffffff, 4),
            (Names{"cedar", "delta", "amber", "birch"}));
  EXPECT_EQ(NegativeLog2(0x123456789abcdef0), 4193296810690u);
}

TEST(PlacementTest, ANodeIsFirstAsOftenAsItsWeightIsOfTheWhole) {
  const Placement placement({{"a", 1 * kGiB, "", false},
                             {"b", 2 * kGiB, "", false},
                             {"c", 5 * kGiB, "", false}});
  constexpr int kGroups = 80000;
  const auto firsts = FirstsOf(placement, kGroups);
  // Four standard deviations and a bit.
  EXPECT_NEAR(firsts.at("a"), kGroups / 8, 400);
  EXPECT_NEAR(firsts.at("b"), kGroups / 4, 500);
  EXPECT_NEAR(firsts.at("c"), kGroups * 5 / 8, 600);
}

TEST(PlacementTest, WeightsFarApartKeepTheirShares) {
  const Placement placement({{"a", 1, "", false},
                             {"b", 1000, "", false},
                             {"c", UINT64_MAX / 2, "", false},
                             {"d", UINT64_MAX, "", false}});
  const auto firsts = FirstsOf(placement, 30000);
  EXPECT_FALSE(firsts.contains("a"));
  EXPECT_FALSE(firsts.contains("b"));
  EXPECT_NEAR(firsts.at("c"), 10000, 400);
  EXPECT_NEAR(firsts.at("d"), 20000, 400);
}

TEST(PlacementTest, TheSecondCopyIsOnAnotherNodeByItsWeight) {
  const Placement placement({{"a", 1 * kGiB, "", false},
                             {"b", 1 * kGiB, "", false},
                             {"c", 2 * kGiB, "", false}});
  std::map<std::string, int> seconds_after_a;
  for (std::uint32_t group = 0; group < 40000; ++group) {
    const auto names = NamesOf(placement, group, 2);
    ASSERT_EQ(names.size(), 2u);
    ASSERT_NE(names[0], names[1]);
    if (names[0] == "a") ++seconds_after_a[names[1]];
  }
  const int all = seconds_after_a["b"] + seconds_after_a["c"];
  EXPECT_NEAR(all, 10000, 400);
  EXPECT_NEAR(seconds_after_a["c"], all * 2 / 3, 250);
}

TEST(PlacementTest, TheFirstIsTheSameHoweverManyCopiesAreWanted) {
  const Placement placement({{"a", 3, "x", false},
                             {"b", 2, "x", false},
                             {"c", 4, "y", false},
                             {"d", 4, "", false}});
  for (std::uint32_t group = 0; group < 1000; ++group) {
    const auto all = NamesOf(placement, group, 4);
    for (std::size_t copies = 1; copies < 4; ++copies) {
      EXPECT_EQ(NamesOf(placement, group, copies),
                std::vector(all.begin(), all.begin() + copies));
    }
  }
}

TEST(PlacementTest, WithoutWeightOrWhenDrainingANodeGetsNothing) {
  const Placement placement(
      {{"a", 0, "", false}, {"b", kGiB, "", true}, {"c", kGiB, "", false}});
  EXPECT_EQ(placement.nodes().size(), 3u);
  for (std::uint32_t group = 0; group < 1000; ++group) {
    EXPECT_EQ(NamesOf(placement, group, 2), std::vector<std::string>{"c"});
  }
}

TEST(PlacementTest, NoNodesOrNoCopiesPlaceNothing) {
  EXPECT_TRUE(NamesOf(Placement(), 1, 2).empty());
  EXPECT_TRUE(NamesOf(Placement({{"a", 0, "", false}}), 1, 2).empty());
  EXPECT_TRUE(NamesOf(Placement({{"a", 1, "", false}}), 1, 0).empty());
}

TEST(PlacementTest, NoMoreCopiesThanTheLimitArePlaced) {
  std::vector<PlacementNode> nodes;
  for (const char* name : {"a", "b", "c", "d", "e", "f"}) {
    nodes.push_back({name, 1, "", false});
  }
  EXPECT_EQ(NamesOf(Placement(nodes), 1, 6).size(), Placement::kCopiesMax);
}

TEST(PlacementTest, CopiesAreOnDifferentRacksAsLongAsThereAreAny) {
  const Placement placement({{"a", 9, "x", false},
                             {"b", 9, "x", false},
                             {"c", 9, "x", false},
                             {"d", 1, "y", false},
                             {"e", 0, "z", false}});
  const std::set<std::string> x = {"a", "b", "c"};
  for (std::uint32_t group = 0; group < 2000; ++group) {
    const auto two = NamesOf(placement, group, 2);
    ASSERT_EQ(two.size(), 2u);
    EXPECT_NE(x.contains(two[0]), x.contains(two[1])) << group;
    // The third has no rack left to itself, and is on another node still.
    const auto three = NamesOf(placement, group, 3);
    EXPECT_EQ(std::set(three.begin(), three.end()).size(), 3u) << group;
    EXPECT_EQ(NamesOf(placement, group, 4).size(), 4u) << group;
  }
}

TEST(PlacementTest, InOneRackTheSecondCopyIsOnAnotherNode) {
  const Placement placement(
      {{"a", 2, "x", false}, {"b", 1, "x", false}, {"c", 1, "x", false}});
  const Placement unlabelled(
      {{"a", 2, "", false}, {"b", 1, "", false}, {"c", 1, "", false}});
  for (std::uint32_t group = 0; group < 2000; ++group) {
    const auto names = NamesOf(placement, group, 2);
    ASSERT_EQ(names.size(), 2u);
    EXPECT_NE(names[0], names[1]);
    EXPECT_EQ(names, NamesOf(unlabelled, group, 2));
  }
}

TEST(PlacementTest, NodesWithoutARackCountAsRacksOfTheirOwn) {
  const Placement placement({{"a", 9, "", false},
                             {"b", 9, "", false},
                             {"c", 1, "x", false},
                             {"d", 1, "x", false}});
  int both_unlabelled = 0;
  for (std::uint32_t group = 0; group < 1000; ++group) {
    const auto names = NamesOf(placement, group, 2);
    both_unlabelled += names[0] < "c" && names[1] < "c";
    EXPECT_FALSE(names[0] >= "c" && names[1] >= "c") << group;
  }
  EXPECT_GT(both_unlabelled, 700);
}

TEST(PlacementTest, TheOrderOfTheListDoesNotMatter) {
  std::vector<PlacementNode> nodes;
  for (int i = 0; i < 40; ++i) {
    nodes.push_back(
        {"node-" + std::to_string(i), static_cast<std::uint64_t>(1 + i % 5),
         i % 4 == 0 ? "" : "r" + std::to_string(i % 3), i % 11 == 0});
  }
  nodes.push_back({"node-7", 1, "elsewhere", false});  // named twice
  const Placement first(nodes);
  std::mt19937_64 random(3);
  for (int round = 0; round < 5; ++round) {
    std::shuffle(nodes.begin(), nodes.end(), random);
    const Placement other(nodes);
    for (std::uint32_t group = 0; group < 500; ++group) {
      ASSERT_EQ(NamesOf(first, group, 3), NamesOf(other, group, 3));
    }
  }
}

TEST(PlacementTest, OfOneNameTwiceTheHeavierCounts) {
  const Placement placement(
      {{"a", 1, "x", false}, {"a", 5, "y", false}, {"b", 1, "z", false}});
  ASSERT_EQ(placement.nodes().size(), 2u);
  EXPECT_EQ(placement.nodes()[0].weight, 5u);
  EXPECT_EQ(NamesOf(placement, 1, 3).size(), 2u);
}

TEST(PlacementTest, AChangeNamesWhoGetsACopyAndWhoLosesOne) {
  const Placement before(
      {{"a", 1, "", false}, {"b", 1, "", false}, {"c", 1, "", false}});
  const Placement after(
      {{"a", 1, "", false}, {"b", 1, "", false}, {"d", 1, "", false}});
  int moved = 0;
  for (std::uint32_t group = 0; group < 300; ++group) {
    const PlacementChange change = ChangeOf(before, after, group, 2);
    ASSERT_EQ(change.added_count, change.removed_count);
    const auto was = NamesOf(before, group, 2);
    const auto is = NamesOf(after, group, 2);
    std::set<std::string> result(was.begin(), was.end());
    for (std::uint32_t i = 0; i < change.removed_count; ++i) {
      EXPECT_EQ(result.erase(before.nodes()[change.removed[i]].name), 1u);
    }
    for (std::uint32_t i = 0; i < change.added_count; ++i) {
      EXPECT_TRUE(result.insert(after.nodes()[change.added[i]].name).second);
    }
    EXPECT_EQ(result, std::set(is.begin(), is.end()));
    moved += change.added_count != 0;
  }
  std::vector<std::uint32_t> groups(300);
  for (std::uint32_t i = 0; i < 300; ++i) groups[i] = i;
  EXPECT_EQ(MovedGroups(before, after, groups, 2).size(), moved);
  EXPECT_TRUE(MovedGroups(before, before, groups, 2).empty());
  EXPECT_EQ(MovedGroups(Placement(), before, groups, 2).size(), 300u);
  EXPECT_TRUE(MovedGroups(before, Placement(), groups, 2).empty());
}

}  // namespace
}  // namespace agentmem::tiering
