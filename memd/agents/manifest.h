// One version of a region, read: which pieces a page consists of.
//
// Opening reads the version block alone, whatever the region's size. What the
// overlay does not say is asked of the tree, node by node, when it is needed.
//
// Ownership: a value that shares what was decoded; copies are cheap.
// Threads: immutable, and so thread-safe; the loader passed in is not.
// Errors: DATA_LOSS (a block of the version is missing or not what it should
// be; the message names version, page and key), OUT_OF_RANGE (a page beyond the
// region), else what the loader's source answered. Cost: Find is O(levels)
// loads, ForEachPage is one load a node in the range.
#ifndef AGENTMEM_MEMD_AGENTS_MANIFEST_H_
#define AGENTMEM_MEMD_AGENTS_MANIFEST_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memd/agents/node_loader.h"
#include "memd/agents/version_block.h"

namespace agentmem {

class Manifest {
 public:
  // What is not OK ends the walk and is its result.
  using PageVisitor =
      std::function<absl::Status(std::uint64_t page, std::span<const Piece>)>;

  static absl::StatusOr<Manifest> Open(std::string_view bytes, const Key& key);
  // Of one that was decoded, or made.
  Manifest(const Key& key, std::uint32_t block_bytes,
           std::shared_ptr<const VersionBlock> block)
      : key_(key), block_bytes_(block_bytes), block_(std::move(block)) {}

  const Key& key() const { return key_; }
  const VersionInfo& info() const { return block_->info; }
  // How others name this version.
  VersionLink link() const { return {info().number, key_, block_bytes_}; }
  std::uint64_t page_count() const { return PagesOf(info().region_bytes); }

  // No pieces: zeros.
  absl::StatusOr<PageContent> Find(std::uint64_t page,
                                   NodeLoader* loader) const;

  // The pages of [first, last) that have content, ascending.
  absl::Status ForEachPage(std::uint64_t first, std::uint64_t last,
                           NodeLoader* loader, const PageVisitor& visit) const;

  const TreeRef& root() const { return block_->root; }
  const Overlay& overlay() const { return block_->overlay; }
  const OverlayPage* FindInOverlay(std::uint64_t page) const;
  std::uint32_t overlay_spent() const { return block_->overlay_spent; }

 private:
  Key key_;
  std::uint32_t block_bytes_;
  std::shared_ptr<const VersionBlock> block_;
};

// What `root`'s tree says of `page`; nothing: zeros.
absl::StatusOr<PageContent> FindInTree(const TreeRef& root, std::uint64_t page,
                                       NodeLoader* loader);

// `status`, with `what` before its message.
absl::Status WithContext(const std::string& what, const absl::Status& status);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_MANIFEST_H_
