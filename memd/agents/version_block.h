// A version block, made and checked: who made a version, when and from what,
// its tree's root, and the pages that changed since the tree was made.
//
// Ownership: values. Threads: pure functions. Errors: DecodeVersionBlock:
// DATA_LOSS, with the version's number and key, and what is wrong; an unknown
// format is named with the known one. Cost: decoding reads header, message,
// labels and overlay; the payload is not looked at.
#ifndef AGENTMEM_MEMD_AGENTS_VERSION_BLOCK_H_
#define AGENTMEM_MEMD_AGENTS_VERSION_BLOCK_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memd/agents/node.h"
#include "memd/agents/page_content.h"
#include "proto/manifest_layout.h"
#include "proto/types.h"

namespace agentmem {

using Labels = std::vector<std::pair<std::string, std::string>>;

// A version as others name it. number 0: there is none.
struct VersionLink {
  std::uint64_t number = 0;
  Key key;
  std::uint32_t bytes = 0;  // of its block

  friend bool operator==(const VersionLink&, const VersionLink&) = default;
};

struct VersionInfo {
  std::uint64_t region_id = 0;
  std::uint64_t number = 0;  // from 1 on
  VersionLink parent;        // number - 1, unless it is another region's (fork)
  std::uint32_t flags = 0;   // kVersion*
  std::uint64_t related_number = 0;  // kVersionRevert: of the version restored
  std::int64_t wall_time_ns = 0;     // since 1970, UTC
  Ack ack = Ack::kDurable;
  std::array<std::uint8_t, kTraceIdBytes> trace_id = {};
  std::uint64_t region_bytes = 0;   // 1 to kRegionBytesMax
  std::uint64_t changed_bytes = 0;  // as the writer counted them
  std::uint32_t changed_pages = 0;  // by this version
  std::uint32_t mapped_pages = 0;   // that have content
  std::string message;
  Labels labels;

  friend bool operator==(const VersionInfo&, const VersionInfo&) = default;
};

// Instead of what the tree says of the page. No pieces: zeros.
struct OverlayPage {
  std::uint64_t page = 0;
  bool in_tree = false;  // the tree has the page too
  PageContent content;

  friend bool operator==(const OverlayPage&, const OverlayPage&) = default;
};
using Overlay = std::vector<OverlayPage>;  // ascending by page

struct VersionBlock {
  VersionInfo info;
  TreeRef root;
  Overlay overlay;
  std::uint32_t overlay_spent = 0;

  friend bool operator==(const VersionBlock&, const VersionBlock&) = default;
};

// "version 7 of region 3", for people.
std::string VersionName(const VersionInfo& info);

inline std::uint64_t PagesOf(std::uint64_t region_bytes) {
  return (region_bytes + kPageBytes - 1) / kPageBytes;
}

// What is wrong with the labels or the message; OK: nothing.
absl::Status CheckLabels(const Labels& labels);
absl::Status CheckVersionInfo(const VersionInfo& info);

void AppendLabels(const Labels& labels, std::string* to);
// False if `bytes` are not exactly `count` pairs.
bool ReadLabels(std::string_view bytes, std::uint32_t count, Labels* labels);

// Where the payload begins, which is where a version block without overlay ends
// but for its payload.
std::uint32_t PayloadOffset(const VersionInfo& info);

// Lineages and entries, as they stand in the block. in_tree does not change the
// length.
struct EncodedOverlay {
  std::string bytes;
  std::uint32_t lineages = 0;
};
EncodedOverlay EncodeOverlay(const Overlay& overlay,
                             std::uint32_t payload_offset);

// `overlay` is that of `block`.
std::string EncodeVersionBlock(const VersionBlock& block,
                               std::string_view payload,
                               const EncodedOverlay& overlay);

absl::StatusOr<VersionBlock> DecodeVersionBlock(const Key& key,
                                                std::string_view bytes);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_VERSION_BLOCK_H_
