// The checksum of a block that arrives in pieces, in any order: what is there
// from the start on is hashed while the rest is on its way.
//
// Ownership: owns the hash's state, borrows the bytes. Threads:
// thread-compatible. Errors: none. Cost: that of XXH3-64, about a memcpy's.
#ifndef AGENTMEM_MEMD_POOL_PIECE_DIGEST_H_
#define AGENTMEM_MEMD_POOL_PIECE_DIGEST_H_

#include <cstdint>
#include <memory>

namespace agentmem {

class PieceDigest {
 public:
  // Blocks of more than two of them travel in pieces.
  static constexpr std::uint32_t kPieceBytes = 256 << 10;
  static std::uint8_t PiecesOf(std::uint32_t length);
  static std::uint32_t OffsetOf(std::uint8_t piece) {
    return piece * kPieceBytes;
  }
  static std::uint32_t LengthOf(std::uint32_t length, std::uint8_t piece);

  PieceDigest();
  ~PieceDigest();
  PieceDigest(PieceDigest&&) noexcept;
  PieceDigest& operator=(PieceDigest&&) noexcept;

  void Begin(std::uint64_t seed, const char* bytes, std::uint32_t length);
  // This piece's bytes are there; each once.
  void Arrived(std::uint8_t piece);
  // After all of them.
  std::uint64_t Finish();

  // Of a whole block at once.
  static std::uint64_t Of(std::uint64_t seed, const char* bytes,
                          std::uint32_t length);

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::uint64_t seed_ = 0;
  const char* bytes_ = nullptr;
  std::uint32_t length_ = 0;
  std::uint32_t arrived_ = 0;  // a bit for each piece
  std::uint8_t hashed_ = 0;    // pieces from the start on
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_PIECE_DIGEST_H_
