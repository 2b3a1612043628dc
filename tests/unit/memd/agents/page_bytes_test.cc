#include "memd/agents/page_bytes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <random>
#include <string>

namespace agentmem {
namespace {

using Page = std::array<char, kPageBytes>;

// Some units with bytes up to a random length, the others zeros.
void Fill(std::mt19937_64* random, Page* page) {
  page->fill(0);
  for (std::uint32_t unit = 0; unit < kPageUnits; ++unit) {
    if ((*random)() % 3 == 0) continue;
    const std::uint64_t bytes = (*random)() % (kUnitBytes + 1);
    for (std::uint64_t i = 0; i < bytes; ++i) {
      (*page)[unit * kUnitBytes + i] = static_cast<char>((*random)());
    }
  }
}

TEST(PageBytes, WhatWasPackedIsUnpackedOverWhateverWasThere) {
  std::mt19937_64 random(3);
  const auto page = std::make_unique<Page>(), other = std::make_unique<Page>(),
             expected = std::make_unique<Page>();
  for (int i = 0; i < 300; ++i) {
    Fill(&random, page.get());
    Fill(&random, other.get());
    Piece piece;
    piece.units = static_cast<std::uint16_t>(random() % 0xffff + 1);
    std::string packed = "before";
    piece.bytes = PackUnits(*page, piece.units, &packed);
    ASSERT_EQ(packed.size(), 6 + piece.bytes);
    ASSERT_TRUE(piece.bytes == 0 || packed.back() != 0) << "zeros at the end";
    *expected = *other;
    for (std::uint32_t unit = 0; unit < kPageUnits; ++unit) {
      if ((piece.units >> unit & 1) == 0) continue;
      std::copy_n(page->begin() + unit * kUnitBytes, kUnitBytes,
                  expected->begin() + unit * kUnitBytes);
    }
    UnpackPiece(piece, std::span(packed).subspan(6), *other);
    ASSERT_EQ(*other, *expected) << "units " << piece.units;
  }
}

TEST(PageBytes, UnitsOfZerosAreNoBytes) {
  const auto page = std::make_unique<Page>();
  page->fill(0);
  (*page)[5 * kUnitBytes] = 'x';
  std::string packed;
  EXPECT_EQ(PackUnits(*page, kAllUnits & ~(1 << 5), &packed), 0u);
  EXPECT_EQ(PackUnits(*page, 1 << 5, &packed), 1u);
  EXPECT_EQ(PackUnits(*page, 3 << 4, &packed), kUnitBytes + 1);
  EXPECT_EQ(PackUnits(*page, 0, &packed), 0u);
}

}  // namespace
}  // namespace agentmem
