#include "memd/agents/manifest_diff.h"

#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace agentmem {
namespace {

// Joins what touches.
class RangeJoiner {
 public:
  RangeJoiner(std::uint64_t end, const RangeVisitor& visit)
      : end_(end), visit_(visit) {}

  absl::Status AddUnits(std::uint64_t page, std::uint16_t units) {
    for (std::uint32_t unit = 0; unit < kPageUnits; ++unit) {
      if ((units >> unit & 1) == 0) continue;
      const std::uint64_t offset = page * kPageBytes + unit * kUnitBytes;
      if (offset >= end_) break;
      const std::uint64_t bytes =
          std::min<std::uint64_t>(kUnitBytes, end_ - offset);
      if (open_.bytes != 0 && open_.offset + open_.bytes == offset) {
        open_.bytes += bytes;
        continue;
      }
      AGENTMEM_RETURN_IF_ERROR(Flush());
      open_ = {offset, bytes};
    }
    return absl::OkStatus();
  }

  absl::Status Flush() {
    if (open_.bytes == 0) return absl::OkStatus();
    const ByteRange range = open_;
    open_ = {};
    return visit_(range);
  }

 private:
  const std::uint64_t end_;
  const RangeVisitor& visit_;
  ByteRange open_;
};

// The trees side by side; pages that stand in an overlay are compared by what
// both versions say as a whole, when the walk comes by.
class TreeDiff {
 public:
  TreeDiff(const VersionToRead& a, const VersionToRead& b,
           std::uint64_t first_page, RangeJoiner* out)
      : sides_{a, b}, first_page_(first_page), out_(out) {
    for (const VersionToRead& side : sides_) {
      if (side.manifest == nullptr) continue;
      for (const OverlayPage& entry : side.manifest->overlay()) {
        if (entry.page >= first_page_) overlaid_.push_back(entry.page);
      }
    }
    std::sort(overlaid_.begin(), overlaid_.end());
    overlaid_.erase(std::unique(overlaid_.begin(), overlaid_.end()),
                    overlaid_.end());
  }

  absl::Status Run() {
    std::array<TreeRef, 2> roots;
    for (int i = 0; i < 2; ++i) {
      if (sides_[i].manifest != nullptr) roots[i] = sides_[i].manifest->root();
    }
    AGENTMEM_RETURN_IF_ERROR(
        Walk(roots, std::max(roots[0].level, roots[1].level), 0));
    AGENTMEM_RETURN_IF_ERROR(CompareOverlaidBelow(UINT64_MAX));
    return out_->Flush();
  }

 private:
  using Trees = std::array<TreeRef, 2>;
  using Nodes = std::array<std::shared_ptr<const TreeNode>, 2>;

  absl::Status Walk(const Trees& trees, std::uint32_t level,
                    std::uint64_t first_page) {
    if (!trees[0].node.exists() && !trees[1].node.exists()) {
      return absl::OkStatus();
    }
    if (first_page + NodeSpan(level) <= first_page_) return absl::OkStatus();
    if (trees[0].node.key == trees[1].node.key &&
        trees[0].node.exists() == trees[1].node.exists()) {
      return absl::OkStatus();
    }
    Nodes nodes;
    for (int i = 0; i < 2; ++i) {
      if (!trees[i].node.exists() || trees[i].level < level) continue;
      auto node = sides_[i].loader->Load(trees[i].node, level, first_page);
      if (!node.ok()) {
        return WithContext(VersionName(sides_[i].manifest->info()),
                           node.status());
      }
      nodes[i] = *std::move(node);
    }
    return level == 0 ? WalkLeaves(nodes)
                      : WalkChildren(trees, nodes, level, first_page);
  }

  absl::Status WalkChildren(const Trees& trees, const Nodes& nodes,
                            std::uint32_t level, std::uint64_t first_page) {
    std::array<std::span<const TreeNode::Child>, 2> left;
    for (int i = 0; i < 2; ++i) {
      if (nodes[i] != nullptr) left[i] = nodes[i]->children();
    }
    for (std::uint32_t slot = 0; slot < kNodeFanOut; ++slot) {
      Trees below;
      for (int i = 0; i < 2; ++i) {
        below[i].level = level - 1;
        if (nodes[i] == nullptr) {
          // A lower root is the first descendant of the other's.
          if (slot == 0) below[i] = trees[i];
        } else if (!left[i].empty() && left[i].front().slot == slot) {
          below[i].node = left[i].front().node;
          left[i] = left[i].subspan(1);
        }
      }
      AGENTMEM_RETURN_IF_ERROR(
          Walk(below, level - 1, first_page + slot * NodeSpan(level - 1)));
    }
    return absl::OkStatus();
  }

  absl::Status WalkLeaves(const Nodes& nodes) {
    const TreeNode* const a = nodes[0].get();
    const TreeNode* const b = nodes[1].get();
    std::span<const TreeNode::LeafPage> of_a, of_b;
    if (a != nullptr) of_a = a->pages();
    if (b != nullptr) of_b = b->pages();
    while (!of_a.empty() || !of_b.empty()) {
      const std::uint64_t page =
          std::min(of_a.empty() ? UINT64_MAX : a->PageOf(of_a.front()),
                   of_b.empty() ? UINT64_MAX : b->PageOf(of_b.front()));
      std::span<const Piece> pieces_a, pieces_b;
      if (!of_a.empty() && a->PageOf(of_a.front()) == page) {
        pieces_a = a->PiecesOf(of_a.front());
        of_a = of_a.subspan(1);
      }
      if (!of_b.empty() && b->PageOf(of_b.front()) == page) {
        pieces_b = b->PiecesOf(of_b.front());
        of_b = of_b.subspan(1);
      }
      AGENTMEM_RETURN_IF_ERROR(CompareTreePage(page, pieces_a, pieces_b));
    }
    return absl::OkStatus();
  }

  absl::Status CompareTreePage(std::uint64_t page, std::span<const Piece> a,
                               std::span<const Piece> b) {
    AGENTMEM_RETURN_IF_ERROR(CompareOverlaidBelow(page));
    if (next_ < overlaid_.size() && overlaid_[next_] == page) {
      return absl::OkStatus();
    }
    return out_->AddUnits(page, UnitsThatDiffer(a, b));
  }

  absl::Status CompareOverlaidBelow(std::uint64_t page) {
    for (; next_ < overlaid_.size() && overlaid_[next_] < page; ++next_) {
      std::array<PageContent, 2> contents;
      for (int i = 0; i < 2; ++i) {
        const Manifest* const manifest = sides_[i].manifest;
        if (manifest == nullptr || overlaid_[next_] >= manifest->page_count()) {
          continue;
        }
        AGENTMEM_ASSIGN_OR_RETURN(
            contents[i], manifest->Find(overlaid_[next_], sides_[i].loader));
      }
      AGENTMEM_RETURN_IF_ERROR(out_->AddUnits(
          overlaid_[next_],
          UnitsThatDiffer(contents[0].pieces, contents[1].pieces)));
    }
    return absl::OkStatus();
  }

  const std::array<VersionToRead, 2> sides_;
  const std::uint64_t first_page_;  // those before it are not wanted
  RangeJoiner* const out_;
  std::vector<std::uint64_t> overlaid_;
  std::size_t next_ = 0;
};

}  // namespace

absl::Status Diff(const VersionToRead& a, const VersionToRead& b,
                  const RangeVisitor& visit, std::uint64_t from) {
  std::uint64_t end = 0;
  for (const VersionToRead& side : {a, b}) {
    if (side.manifest == nullptr) continue;
    end = std::max(end, side.manifest->info().region_bytes);
  }
  const RangeVisitor visit_wanted = [&](const ByteRange& range) {
    if (range.offset + range.bytes <= from) return absl::OkStatus();
    return visit(range);
  };
  RangeJoiner out(end, visit_wanted);
  return TreeDiff(a, b, from / kPageBytes, &out).Run();
}

}  // namespace agentmem
