#include "memd/agents/tree_fold.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/status.h"

namespace agentmem {

absl::StatusOr<TreeRef> TreeFold::Run(const TreeRef& root,
                                      const Overlay& overlay) {
  if (overlay.empty()) return root;
  // As high as the highest page that has content; never lower than it was.
  std::uint64_t highest = 0;
  for (const OverlayPage& entry : overlay) {
    if (!entry.content.pieces.empty()) highest = entry.page;
  }
  TreeRef folded = root;
  if (!root.node.exists()) folded.level = 0;
  while (highest >= NodeSpan(folded.level)) ++folded.level;
  AGENTMEM_ASSIGN_OR_RETURN(folded.node, Fold(root, folded.level, 0, overlay));
  if (!folded.node.exists()) return TreeRef();
  return folded;
}

absl::StatusOr<NodeRef> TreeFold::Fold(const TreeRef& old, std::uint32_t level,
                                       std::uint64_t first_page,
                                       Changes changes) {
  if (level == 0) return FoldLeaf(old.node, first_page, changes);
  std::vector<TreeNode::Child> children;
  if (old.node.exists() && old.level < level) {
    children.push_back({0, old.node});
  } else if (old.node.exists()) {
    AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<const TreeNode> node,
                              loader_->Load(old.node, level, first_page));
    children.assign(node->children().begin(), node->children().end());
  }
  const std::uint32_t old_child_level =
      old.level < level ? old.level : level - 1;
  const std::uint64_t child_span = NodeSpan(level - 1);
  TreeNode node(level, first_page);
  auto next = children.begin();
  for (std::uint32_t slot = 0; slot < kNodeFanOut; ++slot) {
    const std::uint64_t child_page = first_page + slot * child_span;
    TreeRef child = {{}, old_child_level};
    if (next != children.end() && next->slot == slot) child.node = next++->node;
    const auto end = std::partition_point(
        changes.begin(), changes.end(), [&](const OverlayPage& entry) {
          return entry.page < child_page + child_span;
        });
    const Changes below(changes.begin(), end);
    changes = Changes(end, changes.end());
    // A lower root is raised even if nothing below it changed.
    if (!below.empty() || (child.node.exists() && child.level < level - 1)) {
      AGENTMEM_ASSIGN_OR_RETURN(child.node,
                                Fold(child, level - 1, child_page, below));
    }
    if (child.node.exists()) node.AppendChild(slot, child.node);
  }
  return Write(std::move(node));
}

absl::StatusOr<NodeRef> TreeFold::FoldLeaf(const NodeRef& old,
                                           std::uint64_t first_page,
                                           Changes changes) {
  TreeNode leaf(0, first_page);
  std::shared_ptr<const TreeNode> before;
  if (old.exists()) {
    AGENTMEM_ASSIGN_OR_RETURN(before, loader_->Load(old, 0, first_page));
    for (const TreeNode::LeafPage& page : before->pages()) {
      const std::uint64_t number = before->PageOf(page);
      for (; !changes.empty() && changes.front().page < number;
           changes = changes.subspan(1)) {
        if (changes.front().content.pieces.empty()) continue;
        leaf.AppendPage(changes.front().page, changes.front().content.pieces);
      }
      if (!changes.empty() && changes.front().page == number) continue;
      leaf.AppendPage(number, before->PiecesOf(page));
    }
  }
  for (const OverlayPage& entry : changes) {
    if (entry.content.pieces.empty()) continue;
    leaf.AppendPage(entry.page, entry.content.pieces);
  }
  return Write(std::move(leaf));
}

NodeRef TreeFold::Write(TreeNode node) {
  if (node.empty()) return {};
  NewBlock block = {make_key_(), EncodeNode(node)};
  const NodeRef ref = {block.key,
                       static_cast<std::uint32_t>(block.bytes.size()),
                       node.MappedPages()};
  nodes_->push_back(std::move(block));
  loader_->Keep(ref.key, std::make_shared<const TreeNode>(std::move(node)));
  return ref;
}

}  // namespace agentmem
