#include "memd/agents/page_content.h"

#include <gtest/gtest.h>

namespace agentmem {
namespace {

Piece Delta(std::uint32_t name, std::uint16_t units, std::uint32_t bytes) {
  Piece piece;
  if (bytes != 0) {
    piece.key = Key::FromWords(name, 0);
    piece.block_bytes = 200'000;
    piece.offset = 1000;
  }
  piece.bytes = bytes;
  piece.units = units;
  return piece;
}

Piece Base(std::uint32_t name, std::uint32_t bytes) {
  Piece piece = Delta(name, kAllUnits, bytes);
  piece.base = true;
  return piece;
}

TEST(PageContent, AUnitComesFromTheLastPieceThatCoversIt) {
  const Piece pieces[] = {Base(1, 5 * kUnitBytes), Delta(2, 0b1010, 4196)};
  EXPECT_EQ(SourceOfUnit(pieces, 0),
            (UnitSource{pieces[0].key, 1000, kUnitBytes}));
  EXPECT_EQ(SourceOfUnit(pieces, 1),
            (UnitSource{pieces[1].key, 1000, kUnitBytes}));
  EXPECT_EQ(SourceOfUnit(pieces, 3),
            (UnitSource{pieces[1].key, 1000 + kUnitBytes, 100}));
  EXPECT_EQ(SourceOfUnit(pieces, 4),
            (UnitSource{pieces[0].key, 1000 + 4 * kUnitBytes, kUnitBytes}));
  EXPECT_EQ(SourceOfUnit(pieces, 5), UnitSource()) << "trimmed";
}

TEST(PageContent, ADeltaOfZerosHidesWhatIsBelow) {
  const Piece pieces[] = {Base(1, kPageBytes), Delta(0, 0b10, 0)};
  EXPECT_EQ(CheckPieces(pieces), "");
  EXPECT_EQ(SourceOfUnit(pieces, 1), UnitSource());
  EXPECT_EQ(UnitsThatDiffer(pieces, std::span(pieces, 1)), 0b10);
}

TEST(PageContent, PagesDifferInTheUnitsWhoseSourcesDo) {
  const Piece a[] = {Base(1, kPageBytes), Delta(2, 0b0110, 2 * kUnitBytes)};
  const Piece b[] = {Base(1, kPageBytes), Delta(3, 0b1000, kUnitBytes)};
  EXPECT_EQ(UnitsThatDiffer(a, b), 0b1110);
  EXPECT_EQ(UnitsThatDiffer(a, a), 0);
  EXPECT_EQ(UnitsThatDiffer({}, a), kAllUnits);
}

TEST(PageContent, APieceThatIsNotSeenAnyMoreGoes) {
  PageContent page;
  ASSERT_TRUE(AddPiece(Base(1, kPageBytes), &page));
  ASSERT_TRUE(AddPiece(Delta(2, 0b0001, 10), &page));
  ASSERT_TRUE(AddPiece(Delta(3, 0b0011, kUnitBytes + 1), &page));
  EXPECT_EQ(page.pieces, (std::vector{Base(1, kPageBytes),
                                      Delta(3, 0b0011, kUnitBytes + 1)}));
  ASSERT_TRUE(AddPiece(Delta(4, kAllUnits, 77), &page));
  EXPECT_EQ(page.pieces, std::vector{Base(4, 77)}) << "becomes the base";
  ASSERT_TRUE(AddPiece(Delta(0, kAllUnits, 0), &page));
  EXPECT_TRUE(page.pieces.empty()) << "zeros are no content";
}

TEST(PageContent, ZerosOverNothingAreNothing) {
  PageContent page;
  ASSERT_TRUE(AddPiece(Delta(0, 0b0110, 0), &page));
  EXPECT_TRUE(page.pieces.empty());
  ASSERT_TRUE(AddPiece(Delta(1, 0b0010, kUnitBytes), &page));
  ASSERT_TRUE(AddPiece(Delta(0, 0b0100, 0), &page));
  ASSERT_TRUE(AddPiece(Delta(2, 0b0010, kUnitBytes), &page));
  EXPECT_EQ(page.pieces, std::vector{Delta(2, 0b0010, kUnitBytes)});
}

TEST(PageContent, TheNinthDeltaIsRefusedAndChangesNothing) {
  PageContent page;
  ASSERT_TRUE(AddPiece(Base(9, kPageBytes), &page));
  for (std::uint32_t i = 0; i < kDeltasMax; ++i) {
    ASSERT_TRUE(
        AddPiece(Delta(i, static_cast<std::uint16_t>(1 << i), 1), &page));
  }
  const PageContent before = page;
  EXPECT_FALSE(AddPiece(Delta(77, 1 << 8, 1), &page));
  EXPECT_EQ(page, before);
  EXPECT_TRUE(AddPiece(Delta(77, 1 << 7, 1), &page)) << "instead of another";
  EXPECT_EQ(CheckPieces(page.pieces), "");
}

TEST(PageContent, PiecesThatCannotBeAreNamed) {
  const auto wrong = [](std::vector<Piece> pieces) {
    return !CheckPieces(pieces).empty();
  };
  EXPECT_FALSE(wrong({Base(1, 1), Delta(2, 1, kUnitBytes)}));
  EXPECT_TRUE(wrong({Delta(2, 1, 1), Base(1, 1)})) << "base behind";
  EXPECT_TRUE(wrong({Base(1, 1), Base(1, 1)}));
  EXPECT_TRUE(wrong({Delta(2, 0, 1)})) << "no unit";
  EXPECT_TRUE(wrong({Delta(2, 1, kUnitBytes + 1)})) << "too long";
  EXPECT_TRUE(wrong({Base(1, 0)})) << "an empty base";
  EXPECT_TRUE(wrong(std::vector<Piece>(9, Delta(2, 1, 1)))) << "nine deltas";
  Piece piece = Delta(2, 1, 1);
  piece.offset = piece.block_bytes;
  EXPECT_TRUE(wrong({piece})) << "beyond its block";
  piece = Delta(2, 1, 1);
  piece.block_bytes = kMaxBlockBytes + 1;
  EXPECT_TRUE(wrong({piece})) << "a block that is too large";
  piece = Delta(0, 1, 0);
  piece.key = Key::FromWords(1, 1);
  EXPECT_TRUE(wrong({piece})) << "zeros of a block";
  piece = Base(1, 10);
  piece.units = 1;
  EXPECT_TRUE(wrong({piece})) << "a base of one unit";
}

}  // namespace
}  // namespace agentmem
