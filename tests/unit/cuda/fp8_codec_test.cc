#include "cuda/fp8_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace agentmem {
namespace {

constexpr KvType kTypes[] = {KvType::kFloat16, KvType::kBfloat16};

// The value of a code from the format's definition, in other words than the
// codec's.
double ByDefinition(int code) {
  const int exponent = code >> 3 & 15;
  const int mantissa = code & 7;
  if (exponent == 15 && mantissa == 7) return std::nan("");
  const double magnitude = exponent == 0
                               ? std::ldexp(mantissa / 8.0, -6)
                               : std::ldexp(1 + mantissa / 8.0, exponent - 7);
  return code & 128 ? -magnitude : magnitude;
}

// The code that is nearest by looking at all of them.
int NearestByDefinition(double value) {
  int nearest = 0;
  for (int code = 1; code <= 0x7e; ++code) {
    const double was = std::fabs(ByDefinition(nearest) - value);
    const double is = std::fabs(ByDefinition(code) - value);
    if (is < was || (is == was && code % 2 == 0)) nearest = code;
  }
  return nearest;
}

TEST(Fp8CodecTest, EachOfThe256CodesIsTheFormatsValueAndComesBack) {
  for (int code = 0; code < 256; ++code) {
    const auto byte = static_cast<std::uint8_t>(code);
    const float value = FloatFromFp8(byte);
    const double expected = ByDefinition(code);
    EXPECT_EQ(std::signbit(value), code >= 128) << code;
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << code;
    } else {
      EXPECT_EQ(value, expected) << code;
    }
    EXPECT_EQ(Fp8FromFloat(value), byte);
  }
  EXPECT_EQ(FloatFromFp8(0x7e), kFp8Max);
}

TEST(Fp8CodecTest, TheNearestCodeIsTakenAndTheEvenOneOfTwo) {
  for (int code = 0; code < 0x7e; ++code) {
    const double low = ByDefinition(code);
    const double high = ByDefinition(code + 1);
    const auto middle = static_cast<float>((low + high) / 2);
    const int even = code % 2 == 0 ? code : code + 1;
    EXPECT_EQ(Fp8FromFloat(middle), even);
    EXPECT_EQ(Fp8FromFloat(-middle), even | 0x80);
    EXPECT_EQ(Fp8FromFloat(std::nextafter(middle, 0.0F)), code);
    EXPECT_EQ(Fp8FromFloat(std::nextafter(middle, 500.0F)), code + 1);
  }
  constexpr unsigned kSeed = 8;
  std::mt19937 random(kSeed);
  std::uniform_real_distribution<float> exponent(-14.0F, 9.0F);
  for (int i = 0; i < 20000; ++i) {
    const float value = std::exp2(exponent(random));
    ASSERT_EQ(Fp8FromFloat(value), NearestByDefinition(value))
        << value << ", seed " << kSeed;
  }
}

TEST(Fp8CodecTest, BeyondTheLargestIsSaturatedAndInfinityIsNan) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Fp8FromFloat(465.0F), 0x7e);
  EXPECT_EQ(Fp8FromFloat(-3e38F), 0xfe);
  EXPECT_EQ(Fp8FromFloat(infinity), 0x7f);
  EXPECT_EQ(Fp8FromFloat(-infinity), 0xff);
  EXPECT_EQ(Fp8FromFloat(std::nanf("")) & 0x7f, 0x7f);
  EXPECT_EQ(Fp8FromFloat(0x1p-10F), 0);  // a tie
  EXPECT_EQ(Fp8FromFloat(-0.0F), 0x80);
}

TEST(Fp8CodecTest, EachPatternOfATypeIsItsFloatAndComesBack) {
  for (const KvType type : kTypes) {
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
      const auto pattern = static_cast<std::uint16_t>(bits);
      const float value = FloatFromBits(pattern, type);
      if (std::isnan(value)) {
        ASSERT_TRUE(std::isnan(FloatFromBits(BitsFromFloat(value, type), type)))
            << bits;
      } else {
        ASSERT_EQ(BitsFromFloat(value, type), pattern) << bits;
      }
    }
  }
  EXPECT_EQ(FloatFromBits(0x3c01, KvType::kFloat16), 1 + 0x1p-10F);
  EXPECT_EQ(FloatFromBits(0x0001, KvType::kFloat16), 0x1p-24F);
  EXPECT_EQ(FloatFromBits(0x7bff, KvType::kFloat16), 65504.0F);
  EXPECT_EQ(FloatFromBits(0x3f81, KvType::kBfloat16), 1 + 0x1p-7F);
  // Ties go to even, and one step over the largest is infinity.
  EXPECT_EQ(BitsFromFloat(1 + 0x1p-11F, KvType::kFloat16), 0x3c00);
  EXPECT_EQ(BitsFromFloat(1 + 3 * 0x1p-11F, KvType::kFloat16), 0x3c02);
  EXPECT_EQ(BitsFromFloat(3 * 0x1p-25F, KvType::kFloat16), 2);
  EXPECT_EQ(BitsFromFloat(65520.0F, KvType::kFloat16), 0x7c00);
  EXPECT_EQ(BitsFromFloat(1e30F, KvType::kFloat16), 0x7c00);
  EXPECT_EQ(BitsFromFloat(1 + 0x1p-8F, KvType::kBfloat16), 0x3f80);
}

class Fp8HeadTest : public ::testing::TestWithParam<KvType> {
 protected:
  // Encodes and decodes `elements_` as one head, and checks the bound.
  void RoundTrip() {
    const auto count = static_cast<std::uint32_t>(elements_.size());
    const Fp8Head head = {1, count, count};
    codes_.assign(count, 0xee);
    back_.assign(count, 0xeeee);
    ASSERT_TRUE(EncodeFp8(head, GetParam(), elements_, codes_, &scale_).ok());
    ASSERT_TRUE(DecodeFp8(head, GetParam(), codes_, scale_, back_).ok());
    for (std::uint32_t i = 0; i < count; ++i) {
      const double value = Value(elements_[i]);
      if (!std::isfinite(value)) {
        ASSERT_TRUE(std::isnan(Value(back_[i]))) << value;
        continue;
      }
      const double error = std::fabs(value - Value(back_[i]));
      const double bound =
          Fp8ErrorMax(static_cast<float>(value), scale_, GetParam());
      ASSERT_LE(error, bound) << value << " at scale " << scale_;
      ASSERT_EQ(back_[i] >> 15, elements_[i] >> 15) << value;
      const bool normal = std::fabs(value) >= scale_ * 0x1p-6;
      double& worst = normal ? worst_normal_ : worst_subnormal_;
      worst = std::max(worst, error / bound);
      largest_ = std::max(largest_, std::fabs(value));
      worst_of_largest_ = std::max(worst_of_largest_, error);
    }
    if (largest_ > 0) worst_of_largest_ /= largest_;
  }
  float Value(std::uint16_t bits) { return FloatFromBits(bits, GetParam()); }
  std::uint16_t Bits(float value) { return BitsFromFloat(value, GetParam()); }

  std::vector<std::uint16_t> elements_, back_;
  std::vector<std::uint8_t> codes_;
  float scale_ = 0;
  double worst_normal_ = 0;  // error / bound, where codes are normal
  double worst_subnormal_ = 0;
  double largest_ = 0;  // finite magnitude
  double worst_of_largest_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Types, Fp8HeadTest, ::testing::ValuesIn(kTypes));

TEST_P(Fp8HeadTest, EveryPatternComesBackWithinTheBoundAtAnyScale) {
  for (int exponent = -26; exponent <= 15; ++exponent) {
    const float limit = std::ldexp(1.75F, exponent);
    elements_.clear();
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
      const float value = Value(static_cast<std::uint16_t>(bits));
      if (std::isnan(value) || std::isinf(value) || std::fabs(value) <= limit) {
        elements_.push_back(static_cast<std::uint16_t>(bits));
      }
    }
    largest_ = worst_of_largest_ = 0;
    RoundTrip();
    ASSERT_FALSE(HasFatalFailure()) << "at 2^" << exponent;
  }
  // The bound is one that is nearly met, not a wide one. (The roundings of code
  // and bfloat16 are not at their worst for the same value.)
  EXPECT_GT(worst_normal_, 0.85);
  EXPECT_GT(worst_subnormal_, 0.9);
}

TEST_P(Fp8HeadTest, RandomRowsComeBackWithinTheBoundAndTheirLargestExactly) {
  for (unsigned seed = 1; seed <= 200; ++seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(
        0, std::ldexp(1.0F, static_cast<int>(random() % 20) - 12));
    elements_.resize(16 * 128);
    for (std::uint16_t& element : elements_) element = Bits(normal(random));
    largest_ = worst_of_largest_ = 0;
    RoundTrip();
    ASSERT_FALSE(HasFatalFailure()) << "seed " << seed;
    EXPECT_LE(worst_of_largest_, 1.0 / 28 + 0x1p-8) << "seed " << seed;
    for (std::size_t i = 0; i < elements_.size(); ++i) {
      if (std::fabs(Value(elements_[i])) == largest_) {
        ASSERT_EQ(back_[i], elements_[i]) << "seed " << seed;
      }
    }
  }
}

TEST_P(Fp8HeadTest, NanAndInfinityDoNotSpoilTheirNeighbours) {
  const float infinity = std::numeric_limits<float>::infinity();
  elements_ = {Bits(1.0F), Bits(infinity), Bits(std::nanf("")), Bits(-0.5F),
               Bits(-infinity)};
  RoundTrip();
  EXPECT_EQ(Value(back_[0]), 1.0F);
  EXPECT_EQ(Value(back_[3]), -0.5F);
  EXPECT_EQ(scale_, 1.0F / 448);
}

TEST_P(Fp8HeadTest, ZerosAndTheSmallestHaveANormalScale) {
  elements_ = {0, 0x8000, 0};
  RoundTrip();
  EXPECT_EQ(scale_, kFp8ScaleMin);
  EXPECT_EQ(back_, elements_);
  elements_ = {1, 0x8001};  // the smallest of the type
  RoundTrip();
  EXPECT_GE(scale_, kFp8ScaleMin);
}

TEST_P(Fp8HeadTest, OnlyTheHeadsOwnPlacesAreReadAndWritten) {
  const Fp8Head head = {3, 2, 5};
  elements_.assign(12, Bits(100.0F));
  for (const int i : {0, 1, 5, 6, 10, 11}) elements_[i] = Bits(1.0F);
  codes_.assign(12, 0xee);
  ASSERT_TRUE(EncodeFp8(head, GetParam(), elements_, codes_, &scale_).ok());
  EXPECT_EQ(scale_, 1.0F / 448);  // 100 is another head's
  EXPECT_THAT(codes_,
              ::testing::ElementsAre(0x7e, 0x7e, 0xee, 0xee, 0xee, 0x7e, 0x7e,
                                     0xee, 0xee, 0xee, 0x7e, 0x7e));
  back_.assign(12, 7);
  ASSERT_TRUE(DecodeFp8(head, GetParam(), codes_, scale_, back_).ok());
  EXPECT_EQ(back_[4], 7);
  EXPECT_EQ(back_[5], Bits(1.0F));
}

TEST_P(Fp8HeadTest, WhatCannotBeIsRefusedByName) {
  const Fp8Head head = {3, 2, 5};
  elements_.assign(12, 0);
  codes_.assign(11, 0);
  const auto encode = [this](const Fp8Head& shape, KvType type) {
    return EncodeFp8(shape, type, elements_, codes_, &scale_);
  };
  EXPECT_EQ(encode(head, GetParam()).code, Code::kInvalidArgument);
  EXPECT_THAT(encode(head, GetParam()).message,
              ::testing::HasSubstr("11 codes"));
  codes_.resize(12);
  EXPECT_TRUE(encode(head, GetParam()).ok());
  EXPECT_THAT(encode({3, 6, 5}, GetParam()).message,
              ::testing::HasSubstr("head_size 6"));
  EXPECT_EQ(encode(head, KvType::kFloat32).code, Code::kInvalidArgument);
  EXPECT_EQ(encode(head, KvType::kFp8).code, Code::kInvalidArgument);
  for (const float scale : {0.0F, -1.0F, std::nanf("")}) {
    EXPECT_EQ(DecodeFp8(head, GetParam(), codes_, scale, elements_).code,
              Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace agentmem
