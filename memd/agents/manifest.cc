#include "memd/agents/manifest.h"

#include <algorithm>

#include "base/status.h"

namespace agentmem {
namespace {

// The tree's pages of [first, last), with the overlay's between and instead.
class PageWalk {
 public:
  PageWalk(const Manifest& manifest, std::uint64_t first, std::uint64_t last,
           NodeLoader* loader, const Manifest::PageVisitor& visit)
      : first_(first), last_(last), loader_(loader), visit_(visit) {
    const Overlay& overlay = manifest.overlay();
    next_ = std::lower_bound(overlay.begin(), overlay.end(), first,
                             [](const OverlayPage& entry, std::uint64_t page) {
                               return entry.page < page;
                             });
    end_ = overlay.end();
  }

  absl::Status Run(const TreeRef& root) {
    if (root.node.exists()) {
      AGENTMEM_RETURN_IF_ERROR(Walk(root.node, root.level, 0));
    }
    return VisitOverlayBelow(last_);
  }

 private:
  absl::Status Walk(const NodeRef& ref, std::uint32_t level,
                    std::uint64_t first_page) {
    if (first_page >= last_ || first_page + NodeSpan(level) <= first_) {
      return absl::OkStatus();
    }
    AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<const TreeNode> node,
                              loader_->Load(ref, level, first_page));
    for (const TreeNode::Child& child : node->children()) {
      AGENTMEM_RETURN_IF_ERROR(
          Walk(child.node, level - 1, node->FirstPageOf(child.slot)));
    }
    for (const TreeNode::LeafPage& page : node->pages()) {
      AGENTMEM_RETURN_IF_ERROR(
          VisitTreePage(node->PageOf(page), node->PiecesOf(page)));
    }
    return absl::OkStatus();
  }

  absl::Status VisitTreePage(std::uint64_t page,
                             std::span<const Piece> pieces) {
    if (page < first_ || page >= last_) return absl::OkStatus();
    AGENTMEM_RETURN_IF_ERROR(VisitOverlayBelow(page));
    // Once the overlay is past it, the page is VisitOverlayBelow's.
    if (next_ != end_ && next_->page == page) return absl::OkStatus();
    return visit_(page, pieces);
  }

  absl::Status VisitOverlayBelow(std::uint64_t page) {
    for (; next_ != end_ && next_->page < page; ++next_) {
      if (next_->content.pieces.empty()) continue;
      AGENTMEM_RETURN_IF_ERROR(visit_(next_->page, next_->content.pieces));
    }
    return absl::OkStatus();
  }

  const std::uint64_t first_;
  const std::uint64_t last_;
  NodeLoader* const loader_;
  const Manifest::PageVisitor& visit_;
  Overlay::const_iterator next_;
  Overlay::const_iterator end_;
};

}  // namespace

absl::Status WithContext(const std::string& what, const absl::Status& status) {
  if (status.ok()) return status;
  return MakeStatus(status.code(), what + ": " + StatusMessage(status));
}

absl::StatusOr<PageContent> FindInTree(const TreeRef& root, std::uint64_t page,
                                       NodeLoader* loader) {
  NodeRef ref = root.node;
  std::uint64_t first_page = 0;
  if (!ref.exists() || page >= NodeSpan(root.level)) return PageContent();
  for (std::uint32_t level = root.level;; --level) {
    AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<const TreeNode> node,
                              loader->Load(ref, level, first_page));
    if (level == 0) {
      const std::span<const Piece> pieces = node->FindPage(page);
      return PageContent{{pieces.begin(), pieces.end()}};
    }
    ref = node->FindChild(page);
    if (!ref.exists()) return PageContent();
    first_page = page / NodeSpan(level - 1) * NodeSpan(level - 1);
  }
}

absl::StatusOr<Manifest> Manifest::Open(std::string_view bytes,
                                        const Key& key) {
  AGENTMEM_ASSIGN_OR_RETURN(VersionBlock block, DecodeVersionBlock(key, bytes));
  return Manifest(key, static_cast<std::uint32_t>(bytes.size()),
                  std::make_shared<const VersionBlock>(std::move(block)));
}

const OverlayPage* Manifest::FindInOverlay(std::uint64_t page) const {
  const auto found =
      std::lower_bound(overlay().begin(), overlay().end(), page,
                       [](const OverlayPage& entry, std::uint64_t wanted) {
                         return entry.page < wanted;
                       });
  return found != overlay().end() && found->page == page ? &*found : nullptr;
}

absl::StatusOr<PageContent> Manifest::Find(std::uint64_t page,
                                           NodeLoader* loader) const {
  if (page >= page_count()) {
    return MakeStatus(absl::StatusCode::kOutOfRange,
                      VersionName(info()) + " has " +
                          std::to_string(page_count()) + " pages, not page " +
                          std::to_string(page));
  }
  if (const OverlayPage* const entry = FindInOverlay(page); entry != nullptr) {
    return entry->content;
  }
  auto content = FindInTree(root(), page, loader);
  if (!content.ok()) {
    return WithContext(VersionName(info()) + ", page " + std::to_string(page),
                       content.status());
  }
  return content;
}

absl::Status Manifest::ForEachPage(std::uint64_t first, std::uint64_t last,
                                   NodeLoader* loader,
                                   const PageVisitor& visit) const {
  PageWalk walk(*this, first, std::min(last, page_count()), loader, visit);
  return WithContext(VersionName(info()), walk.Run(root()));
}

}  // namespace agentmem
