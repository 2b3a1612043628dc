#include "memd/agents/node_loader.h"

#include <utility>

#include "base/status.h"
#include "proto/key_text.h"

namespace agentmem {

absl::StatusOr<std::shared_ptr<const TreeNode>> NodeLoader::Load(
    const NodeRef& ref, std::uint32_t level, std::uint64_t first_page) {
  if (const auto found = index_.find(ref.key); found != index_.end()) {
    const std::shared_ptr<const TreeNode>& node = found->second->node;
    if (node->level() != level || node->first_page() != first_page) {
      return DataLoss("node of block " + KeyText(ref.key) + ": level " +
                      std::to_string(node->level()) + " from page " +
                      std::to_string(node->first_page()) + ", expected level " +
                      std::to_string(level) + " from page " +
                      std::to_string(first_page));
    }
    kept_.splice(kept_.begin(), kept_, found->second);
    return node;
  }
  auto bytes = source_->Read(ref.key, ref.bytes);
  if (!bytes.ok()) {
    if (bytes.status().code() != absl::StatusCode::kNotFound) {
      return bytes.status();
    }
    return DataLoss("node of block " + KeyText(ref.key) + " is missing");
  }
  if (bytes->size() != ref.bytes) {
    return DataLoss("node of block " + KeyText(ref.key) + ": " +
                    std::to_string(bytes->size()) + " bytes, expected " +
                    std::to_string(ref.bytes));
  }
  AGENTMEM_ASSIGN_OR_RETURN(TreeNode decoded,
                            DecodeNode(ref.key, *bytes, level, first_page));
  if (decoded.MappedPages() != ref.pages) {
    return DataLoss("node of block " + KeyText(ref.key) + ": " +
                    std::to_string(decoded.MappedPages()) +
                    " pages, expected " + std::to_string(ref.pages));
  }
  auto node = std::make_shared<const TreeNode>(std::move(decoded));
  Keep(ref.key, node);
  return node;
}

void NodeLoader::Keep(const Key& key, std::shared_ptr<const TreeNode> node) {
  const std::size_t bytes = node->MemoryBytes();
  if (bytes > kept_bytes_max_ || index_.contains(key)) return;
  kept_.push_front({key, std::move(node), bytes});
  index_[key] = kept_.begin();
  kept_bytes_ += bytes;
  while (kept_bytes_ > kept_bytes_max_) {
    kept_bytes_ -= kept_.back().bytes;
    index_.erase(kept_.back().key);
    kept_.pop_back();
  }
}

}  // namespace agentmem
