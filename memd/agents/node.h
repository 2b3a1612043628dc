// A node of a version's tree: 256 pages, or 256 nodes of the level below.
//
// Ownership: values. Threads: plain data and pure functions; a TreeNode that is
// shared is not changed any more. Errors: DecodeNode's, DATA_LOSS with the key
// and what is wrong. Cost: DecodeNode allocates at most 2304 pieces of 32 bytes
// or 256 children, and no more than 16 KiB before it has seen them.
#ifndef AGENTMEM_MEMD_AGENTS_NODE_H_
#define AGENTMEM_MEMD_AGENTS_NODE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "memd/agents/page_content.h"
#include "proto/manifest_layout.h"

namespace agentmem {

// A node as its parent names it.
struct NodeRef {
  Key key;
  std::uint32_t bytes = 0;  // of its block; 0: there is none
  std::uint32_t pages = 0;  // mapped below it, at least 1

  bool exists() const { return bytes != 0; }
  friend bool operator==(const NodeRef&, const NodeRef&) = default;
};

// The root of a tree, or any node with its place. Place is the first page.
struct TreeRef {
  NodeRef node;
  std::uint32_t level = 0;

  friend bool operator==(const TreeRef&, const TreeRef&) = default;
};

class TreeNode {
 public:
  struct LeafPage {
    std::uint16_t slot;  // page - first_page
    std::uint16_t begin;
    std::uint16_t end;
  };
  struct Child {
    std::uint32_t slot;
    NodeRef node;
  };

  TreeNode(std::uint32_t level, std::uint64_t first_page)
      : level_(level), first_page_(first_page) {}

  std::uint32_t level() const { return level_; }
  std::uint64_t first_page() const { return first_page_; }
  bool empty() const { return pages_.empty() && children_.empty(); }
  std::uint32_t MappedPages() const;
  void Reserve(std::size_t entries);
  std::size_t MemoryBytes() const;

  // A leaf's: mapped pages, ascending.
  std::span<const LeafPage> pages() const { return pages_; }
  std::uint64_t PageOf(const LeafPage& page) const {
    return first_page_ + page.slot;
  }
  std::span<const Piece> PiecesOf(const LeafPage& page) const {
    return std::span(pieces_).subspan(page.begin, page.end - page.begin);
  }
  std::span<const Piece> FindPage(std::uint64_t page) const;
  // `page` behind all others, `pieces` not empty.
  void AppendPage(std::uint64_t page, std::span<const Piece> pieces);

  // An inner node's: children that exist, ascending.
  std::span<const Child> children() const { return children_; }
  std::uint64_t FirstPageOf(std::uint32_t slot) const {
    return first_page_ + slot * NodeSpan(level_ - 1);
  }
  NodeRef FindChild(std::uint64_t page) const;
  void AppendChild(std::uint32_t slot, const NodeRef& child);

 private:
  std::uint32_t level_;
  std::uint64_t first_page_;
  std::vector<LeafPage> pages_;
  std::vector<Piece> pieces_;
  std::vector<Child> children_;
};

std::string EncodeNode(const TreeNode& node);

// The node in `bytes`, if it is that of `level` and `first_page`.
absl::StatusOr<TreeNode> DecodeNode(const Key& key, std::string_view bytes,
                                    std::uint32_t level,
                                    std::uint64_t first_page);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_NODE_H_
