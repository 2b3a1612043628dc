#include "memd/agents/manifest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/status.h"
#include "memd/agents/manifest_builder.h"
#include "proto/key_text.h"
#include "tests/unit/memd/agents/region_harness.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kGiB = 1 << 30;

// Writes `count` whole pages from `first` on, and commits until they stand in
// the tree.
void Fill(RegionHarness* region, std::uint64_t first, std::uint64_t count) {
  // One block stands for all: what the pages hold does not matter here.
  const Key key = region->NextKey();
  region->store->blocks[key] = std::string(kMaxBlockBytes, 'x');
  VersionChange change;
  change.info = region->info;
  change.info.number = 1;
  for (std::uint64_t i = 0; i < count; ++i) {
    Piece piece;
    piece.key = key;
    piece.block_bytes = kMaxBlockBytes;
    piece.offset = static_cast<std::uint32_t>(i % 64 * kPageBytes);
    piece.bytes = kPageBytes;
    piece.units = kAllUnits;
    piece.base = true;
    change.pages.push_back({first + i, {{piece}}});
  }
  auto made = BuildVersion(change, &region->loader,
                           [region] { return region->NextKey(); });
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  for (const NewBlock& node : made->nodes) {
    region->store->blocks[node.key] = node.bytes;
  }
  region->store->blocks[made->version.key] = made->version.bytes;
  auto opened = Manifest::Open(made->version.bytes, made->version.key);
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  region->versions.push_back(*opened);
  region->Restore(*opened, {});
  while (!region->versions.back().overlay().empty()) {
    ASSERT_NE(region->Commit(), nullptr);
  }
  region->store->read.clear();
}

TEST(Manifest, AVersionSaysWhatItWasMadeWith) {
  MemoryBlocks store;
  RegionHarness region(10 * kPageBytes, &store);
  region.info.message = "step 7: edited main.cc";
  region.info.labels = {{"step", "7"}, {"branch", ""}};
  region.info.flags = kVersionHibernate;
  region.info.ack = Ack::kReplicated;
  region.info.trace_id = {1, 2, 3};
  region.info.changed_bytes = 4096;
  region.Write(3, 1, 17, true);
  const Manifest* const made = region.Commit();
  ASSERT_NE(made, nullptr);
  const VersionInfo& info = made->info();
  EXPECT_EQ(info.number, 1u);
  EXPECT_EQ(info.region_id, 5u);
  EXPECT_EQ(info.parent, VersionLink());
  EXPECT_EQ(info.message, region.info.message);
  EXPECT_EQ(info.labels, region.info.labels);
  EXPECT_EQ(info.flags, kVersionHibernate);
  EXPECT_EQ(info.ack, Ack::kReplicated);
  EXPECT_EQ(info.trace_id, region.info.trace_id);
  EXPECT_EQ(info.wall_time_ns, region.info.wall_time_ns);
  EXPECT_EQ(info.region_bytes, 10 * kPageBytes);
  EXPECT_EQ(info.changed_bytes, 4096u);
  EXPECT_EQ(info.changed_pages, 1u);
  EXPECT_EQ(info.mapped_pages, 1u);
}

TEST(Manifest, ASmallCommitIsOneBlockThatHoldsItsOwnBytes) {
  MemoryBlocks store;
  RegionHarness region(10 * kPageBytes, &store);
  region.Write(3, 0b101, 17, true, 100);
  const Manifest* const made = region.Commit();
  ASSERT_NE(made, nullptr);
  EXPECT_TRUE(region.last.nodes.empty());
  const auto content = made->Find(3, &region.loader);
  ASSERT_TRUE(content.ok());
  ASSERT_EQ(content->pieces.size(), 1u);
  EXPECT_EQ(content->pieces[0].key, made->key());
  EXPECT_EQ(content->pieces[0].bytes, kUnitBytes + 100);
  EXPECT_EQ(content->pieces[0].block_bytes, region.last.version.bytes.size());
  EXPECT_EQ(region.Read(*made, &region.loader), region.model);
  EXPECT_TRUE(store.read.empty()) << "a node was read";
}

TEST(Manifest, ThePayloadOfAnOlderVersionIsReadThroughANewerOne) {
  MemoryBlocks store;
  RegionHarness region(10 * kPageBytes, &store);
  region.Write(3, 1, 17, true);
  ASSERT_NE(region.Commit(), nullptr);
  region.Write(4, 1, 18, true);
  const Manifest* const made = region.Commit();
  ASSERT_NE(made, nullptr);
  EXPECT_EQ(made->info().parent, region.versions[0].link());
  const auto content = made->Find(3, &region.loader);
  ASSERT_TRUE(content.ok());
  EXPECT_EQ(content->pieces[0].key, region.versions[0].key());
  EXPECT_EQ(region.Read(*made, &region.loader), region.model);
}

TEST(Manifest, APageThatWasNeverWrittenIsZerosAndOneBeyondIsRefused) {
  MemoryBlocks store;
  RegionHarness region(kPageBytes * 9 + 1, &store);
  region.Write(0, 1, 1, true);
  const Manifest* const made = region.Commit();
  ASSERT_NE(made, nullptr);
  const auto zeros = made->Find(9, &region.loader);
  ASSERT_TRUE(zeros.ok());
  EXPECT_TRUE(zeros->pieces.empty());
  EXPECT_EQ(made->Find(10, &region.loader).status().code(),
            absl::StatusCode::kOutOfRange);
}

TEST(Manifest, OpeningAVersionOfATebibyteReadsNothingElse) {
  MemoryBlocks store;
  RegionHarness region(kRegionBytesMax, &store);
  Fill(&region, kRegionPagesMax - 1000, 1000);
  const Manifest& last = region.versions.back();
  const auto opened = Manifest::Open(store.blocks[last.key()], last.key());
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(opened->root().level, 2u);
  EXPECT_EQ(opened->info().mapped_pages, 1000u);
  EXPECT_LT(opened->link().bytes, 1024u);
  EXPECT_TRUE(store.read.empty());
  NodeLoader fresh(&store);
  EXPECT_TRUE(opened->Find(kRegionPagesMax - 1, &fresh).ok());
  EXPECT_EQ(store.read.size(), 3u) << "one node a level";
}

TEST(Manifest, ATreeGrowsHigherWithItsRegionAndSharesTheOldRoot) {
  MemoryBlocks store;
  RegionHarness region(100 * kPageBytes, &store);
  Fill(&region, 0, 100);
  EXPECT_EQ(region.versions.back().root().level, 0u);
  const Key old_root = region.versions.back().root().node.key;
  region.info.region_bytes = kRegionBytesMax;
  for (std::uint64_t page = kRegionPagesMax - 600; page < kRegionPagesMax;
       ++page) {
    region.Write(page, 1, 5, false, 64);
  }
  const Manifest* const made = region.Commit();
  ASSERT_NE(made, nullptr);
  EXPECT_TRUE(region.last.folded);
  EXPECT_EQ(made->root().level, 2u);
  EXPECT_EQ(made->info().mapped_pages, 700u);
  store.read.clear();
  NodeLoader fresh(&store);
  ASSERT_TRUE(made->Find(7, &fresh).ok());
  EXPECT_EQ(store.read.back(), old_root);
}

TEST(Manifest, ARegionDoesNotShrink) {
  MemoryBlocks store;
  RegionHarness region(100 * kPageBytes, &store);
  region.Write(3, 1, 17, true);
  ASSERT_NE(region.Commit(), nullptr);
  VersionChange change;
  change.info = region.info;
  change.info.number = 2;
  change.info.region_bytes = kPageBytes;
  change.base = &region.versions[0];
  EXPECT_EQ(BuildVersion(change, &region.loader, [] { return Key(); })
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Manifest, PagesThatBecomeZerosAgainLeaveNothingBehind) {
  MemoryBlocks store;
  RegionHarness region(kGiB, &store);
  Fill(&region, 0, 1000);
  for (std::uint64_t page = 0; page < 1000; ++page) region.Clear(page);
  const Manifest* const made = region.Commit();
  ASSERT_NE(made, nullptr);
  while (!region.last.folded) ASSERT_NE(region.Commit(), nullptr);
  EXPECT_EQ(region.versions.back().info().mapped_pages, 0u);
  EXPECT_FALSE(region.versions.back().root().node.exists());
}

TEST(Manifest, AMissingNodeIsDataLossThatNamesVersionPageAndKey) {
  MemoryBlocks store;
  RegionHarness region(kGiB, &store);
  Fill(&region, 0, 1000);
  const Manifest& version = region.versions.back();
  store.blocks.erase(version.root().node.key);
  NodeLoader fresh(&store);
  const absl::Status status = version.Find(77, &fresh).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  const std::string message = StatusMessage(status);
  EXPECT_NE(message.find(VersionName(version.info()) + ", page 77"),
            std::string::npos)
      << message;
  EXPECT_NE(message.find(KeyText(version.root().node.key)), std::string::npos)
      << message;
}

TEST(Manifest, ACommitOnATreeThatIsGoneIsDataLossAndSaysWhichPage) {
  MemoryBlocks store;
  RegionHarness region(kGiB, &store);
  Fill(&region, 0, 1000);
  const Manifest& base = region.versions.back();
  store.blocks.erase(base.root().node.key);
  VersionChange change;
  change.info = region.info;
  change.info.number = base.info().number + 1;
  change.info.parent = base.link();
  change.base = &base;
  change.pages = {{77, {}}};
  NodeLoader fresh(&store);
  const absl::Status status =
      BuildVersion(change, &fresh, [&] { return region.NextKey(); }).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(StatusMessage(status).find("page 77 of its base"),
            std::string::npos)
      << StatusMessage(status);
  change.info.number += 1;
  EXPECT_EQ(BuildVersion(change, &fresh, [] { return Key(); }).status().code(),
            absl::StatusCode::kInvalidArgument)
      << "a number is left out";
}

TEST(Manifest, ANodeOfAnotherPlaceIsDataLoss) {
  MemoryBlocks store;
  RegionHarness region(kGiB, &store);
  Fill(&region, 0, 1000);
  NodeLoader fresh(&store);
  const auto root = fresh.Load(region.versions.back().root().node, 1, 0);
  ASSERT_TRUE(root.ok());
  const NodeRef leaf = (*root)->children()[1].node;
  EXPECT_TRUE(fresh.Load(leaf, 0, 256).ok());
  EXPECT_EQ(fresh.Load(leaf, 0, 512).status().code(),
            absl::StatusCode::kDataLoss);
  NodeLoader other(&store);
  EXPECT_EQ(other.Load(leaf, 0, 0).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(other.Load(leaf, 1, 256).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(Manifest, ThePagesOfARangeAreVisitedAndNoOthers) {
  MemoryBlocks store;
  RegionHarness region(kGiB, &store);
  Fill(&region, 100, 1000);
  region.Write(50, 1, 3, true);
  region.Clear(700);
  ASSERT_NE(region.Commit(), nullptr);
  std::vector<std::uint64_t> pages;
  NodeLoader fresh(&store);
  const absl::Status status = region.versions.back().ForEachPage(
      40, 102, &fresh, [&](std::uint64_t page, std::span<const Piece>) {
        pages.push_back(page);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(pages, (std::vector<std::uint64_t>{50, 100, 101}));
  pages.clear();
  const absl::Status ended = region.versions.back().ForEachPage(
      699, 800, &fresh, [&](std::uint64_t page, std::span<const Piece>) {
        pages.push_back(page);
        return pages.size() < 2 ? absl::OkStatus() : Aborted("enough");
      });
  EXPECT_EQ(ended.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(pages, (std::vector<std::uint64_t>{699, 701}));
}

TEST(Manifest, WhatACommitMustNotSayIsRefused) {
  MemoryBlocks store;
  RegionHarness region(10 * kPageBytes, &store);
  const auto code = [&](const VersionChange& change) {
    return BuildVersion(change, &region.loader, [] { return Key(); })
        .status()
        .code();
  };
  VersionChange good;
  good.info = region.info;
  good.info.number = 1;
  EXPECT_EQ(code(good), absl::StatusCode::kOk);
  VersionChange bad = good;
  bad.pages = {{10, {}}};
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument) << "beyond";
  bad.pages = {{3, {}}, {3, {}}};
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument) << "twice";
  Piece piece;
  piece.units = 1;
  piece.bytes = 10;
  piece.in_payload = true;
  bad.pages = {{3, {{piece}}}};
  bad.payload = "012345678";
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument) << "short payload";
  bad.payload = "0123456789";
  EXPECT_EQ(code(bad), absl::StatusCode::kOk);
  const std::string large(kMaxBlockBytes, 'x');
  bad.payload = large;
  EXPECT_EQ(code(bad), absl::StatusCode::kResourceExhausted);
  bad = good;
  bad.info.labels.assign(kLabelsMax + 1, {"a", "b"});
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument) << "labels";
  bad = good;
  bad.info.message.assign(kMessageBytesMax + 1, 'm');
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument) << "message";
}

// Nodes that a one-page commit reads and writes, by a loader that knows none.
void MeasureOnePageCommits(std::uint64_t region_bytes) {
  MemoryBlocks store;
  RegionHarness region(region_bytes, &store);
  const std::uint64_t pages = region_bytes / kPageBytes;
  Fill(&region, 0, pages);
  const std::uint64_t levels = region.versions.back().root().level + 1;
  std::uint64_t read = 0, written = 0, written_most = 0;
  constexpr std::uint64_t kCommits = 400;
  for (std::uint64_t i = 0; i < kCommits; ++i) {
    store.read.clear();
    region.Write(i * 7919 % pages, 1, 5, true, 64);
    ASSERT_NE(region.Commit(), nullptr);
    read += store.read.size();
    written += region.last.nodes.size();
    written_most = std::max(written_most, region.last.nodes.size());
  }
  std::printf(
      "%llu MiB: %.2f nodes read, %.2f written a commit, at most %llu\n",
      static_cast<unsigned long long>(region_bytes / kMiB),
      double(read) / kCommits, double(written) / kCommits,
      static_cast<unsigned long long>(written_most));
  EXPECT_LE(read, kCommits * levels);
  EXPECT_LE(written, kCommits * levels);
  EXPECT_LE(written_most, 300u);
}

TEST(ManifestCost, AOnePageCommitOf64MiBTouchesAtMostANodeALevel) {
  MeasureOnePageCommits(64 * kMiB);
}

TEST(ManifestCost, AOnePageCommitOf4GiBTouchesAtMostANodeALevel) {
  MeasureOnePageCommits(4 * kGiB);
}

TEST(ManifestCost, AppendsOfTwoKibibytesCostLittleBeyondTheirBytes) {
  MemoryBlocks store;
  RegionHarness region(kGiB, &store);
  std::uint64_t written = 0, payload = 0, folds = 0;
  constexpr std::uint64_t kCommits = 200;
  for (std::uint64_t i = 0; i < kCommits; ++i) {
    const std::uint64_t end = (i + 1) * 2048;
    const std::uint64_t unit = (end - 1) / kUnitBytes;
    region.Write(unit / kPageUnits,
                 static_cast<std::uint16_t>(1U << unit % kPageUnits),
                 static_cast<std::uint32_t>(2 * i + 1), true,
                 static_cast<std::uint32_t>(end - unit * kUnitBytes));
    ASSERT_NE(region.Commit(), nullptr);
    written += region.last.version.bytes.size();
    for (const NewBlock& node : region.last.nodes) written += node.bytes.size();
    if (region.last.folded) ++folds;
    VersionHeader header;
    std::memcpy(&header, region.last.version.bytes.data(), sizeof(header));
    payload += header.payload_bytes;
  }
  const double overhead = double(written - payload) / kCommits;
  std::printf("appends: %.0f B beyond the payload a commit, %llu folds\n",
              overhead, static_cast<unsigned long long>(folds));
  EXPECT_LT(overhead, 600);
  EXPECT_EQ(region.Read(region.versions.back(), &region.loader), region.model);
}

}  // namespace
}  // namespace agentmem
