#include "tests/unit/memd/agents/region_harness.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>

#include "base/status.h"
#include "proto/key_text.h"

namespace agentmem {

absl::StatusOr<std::string> MemoryBlocks::Read(const Key& key, std::uint32_t) {
  read.push_back(key);
  const auto found = blocks.find(key);
  if (found == blocks.end()) return NotFound(KeyText(key));
  return found->second;
}

RegionHarness::RegionHarness(std::uint64_t region_bytes, MemoryBlocks* blocks)
    : store(blocks), loader(blocks) {
  info.region_id = 5;
  info.region_bytes = region_bytes;
  info.wall_time_ns = 1'700'000'000'000'000'000;
}

PageContent* RegionHarness::ContentOf(std::uint64_t page) {
  const auto [found, added] = changes_.try_emplace(page);
  if (added && base_.has_value() && page < base_->page_count()) {
    auto content = base_->Find(page, &loader);
    EXPECT_TRUE(content.ok()) << content.status().ToString();
    found->second = *std::move(content);
  }
  return &found->second;
}

void RegionHarness::Write(std::uint64_t page, std::uint16_t units,
                          std::uint32_t stamp, bool in_payload,
                          std::uint32_t last_bytes) {
  PageContent* const content = ContentOf(page);
  PageStamps& stamps = model[page];
  Piece piece;
  piece.units = units;
  const auto append = [&] {
    std::string bytes;
    for (std::uint32_t unit = 0; unit < kPageUnits; ++unit) {
      if ((piece.units >> unit & 1) == 0) continue;
      std::string one(kUnitBytes, '\0');
      std::memcpy(one.data(), &stamps[unit], sizeof(stamps[unit]));
      bytes += one;
    }
    bytes.resize(bytes.size() - kUnitBytes + last_bytes);
    std::string& to = in_payload ? payload_ : block_;
    if (!in_payload && block_key_ == Key()) block_key_ = NextKey();
    piece.in_payload = in_payload;
    piece.key = in_payload ? Key() : block_key_;
    piece.offset = static_cast<std::uint32_t>(to.size());
    piece.bytes = static_cast<std::uint32_t>(bytes.size());
    piece.block_bytes = in_payload ? 0 : piece.offset + piece.bytes;
    to += bytes;
  };
  for (std::uint32_t unit = 0; unit < kPageUnits; ++unit) {
    if ((units >> unit & 1) != 0) stamps[unit] = stamp;
  }
  if (stamp != 0) append();
  if (!AddPiece(piece, content)) {
    // Too many deltas: all of the page is written again.
    for (std::uint32_t& unit : stamps) {
      if (unit != 0) unit = stamp + 1;
    }
    piece.units = kAllUnits;
    piece.base = true;
    last_bytes = kUnitBytes;
    append();
    *content = {{piece}};
  }
  if (stamps == PageStamps()) model.erase(page);
}

void RegionHarness::Clear(std::uint64_t page) {
  *ContentOf(page) = {};
  model.erase(page);
}

const Manifest* RegionHarness::Commit() {
  if (!block_.empty()) store->blocks[block_key_] = block_;
  VersionChange change;
  change.info = info;
  change.info.number = versions.size() + 1;
  if (!versions.empty()) change.info.parent = versions.back().link();
  change.base = base_.has_value() ? &*base_ : nullptr;
  change.payload = payload_;
  for (auto& [page, content] : changes_) {
    for (Piece& piece : content.pieces) {
      // The block grew while pieces of it were made already.
      if (piece.key == block_key_ && !block_.empty() && piece.bytes != 0) {
        piece.block_bytes = static_cast<std::uint32_t>(block_.size());
      }
    }
    change.pages.push_back({page, content});
  }
  auto made = BuildVersion(change, &loader, [this] { return NextKey(); });
  EXPECT_TRUE(made.ok()) << made.status().ToString();
  if (!made.ok()) return nullptr;
  for (const NewBlock& node : made->nodes) {
    EXPECT_TRUE(store->blocks.emplace(node.key, node.bytes).second);
  }
  store->blocks[made->version.key] = made->version.bytes;
  auto opened = Manifest::Open(made->version.bytes, made->version.key);
  EXPECT_TRUE(opened.ok()) << opened.status().ToString();
  if (!opened.ok()) return nullptr;
  const auto decoded =
      DecodeVersionBlock(made->version.key, made->version.bytes);
  EXPECT_TRUE(decoded.ok() && *decoded == *made->block)
      << "what the builder answers is not what its bytes say";
  EXPECT_EQ(made->manifest().link(), opened->link());
  last = *std::move(made);
  changes_.clear();
  payload_.clear();
  block_.clear();
  block_key_ = {};
  base_ = *opened;
  versions.push_back(*std::move(opened));
  return &versions.back();
}

void RegionHarness::Restore(const Manifest& version,
                            const RegionModel& restored) {
  base_ = version;
  model = restored;
}

PageStamps RegionHarness::Stamps(std::span<const Piece> pieces) const {
  PageStamps stamps = {};
  EXPECT_EQ(CheckPieces(pieces), "");
  for (std::uint32_t unit = 0; unit < kPageUnits; ++unit) {
    const UnitSource source = SourceOfUnit(pieces, unit);
    if (source.bytes == 0) continue;
    const auto found = store->blocks.find(source.key);
    EXPECT_NE(found, store->blocks.end()) << KeyText(source.key);
    if (found == store->blocks.end()) continue;
    EXPECT_LE(source.offset + source.bytes, found->second.size());
    std::memcpy(&stamps[unit], found->second.data() + source.offset,
                sizeof(stamps[unit]));
  }
  for (const Piece& piece : pieces) {
    if (piece.bytes == 0) continue;
    EXPECT_EQ(store->blocks.at(piece.key).size(), piece.block_bytes);
  }
  return stamps;
}

RegionModel RegionHarness::Read(const Manifest& version,
                                NodeLoader* from) const {
  RegionModel read;
  std::uint64_t next = 0;
  const absl::Status status = version.ForEachPage(
      0, UINT64_MAX, from,
      [&](std::uint64_t page, std::span<const Piece> pieces) {
        EXPECT_GE(page, next);
        next = page + 1;
        const PageStamps stamps = Stamps(pieces);
        if (stamps != PageStamps()) read[page] = stamps;
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status.ToString();
  return read;
}

}  // namespace agentmem
