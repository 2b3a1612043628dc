#include "tiering/placement.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <map>
#include <tuple>
#include <utility>

namespace agentmem::tiering {
namespace {

// All that follows decides where blocks are: changing any of it moves them all,
// and nodes that differ in it do not find each other's. The test has examples.
constexpr int kFractionBits = 40;
constexpr int kTableBits = 10;

// log2(mantissa / 2^63) of a mantissa from 2^63 on, bit after bit: the square
// of a number has twice its logarithm.
constexpr std::uint64_t Log2OfMantissa(std::uint64_t mantissa) {
  std::uint64_t log = 0;
  for (int bit = 0; bit < kFractionBits; ++bit) {
    const unsigned __int128 square =
        static_cast<unsigned __int128>(mantissa) * mantissa;
    const bool two = (square >> 127) != 0;
    mantissa = static_cast<std::uint64_t>(square >> (two ? 64 : 63));
    log = log << 1 | (two ? 1 : 0);
  }
  return log;
}

constexpr std::size_t kTableSize = 1 << kTableBits;

constexpr std::array<std::uint64_t, kTableSize + 1> MakeLogTable() {
  std::array<std::uint64_t, kTableSize + 1> table = {};
  for (std::uint64_t i = 0; i < kTableSize; ++i) {
    table[i] = Log2OfMantissa(1ULL << 63 | i << (63 - kTableBits));
  }
  table[kTableSize] = 1ULL << kFractionBits;
  return table;
}
constexpr std::array<std::uint64_t, kTableSize + 1> kLogTable = MakeLogTable();

// SplitMix64's finaliser (Steele, Lea, Flood: Fast Splittable Pseudorandom
// Number Generators, OOPSLA 2014).
constexpr std::uint64_t Mix(std::uint64_t bits) {
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ULL;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebULL;
  return bits ^ (bits >> 31);
}

std::uint64_t HashOfName(const std::string& name) {
  std::uint64_t hash = name.size();
  for (const char c : name) {
    hash = Mix((hash ^ static_cast<unsigned char>(c)) + 0x9e3779b97f4a7c15ULL);
  }
  return hash;
}

std::uint64_t SeedOfGroup(std::uint32_t group) {
  return Mix(group * 0x9e3779b97f4a7c15ULL + 0xd1b54a32d192ed03ULL);
}

// More than the rounding of a few operations on doubles.
constexpr double kMargin = 1e-12;
// ln u <= u - 1, so -log2(u) >= (1 - u) / ln 2. Rounded down.
constexpr double kLog2OfE = 1.4426;

}  // namespace

// Linear between the table's points, where a logarithm lies above: the result
// is never less than the true one, and at most 2e-7 more.
std::uint64_t NegativeLog2(std::uint64_t hash) {
  hash |= hash == 0 ? 1 : 0;
  const int shift = std::countl_zero(hash);
  const std::uint64_t mantissa = hash << shift;
  const std::uint64_t index = (mantissa >> (63 - kTableBits)) % kTableSize;
  const std::uint64_t rest = mantissa >> (63 - kTableBits - 32) & UINT32_MAX;
  const std::uint64_t step = kLogTable[index + 1] - kLogTable[index];
  const std::uint64_t log = kLogTable[index] + (step * rest >> 32);
  return (static_cast<std::uint64_t>(shift + 1) << kFractionBits) - log;
}

Placement::Placement(std::vector<PlacementNode> nodes)
    : nodes_(std::move(nodes)) {
  std::sort(nodes_.begin(), nodes_.end(),
            [](const PlacementNode& a, const PlacementNode& b) {
              return std::tie(a.name, b.weight, a.draining, a.rack) <
                     std::tie(b.name, a.weight, b.draining, b.rack);
            });
  const auto end =
      std::unique(nodes_.begin(), nodes_.end(),
                  [](const PlacementNode& a, const PlacementNode& b) {
                    return a.name == b.name;
                  });
  nodes_.erase(end, nodes_.end());
  std::map<std::string, std::uint32_t> racks;
  for (std::uint32_t i = 0; i < nodes_.size(); ++i) {
    const PlacementNode& node = nodes_[i];
    if (node.weight == 0 || node.draining) continue;
    const auto number = static_cast<std::uint32_t>(index_.size());
    index_.push_back(i);
    hash_.push_back(HashOfName(node.name));
    weight_.push_back(node.weight);
    cost_of_one_.push_back((1 - kMargin) / static_cast<double>(node.weight));
    // The number of its first node.
    rack_.push_back(node.rack.empty()
                        ? number
                        : racks.try_emplace(node.rack, number).first->second);
    if (rack_.back() == number) ++racks_;
  }
}

bool Placement::Before(const Ranked& first, const Ranked& second) const {
  using Wide = unsigned __int128;
  const Wide x = static_cast<Wide>(first.log) * weight_[second.candidate];
  const Wide y = static_cast<Wide>(second.log) * weight_[first.candidate];
  return std::tie(x, first.candidate) < std::tie(y, second.candidate);
}

std::size_t Placement::Rank(std::uint64_t seed, bool by_rack,
                            std::span<const Ranked> taken,
                            std::span<Ranked> ranked) const {
  std::size_t count = 0;
  double cost_limit = std::numeric_limits<double>::infinity();
  for (std::uint32_t i = 0; i < hash_.size(); ++i) {
    const std::uint64_t hash = Mix(hash_[i] ^ seed);
    // Most are far behind, and this much is cheap to see. It only skips, with
    // a margin: Before alone decides, on integers.
    const double cost_min = static_cast<double>(~hash >> 11) *
                            (kLog2OfE * 0x1p-53) * cost_of_one_[i];
    if (cost_min > cost_limit) continue;
    Ranked next = {i, NegativeLog2(hash), 0};
    next.cost_max = static_cast<double>(next.log) *
                    (0x1p-40 * (1 + 4 * kMargin)) * cost_of_one_[i];
    const auto same = [&](const Ranked& other) {
      return by_rack ? rack_[other.candidate] == rack_[i]
                     : other.candidate == i;
    };
    if (std::any_of(taken.begin(), taken.end(), same)) continue;
    const auto begin = ranked.begin();
    auto place = std::find_if(begin, begin + count, same);
    if (place == begin + count) {
      if (count < ranked.size()) {
        ++count;
      } else if (!Before(next, ranked.back())) {
        continue;
      }
      place = begin + (count - 1);
    } else if (!Before(next, *place)) {
      continue;
    }
    for (; place != begin && Before(next, *(place - 1)); --place) {
      *place = *(place - 1);
    }
    *place = next;
    if (count == ranked.size()) cost_limit = ranked.back().cost_max;
  }
  return count;
}

std::size_t Placement::Place(std::uint32_t group,
                             std::span<std::uint32_t> out) const {
  const std::uint64_t seed = SeedOfGroup(group);
  std::array<Ranked, kCopiesMax> ranked;
  const std::size_t copies = std::min({out.size(), kCopiesMax, hash_.size()});
  if (copies == 0) return 0;
  const std::span<Ranked> all(ranked.data(), copies);
  const std::size_t racks = std::min(copies, racks_);
  std::size_t count = Rank(seed, /*by_rack=*/true, {}, all.first(racks));
  if (count < copies) {
    count +=
        Rank(seed, /*by_rack=*/false, all.first(count), all.subspan(count));
  }
  for (std::size_t i = 0; i < count; ++i) out[i] = index_[ranked[i].candidate];
  return count;
}

PlacementChange ChangeOf(const Placement& before, const Placement& after,
                         std::uint32_t group, std::size_t copies) {
  std::uint32_t old_places[Placement::kCopiesMax];
  std::uint32_t new_places[Placement::kCopiesMax];
  copies = std::min(copies, Placement::kCopiesMax);
  const std::span<const std::uint32_t> old_nodes(
      old_places, before.Place(group, {old_places, copies}));
  const std::span<const std::uint32_t> new_nodes(
      new_places, after.Place(group, {new_places, copies}));
  const auto has = [](const Placement& placement,
                      std::span<const std::uint32_t> places,
                      const std::string& name) {
    return std::any_of(places.begin(), places.end(), [&](std::uint32_t place) {
      return placement.nodes()[place].name == name;
    });
  };
  PlacementChange change;
  for (const std::uint32_t place : new_nodes) {
    if (!has(before, old_nodes, after.nodes()[place].name)) {
      change.added[change.added_count++] = place;
    }
  }
  for (const std::uint32_t place : old_nodes) {
    if (!has(after, new_nodes, before.nodes()[place].name)) {
      change.removed[change.removed_count++] = place;
    }
  }
  return change;
}

std::vector<std::uint32_t> MovedGroups(const Placement& before,
                                       const Placement& after,
                                       std::span<const std::uint32_t> groups,
                                       std::size_t copies) {
  std::vector<std::uint32_t> moved;
  for (const std::uint32_t group : groups) {
    if (ChangeOf(before, after, group, copies).added_count != 0) {
      moved.push_back(group);
    }
  }
  return moved;
}

}  // namespace agentmem::tiering
