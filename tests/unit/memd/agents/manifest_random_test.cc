// Random commits against a model: what every version says, where two versions
// differ, and which blocks a version reaches.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "base/status.h"
#include "memd/agents/block_walk.h"
#include "memd/agents/manifest_diff.h"
#include "tests/unit/memd/agents/region_harness.h"

namespace agentmem {
namespace {

using Units = std::set<std::uint64_t>;

Units ModelDiff(const RegionModel& a, const RegionModel& b) {
  Units units;
  for (const auto& [one, other] : {std::pair(&a, &b), std::pair(&b, &a)}) {
    for (const auto& [page, stamps] : *one) {
      const auto found = other->find(page);
      for (std::uint32_t unit = 0; unit < kPageUnits; ++unit) {
        const std::uint32_t there =
            found == other->end() ? 0 : found->second[unit];
        if (stamps[unit] != there) units.insert(page * kPageUnits + unit);
      }
    }
  }
  return units;
}

Units DiffOf(const VersionToRead& a, const VersionToRead& b,
             std::uint64_t from = 0) {
  Units units;
  std::uint64_t end = 0;
  const absl::Status status = Diff(
      a, b,
      [&](const ByteRange& range) {
        EXPECT_TRUE(units.empty() || range.offset > end)
            << "touches or descends";
        EXPECT_GT(range.bytes, 0u);
        end = range.offset + range.bytes;
        EXPECT_GT(end, from);
        for (std::uint64_t at = range.offset; at < end; at += kUnitBytes) {
          if (at >= from) units.insert(at / kUnitBytes);
        }
        return absl::OkStatus();
      },
      from);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return units;
}

using Blocks = std::set<std::pair<Key, BlockKind>>;

Blocks BlocksOf(const Manifest& version, NodeLoader* loader,
                absl::flat_hash_set<Key>* seen = nullptr) {
  Blocks blocks;
  const absl::Status status =
      ForEachBlock(version, loader, seen,
                   [&](const Key& key, std::uint32_t bytes, BlockKind kind) {
                     EXPECT_GT(bytes, 0u);
                     blocks.emplace(key, kind);
                     return absl::OkStatus();
                   });
  EXPECT_TRUE(status.ok()) << status.ToString();
  return blocks;
}

// What reading all of a version uses, and what its overlay hides in the tree.
Blocks BlocksUsed(const Manifest& version, MemoryBlocks* store) {
  Blocks used = {{version.key(), BlockKind::kVersion}};
  const auto add = [&](std::span<const Piece> pieces) {
    for (const Piece& piece : pieces) {
      if (piece.bytes == 0) continue;
      used.emplace(piece.key, BlockKind::kPiece);
    }
  };
  store->read.clear();
  NodeLoader fresh(store);
  EXPECT_TRUE(version
                  .ForEachPage(0, UINT64_MAX, &fresh,
                               [&](std::uint64_t, std::span<const Piece> p) {
                                 add(p);
                                 return absl::OkStatus();
                               })
                  .ok());
  for (const Key& key : store->read) used.emplace(key, BlockKind::kNode);
  for (const OverlayPage& entry : version.overlay()) {
    const auto hidden = FindInTree(version.root(), entry.page, &fresh);
    EXPECT_TRUE(hidden.ok());
    EXPECT_EQ(entry.in_tree, !hidden->pieces.empty());
    add(hidden->pieces);
  }
  return used;
}

class RandomRegion {
 public:
  RandomRegion(std::uint64_t seed, std::uint64_t pages, std::uint64_t hot)
      : region_(pages * kPageBytes, &store_), random_(seed), pages_(pages) {
    for (std::uint64_t i = 0; i < hot; ++i) {
      hot_.push_back(i % 3 == 0 ? i : random_() % pages);
    }
  }

  void Run(int commits) {
    for (int i = 0; i < commits; ++i) {
      if (random_() % 50 == 0) RestoreOne();
      if (random_() % 40 == 0) Grow();
      Change();
      const Manifest* const made = region_.Commit();
      ASSERT_NE(made, nullptr);
      folds_ += region_.last.folded ? 1 : 0;
      models_.push_back(i % 8 == 0 ? region_.model : RegionModel());
      kept_.push_back(i % 8 == 0);
      ASSERT_EQ(region_.Read(*made, &region_.loader), region_.model) << i;
      if (i % 4 == 0) CompareWithAnOlderOne();
      if (i % 16 == 0) CheckBlocks();
      if (::testing::Test::HasFailure()) return;
    }
    EXPECT_GT(folds_, commits / 100);
    EXPECT_LT(folds_, commits);
  }

  void EveryKeptVersionIsStillAsItWas() {
    for (std::size_t i = 0; i < models_.size(); ++i) {
      if (!kept_[i]) continue;
      const Manifest& old = region_.versions[i];
      auto opened = Manifest::Open(store_.blocks[old.key()], old.key());
      ASSERT_TRUE(opened.ok());
      NodeLoader fresh(&store_);
      ASSERT_EQ(region_.Read(*opened, &fresh), models_[i]) << "version " << i;
      std::uint32_t mapped = 0;
      EXPECT_TRUE(opened
                      ->ForEachPage(0, UINT64_MAX, &fresh,
                                    [&](std::uint64_t, std::span<const Piece>) {
                                      ++mapped;
                                      return absl::OkStatus();
                                    })
                      .ok());
      EXPECT_EQ(mapped, opened->info().mapped_pages);
    }
  }

  void MarkingAllVersionsWithOneSetIsMarkingEachOfThem() {
    absl::flat_hash_set<Key> seen;
    Blocks together, each;
    NodeLoader fresh(&store_);
    for (const Manifest& version : region_.versions) {
      together.merge(BlocksOf(version, &fresh, &seen));
      each.merge(BlocksOf(version, &fresh));
    }
    EXPECT_EQ(together, each);
    std::uint64_t nodes = 0;
    for (const auto& [key, kind] : together) {
      if (kind == BlockKind::kNode) ++nodes;
    }
    store_.read.clear();
    seen.clear();
    NodeLoader none_kept(&store_, 0);
    for (const Manifest& version : region_.versions) {
      BlocksOf(version, &none_kept, &seen);
    }
    EXPECT_EQ(store_.read.size(), nodes) << "a node was read twice";
  }

 private:
  void Change() {
    const std::uint64_t count =
        random_() % 20 == 0 ? random_() % 200 : random_() % 6;
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t page = hot_[random_() % hot_.size()];
      const auto units = static_cast<std::uint16_t>(
          random_() % 4 == 0 ? kAllUnits
                             : 1U << random_() % 16 | random_() % 0x10000);
      switch (random_() % 16) {
        case 0:
          region_.Clear(page);
          break;
        case 1:
          region_.Write(page, units, 0, true);
          break;
        default:
          stamp_ += 2;
          region_.Write(page, units, stamp_, random_() % 2 == 0,
                        4 + random_() % (kUnitBytes - 3));
      }
    }
  }

  void RestoreOne() {
    if (models_.empty()) return;
    const std::size_t i = random_() % models_.size();
    if (!kept_[i]) return;
    region_.info.region_bytes = std::max(
        region_.info.region_bytes, region_.versions[i].info().region_bytes);
    region_.Restore(region_.versions[i], models_[i]);
  }

  void Grow() {
    pages_ += random_() % 100000;
    pages_ = std::min<std::uint64_t>(pages_, kRegionPagesMax);
    region_.info.region_bytes = pages_ * kPageBytes;
    for (int i = 0; i < 5; ++i) {
      hot_[random_() % hot_.size()] = random_() % pages_;
    }
  }

  void CompareWithAnOlderOne() {
    const std::size_t i = random_() % models_.size();
    if (!kept_[i]) return;
    NodeLoader one(&store_), other(&store_);
    const VersionToRead older = {&region_.versions[i], &one};
    const VersionToRead newer = {&region_.versions.back(), &other};
    EXPECT_EQ(DiffOf(older, newer), ModelDiff(models_[i], region_.model));
    EXPECT_EQ(DiffOf(newer, older), ModelDiff(models_[i], region_.model));
    const std::uint64_t from = random_() % (pages_ * kPageUnits);
    Units rest = ModelDiff(models_[i], region_.model);
    rest.erase(rest.begin(), rest.lower_bound(from));
    EXPECT_EQ(DiffOf(older, newer, from * kUnitBytes), rest);
    EXPECT_EQ(DiffOf({}, newer), ModelDiff({}, region_.model));
    EXPECT_EQ(DiffOf(newer, newer), Units());
  }

  void CheckBlocks() {
    NodeLoader fresh(&store_);
    EXPECT_EQ(BlocksOf(region_.versions.back(), &fresh),
              BlocksUsed(region_.versions.back(), &store_));
  }

  MemoryBlocks store_;
  RegionHarness region_;
  std::mt19937_64 random_;
  std::uint64_t pages_;
  std::vector<std::uint64_t> hot_;
  std::vector<RegionModel> models_;
  std::vector<bool> kept_;
  std::uint32_t stamp_ = 0;
  int folds_ = 0;
};

TEST(ManifestRandom, ASmallRegionIsWhatTheModelSays) {
  RandomRegion region(1, 60, 40);
  region.Run(1000);
  region.EveryKeptVersionIsStillAsItWas();
  region.MarkingAllVersionsWithOneSetIsMarkingEachOfThem();
}

TEST(ManifestRandom, AWideRegionIsWhatTheModelSays) {
  RandomRegion region(2, 70000, 300);
  region.Run(1000);
  region.EveryKeptVersionIsStillAsItWas();
  region.MarkingAllVersionsWithOneSetIsMarkingEachOfThem();
}

}  // namespace
}  // namespace agentmem
