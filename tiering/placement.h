// Placement: which nodes hold a key's group, by weighted rendezvous hashing.
//
// Every node has a score for every group, from a hash of both; the highest hold
// the copies. A node's score depends on nothing but the group, its name and its
// weight, so whoever has the same list places alike, and no directory is kept:
//
//   join    the only groups that move are those that the new node gets
//   leave   the only groups that move are those that the node had
//
// The score is -weight / ln(u), with u uniform in (0, 1): a node is then first
// as often as its weight is of the whole (Schindelhauer and Schomaker, Weighted
// Distributed Hash Tables, SPAA 2005). Logarithms are of integers, by a table
// made of integers, and scores are compared exactly: no machine, compiler or
// mathematics library places differently.
//
// Copies are on different nodes, and on different racks as long as there is one
// without a copy: the best nodes of the best racks. A node without a rack's
// name counts as a rack of its own. That keeps the two lines above. But racks
// bend the shares: of two racks, however unequal, each has one copy of all. So
// do few nodes: of two copies on three nodes the heaviest has no more than one.
//
// How even it is depends on how many copies of groups a node has: with n on
// average, chance gives one of 1,000 nodes n + 3.3 x sqrt(n). At most 1.15 x n
// thus wants 500 on the smallest node. A group is 64 blocks of a sequence, 4
// MiB at 64 KiB a block: 2 GiB are as many.
//
// Ownership: a value; built anew when the members change. Threads: immutable,
// thus thread-safe. Errors: none; a list without weight places nothing. Cost: a
// Place looks at every node and allocates nothing: 0.05 us of 3 nodes, 0.5 us
// of 100, 2.5 us of 1,000 for two copies, up to twice that in a single rack. A
// block that comes over the network takes 100 us, and a batch of one group
// needs one Place; so it is flat: a hierarchy would be faster and move more.
#ifndef AGENTMEM_TIERING_PLACEMENT_H_
#define AGENTMEM_TIERING_PLACEMENT_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace agentmem::tiering {

struct PlacementNode {
  std::string name;          // unique; the same in every run of the node
  std::uint64_t weight = 0;  // bytes that it exports; 0: it gets nothing
  std::string rack;          // empty: not known
  bool draining = false;     // it gets nothing
};

class Placement {
 public:
  static constexpr std::size_t kCopiesMax = 4;

  Placement() = default;
  // In any order. Of several with one name the one with the most weight counts.
  explicit Placement(std::vector<PlacementNode> nodes);

  // By name; those that get nothing among them.
  const std::vector<PlacementNode>& nodes() const { return nodes_; }

  // Fills `out`, one copy each and at most kCopiesMax, with indices of nodes(),
  // the group's first node first. Returns how many: fewer if there are fewer
  // nodes.
  std::size_t Place(std::uint32_t group, std::span<std::uint32_t> out) const;

 private:
  struct Ranked {
    std::uint32_t candidate = 0;
    std::uint64_t log = 0;  // -log2(u), 40 bits after the point
    double cost_max = 0;    // log / weight, rounded up
  };

  // Is the first before the second in the group's order?
  bool Before(const Ranked& first, const Ranked& second) const;
  // Goes through all candidates; `ranked` has the best `count`, of different
  // racks if so wanted, else without those that `taken` names.
  std::size_t Rank(std::uint64_t seed, bool by_rack,
                   std::span<const Ranked> taken,
                   std::span<Ranked> ranked) const;

  std::vector<PlacementNode> nodes_;
  // Of those that get something, by name:
  std::vector<std::uint32_t> index_;  // of nodes_
  std::vector<std::uint64_t> hash_;
  std::vector<std::uint64_t> weight_;
  std::vector<double> cost_of_one_;  // 1 / weight, rounded down
  std::vector<std::uint32_t> rack_;
  std::size_t racks_ = 0;
};

// How a group's copies go from one placement to another: indices of the nodes
// that get one (of after.nodes()) and that need not have theirs any more (of
// before.nodes()).
struct PlacementChange {
  std::uint32_t added[Placement::kCopiesMax] = {};
  std::uint32_t removed[Placement::kCopiesMax] = {};
  std::uint32_t added_count = 0;
  std::uint32_t removed_count = 0;
};
PlacementChange ChangeOf(const Placement& before, const Placement& after,
                         std::uint32_t group, std::size_t copies);

// Those of `groups` of which a node gets a copy that it did not have.
std::vector<std::uint32_t> MovedGroups(const Placement& before,
                                       const Placement& after,
                                       std::span<const std::uint32_t> groups,
                                       std::size_t copies);

// -log2(hash / 2^64), 40 bits after the point; above 0. `hash` 0 is taken
// for 1.
std::uint64_t NegativeLog2(std::uint64_t hash);

}  // namespace agentmem::tiering

#endif  // AGENTMEM_TIERING_PLACEMENT_H_
