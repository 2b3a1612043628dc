// Makes the blocks of a new version from an older one and the pages that
// changed.
//
// A small commit is one block: its pages join the overlay, and its bytes stand
// in the version block's payload. The overlay is written again with every
// version, so sooner or later it is folded: the leaves that it touches, and the
// nodes above them, are written anew, and it starts empty. It is folded
// (1) when it exceeds kOverlayBytesMax, and (2) when the overlays written since
// the last fold, this one included, cost as many bytes as a fold would: the
// break-even of renting and buying, never more than twice the cheapest choice
// made with hindsight. Appends to one page fold seldom and cheaply; writes all
// over a large region wait until many share a leaf.
//
// Ownership: values. Threads: pure but for the loader and the key maker.
// Errors: INVALID_ARGUMENT (what the caller asked for: names the field and its
// range), RESOURCE_EXHAUSTED (the version block would exceed kMaxBlockBytes:
// the payload must go to blocks of its own), else as Manifest::Find. After an
// error nothing of what was made is needed; its keys are not used again.
// Cost: O(changed pages * levels) node loads, whatever the region's size; a
// commit that follows many small ones also folds theirs.
#ifndef AGENTMEM_MEMD_AGENTS_MANIFEST_BUILDER_H_
#define AGENTMEM_MEMD_AGENTS_MANIFEST_BUILDER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "memd/agents/manifest.h"
#include "memd/agents/version_block.h"

namespace agentmem {

// All of a page's pieces from now on; none: zeros. A piece whose bytes are in
// VersionChange::payload says in_payload.
struct PageChange {
  std::uint64_t page = 0;
  PageContent content;
};

struct VersionChange {
  // As it shall stand in the block; changed_pages and mapped_pages are counted
  // here. `parent` is the caller's: usually base->link(), but another version
  // when an older one is restored.
  VersionInfo info;
  // What the changes are applied to; nullptr: an empty region.
  const Manifest* base = nullptr;
  std::vector<PageChange> pages;  // ascending
  std::string_view payload;
};

struct NewBlock {
  Key key;
  std::string bytes;
};

struct NewVersion {
  std::vector<NewBlock> nodes;  // written before the version, in any order
  NewBlock version;
  std::shared_ptr<const VersionBlock> block;  // what version.bytes say
  bool folded = false;

  // As Manifest::Open of the version's bytes would be.
  Manifest manifest() const;
};

// Called once for the version, then once for each node.
using KeyMaker = std::function<Key()>;

absl::StatusOr<NewVersion> BuildVersion(const VersionChange& change,
                                        NodeLoader* loader,
                                        const KeyMaker& make_key);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_MANIFEST_BUILDER_H_
