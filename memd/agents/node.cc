#include "memd/agents/node.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/status.h"
#include "memd/agents/piece_codec.h"
#include "proto/key_text.h"

namespace agentmem {
namespace {

absl::Status BadNode(const Key& key, const std::string& what) {
  return DataLoss("node of block " + KeyText(key) + ": " + what);
}

std::string ReadAndExpected(std::uint64_t read, std::uint64_t expected) {
  return std::to_string(read) + ", expected " + std::to_string(expected);
}

absl::Status CheckHeader(const Key& key, const NodeHeader& header,
                         std::uint32_t level, std::uint64_t first_page) {
  if (header.magic != kNodeMagic) {
    return BadNode(key, "does not begin with a node's magic");
  }
  if (header.format != kNodeFormat) {
    return BadNode(key,
                   "format " + ReadAndExpected(header.format, kNodeFormat));
  }
  if (header.level != level) {
    return BadNode(key, "level " + ReadAndExpected(header.level, level));
  }
  if (header.first_page != first_page) {
    return BadNode(
        key, "first page " + ReadAndExpected(header.first_page, first_page));
  }
  if (header.entries == 0 || header.entries > kNodeFanOut) {
    return BadNode(key, std::to_string(header.entries) +
                            " entries, allowed are 1 to " +
                            std::to_string(kNodeFanOut));
  }
  return absl::OkStatus();
}

absl::Status ReadLeafPage(const Key& key, std::uint64_t page, PieceReader* in,
                          TreeNode* node) {
  const std::string where = "page " + std::to_string(page) + ": ";
  const std::uint64_t count = in->ReadVarint(kPiecesMax);
  if (!in->ok() || count == 0) {
    return BadNode(
        key, where + "not 1 to " + std::to_string(kPiecesMax) + " pieces");
  }
  Piece pieces[kPiecesMax];
  for (std::uint64_t i = 0; i < count; ++i) pieces[i] = in->ReadPiece();
  if (!in->ok()) return BadNode(key, where + "a piece that cannot be read");
  const std::span<const Piece> read(pieces, count);
  if (const std::string what = CheckPieces(read); !what.empty()) {
    return BadNode(key, where + what);
  }
  node->AppendPage(page, read);
  return absl::OkStatus();
}

absl::Status ReadChild(const Key& key, std::uint32_t slot, PieceReader* in,
                       TreeNode* node) {
  NodeRef child;
  child.key = in->ReadKey();
  child.bytes = static_cast<std::uint32_t>(in->ReadVarint(kNodeBytesMax));
  child.pages =
      static_cast<std::uint32_t>(in->ReadVarint(NodeSpan(node->level() - 1)));
  if (!in->ok() || child.bytes <= sizeof(NodeHeader) || child.pages == 0) {
    return BadNode(key, "child " + std::to_string(slot) +
                            " has no valid key, length or count of pages");
  }
  node->AppendChild(slot, child);
  return absl::OkStatus();
}

}  // namespace

std::uint32_t TreeNode::MappedPages() const {
  if (level_ == 0) return static_cast<std::uint32_t>(pages_.size());
  std::uint32_t pages = 0;
  for (const Child& child : children_) pages += child.node.pages;
  return pages;
}

void TreeNode::Reserve(std::size_t entries) {
  if (level_ > 0) {
    children_.reserve(entries);
  } else {
    pages_.reserve(entries);
    pieces_.reserve(entries);
  }
}

std::size_t TreeNode::MemoryBytes() const {
  return sizeof(TreeNode) + pages_.capacity() * sizeof(LeafPage) +
         pieces_.capacity() * sizeof(Piece) +
         children_.capacity() * sizeof(Child);
}

std::span<const Piece> TreeNode::FindPage(std::uint64_t page) const {
  const auto found =
      std::lower_bound(pages_.begin(), pages_.end(), page,
                       [this](const LeafPage& entry, std::uint64_t wanted) {
                         return PageOf(entry) < wanted;
                       });
  if (found == pages_.end() || PageOf(*found) != page) return {};
  return PiecesOf(*found);
}

void TreeNode::AppendPage(std::uint64_t page, std::span<const Piece> pieces) {
  AGENTMEM_CHECK(level_ == 0 && !pieces.empty() && page >= first_page_ &&
                 page < first_page_ + kNodeFanOut);
  AGENTMEM_CHECK(pages_.empty() || page > PageOf(pages_.back()));
  const auto begin = static_cast<std::uint16_t>(pieces_.size());
  pieces_.insert(pieces_.end(), pieces.begin(), pieces.end());
  pages_.push_back({static_cast<std::uint16_t>(page - first_page_), begin,
                    static_cast<std::uint16_t>(pieces_.size())});
}

NodeRef TreeNode::FindChild(std::uint64_t page) const {
  if (page < first_page_ || page - first_page_ >= NodeSpan(level_)) return {};
  const std::uint64_t slot = (page - first_page_) / NodeSpan(level_ - 1);
  const auto found =
      std::lower_bound(children_.begin(), children_.end(), slot,
                       [](const Child& child, std::uint64_t wanted) {
                         return child.slot < wanted;
                       });
  if (found == children_.end() || found->slot != slot) return {};
  return found->node;
}

void TreeNode::AppendChild(std::uint32_t slot, const NodeRef& child) {
  AGENTMEM_CHECK(level_ > 0 && child.exists() && slot < kNodeFanOut);
  AGENTMEM_CHECK(children_.empty() || slot > children_.back().slot);
  children_.push_back({slot, child});
}

std::string EncodeNode(const TreeNode& node) {
  AGENTMEM_CHECK(!node.empty());
  PieceWriter out;
  std::uint32_t next_slot = 0;
  for (const TreeNode::LeafPage& page : node.pages()) {
    const std::span<const Piece> pieces = node.PiecesOf(page);
    out.WriteVarint(page.slot - next_slot);
    out.WriteVarint(pieces.size());
    for (const Piece& piece : pieces) out.WritePiece(piece);
    next_slot = page.slot + 1;
  }
  for (const TreeNode::Child& child : node.children()) {
    out.WriteVarint(child.slot - next_slot);
    out.WriteKey(child.node.key);
    out.WriteVarint(child.node.bytes);
    out.WriteVarint(child.node.pages);
    next_slot = child.slot + 1;
  }
  NodeHeader header = {};
  header.magic = kNodeMagic;
  header.format = kNodeFormat;
  header.level = static_cast<std::uint8_t>(node.level());
  header.first_page = node.first_page();
  header.entries =
      static_cast<std::uint32_t>(node.pages().size() + node.children().size());
  header.lineages = out.lineages();
  std::string bytes;
  AppendFixed(header, &bytes);
  bytes += out.Finish();
  AGENTMEM_CHECK(bytes.size() <= kNodeBytesMax);
  return bytes;
}

absl::StatusOr<TreeNode> DecodeNode(const Key& key, std::string_view bytes,
                                    std::uint32_t level,
                                    std::uint64_t first_page) {
  NodeHeader header;
  if (bytes.size() < sizeof(header) || bytes.size() > kNodeBytesMax) {
    return BadNode(key, std::to_string(bytes.size()) + " bytes, allowed are " +
                            std::to_string(sizeof(header)) + " to " +
                            std::to_string(kNodeBytesMax));
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  AGENTMEM_RETURN_IF_ERROR(CheckHeader(key, header, level, first_page));
  TreeNode node(level, first_page);
  node.Reserve(header.entries);
  PieceReader in(bytes.substr(sizeof(header)), header.lineages);
  std::uint32_t next_slot = 0;
  for (std::uint32_t i = 0; i < header.entries; ++i) {
    const std::uint64_t slot = next_slot + in.ReadVarint(kNodeFanOut);
    if (!in.ok() || slot >= kNodeFanOut) {
      return BadNode(key, "entry " + std::to_string(i) + " of " +
                              std::to_string(header.entries) +
                              " is missing or lies beyond the node");
    }
    const auto place = static_cast<std::uint32_t>(slot);
    AGENTMEM_RETURN_IF_ERROR(
        level == 0 ? ReadLeafPage(key, first_page + slot, &in, &node)
                   : ReadChild(key, place, &in, &node));
    next_slot = place + 1;
  }
  if (!in.AtEnd()) {
    return BadNode(
        key, std::to_string(in.remaining()) + " bytes behind its last entry");
  }
  return node;
}

}  // namespace agentmem
