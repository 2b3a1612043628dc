// Versions of regions: version blocks, node blocks, and the keys of both.
// Version 1.
//
// A region is 64 KiB pages, each tracked in 16 units of 4 KiB. A version maps
// page -> pieces: at most one base (the whole page; what it lacks is zero),
// then at most 8 deltas (some units each), applied in order. A page without
// pieces is zeros.
//
// Key of a region's block (of a version, a node, or pages' bytes):
//
//   words 0, 1   lineage    64 bits, random, one an agent
//   words 2, 3   fence << 40 | counter     24 bits, 40 bits
//
// so that two writers never make the same key: each has a fence of its own.
//
// Version block:
//
//   +-----------------------+---------+--------+---------+----------+---------+
//   | VersionHeader (176 B) | message | labels | payload | lineages | overlay |
//   +-----------------------+---------+--------+---------+----------+---------+
//
//   labels     label_count pairs of strings (varint length, bytes)
//   payload    bytes that pieces of this version refer to as "self"
//   lineages   u64 each; the overlay's keys name them by index
//   overlay    pages that are not as the tree says, ascending:
//              varint  pages left out since the last entry
//              varint  pieces << 1 | 1 if the tree has the page
//              pieces  (none: zeros)
//
// Node block: 256 pages (level 0), or 256 nodes of the level below:
//
//   +-------------------+----------+---------+
//   | NodeHeader (32 B) | lineages | entries |
//   +-------------------+----------+---------+
//
//   entry of a leaf        varint  slots left out since the last entry
//                          varint  pieces (1 to 9), then the pieces
//   entry of an inner node varint  slots left out since the last entry
//                          varint  lineage's index, fence, counter
//                          varint  bytes of the child's block
//                          varint  mapped pages below the child
//
// Piece (kPiece* flags; about 12 bytes, 4 if it follows the one before):
//
//   varint  flags | lineage's index << 5
//   varint  fence, counter, block_bytes   unless self, same block or zeros
//   varint  offset in the block           unless next or zeros
//   u16     mask of units                 unless base
//   varint  bytes short of the units      unless zeros
//
// All integers are little-endian. Threads: plain data. Errors: none here;
// memd/agents/ checks what it reads.
#ifndef AGENTMEM_PROTO_MANIFEST_LAYOUT_H_
#define AGENTMEM_PROTO_MANIFEST_LAYOUT_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "proto/types.h"

namespace agentmem {

inline constexpr std::uint64_t kPageBytes = 64 << 10;
inline constexpr std::uint64_t kUnitBytes = 4 << 10;
inline constexpr std::uint32_t kPageUnits = kPageBytes / kUnitBytes;
inline constexpr std::uint16_t kAllUnits = 0xffff;
static_assert(kPageUnits == 16);

inline constexpr std::uint64_t kRegionBytesMax = 1ULL << 40;  // 1 TiB
inline constexpr std::uint64_t kRegionPagesMax = kRegionBytesMax / kPageBytes;

// More deltas cost a reader more blocks a page; fewer cost the writer a base
// (64 KiB) more often. 8 of one unit each are half a base.
inline constexpr std::uint32_t kDeltasMax = 8;
inline constexpr std::uint32_t kPiecesMax = 1 + kDeltasMax;

// Keys of region blocks.
inline constexpr std::uint64_t kRegionFenceMax = (1ULL << 24) - 1;
inline constexpr std::uint64_t kRegionCounterMax = (1ULL << 40) - 1;

inline Key MakeRegionKey(std::uint64_t lineage, std::uint64_t fence,
                         std::uint64_t counter) {
  return Key::FromWords(lineage, fence << 40 | counter);
}
inline std::uint64_t LineageOf(const Key& key) { return key.low(); }
inline std::uint64_t RegionFenceOf(const Key& key) { return key.high() >> 40; }
inline std::uint64_t RegionCounterOf(const Key& key) {
  return key.high() & kRegionCounterMax;
}

// Flags of a piece.
inline constexpr std::uint32_t kPieceBase = 1;
inline constexpr std::uint32_t kPieceSelf = 2;       // in this version block
inline constexpr std::uint32_t kPieceSameBlock = 4;  // as the piece before
inline constexpr std::uint32_t kPieceNext = 8;    // begins where that one ended
inline constexpr std::uint32_t kPieceZeros = 16;  // no block: zeros
inline constexpr std::uint32_t kPieceLineageShift = 5;

inline constexpr std::uint64_t kVersionMagic =
    0x31524556'4d454741ULL;  // AGEMVER1
inline constexpr std::uint32_t kVersionFormat = 1;

// Flags of a version.
inline constexpr std::uint32_t kVersionRevert = 1;  // began as `related_number`
inline constexpr std::uint32_t kVersionFork = 2;    // parent: another region's
inline constexpr std::uint32_t kVersionHibernate = 4;  // before going to sleep
inline constexpr std::uint32_t kVersionFlags = 7;

inline constexpr std::uint32_t kMessageBytesMax = 4 << 10;
inline constexpr std::uint32_t kLabelsMax = 32;
inline constexpr std::uint32_t kLabelsBytesMax = 4 << 10;  // as encoded
inline constexpr std::size_t kTraceIdBytes = 16;

// A fold rewrites at most one leaf an entry of the overlay. An entry of a page
// that is no neighbour takes 8 bytes and more (2 for the page, 1, and a piece
// of 4 or more): 4 KiB keep the longest fold below 512 leaves of 3 KiB, 1.5
// MiB, a millisecond of disk; and a small commit, header and payload included,
// within two 4 KiB sectors. When a fold pays earlier:
// memd/agents/manifest_builder.h.
inline constexpr std::uint32_t kOverlayBytesMax = 4 << 10;

struct VersionHeader {
  std::uint64_t magic;
  std::uint32_t format;
  std::uint32_t header_bytes;  // sizeof(VersionHeader)
  std::uint64_t region_id;
  std::uint64_t number;
  Key parent_key;
  std::uint64_t parent_number;  // 0: no parent
  std::uint32_t parent_bytes;   // of its block
  std::uint32_t flags;
  std::uint64_t related_number;
  std::int64_t wall_time_ns;  // since 1970, UTC
  std::uint8_t trace_id[kTraceIdBytes];
  std::uint64_t region_bytes;
  std::uint64_t changed_bytes;
  std::uint32_t changed_pages;
  std::uint32_t mapped_pages;
  Key root_key;
  std::uint32_t root_bytes;  // 0: no tree
  std::uint32_t tree_pages;  // mapped by the tree alone
  std::uint8_t root_level;
  std::uint8_t ack;  // Ack
  std::uint16_t message_bytes;
  std::uint16_t labels_bytes;
  std::uint16_t label_count;
  std::uint32_t payload_bytes;
  std::uint32_t overlay_bytes;
  std::uint32_t overlay_entries;
  std::uint32_t lineages;
  std::uint32_t overlay_spent;  // bytes of overlays written since the last fold
  std::uint32_t reserved;       // 0
};
static_assert(sizeof(VersionHeader) == 176);
static_assert(std::is_trivially_copyable_v<VersionHeader>);
static_assert(offsetof(VersionHeader, parent_key) == 32);
static_assert(offsetof(VersionHeader, related_number) == 64);
static_assert(offsetof(VersionHeader, region_bytes) == 96);
static_assert(offsetof(VersionHeader, root_key) == 120);
static_assert(offsetof(VersionHeader, root_level) == 144);
static_assert(offsetof(VersionHeader, payload_bytes) == 152);
static_assert(offsetof(VersionHeader, overlay_spent) == 168);

inline constexpr std::uint64_t kNodeMagic = 0x31444f4e'4d454741ULL;  // AGEMNOD1
inline constexpr std::uint32_t kNodeFormat = 1;

inline constexpr std::uint32_t kNodeFanOutLog2 = 8;
inline constexpr std::uint32_t kNodeFanOut = 1 << kNodeFanOutLog2;
inline constexpr std::uint32_t kNodeLevelMax = 2;
static_assert(kRegionPagesMax ==
              1ULL << (kNodeFanOutLog2 * (kNodeLevelMax + 1)));

// Pages below a node of `level`.
inline constexpr std::uint64_t NodeSpan(std::uint32_t level) {
  return 1ULL << (kNodeFanOutLog2 * (level + 1));
}

struct NodeHeader {
  std::uint64_t magic;
  std::uint32_t format;
  std::uint8_t level;  // 0: a leaf
  std::uint8_t reserved[3];
  std::uint64_t first_page;
  std::uint32_t entries;
  std::uint32_t lineages;
};
static_assert(sizeof(NodeHeader) == 32);
static_assert(std::is_trivially_copyable_v<NodeHeader>);
static_assert(offsetof(NodeHeader, first_page) == 16);

// The largest leaf: 256 pages of 9 pieces of at most 26 bytes, each of a
// lineage of its own (8 bytes), and 3 bytes a page: 78 KiB.
inline constexpr std::uint32_t kNodeBytesMax = 128 << 10;

// The block of a working set: header, then a zigzag varint a page, each the
// difference to the one before (the first: to 0).
inline constexpr std::uint64_t kWorkingSetMagic =
    0x31534b57'4d454741ULL;  // AGEMWKS1
inline constexpr std::uint32_t kWorkingSetFormat = 1;

struct WorkingSetHeader {
  std::uint64_t magic;
  std::uint32_t format;
  std::uint32_t pages;
};
static_assert(sizeof(WorkingSetHeader) == 16);

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_MANIFEST_LAYOUT_H_
