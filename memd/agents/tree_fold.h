// Writes an overlay into a tree: new nodes for what changed, the rest shared.
//
// Ownership: TreeFold borrows all that it is given. Threads:
// thread-compatible. Errors: the loader's. Cost: a load and a new block for
// each node that has a changed page below it.
#ifndef AGENTMEM_MEMD_AGENTS_TREE_FOLD_H_
#define AGENTMEM_MEMD_AGENTS_TREE_FOLD_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "memd/agents/manifest_builder.h"
#include "memd/agents/node_loader.h"
#include "memd/agents/version_block.h"

namespace agentmem {

class TreeFold {
 public:
  TreeFold(NodeLoader* loader, const KeyMaker& make_key,
           std::vector<NewBlock>* nodes)
      : loader_(loader), make_key_(make_key), nodes_(nodes) {}

  // The tree that says what `root` and `overlay` said together.
  absl::StatusOr<TreeRef> Run(const TreeRef& root, const Overlay& overlay);

 private:
  using Changes = std::span<const OverlayPage>;

  // The node of `level` at `first_page`; `old` is the one that there was, or a
  // lower one that is its first descendant.
  absl::StatusOr<NodeRef> Fold(const TreeRef& old, std::uint32_t level,
                               std::uint64_t first_page, Changes changes);
  absl::StatusOr<NodeRef> FoldLeaf(const NodeRef& old, std::uint64_t first_page,
                                   Changes changes);
  NodeRef Write(TreeNode node);

  NodeLoader* const loader_;
  const KeyMaker& make_key_;
  std::vector<NewBlock>* const nodes_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_TREE_FOLD_H_
