// What a page of a region consists of: pieces of blocks, and arithmetic on
// them.
//
// Ownership: values. Threads: plain data and pure functions. Errors: those of
// CheckPieces. Cost: at most kPiecesMax pieces a page.
#ifndef AGENTMEM_MEMD_AGENTS_PAGE_CONTENT_H_
#define AGENTMEM_MEMD_AGENTS_PAGE_CONTENT_H_

#include <bit>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "proto/manifest_layout.h"
#include "proto/types.h"

namespace agentmem {

// Part of a page's content: `bytes` bytes at `offset` of a block. They are the
// units of `units`, packed in ascending order; what they fall short of
// popcount(units) * kUnitBytes is zeros at the end.
struct Piece {
  Key key;                        // Key() if bytes is 0
  std::uint32_t block_bytes = 0;  // of the whole block
  std::uint32_t offset = 0;
  std::uint32_t bytes = 0;  // 0, in deltas alone: zeros, and no block is named
  std::uint16_t units = 0;
  bool base = false;  // covers the page: units is kAllUnits
  // Only while a version is built: the bytes stand in its own payload, from
  // `offset` of the payload on; key and block_bytes are not looked at.
  bool in_payload = false;

  friend bool operator==(const Piece&, const Piece&) = default;
};
static_assert(sizeof(Piece) == 32);

// In the order in which they are applied. None: zeros.
struct PageContent {
  std::vector<Piece> pieces;

  friend bool operator==(const PageContent&, const PageContent&) = default;
};

// Where one unit's bytes stand. bytes 0: zeros; below kUnitBytes: then zeros.
struct UnitSource {
  Key key;
  std::uint32_t offset = 0;
  std::uint32_t bytes = 0;

  friend bool operator==(const UnitSource&, const UnitSource&) = default;
};

inline std::uint32_t BytesOfUnits(std::uint16_t units) {
  return static_cast<std::uint32_t>(std::popcount(units)) * kUnitBytes;
}

// What is wrong with the pieces as a page's content; empty: nothing.
// in_payload pieces are checked against `payload_bytes`.
std::string CheckPieces(std::span<const Piece> pieces,
                        std::uint64_t payload_bytes = 0);

UnitSource SourceOfUnit(std::span<const Piece> pieces, std::uint32_t unit);

// The units that do not have the same source in both. Units outside it are
// equal; units in it may be.
std::uint16_t UnitsThatDiffer(std::span<const Piece> a,
                              std::span<const Piece> b);

// Writes `piece` over the page: pieces of which nothing shows any more go, as
// do zeros with nothing below; one that alone covers the page becomes its base.
// False, and nothing changed, if there would be more than kDeltasMax deltas:
// the caller writes a base then.
[[nodiscard]] bool AddPiece(const Piece& piece, PageContent* page);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_PAGE_CONTENT_H_
