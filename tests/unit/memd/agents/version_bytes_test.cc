// What comes from the store is not trusted: wrong bytes are DATA_LOSS, or a
// content that is valid in itself; never a crash.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <functional>

#include "base/status.h"
#include "memd/agents/manifest.h"
#include "memd/agents/node.h"
#include "tests/unit/memd/agents/region_harness.h"

namespace agentmem {
namespace {

// A version block with labels, payload and overlay, and two kinds of node.
class VersionBytes : public ::testing::Test {
 protected:
  VersionBytes() : region_(1ULL << 34, &store_) {
    for (std::uint64_t page = 0; page < 400; ++page) {
      region_.fence = 1 + page % 3;
      region_.Write(page * 41, static_cast<std::uint16_t>(1 + page), 7,
                    page % 2 == 0, 1 + page);
    }
    const Manifest* const folded = region_.Commit();
    EXPECT_NE(folded, nullptr);
    EXPECT_TRUE(region_.last.folded);
    root_ = folded->root();
    region_.info.message = "a message";
    region_.info.labels = {{"one", "two"}};
    region_.Write(3, 0x0ff0, 8, true, 100);
    region_.Write(3, 1, 0, true);
    region_.Write(41, 1, 9, false);
    region_.Clear(82);
    version_ = region_.Commit();
    EXPECT_NE(version_, nullptr);
    EXPECT_EQ(version_->overlay().size(), 3u);
  }

  // Calls `check` with every bytes that differ from `good` in one bit, and with
  // every prefix.
  static void Spoil(const std::string& good,
                    const std::function<void(const std::string&)>& check) {
    for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
      std::string bad = good;
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
      check(bad);
    }
    for (std::size_t bytes = 0; bytes < good.size(); ++bytes) {
      check(good.substr(0, bytes));
    }
  }

  MemoryBlocks store_;
  RegionHarness region_;
  TreeRef root_;
  const Manifest* version_ = nullptr;
};

TEST_F(VersionBytes, AWrongBitInAVersionBlockNeverGivesAnInvalidPage) {
  const Key key = version_->key();
  int read = 0;
  Spoil(store_.blocks[key], [&](const std::string& bad) {
    const auto opened = Manifest::Open(bad, key);
    if (!opened.ok()) {
      ASSERT_EQ(opened.status().code(), absl::StatusCode::kDataLoss);
      return;
    }
    ++read;
    ASSERT_TRUE(CheckVersionInfo(opened->info()).ok());
    std::uint64_t next = 0;
    for (const OverlayPage& entry : opened->overlay()) {
      ASSERT_EQ(CheckPieces(entry.content.pieces), "");
      ASSERT_GE(entry.page, next);
      ASSERT_LT(entry.page, opened->page_count());
      next = entry.page + 1;
    }
    NodeLoader fresh(&store_);
    const auto found = opened->Find(0, &fresh);
    ASSERT_TRUE(found.ok() ||
                found.status().code() == absl::StatusCode::kDataLoss)
        << found.status().ToString();
  });
  EXPECT_GT(read, 0) << "the payload's bits are not the block's";
}

TEST_F(VersionBytes, AWrongBitInANodeNeverGivesAnInvalidPage) {
  NodeLoader fresh(&store_);
  const auto root = fresh.Load(root_.node, root_.level, 0);
  ASSERT_TRUE(root.ok());
  ASSERT_EQ(root_.level, 1u);
  const NodeRef leaf = (*root)->children()[0].node;
  Spoil(store_.blocks[leaf.key], [&](const std::string& bad) {
    const auto node = DecodeNode(leaf.key, bad, 0, 0);
    if (!node.ok()) {
      ASSERT_EQ(node.status().code(), absl::StatusCode::kDataLoss);
      return;
    }
    for (const TreeNode::LeafPage& page : node->pages()) {
      ASSERT_EQ(CheckPieces(node->PiecesOf(page)), "");
      ASSERT_LT(node->PageOf(page), kNodeFanOut);
    }
  });
  Spoil(store_.blocks[root_.node.key], [&](const std::string& bad) {
    const auto node = DecodeNode(root_.node.key, bad, 1, 0);
    if (!node.ok()) {
      ASSERT_EQ(node.status().code(), absl::StatusCode::kDataLoss);
      return;
    }
    for (const TreeNode::Child& child : node->children()) {
      ASSERT_TRUE(child.node.exists() && child.slot < kNodeFanOut);
    }
  });
}

TEST_F(VersionBytes, NodesAreReadBackAsTheyWereMade) {
  NodeLoader fresh(&store_);
  for (const NewBlock& block : region_.last.nodes) {
    const auto found = store_.blocks.find(block.key);
    ASSERT_NE(found, store_.blocks.end());
    EXPECT_EQ(found->second, block.bytes);
  }
  const auto root = fresh.Load(root_.node, root_.level, 0);
  ASSERT_TRUE(root.ok());
  EXPECT_EQ(EncodeNode(**root), store_.blocks[root_.node.key]);
  const NodeRef leaf = (*root)->children()[0].node;
  const auto node = fresh.Load(leaf, 0, 0);
  ASSERT_TRUE(node.ok());
  EXPECT_EQ(EncodeNode(**node), store_.blocks[leaf.key]);
}

TEST_F(VersionBytes, AnotherFormatIsRefusedAndBothAreNamed) {
  std::string bytes = store_.blocks[version_->key()];
  bytes[8] = 9;
  const std::string message =
      StatusMessage(Manifest::Open(bytes, version_->key()).status());
  EXPECT_NE(message.find("format 9, expected 1"), std::string::npos) << message;
  bytes = store_.blocks[root_.node.key];
  bytes[8] = 9;
  const std::string of_node =
      StatusMessage(DecodeNode(root_.node.key, bytes, 1, 0).status());
  EXPECT_NE(of_node.find("format 9, expected 1"), std::string::npos) << of_node;
}

TEST_F(VersionBytes, ANodeThatIsShorterOrMapsOtherPagesIsDataLoss) {
  NodeRef other = root_.node;
  other.pages += 1;
  NodeLoader one(&store_);
  EXPECT_EQ(one.Load(other, root_.level, 0).status().code(),
            absl::StatusCode::kDataLoss);
}

// Bytes a piece of a leaf: bases of 64 pages a block, and one delta a page in a
// block of its own.
TEST(VersionFormat, APieceTakesFourToFourteenBytes) {
  TreeNode packed(0, 0), apart(0, 0);
  for (std::uint32_t page = 0; page < kNodeFanOut; ++page) {
    Piece piece;
    piece.key = MakeRegionKey(77, 5, 1'000'000 + page / 64);
    piece.block_bytes = kMaxBlockBytes;
    piece.offset = page % 64 * kPageBytes;
    piece.bytes = kPageBytes;
    piece.units = kAllUnits;
    piece.base = true;
    packed.AppendPage(page, std::span(&piece, 1));
    piece.key = MakeRegionKey(77, 5, 1'000'000 + 1000 * page);
    piece.block_bytes = 8000 + page;
    piece.offset = 200 + page;
    piece.bytes = kUnitBytes;
    piece.units = 0x0100;
    piece.base = false;
    apart.AppendPage(page, std::span(&piece, 1));
  }
  const double of_packed = double(EncodeNode(packed).size()) / kNodeFanOut;
  const double of_apart = double(EncodeNode(apart).size()) / kNodeFanOut;
  std::printf("a page of a leaf: %.1f B packed, %.1f B in a block of its own\n",
              of_packed, of_apart);
  EXPECT_LT(of_packed, 5);
  EXPECT_LT(of_apart, 15);
}

TEST(VersionFormat, TheFormatOnDiskIsVersionOneByteForByte) {
  VersionBlock block;
  block.info.region_id = 0x0102;
  block.info.number = 1;
  block.info.region_bytes = kPageBytes;
  block.info.mapped_pages = 1;
  block.info.message = "hi";
  block.info.labels = {{"a", "b"}};
  Piece base;
  base.key = MakeRegionKey(0x1122334455667788, 3, 300);
  base.block_bytes = 100;
  base.offset = 4;
  base.bytes = 96;
  base.units = kAllUnits;
  base.base = true;
  Piece self;
  self.in_payload = true;
  self.bytes = 3;
  self.units = 0x8000;
  block.overlay = {{0, false, {{base, self}}}};
  const auto overlay = EncodeOverlay(block.overlay, PayloadOffset(block.info));
  const std::string bytes = EncodeVersionBlock(block, "xyz", overlay);
  const std::string behind = bytes.substr(sizeof(VersionHeader));
  const unsigned char expected[] = {
      'h',  'i',  1,    'a',  1,    'b',  'x',  'y',  'z',  // message, labels
      0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,       // lineage
      0,    4,                                              // page 0, 2 pieces
      1,    3,    0xac, 2,    100,  4,    0xa0, 0xff, 3,    // the base
      2,    0xb6, 1,    0x00, 0x80, 0xfd, 0x1f};            // the delta
  EXPECT_EQ(behind, std::string(reinterpret_cast<const char*>(expected),
                                sizeof(expected)));
  EXPECT_EQ(bytes.substr(0, 8), "AGEMVER1");
  const Key key = MakeRegionKey(9, 9, 9);
  const auto read = DecodeVersionBlock(key, bytes);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  self = read->overlay[0].content.pieces[1];
  EXPECT_EQ(self.key, key);
  EXPECT_EQ(self.block_bytes, bytes.size());
  EXPECT_EQ(bytes.substr(self.offset, self.bytes), "xyz");
  EXPECT_EQ(read->overlay[0].content.pieces[0], base);
}

}  // namespace
}  // namespace agentmem
