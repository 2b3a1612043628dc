#include "memd/agents/piece_codec.h"

#include <cstring>

namespace agentmem {
std::uint32_t PieceWriter::IndexOf(std::uint64_t lineage) {
  const auto [found, added] = index_.try_emplace(lineage, lineages());
  if (added) lineages_.push_back(lineage);
  return found->second;
}

void PieceWriter::WriteKey(const Key& key) {
  WriteVarint(IndexOf(LineageOf(key)));
  WriteVarint(RegionFenceOf(key));
  WriteVarint(RegionCounterOf(key));
}

void PieceWriter::WritePiece(const Piece& piece, std::uint32_t payload_offset) {
  if (piece.bytes == 0) {
    WriteVarint(kPieceZeros);
    AppendFixed(piece.units, &body_);
    return;
  }
  Piece placed = piece;
  std::uint32_t flags = placed.base ? kPieceBase : 0;
  if (placed.in_payload) {
    placed.key = {};
    placed.block_bytes = 0;
    placed.offset += payload_offset;
    flags |= kPieceSelf;
  }
  const bool same_block = previous_.bytes != 0 &&
                          placed.in_payload == previous_.in_payload &&
                          placed.key == previous_.key &&
                          placed.block_bytes == previous_.block_bytes;
  const bool next =
      same_block && placed.offset == previous_.offset + previous_.bytes;
  const bool names_block = !placed.in_payload && !same_block;
  if (same_block && !placed.in_payload) flags |= kPieceSameBlock;
  if (next) flags |= kPieceNext;
  const std::uint64_t lineage =
      names_block ? IndexOf(LineageOf(placed.key)) : 0;
  WriteVarint(flags | lineage << kPieceLineageShift);
  if (names_block) {
    WriteVarint(RegionFenceOf(placed.key));
    WriteVarint(RegionCounterOf(placed.key));
    WriteVarint(placed.block_bytes);
  }
  if (!next) WriteVarint(placed.offset);
  if (!placed.base) AppendFixed(placed.units, &body_);
  WriteVarint(BytesOfUnits(placed.units) - placed.bytes);
  previous_ = placed;
}

std::string PieceWriter::Finish() const {
  std::string bytes;
  bytes.reserve(this->bytes());
  for (const std::uint64_t lineage : lineages_) AppendFixed(lineage, &bytes);
  return bytes + body_;
}

PieceReader::PieceReader(std::string_view bytes, std::uint32_t lineages,
                         const SelfBlock& self)
    : in_(bytes), self_(self) {
  lineages_ = in_.Bytes(std::uint64_t{lineages} * sizeof(std::uint64_t));
}

Key PieceReader::KeyOf(std::uint64_t lineage_index) {
  const std::uint64_t fence = in_.VarintAtMost(kRegionFenceMax);
  const std::uint64_t counter = in_.VarintAtMost(kRegionCounterMax);
  if (lineage_index >= lineages_.size() / sizeof(std::uint64_t)) Fail();
  if (!ok()) return {};
  std::uint64_t lineage;
  std::memcpy(&lineage, lineages_.data() + lineage_index * sizeof(lineage),
              sizeof(lineage));
  return MakeRegionKey(lineage, fence, counter);
}

Key PieceReader::ReadKey() { return KeyOf(in_.VarintAtMost(UINT32_MAX)); }

Piece PieceReader::ReadPiece() {
  const std::uint64_t head = in_.VarintAtMost(UINT32_MAX);
  const std::uint64_t lineage = head >> kPieceLineageShift;
  Piece piece;
  if ((head & kPieceZeros) != 0) {
    if (head != kPieceZeros) Fail();
    piece.units = in_.Fixed<std::uint16_t>();
    return piece;
  }
  const bool self = (head & kPieceSelf) != 0;
  const bool same_block = (head & kPieceSameBlock) != 0;
  const bool next = (head & kPieceNext) != 0;
  piece.base = (head & kPieceBase) != 0;
  // in_payload of previous_ says whether that one was in this block.
  const bool follows = previous_.bytes != 0 && previous_.in_payload == self;
  if (((self || same_block) && lineage != 0) || (self && same_block) ||
      (self && self_.block_bytes == 0) || (same_block && !follows) ||
      (next && !(follows && (self || same_block)))) {
    Fail();
  }
  if (self) {
    piece.key = self_.key;
    piece.block_bytes = self_.block_bytes;
  } else if (same_block) {
    piece.key = previous_.key;
    piece.block_bytes = previous_.block_bytes;
  } else {
    piece.key = KeyOf(lineage);
    piece.block_bytes =
        static_cast<std::uint32_t>(in_.VarintAtMost(kMaxBlockBytes));
  }
  piece.offset =
      next ? previous_.offset + previous_.bytes
           : static_cast<std::uint32_t>(in_.VarintAtMost(kMaxBlockBytes));
  piece.units = piece.base ? kAllUnits : in_.Fixed<std::uint16_t>();
  const std::uint32_t whole = BytesOfUnits(piece.units);
  const std::uint64_t missing = in_.VarintAtMost(kPageBytes);
  if (missing >= whole) Fail();
  if (!ok()) return {};
  piece.bytes = whole - static_cast<std::uint32_t>(missing);
  const std::uint64_t payload_end =
      std::uint64_t{self_.payload_offset} + self_.payload_bytes;
  if (self && (piece.offset < self_.payload_offset ||
               std::uint64_t{piece.offset} + piece.bytes > payload_end)) {
    Fail();
  }
  previous_ = piece;
  previous_.in_payload = self;
  return piece;
}

}  // namespace agentmem
