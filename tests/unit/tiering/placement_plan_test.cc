// Placement in a cluster of 1,000 nodes: how even it is, and what a node's
// coming and going moves.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "tiering/placement.h"

namespace agentmem::tiering {
namespace {

constexpr std::size_t kNodes = 1000;
constexpr std::size_t kCopies = 2;

struct Shape {
  const char* name = "";
  bool mixed_weights = false;
  std::size_t racks = 0;
};
constexpr Shape kShapes[] = {{"alike", false, 0},
                             {"mixed weights", true, 0},
                             {"racks", false, 40},
                             {"mixed weights in racks", true, 40}};

PlacementNode NodeOf(const Shape& shape, std::size_t i) {
  PlacementNode node;
  node.name = "node-" + std::to_string(i);
  // The rack and the weight have nothing to do with one another.
  node.weight = (shape.mixed_weights ? 2 + i % 3 : 3) << 35;
  if (shape.racks != 0) node.rack = "rack-" + std::to_string(i % shape.racks);
  return node;
}

std::vector<PlacementNode> NodesOf(const Shape& shape, std::size_t from,
                                   std::size_t to) {
  std::vector<PlacementNode> nodes;
  for (std::size_t i = from; i < to; ++i) nodes.push_back(NodeOf(shape, i));
  return nodes;
}

double WeightOf(const std::vector<PlacementNode>& nodes) {
  double sum = 0;
  for (const PlacementNode& node : nodes) {
    sum += static_cast<double>(node.weight);
  }
  return sum;
}

TEST(PlacementPlanTest, NoNodeOfAThousandHasMuchMoreThanItsShare) {
  // 670 copies on the smallest node: see the header on how many it takes.
  constexpr std::uint32_t kGroups = 500'000;
  for (const Shape& shape : {kShapes[0], kShapes[3]}) {
    const Placement placement(NodesOf(shape, 0, kNodes));
    std::vector<std::uint32_t> load(kNodes);
    for (std::uint32_t group = 0; group < kGroups; ++group) {
      std::uint32_t out[kCopies];
      ASSERT_EQ(placement.Place(group, out), kCopies);
      const PlacementNode& first = placement.nodes()[out[0]];
      const PlacementNode& second = placement.nodes()[out[1]];
      ASSERT_NE(out[0], out[1]);
      ASSERT_TRUE(shape.racks == 0 || first.rack != second.rack);
      ++load[out[0]];
      ++load[out[1]];
    }
    const double mean = 1.0 * kGroups * kCopies / WeightOf(placement.nodes());
    double max = 0;
    for (std::size_t i = 0; i < kNodes; ++i) {
      const auto weight = static_cast<double>(placement.nodes()[i].weight);
      max = std::max(max, load[i] / weight);
    }
    RecordProperty(shape.name, std::to_string(max / mean));
    EXPECT_LE(max / mean, 1.15) << shape.name;
    EXPECT_GE(max / mean, 1.0) << shape.name;
  }
}

// From `few` to `many`, and back.
void ExpectLittleMoves(const Shape& shape,
                       const std::vector<PlacementNode>& few,
                       const std::vector<PlacementNode>& many,
                       std::uint32_t groups) {
  const Placement before(few);
  const Placement after(many);
  std::set<std::string> stay;
  for (const PlacementNode& node : few) stay.insert(node.name);
  std::uint32_t joined = 0;
  std::uint32_t left = 0;
  for (std::uint32_t group = 0; group < groups; ++group) {
    const PlacementChange join = ChangeOf(before, after, group, kCopies);
    for (std::uint32_t i = 0; i < join.added_count; ++i) {
      ASSERT_FALSE(stay.contains(after.nodes()[join.added[i]].name));
    }
    joined += join.added_count;
    const PlacementChange leave = ChangeOf(after, before, group, kCopies);
    for (std::uint32_t i = 0; i < leave.removed_count; ++i) {
      ASSERT_FALSE(stay.contains(after.nodes()[leave.removed[i]].name));
    }
    left += leave.added_count;
  }
  const double share = 1 - WeightOf(few) / WeightOf(many);
  const double minimum = share * groups * kCopies;
  EXPECT_LE(joined, 1.1 * minimum) << shape.name;
  // Of two or three nodes each has nearly all: two copies cannot be on one.
  EXPECT_GE(joined, (few.size() < 4 ? 0.75 : 0.9) * minimum) << shape.name;
  EXPECT_EQ(left, joined) << shape.name;
}

TEST(PlacementPlanTest, NodesThatComeOrGoMoveTheirShareAndNothingElse) {
  constexpr std::uint32_t kGroups = 30'000;
  for (const Shape& shape : kShapes) {
    ExpectLittleMoves(shape, NodesOf(shape, 30, kNodes),
                      NodesOf(shape, 0, kNodes), kGroups);
  }
}

TEST(PlacementPlanTest, OneNodeMoreOfAFewMovesItsShareAndNothingElse) {
  constexpr Shape kShape = {"few", true, 0};
  for (const std::size_t count : {2, 3, 9}) {
    ExpectLittleMoves(kShape, NodesOf(kShape, 0, count),
                      NodesOf(kShape, 0, count + 1), 20'000);
  }
}

TEST(PlacementPlanTest, ADrainingNodeMovesWhatItHadAndNothingElse) {
  constexpr Shape kShape = {"racks", false, 40};
  std::vector<PlacementNode> nodes = NodesOf(kShape, 0, kNodes);
  const Placement before(nodes);
  nodes[17].draining = true;
  const Placement after(nodes);
  std::uint32_t moved = 0;
  for (std::uint32_t group = 0; group < 50'000; ++group) {
    const PlacementChange change = ChangeOf(before, after, group, kCopies);
    if (change.removed_count == 0) continue;
    ASSERT_EQ(change.removed_count, 1u);
    ASSERT_EQ(before.nodes()[change.removed[0]].name, "node-17");
    ++moved;
  }
  EXPECT_NEAR(moved, 100, 40);
}

TEST(PlacementPlanTest, TwoRacksHaveOneCopyEach) {
  const Shape shape = {"two racks", true, 2};
  std::vector<PlacementNode> nodes = NodesOf(shape, 0, kNodes);
  // Unequal ones too.
  for (std::size_t i = 0; i < kNodes; ++i) {
    nodes[i].rack = i < 30 ? "small" : "large";
  }
  const Placement placement(nodes);
  for (std::uint32_t group = 0; group < 50'000; ++group) {
    std::uint32_t out[kCopies];
    ASSERT_EQ(placement.Place(group, out), kCopies);
    ASSERT_NE(placement.nodes()[out[0]].rack, placement.nodes()[out[1]].rack);
  }
}

}  // namespace
}  // namespace agentmem::tiering
