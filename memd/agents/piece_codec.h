// Pieces and keys as they stand in version and node blocks
// (proto/manifest_layout.h).
//
// Ownership: PieceReader views the lineages. Threads: thread-compatible.
// Errors: PieceReader's are sticky, as ByteReader's; it answers what it read,
// which the caller then checks with CheckPieces. Cost: no allocation by the
// reader; the writer appends to its string.
#ifndef AGENTMEM_MEMD_AGENTS_PIECE_CODEC_H_
#define AGENTMEM_MEMD_AGENTS_PIECE_CODEC_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "memd/agents/page_content.h"
#include "proto/varint.h"

namespace agentmem {

class PieceWriter {
 public:
  // Varints of the entry around the pieces.
  void WriteVarint(std::uint64_t value) { AppendVarint(value, &body_); }
  void WriteKey(const Key& key);  // lineage's index, fence, counter
  // An in_payload piece's payload begins at `payload_offset` of the block.
  void WritePiece(const Piece& piece, std::uint32_t payload_offset = 0);

  std::uint32_t lineages() const {
    return static_cast<std::uint32_t>(lineages_.size());
  }
  // Lineages and body; both, as they follow each other in the block.
  std::size_t bytes() const { return lineages_.size() * 8 + body_.size(); }
  std::string Finish() const;

 private:
  std::uint32_t IndexOf(std::uint64_t lineage);

  std::string body_;
  std::vector<std::uint64_t> lineages_;
  absl::flat_hash_map<std::uint64_t, std::uint32_t> index_;
  Piece previous_;
};

// Where "self" leads: the block that is read.
struct SelfBlock {
  Key key;
  std::uint32_t block_bytes = 0;  // 0: pieces may not say self
  std::uint32_t payload_offset = 0;
  std::uint32_t payload_bytes = 0;
};

class PieceReader {
 public:
  // `bytes` begin with `lineages` lineages.
  PieceReader(std::string_view bytes, std::uint32_t lineages,
              const SelfBlock& self = {});

  bool ok() const { return in_.ok(); }
  bool AtEnd() const { return in_.AtEnd(); }
  std::size_t remaining() const { return in_.remaining(); }
  std::uint64_t ReadVarint(std::uint64_t max) { return in_.VarintAtMost(max); }
  Key ReadKey();
  Piece ReadPiece();

 private:
  Key KeyOf(std::uint64_t lineage_index);
  void Fail() { in_.Bytes(UINT64_MAX); }

  std::string_view lineages_;
  ByteReader in_;
  const SelfBlock self_;
  Piece previous_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_PIECE_CODEC_H_
