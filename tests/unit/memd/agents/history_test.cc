#include "memd/agents/history.h"

#include <gtest/gtest.h>

#include "base/status.h"
#include "memd/agents/manifest_diff.h"
#include "tests/unit/memd/agents/region_harness.h"

namespace agentmem {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

class History : public ::testing::Test {
 protected:
  // Ten versions, ten seconds apart, each with a label.
  History() : region_(1ULL << 30, &store_) {
    for (int i = 1; i <= 10; ++i) {
      region_.info.wall_time_ns = i * 10 * kSecond;
      region_.info.labels = {{"step", std::to_string(i)}};
      region_.Write(static_cast<std::uint64_t>(i) * 300, 1, 5, true);
      EXPECT_NE(region_.Commit(), nullptr);
    }
    head_ = region_.versions.back().link();
  }

  std::uint64_t Oldest(RetentionKind kind, std::uint64_t limit,
                       std::uint64_t oldest_kept = 1) {
    const auto oldest =
        OldestToKeep(head_, oldest_kept, {kind, limit}, 100 * kSecond, &store_);
    EXPECT_TRUE(oldest.ok()) << oldest.status().ToString();
    return oldest.value_or(0);
  }

  MemoryBlocks store_;
  RegionHarness region_;
  VersionLink head_;
};

TEST_F(History, VersionsComeNewestFirstWithTheirLabels) {
  std::vector<std::string> steps;
  const absl::Status walked =
      ForEachVersion(head_, 7, &store_, [&](const Manifest& version) {
        steps.push_back(version.info().labels.at(0).second);
        return absl::OkStatus();
      });
  EXPECT_TRUE(walked.ok()) << walked.ToString();
  EXPECT_EQ(steps, (std::vector<std::string>{"10", "9", "8", "7"}));
  EXPECT_EQ(store_.read.size(), 4u) << "nothing but version blocks";
}

TEST_F(History, AMissingVersionIsDataLossThatNamesIt) {
  store_.blocks.erase(region_.versions[4].key());
  const absl::Status walked = ForEachVersion(
      head_, 1, &store_, [](const Manifest&) { return absl::OkStatus(); });
  EXPECT_EQ(walked.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(StatusMessage(walked).find("version 5 of block"), std::string::npos)
      << StatusMessage(walked);
}

TEST_F(History, ALinkThatLeadsToAnotherVersionIsDataLoss) {
  VersionLink wrong = region_.versions[3].link();
  wrong.number = 5;
  EXPECT_EQ(OpenVersion(wrong, &store_).status().code(),
            absl::StatusCode::kDataLoss);
  wrong = region_.versions[3].link();
  wrong.bytes += 1;
  EXPECT_EQ(OpenVersion(wrong, &store_).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST_F(History, RetentionByCountKeepsTheLastOnes) {
  EXPECT_EQ(Oldest(RetentionKind::kAll, 0, 3), 3u);
  EXPECT_EQ(Oldest(RetentionKind::kLast, 1), 10u);
  EXPECT_EQ(Oldest(RetentionKind::kLast, 4), 7u);
  EXPECT_EQ(Oldest(RetentionKind::kLast, 4, 9), 9u) << "what is gone is gone";
  EXPECT_EQ(Oldest(RetentionKind::kLast, 99), 1u);
}

TEST_F(History, RetentionByAgeKeepsWhatWasCurrentThen) {
  // Now is second 100, when version 10 was made.
  EXPECT_EQ(Oldest(RetentionKind::kAge, 1), 9u) << "current until now";
  EXPECT_EQ(Oldest(RetentionKind::kAge, 25 * kSecond), 7u);
  EXPECT_EQ(Oldest(RetentionKind::kAge, 1000 * kSecond), 1u);
  const auto later =
      OldestToKeep(head_, 1, {RetentionKind::kAge, 1}, 1000 * kSecond, &store_);
  EXPECT_EQ(later.value_or(0), 10u) << "the newest stays";
}

// Another agent's region that begins as version 8 of this one.
TEST_F(History, AForkSharesBlocksAndHasAHistoryOfItsOwn) {
  while (!region_.last.folded) {
    region_.Write(7, 1, 9, true);
    ASSERT_NE(region_.Commit(), nullptr);
  }
  const Manifest& origin = region_.versions.back();
  constexpr std::uint64_t kChild = 0xfedcba9876543210;
  std::uint64_t counter = 0;
  const auto next_key = [&] { return MakeRegionKey(kChild, 1, ++counter); };
  NodeLoader loader(&store_);
  VersionChange change;
  change.info = region_.info;
  change.info.region_id = 1;
  change.info.number = 1;
  change.info.flags = kVersionFork;
  change.info.parent = origin.link();
  change.base = &origin;
  std::optional<Manifest> child;
  for (int i = 0; i < 12; ++i) {
    Piece piece;
    piece.units = 1;
    piece.bytes = 3;
    piece.in_payload = true;
    change.payload = "abc";
    change.pages = {{5, {{piece}}}};
    const auto made = BuildVersion(change, &loader, next_key);
    ASSERT_TRUE(made.ok()) << made.status().ToString();
    store_.blocks[made->version.key] = made->version.bytes;
    for (const NewBlock& node : made->nodes) {
      store_.blocks[node.key] = node.bytes;
    }
    child = *Manifest::Open(made->version.bytes, made->version.key);
    change.info.number += 1;
    change.info.flags = 0;
    change.info.parent = child->link();
    change.base = &*child;
  }
  std::uint64_t versions = 0;
  EXPECT_TRUE(
      ForEachVersion(child->link(), 1, &store_, [&](const Manifest& version) {
        EXPECT_EQ(version.info().region_id, 1u);
        ++versions;
        return absl::OkStatus();
      }).ok());
  EXPECT_EQ(versions, 12u) << "and not the origin's";
  std::vector<ByteRange> ranges;
  NodeLoader one(&store_), other(&store_);
  EXPECT_TRUE(
      Diff({&origin, &one}, {&*child, &other}, [&](const ByteRange& range) {
        ranges.push_back(range);
        return absl::OkStatus();
      }).ok());
  EXPECT_EQ(ranges, (std::vector<ByteRange>{{5 * kPageBytes, kUnitBytes}}));
}

TEST_F(History, ADiffOfNeighboursReadsThePathsToWhatDiffers) {
  for (std::uint64_t page = 0; page < 16384; page += 3) {
    region_.Write(page, 1, 6, false, 8);
  }
  ASSERT_NE(region_.Commit(), nullptr);
  ASSERT_TRUE(region_.last.folded);
  const std::size_t before = region_.versions.size() - 1;
  do {
    region_.Write(77, 1, 9, true);
    ASSERT_NE(region_.Commit(), nullptr);
  } while (!region_.last.folded);
  store_.read.clear();
  NodeLoader one(&store_), other(&store_);
  std::uint64_t ranges = 0;
  EXPECT_TRUE(Diff({&region_.versions[before], &one},
                   {&region_.versions.back(), &other},
                   [&](const ByteRange&) {
                     ++ranges;
                     return absl::OkStatus();
                   })
                  .ok());
  EXPECT_EQ(ranges, 1u);
  EXPECT_EQ(store_.read.size(), 4u) << "two roots, two leaves, of 65";
}

}  // namespace
}  // namespace agentmem
