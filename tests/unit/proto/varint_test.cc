#include "proto/varint.h"

#include <gtest/gtest.h>

#include <random>

namespace agentmem {
namespace {

TEST(Varint, EveryLengthIsReadBack) {
  std::mt19937_64 random(1);
  std::vector<std::uint64_t> values = {0, 1, 127, 128, UINT64_MAX};
  for (int bit = 0; bit < 64; ++bit) {
    values.push_back(1ULL << bit);
    values.push_back((1ULL << bit) - 1);
    values.push_back(random() >> bit);
  }
  std::string bytes;
  for (const std::uint64_t value : values) AppendVarint(value, &bytes);
  ByteReader in(bytes);
  for (const std::uint64_t value : values) EXPECT_EQ(in.Varint(), value);
  EXPECT_TRUE(in.AtEnd());
}

TEST(Varint, ALongerEncodingThanNeededIsRefused) {
  const std::string bad[] = {
      std::string("\x80\x00", 2), std::string("\xff\x80\x00", 3),
      std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10),
      std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11)};
  for (const std::string& bytes : bad) {
    ByteReader in(bytes);
    EXPECT_EQ(in.Varint(), 0u);
    EXPECT_FALSE(in.ok());
  }
}

TEST(Varint, AReaderDoesNotLeaveItsBytesAndRemembersThatItWouldHave) {
  ByteReader in("\x81");
  EXPECT_EQ(in.Varint(), 0u);
  EXPECT_FALSE(in.ok());
  ByteReader short_string("\x03xy");
  EXPECT_EQ(short_string.String(10), "");
  EXPECT_FALSE(short_string.ok());
  ByteReader limited("\x03xyz");
  EXPECT_EQ(limited.String(2), "");
  EXPECT_EQ(limited.Fixed<std::uint8_t>(), 0u) << "what failed stays failed";
  EXPECT_FALSE(limited.AtEnd());
}

TEST(Varint, StringsAndFixedIntegersAreReadBack) {
  std::string bytes;
  AppendString("abc", &bytes);
  AppendFixed(std::uint32_t{0x01020304}, &bytes);
  AppendString("", &bytes);
  EXPECT_EQ(bytes, std::string("\x03"
                               "abc\x04\x03\x02\x01\x00",
                               9));
  ByteReader in(bytes);
  EXPECT_EQ(in.String(3), "abc");
  EXPECT_EQ(in.Fixed<std::uint32_t>(), 0x01020304u);
  EXPECT_EQ(in.String(0), "");
  EXPECT_TRUE(in.AtEnd());
}

}  // namespace
}  // namespace agentmem
