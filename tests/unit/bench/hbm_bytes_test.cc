#include "benchmarks/hbm_bytes.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "cuda/fp8_codec.h"

namespace agentmem::bench {
namespace {

constexpr std::uint64_t kBytes = 1 << 20;

// A device by hand: what the fragments say, and nothing else.
std::string Copied(Direction direction, std::string device, std::string* host,
                   std::uint32_t fragment_bytes) {
  const auto fragments =
      ScatteredFragments(DeviceAddress(4096), *host, fragment_bytes);
  for (const Fragment& one : fragments) {
    char* const there = device.data() + (one.device.value() - 4096);
    const bool to_host = direction == Direction::kToHost;
    std::memcpy(to_host ? one.host : there, to_host ? there : one.host,
                one.bytes);
  }
  return device;
}

TEST(HbmBytesTest, EachFragmentHasAPlaceOfItsOwnAwayFromItsNeighbours) {
  for (const std::uint64_t count : {8u, 64u, 4096u}) {
    std::set<std::uint64_t> places;
    for (std::uint64_t i = 0; i < count; ++i) {
      places.insert(PlaceOf(i, count));
      if (i > 0) {
        EXPECT_NE(PlaceOf(i, count), PlaceOf(i - 1, count) + 1);
      }
    }
    EXPECT_EQ(places.size(), count);
    EXPECT_LT(*places.rbegin(), count);
  }
}

TEST(HbmBytesTest, WhatFragmentsBringIsWhatTheCheckExpectsBothWays) {
  for (const std::uint32_t bytes : {4096u, 65536u, 1u << 20}) {
    std::string in_order(kBytes, '\0');
    FillInOrder(in_order, 5);
    std::string out(kBytes, kPoison);
    (void)Copied(Direction::kToHost, in_order, &out, bytes);
    EXPECT_FALSE(WrongScattered(out, 5, bytes).has_value()) << bytes;
    std::string scattered(kBytes, '\0');
    FillScattered(scattered, 5, bytes);
    EXPECT_EQ(scattered, out) << bytes;
    const std::string back = Copied(
        Direction::kToDevice, std::string(kBytes, kPoison), &scattered, bytes);
    EXPECT_FALSE(WrongInOrder(back, 5).has_value()) << bytes;
  }
}

TEST(HbmBytesTest, AnyWrongByteIsFoundWhereItIs) {
  std::string in_order(kBytes, '\0');
  std::string scattered(kBytes, '\0');
  FillInOrder(in_order, 6);
  FillScattered(scattered, 6, 4096);
  for (const std::uint64_t at : {0ULL, 1ULL, 4095ULL, 70001ULL, 0xFFFFFULL}) {
    in_order[at] ^= 1;
    scattered[at] ^= 1;
    EXPECT_EQ(WrongInOrder(in_order, 6), at);
    EXPECT_EQ(WrongScattered(scattered, 6, 4096), at);
    in_order[at] ^= 1;
    scattered[at] ^= 1;
  }
}

// The first half of the bytes is the device's.
TEST(HbmBytesTest, FragmentsOfMixedSizesAreCheckedAsTheyAreFilled) {
  constexpr std::uint64_t kAll = 8 << 20;
  std::string memory(2 * kAll, '\0');
  const std::span<char> device = std::span(memory).first(kAll);
  const std::span<char> host = std::span(memory).subspan(kAll);
  const std::vector<Fragment> fragments = ScatteredFragments(
      DeviceAddress(reinterpret_cast<std::uint64_t>(device.data())), host,
      kMixedFragments);
  std::map<std::uint32_t, std::uint64_t> bytes_of;
  for (const Fragment& one : fragments) bytes_of[one.bytes] += one.bytes;
  EXPECT_EQ(bytes_of,
            (std::map<std::uint32_t, std::uint64_t>{{2 << 20, kAll / 4},
                                                    {64 << 10, kAll / 4},
                                                    {16 << 10, kAll / 4},
                                                    {4 << 10, kAll / 4}}));
  FillScattered(host, 5, kMixedFragments);
  for (const Fragment& one : fragments) {
    std::memcpy(reinterpret_cast<char*>(one.device.value()), one.host,
                one.bytes);
  }
  EXPECT_EQ(WrongInOrder(device, 5), std::nullopt);
  EXPECT_EQ(WrongScattered(host, 5, kMixedFragments), std::nullopt);
  for (const std::uint64_t at : {std::uint64_t{0}, kAll / 2 + 1, kAll - 1}) {
    host[at] ^= 1;
    EXPECT_EQ(WrongScattered(host, 5, kMixedFragments), at);
    host[at] ^= 1;
  }
}

TEST(HbmBytesTest, BytesOfAnotherRunOrOfAnotherFragmentAreWrong) {
  std::string bytes(kBytes, '\0');
  FillInOrder(bytes, 7);
  EXPECT_TRUE(WrongInOrder(bytes, 8).has_value());
  std::memcpy(bytes.data() + 4096, bytes.data() + 8192, 4096);
  EXPECT_EQ(WrongInOrder(bytes, 7), 4096u);
}

// Two tokens of four heads of 16 bfloat16, 256 bytes, as FP8 and back.
TEST(HbmBytesTest, ElementsThatWereFp8AreRightWithinTheBoundAndNotBeyondIt) {
  Fp8Shape shape;
  shape.page_tokens = 2;
  shape.heads = 4;
  shape.head_size = 16;
  shape.token_stride = 128;
  shape.head_stride = 32;
  std::string all(1024, '\0');
  FillElements(all, 9);
  constexpr std::uint64_t kAt = 512;
  std::string page = all.substr(kAt, 256);
  const std::uint32_t first = 0;
  std::uint8_t codes[128] = {};
  float scales[4] = {};
  EncodeFp8(shape, page.data(), {&first, 1}, codes, scales);
  DecodeFp8(shape, codes, scales, {&first, 1}, page.data());
  EXPECT_NE(page, all.substr(kAt, 256)) << "nothing was lost";
  EXPECT_EQ(WrongElements(page, 9, kAt, shape, scales), std::nullopt);
  EXPECT_TRUE(WrongElements(page, 8, kAt, shape, scales).has_value());
  EXPECT_TRUE(WrongElements(page, 9, 0, shape, scales).has_value());
  for (const std::size_t at : {1u, 77u, 255u}) {  // the upper bytes
    std::string other = page;
    other[at] = static_cast<char>(other[at] ^ 1);  // twice, or half as much
    EXPECT_TRUE(WrongElements(other, 9, kAt, shape, scales).has_value()) << at;
    other[at] = '\x7f';
    other[at - 1] = '\xff';  // NaN
    EXPECT_TRUE(WrongElements(other, 9, kAt, shape, scales).has_value()) << at;
  }
  scales[2] *= 2;
  const auto wrong = WrongElements(page, 9, kAt, shape, scales);
  EXPECT_EQ(wrong.value_or("").substr(0, 6), "head 2");
}

}  // namespace
}  // namespace agentmem::bench
