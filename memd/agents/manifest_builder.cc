#include "memd/agents/manifest_builder.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "memd/agents/tree_fold.h"

namespace agentmem {
namespace {

absl::Status CheckChange(const VersionChange& change) {
  AGENTMEM_RETURN_IF_ERROR(CheckVersionInfo(change.info));
  const std::string name = VersionName(change.info) + ": ";
  if (change.base != nullptr &&
      change.base->info().region_bytes > change.info.region_bytes) {
    return InvalidArgument(name + std::to_string(change.info.region_bytes) +
                           " bytes, and " +
                           std::to_string(change.base->info().region_bytes) +
                           " before: a region does not shrink");
  }
  const std::uint64_t page_count = PagesOf(change.info.region_bytes);
  for (std::size_t i = 0; i < change.pages.size(); ++i) {
    const PageChange& page = change.pages[i];
    std::string what = CheckPieces(page.content.pieces, change.payload.size());
    if (page.page >= page_count) {
      what = "the region has " + std::to_string(page_count) + " pages";
    }
    if (i > 0 && change.pages[i - 1].page >= page.page) {
      what = "does not stand behind a lower one";
    }
    if (what.empty()) continue;
    return InvalidArgument(name + "page " + std::to_string(page.page) + ": " +
                           what);
  }
  return absl::OkStatus();
}

// The base's overlay with the changes in it. in_tree is right for the pages
// that were in it already.
Overlay MergedOverlay(const VersionChange& change) {
  static const Overlay kEmpty;
  const Overlay& before =
      change.base != nullptr ? change.base->overlay() : kEmpty;
  Overlay merged;
  merged.reserve(before.size() + change.pages.size());
  auto next = before.begin();
  for (const PageChange& page : change.pages) {
    while (next != before.end() && next->page < page.page) {
      merged.push_back(*next++);
    }
    const bool replaces = next != before.end() && next->page == page.page;
    merged.push_back({page.page, replaces && next->in_tree, page.content});
    if (replaces) ++next;
  }
  merged.insert(merged.end(), next, before.end());
  return merged;
}

// Bytes that a fold would write, about: a leaf for each group of 256 pages that
// the overlay touches, at most as full as the region allows, and for each a
// share of the path above it.
std::uint64_t FoldCost(const Overlay& overlay, std::uint32_t mapped_pages,
                       std::uint32_t root_level) {
  // What a block costs beyond its bytes: the record's header and location, a
  // place in the index, the rest of its slot in DRAM.
  constexpr std::uint64_t kBlockCost = 1024;
  constexpr std::uint64_t kPageCost = 14;
  std::uint64_t leaves = 0;
  std::uint64_t last_leaf = UINT64_MAX;
  for (const OverlayPage& entry : overlay) {
    const std::uint64_t leaf = entry.page / kNodeFanOut;
    if (leaf != last_leaf) ++leaves;
    last_leaf = leaf;
  }
  const std::uint64_t entries =
      std::min<std::uint64_t>(kNodeFanOut, mapped_pages + overlay.size());
  return leaves * (kBlockCost + kPageCost * entries) +
         root_level * (kBlockCost + kPageCost * kNodeFanOut / 2);
}

// Payload pieces become pieces of the finished version block.
void ResolvePayload(const Key& version, std::uint32_t block_bytes,
                    std::uint32_t payload_offset, Overlay* overlay) {
  for (OverlayPage& entry : *overlay) {
    for (Piece& piece : entry.content.pieces) {
      if (!piece.in_payload) continue;
      piece.key = version;
      piece.block_bytes = block_bytes;
      piece.offset += payload_offset;
      piece.in_payload = false;
    }
  }
}

// Asks the tree about the changed pages that were not in the base's overlay,
// drops those that say "zeros" of a page that the tree does not have, and
// counts.
absl::Status SettleOverlay(const VersionChange& change, NodeLoader* loader,
                           VersionBlock* block) {
  Overlay& overlay = block->overlay;
  std::size_t i = 0;
  for (const PageChange& page : change.pages) {
    while (overlay[i].page < page.page) ++i;
    if (change.base != nullptr &&
        change.base->FindInOverlay(page.page) != nullptr) {
      continue;
    }
    auto content = FindInTree(block->root, page.page, loader);
    if (!content.ok()) {
      return WithContext(VersionName(change.info) + ", page " +
                             std::to_string(page.page) + " of its base",
                         content.status());
    }
    overlay[i].in_tree = !content->pieces.empty();
  }
  std::erase_if(overlay, [](const OverlayPage& entry) {
    return entry.content.pieces.empty() && !entry.in_tree;
  });
  std::int64_t mapped = block->root.node.pages;
  for (const OverlayPage& entry : overlay) {
    mapped += (entry.content.pieces.empty() ? 0 : 1) - (entry.in_tree ? 1 : 0);
  }
  if (mapped < 0) {
    return DataLoss(VersionName(change.info) +
                    ": its base maps fewer pages than it says");
  }
  block->info.mapped_pages = static_cast<std::uint32_t>(mapped);
  return absl::OkStatus();
}

absl::Status CheckBlockBytes(const VersionInfo& info, std::uint64_t bytes) {
  if (bytes <= kMaxBlockBytes) return absl::OkStatus();
  return ResourceExhausted(VersionName(info) + ": a block of " +
                           std::to_string(bytes) + " bytes, at most " +
                           std::to_string(kMaxBlockBytes) +
                           ": put the payload into blocks of its own");
}

absl::Status FoldOverlay(const VersionChange& change, NodeLoader* loader,
                         const KeyMaker& make_key, VersionBlock* block,
                         NewVersion* made) {
  const std::uint32_t payload_offset = PayloadOffset(block->info);
  ResolvePayload(
      made->version.key,
      static_cast<std::uint32_t>(payload_offset + change.payload.size()),
      payload_offset, &block->overlay);
  TreeFold fold(loader, make_key, &made->nodes);
  auto root = fold.Run(block->root, block->overlay);
  if (!root.ok()) {
    return WithContext(VersionName(change.info) + ", its base", root.status());
  }
  block->root = *root;
  block->overlay.clear();
  block->overlay_spent = 0;
  block->info.mapped_pages = block->root.node.pages;
  made->folded = true;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<NewVersion> BuildVersion(const VersionChange& change,
                                        NodeLoader* loader,
                                        const KeyMaker& make_key) {
  AGENTMEM_RETURN_IF_ERROR(CheckChange(change));
  VersionBlock block;
  block.info = change.info;
  block.info.changed_pages = static_cast<std::uint32_t>(change.pages.size());
  block.overlay = MergedOverlay(change);
  std::uint32_t mapped_before = 0;
  if (change.base != nullptr) {
    block.root = change.base->root();
    block.overlay_spent = change.base->overlay_spent();
    mapped_before = change.base->info().mapped_pages;
  }
  const std::uint32_t payload_offset = PayloadOffset(block.info);
  AGENTMEM_RETURN_IF_ERROR(CheckBlockBytes(
      change.info, std::uint64_t{payload_offset} + change.payload.size()));

  AGENTMEM_RETURN_IF_ERROR(SettleOverlay(change, loader, &block));
  EncodedOverlay overlay = EncodeOverlay(block.overlay, payload_offset);
  const std::uint64_t block_bytes = std::uint64_t{payload_offset} +
                                    change.payload.size() +
                                    overlay.bytes.size();
  const std::uint64_t spent =
      std::uint64_t{block.overlay_spent} + overlay.bytes.size();
  NewVersion made;
  made.version.key = make_key();
  if (overlay.bytes.size() > kOverlayBytesMax || block_bytes > kMaxBlockBytes ||
      spent > FoldCost(block.overlay, mapped_before, block.root.level)) {
    AGENTMEM_RETURN_IF_ERROR(
        FoldOverlay(change, loader, make_key, &block, &made));
    overlay = EncodeOverlay(block.overlay, payload_offset);
  } else {
    block.overlay_spent = static_cast<std::uint32_t>(spent);
    ResolvePayload(made.version.key, static_cast<std::uint32_t>(block_bytes),
                   payload_offset, &block.overlay);
  }
  made.version.bytes = EncodeVersionBlock(block, change.payload, overlay);
  made.block = std::make_shared<const VersionBlock>(std::move(block));
  return made;
}

Manifest NewVersion::manifest() const {
  return Manifest(version.key, static_cast<std::uint32_t>(version.bytes.size()),
                  block);
}

}  // namespace agentmem
