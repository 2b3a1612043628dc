#include "memd/pool/piece_digest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

#include "base/check.h"
#include "proto/types.h"

namespace agentmem {

static_assert(kMaxBlockBytes / PieceDigest::kPieceBytes <= 32);

struct PieceDigest::State {
  XXH3_state_t hash;
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
  if (state_ == nullptr) state_ = std::make_unique<State>();
  XXH3_64bits_reset_withSeed(&state_->hash, seed);
}

void PieceDigest::Arrived(std::uint8_t piece) {
  const std::uint8_t pieces = PiecesOf(length_);
  AGENTMEM_CHECK(piece < pieces);
  arrived_ |= 1U << piece;
  if (pieces == 1) return;
  while (hashed_ < pieces && (arrived_ >> hashed_ & 1) != 0) {
    XXH3_64bits_update(&state_->hash, bytes_ + OffsetOf(hashed_),
                       LengthOf(length_, hashed_));
    ++hashed_;
  }
}

std::uint64_t PieceDigest::Finish() {
  if (PiecesOf(length_) == 1) return Of(seed_, bytes_, length_);
  AGENTMEM_CHECK(hashed_ == PiecesOf(length_));
  return XXH3_64bits_digest(&state_->hash);
}

std::uint64_t PieceDigest::Of(std::uint64_t seed, const char* bytes,
                              std::uint32_t length) {
  return XXH3_64bits_withSeed(bytes, length, seed);
}

}  // namespace agentmem
