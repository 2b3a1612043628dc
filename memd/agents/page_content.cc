#include "memd/agents/page_content.h"

#include <algorithm>

namespace agentmem {
namespace {

std::string CheckPiece(const Piece& piece, std::uint64_t payload_bytes) {
  if (piece.units == 0) return "covers no unit";
  if (piece.base && piece.units != kAllUnits) {
    return "is a base that does not cover its page";
  }
  if (piece.bytes > BytesOfUnits(piece.units)) {
    return std::to_string(piece.bytes) + " bytes for units of " +
           std::to_string(BytesOfUnits(piece.units));
  }
  if (piece.bytes == 0) {
    return piece.base || piece.in_payload || piece.offset != 0 ||
                   piece.block_bytes != 0 || piece.key != Key()
               ? "is empty and yet names a block"
               : "";
  }
  const std::uint64_t limit =
      piece.in_payload ? payload_bytes : piece.block_bytes;
  if (limit > kMaxBlockBytes ||
      std::uint64_t{piece.offset} + piece.bytes > limit) {
    return std::to_string(piece.bytes) + " bytes at " +
           std::to_string(piece.offset) + " of a block of " +
           std::to_string(limit);
  }
  return "";
}

}  // namespace

std::string CheckPieces(std::span<const Piece> pieces,
                        std::uint64_t payload_bytes) {
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].base && i != 0) return "a base stands behind other pieces";
    if (std::string what = CheckPiece(pieces[i], payload_bytes);
        !what.empty()) {
      return "piece " + std::to_string(i) + ": " + what;
    }
  }
  const std::size_t bases = !pieces.empty() && pieces[0].base ? 1 : 0;
  if (pieces.size() - bases > kDeltasMax) {
    return std::to_string(pieces.size() - bases) + " deltas, at most " +
           std::to_string(kDeltasMax);
  }
  return "";
}

UnitSource SourceOfUnit(std::span<const Piece> pieces, std::uint32_t unit) {
  const std::uint32_t bit = 1U << unit;
  for (std::size_t i = pieces.size(); i-- > 0;) {
    const Piece& piece = pieces[i];
    if ((piece.units & bit) == 0) continue;
    const std::uint32_t before =
        BytesOfUnits(static_cast<std::uint16_t>(piece.units & (bit - 1)));
    if (before >= piece.bytes) return {};
    return {
        piece.key, piece.offset + before,
        std::min(piece.bytes - before, static_cast<std::uint32_t>(kUnitBytes))};
  }
  return {};
}

std::uint16_t UnitsThatDiffer(std::span<const Piece> a,
                              std::span<const Piece> b) {
  std::uint16_t units = 0;
  for (std::uint32_t unit = 0; unit < kPageUnits; ++unit) {
    if (SourceOfUnit(a, unit) != SourceOfUnit(b, unit)) units |= 1U << unit;
  }
  return units;
}

bool AddPiece(const Piece& piece, PageContent* page) {
  PageContent result;
  std::uint32_t covered = piece.units;
  std::vector<Piece> shown;  // the last applied first
  for (std::size_t i = page->pieces.size(); i-- > 0;) {
    const Piece& older = page->pieces[i];
    if ((older.units & ~covered) != 0) shown.push_back(older);
    covered |= older.units;
  }
  // Zeros over nothing are nothing.
  if (piece.bytes != 0 || !shown.empty()) shown.insert(shown.begin(), piece);
  while (!shown.empty() && shown.back().bytes == 0) shown.pop_back();
  result.pieces.assign(shown.rbegin(), shown.rend());
  if (result.pieces.size() == 1 && result.pieces[0].units == kAllUnits) {
    result.pieces[0].base = true;
  }
  const std::size_t bases =
      !result.pieces.empty() && result.pieces[0].base ? 1 : 0;
  if (result.pieces.size() - bases > kDeltasMax) return false;
  *page = std::move(result);
  return true;
}

}  // namespace agentmem
