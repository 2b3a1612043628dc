#include "memd/agents/block_walk.h"

#include <memory>
#include <span>

#include "base/status.h"

namespace agentmem {
namespace {

class BlockWalk {
 public:
  BlockWalk(NodeLoader* loader, absl::flat_hash_set<Key>* seen,
            const absl::flat_hash_set<std::uint64_t>* left_out,
            const BlockVisitor& visit)
      : loader_(loader), seen_(seen), left_out_(left_out), visit_(visit) {}

  absl::Status VisitVersion(const Manifest& manifest) {
    const VersionLink link = manifest.link();
    AGENTMEM_RETURN_IF_ERROR(visit_(link.key, link.bytes, BlockKind::kVersion));
    for (const OverlayPage& entry : manifest.overlay()) {
      AGENTMEM_RETURN_IF_ERROR(VisitPieces(entry.content.pieces));
    }
    return absl::OkStatus();
  }

  absl::Status VisitNode(const NodeRef& ref, std::uint32_t level,
                         std::uint64_t first_page) {
    if (seen_ != nullptr && seen_->contains(ref.key)) return absl::OkStatus();
    AGENTMEM_RETURN_IF_ERROR(visit_(ref.key, ref.bytes, BlockKind::kNode));
    AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<const TreeNode> node,
                              loader_->Load(ref, level, first_page));
    for (const TreeNode::Child& child : node->children()) {
      AGENTMEM_RETURN_IF_ERROR(
          VisitNode(child.node, level - 1, node->FirstPageOf(child.slot)));
    }
    for (const TreeNode::LeafPage& page : node->pages()) {
      if (left_out_ != nullptr && left_out_->contains(node->PageOf(page))) {
        continue;
      }
      AGENTMEM_RETURN_IF_ERROR(VisitPieces(node->PiecesOf(page)));
    }
    if (seen_ != nullptr) seen_->insert(ref.key);
    return absl::OkStatus();
  }

 private:
  // Neighbours often stand in one block: that one is visited once.
  absl::Status VisitPieces(std::span<const Piece> pieces) {
    for (const Piece& piece : pieces) {
      if (piece.bytes == 0 || piece.key == last_) continue;
      AGENTMEM_RETURN_IF_ERROR(
          visit_(piece.key, piece.block_bytes, BlockKind::kPiece));
      last_ = piece.key;
    }
    return absl::OkStatus();
  }

  NodeLoader* const loader_;
  absl::flat_hash_set<Key>* const seen_;
  const absl::flat_hash_set<std::uint64_t>* const left_out_;
  const BlockVisitor& visit_;
  Key last_;
};

}  // namespace

absl::Status ForEachBlock(const Manifest& manifest, NodeLoader* loader,
                          absl::flat_hash_set<Key>* seen,
                          const BlockVisitor& visit) {
  AGENTMEM_RETURN_IF_ERROR(ForEachOverlayBlock(manifest, visit));
  return ForEachTreeBlock(manifest, loader, seen, nullptr, visit);
}

absl::Status ForEachOverlayBlock(const Manifest& manifest,
                                 const BlockVisitor& visit) {
  return BlockWalk(nullptr, nullptr, nullptr, visit).VisitVersion(manifest);
}

absl::Status ForEachTreeBlock(
    const Manifest& manifest, NodeLoader* loader,
    absl::flat_hash_set<Key>* seen,
    const absl::flat_hash_set<std::uint64_t>* left_out,
    const BlockVisitor& visit) {
  const TreeRef& root = manifest.root();
  if (!root.node.exists()) return absl::OkStatus();
  BlockWalk walk(loader, seen, left_out, visit);
  return WithContext(VersionName(manifest.info()),
                     walk.VisitNode(root.node, root.level, 0));
}

}  // namespace agentmem
