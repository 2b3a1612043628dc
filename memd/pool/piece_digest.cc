#include "memd/pool/piece_digest.h"

#include <algorithm>

#include "base/check.h"
#include "memd/pool/block_hash.h"
#include "proto/types.h"

namespace agentmem {

static_assert(kMaxBlockBytes / PieceDigest::kPieceBytes <= 32);

// An XXH3_state_t, which stands on 64 bytes.
struct PieceDigest::State {
  alignas(64) char bytes[1024];
};

PieceDigest::PieceDigest() = default;
PieceDigest::~PieceDigest() = default;
PieceDigest::PieceDigest(PieceDigest&&) noexcept = default;
PieceDigest& PieceDigest::operator=(PieceDigest&&) noexcept = default;

std::uint8_t PieceDigest::PiecesOf(std::uint32_t length) {
  if (length <= 2 * kPieceBytes) return 1;
  return static_cast<std::uint8_t>((length + kPieceBytes - 1) / kPieceBytes);
}

std::uint32_t PieceDigest::LengthOf(std::uint32_t length, std::uint8_t piece) {
  if (PiecesOf(length) == 1) return length;
  return std::min(kPieceBytes, length - OffsetOf(piece));
}

void PieceDigest::Begin(std::uint64_t seed, const char* bytes,
                        std::uint32_t length) {
  seed_ = seed;
  bytes_ = bytes;
  length_ = length;
  arrived_ = 0;
  hashed_ = 0;
  if (PiecesOf(length) == 1) return;
  const BlockHash& hash = FastBlockHash();
  AGENTMEM_CHECK(hash.state_bytes <= sizeof(State));
  if (state_ == nullptr) state_ = std::make_unique<State>();
  hash.begin(state_->bytes, seed);
}

void PieceDigest::Arrived(std::uint8_t piece) {
  const std::uint8_t pieces = PiecesOf(length_);
  AGENTMEM_CHECK(piece < pieces);
  arrived_ |= 1U << piece;
  if (pieces == 1) return;
  while (hashed_ < pieces && (arrived_ >> hashed_ & 1) != 0) {
    FastBlockHash().update(state_->bytes, bytes_ + OffsetOf(hashed_),
                           LengthOf(length_, hashed_));
    ++hashed_;
  }
}

std::uint64_t PieceDigest::Finish() {
  if (PiecesOf(length_) == 1) return Of(seed_, bytes_, length_);
  AGENTMEM_CHECK(hashed_ == PiecesOf(length_));
  return FastBlockHash().finish(state_->bytes);
}

std::uint64_t PieceDigest::Of(std::uint64_t seed, const char* bytes,
                              std::uint32_t length) {
  return FastBlockHash().of(seed, bytes, length);
}

}  // namespace agentmem
