// A checksum of pieces is that of the whole, in whatever order they come.
#include "memd/pool/piece_digest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "memd/pool/block_hash.h"
#include "proto/types.h"

namespace agentmem {
namespace {

constexpr std::uint32_t kPiece = PieceDigest::kPieceBytes;
constexpr std::uint32_t kMax = kMaxBlockBytes;

TEST(PieceDigestTest, PiecesCoverABlockOnceAndWithoutGaps) {
  for (const std::uint32_t length :
       {1U, kPiece, 2 * kPiece, 2 * kPiece + 1, 3 * kPiece, kMax - 1, kMax}) {
    std::uint32_t next = 0;
    for (std::uint8_t i = 0; i < PieceDigest::PiecesOf(length); ++i) {
      EXPECT_EQ(PieceDigest::OffsetOf(i), next);
      EXPECT_GT(PieceDigest::LengthOf(length, i), 0u);
      next += PieceDigest::LengthOf(length, i);
    }
    EXPECT_EQ(next, length);
  }
}

TEST(PieceDigestTest, AnyOrderOfPiecesGivesTheDigestOfTheWhole) {
  std::mt19937_64 random(3);
  std::vector<char> bytes(kMax);
  for (char& byte : bytes) byte = static_cast<char>(random());
  PieceDigest digest;  // one for all: it is used again
  for (const std::uint32_t length :
       {1U, 4096U, 2 * kPiece, 2 * kPiece + 1, 1U << 20, kMax - 7, kMax}) {
    std::vector<std::uint8_t> order(PieceDigest::PiecesOf(length));
    std::iota(order.begin(), order.end(), std::uint8_t{0});
    for (int round = 0; round < 10; ++round) {
      std::shuffle(order.begin(), order.end(), random);
      const std::uint64_t seed = random();
      digest.Begin(seed, bytes.data(), length);
      for (const std::uint8_t piece : order) digest.Arrived(piece);
      ASSERT_EQ(digest.Finish(), PieceDigest::Of(seed, bytes.data(), length))
          << length << " bytes, round " << round;
    }
  }
}

TEST(PieceDigestTest, SeedLengthAndEveryPieceCount) {
  std::vector<char> bytes(3 * kPiece, 'x');
  const std::uint64_t whole = PieceDigest::Of(1, bytes.data(), 3 * kPiece);
  EXPECT_NE(PieceDigest::Of(2, bytes.data(), 3 * kPiece), whole);
  EXPECT_NE(PieceDigest::Of(1, bytes.data(), 3 * kPiece - 1), whole);
  for (std::size_t piece = 0; piece < 3; ++piece) {
    bytes[piece * kPiece] = 'y';
    EXPECT_NE(PieceDigest::Of(1, bytes.data(), 3 * kPiece), whole);
    bytes[piece * kPiece] = 'x';
  }
}

TEST(PieceDigestTest, ABlockThatIsGivenUpLeavesNothingInTheNext) {
  std::vector<char> bytes(3 * kPiece, 'x');
  PieceDigest digest;
  digest.Begin(1, bytes.data(), 3 * kPiece);
  digest.Arrived(2);
  digest.Arrived(0);
  digest.Begin(7, bytes.data(), 3 * kPiece);
  for (const std::uint8_t piece : {1, 2, 0}) {
    digest.Arrived(static_cast<std::uint8_t>(piece));
  }
  EXPECT_EQ(digest.Finish(), PieceDigest::Of(7, bytes.data(), 3 * kPiece));
}

TEST(BlockHashTest, WiderInstructionsHashAlike) {
  if (!__builtin_cpu_supports("avx2")) {
    GTEST_SKIP() << "this processor has no AVX2";
  }
  const BlockHash plain = PlainBlockHash();
  const BlockHash wide = Avx2BlockHash();
  std::vector<char> bytes(1'000'003);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(i * i >> 3);
  }
  for (const std::size_t length : {1u, 16u, 129u, 241u, 4096u, 1'000'003u}) {
    EXPECT_EQ(plain.of(7, bytes.data(), length),
              wide.of(7, bytes.data(), length));
  }
}

}  // namespace
}  // namespace agentmem
