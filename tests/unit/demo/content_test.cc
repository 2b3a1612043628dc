#include "tests/demo/content.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

namespace agentmem::demo {
namespace {

std::vector<std::byte> Filled(const ContentId& id, std::size_t length) {
  std::vector<std::byte> bytes(length);
  FillContent(id, bytes);
  return bytes;
}

TEST(Content, WhatWasFilledHasNoMismatchAtAnyLength) {
  for (std::size_t length = 0; length < 40; ++length) {
    const ContentId id = {length, 9};
    EXPECT_EQ(MismatchingBytes(id, Filled(id, length)), 0u) << length;
  }
}

TEST(Content, EveryWrongByteIsCounted) {
  const ContentId id = {1, 2};
  for (std::size_t at = 0; at < 37; ++at) {
    std::vector<std::byte> bytes = Filled(id, 37);
    bytes[at] ^= std::byte{0x10};
    EXPECT_EQ(MismatchingBytes(id, bytes), 1u) << at;
  }
}

TEST(Content, BytesOfOneKeyAreWrongUnderAnother) {
  const std::vector<std::byte> bytes = Filled({1, 2}, 4096);
  EXPECT_GT(MismatchingBytes({1, 3}, bytes), 4000u);
  EXPECT_GT(MismatchingBytes({2, 2}, bytes), 4000u);
  EXPECT_GT(MismatchingBytes({2, 1}, bytes), 4000u);
}

TEST(Content, ZerosAreWrong) {
  EXPECT_GT(MismatchingBytes({0, 0}, std::vector<std::byte>(64)), 50u);
}

TEST(Content, LengthsCoverTheUpperHalfAndDependOnTheKeyAlone) {
  std::set<std::uint64_t> lengths;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const std::uint64_t length = ContentLength({i, 5}, 1001);
    EXPECT_GE(length, 500u);
    EXPECT_LE(length, 1001u);
    EXPECT_EQ(length, ContentLength({i, 5}, 1001));
    lengths.insert(length);
  }
  EXPECT_GT(lengths.size(), 300u);
}

}  // namespace
}  // namespace agentmem::demo
