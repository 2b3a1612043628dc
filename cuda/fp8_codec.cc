#include "cuda/fp8_codec.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

namespace agentmem {
namespace {

constexpr std::uint32_t kMagnitude = 0x7fffffff;
constexpr std::uint32_t kInfinity = 0x7f800000;

// The upper bits of a float from `bit` on, rounded to nearest even.
std::uint32_t RoundedShift(std::uint32_t bits, unsigned bit) {
  const std::uint32_t odd = (bits >> bit) & 1;
  return (bits + ((1u << (bit - 1)) - 1) + odd) >> bit;
}

// `magnitude` below 2^-k in units of 2^-unit, rounded to nearest even: a sum
// with 2^(23 - unit), whose last bit is such a unit, does it.
std::uint32_t InUnits(float magnitude, int unit) {
  const float base = std::ldexp(1.0F, 23 - unit);
  const float sum = magnitude + base;
  return std::bit_cast<std::uint32_t>(sum) - std::bit_cast<std::uint32_t>(base);
}

std::uint16_t HalfFromFloat(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000;
  const std::uint32_t magnitude = bits & kMagnitude;
  std::uint32_t half = 0;
  if (magnitude > kInfinity) {
    half = 0x7e00;
  } else if (std::bit_cast<float>(magnitude) < 0x1p-14F) {
    half = InUnits(std::bit_cast<float>(magnitude), 24);
  } else {
    // Exponents 127 and 15 are the same; beyond the largest is infinity.
    half =
        std::min(RoundedShift(magnitude, 13) - ((127u - 15u) << 10), 0x7c00u);
  }
  return static_cast<std::uint16_t>(sign | half);
}

float FloatFromHalf(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000) << 16;
  const std::uint32_t exponent = half >> 10 & 0x1f;
  const std::uint32_t mantissa = half & 0x3ff;
  float magnitude = 0;
  if (exponent == 0) {
    magnitude = static_cast<float>(mantissa) * 0x1p-24F;
  } else {
    const std::uint32_t wide = exponent == 31 ? 255 : exponent + 127 - 15;
    magnitude = std::bit_cast<float>(wide << 23 | mantissa << 13);
  }
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
}

std::uint16_t BfloatFromFloat(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & kMagnitude) > kInfinity) {
    return static_cast<std::uint16_t>(bits >> 16 | 0x40);  // stays a NaN
  }
  return static_cast<std::uint16_t>(RoundedShift(bits, 16));
}

Outcome Check(const Fp8Head& head, KvType type, std::size_t elements,
              std::size_t codes) {
  if (type != KvType::kFloat16 && type != KvType::kBfloat16) {
    return Fail(Code::kInvalidArgument,
                "FP8: type " + std::to_string(static_cast<int>(type)) +
                    "; float16 and bfloat16 can be encoded");
  }
  if (head.head_size > head.token_stride) {
    return Fail(Code::kInvalidArgument, "FP8: head_size " +
                                            std::to_string(head.head_size) +
                                            " exceeds token_stride " +
                                            std::to_string(head.token_stride));
  }
  std::uint64_t wanted = 0;
  if (head.tokens > 0) {
    wanted =
        std::uint64_t{head.tokens - 1} * head.token_stride + head.head_size;
  }
  if (elements < wanted || codes < wanted) {
    return Fail(Code::kInvalidArgument,
                "FP8: a head of " + std::to_string(wanted) +
                    " places, with arrays of " + std::to_string(elements) +
                    " elements and " + std::to_string(codes) + " codes");
  }
  return {};
}

template <typename Visit>
void ForEach(const Fp8Head& head, Visit visit) {
  for (std::size_t token = 0; token < head.tokens; ++token) {
    const std::size_t first = token * head.token_stride;
    for (std::size_t i = 0; i < head.head_size; ++i) visit(first + i);
  }
}

}  // namespace

std::uint8_t Fp8FromFloat(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 24 & 0x80;
  const std::uint32_t magnitude = bits & kMagnitude;
  std::uint32_t code = 0;
  if (magnitude >= kInfinity) {
    code = 0x7f;
  } else if (std::bit_cast<float>(magnitude) < 0x1p-6F) {
    code = InUnits(std::bit_cast<float>(magnitude), 9);
  } else {
    code = std::min(RoundedShift(magnitude, 20) - ((127u - 7u) << 3), 0x7eu);
  }
  return static_cast<std::uint8_t>(sign | code);
}

float FloatFromFp8(std::uint8_t code) {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x80) << 24;
  const std::uint32_t exponent = code >> 3 & 0xf;
  const std::uint32_t mantissa = code & 7;
  float magnitude = 0;
  if ((code & 0x7f) == 0x7f) {
    magnitude = std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = static_cast<float>(mantissa) * 0x1p-9F;
  } else {
    magnitude =
        std::bit_cast<float>((exponent + 127 - 7) << 23 | mantissa << 20);
  }
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
}

float FloatFromBits(std::uint16_t bits, KvType type) {
  if (type == KvType::kFloat16) return FloatFromHalf(bits);
  if (type != KvType::kBfloat16) {
    return std::numeric_limits<float>::quiet_NaN();
  }
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

std::uint16_t BitsFromFloat(float value, KvType type) {
  if (type == KvType::kFloat16) return HalfFromFloat(value);
  return type == KvType::kBfloat16 ? BfloatFromFloat(value) : 0;
}

Outcome EncodeFp8(const Fp8Head& head, KvType type,
                  std::span<const std::uint16_t> elements,
                  std::span<std::uint8_t> codes, float* scale) {
  Outcome checked = Check(head, type, elements.size(), codes.size());
  if (!checked.ok()) return checked;
  float largest = 0;
  ForEach(head, [&](std::size_t at) {
    const float magnitude = std::fabs(FloatFromBits(elements[at], type));
    if (std::isfinite(magnitude)) largest = std::max(largest, magnitude);
  });
  *scale = std::max(largest / kFp8Max, kFp8ScaleMin);
  const float inverse = 1.0F / *scale;
  ForEach(head, [&](std::size_t at) {
    codes[at] = Fp8FromFloat(FloatFromBits(elements[at], type) * inverse);
  });
  return {};
}

Outcome DecodeFp8(const Fp8Head& head, KvType type,
                  std::span<const std::uint8_t> codes, float scale,
                  std::span<std::uint16_t> elements) {
  Outcome checked = Check(head, type, elements.size(), codes.size());
  if (!checked.ok()) return checked;
  if (!std::isfinite(scale) || scale < kFp8ScaleMin) {
    return Fail(Code::kInvalidArgument,
                "FP8: scale " + std::to_string(scale) +
                    " is not one that encoding gives (finite, 2^-120 or more)");
  }
  ForEach(head, [&](std::size_t at) {
    elements[at] = BitsFromFloat(FloatFromFp8(codes[at]) * scale, type);
  });
  return {};
}

double Fp8ErrorMax(float value, float scale, KvType type) {
  const double magnitude = std::fabs(value);
  const double code =
      std::max(magnitude * 0x1p-4, static_cast<double>(scale) * 0x1p-10) *
      (1 + 0x1p-20);
  // Half a step of the type at the largest that can come back.
  const bool half = type == KvType::kFloat16;
  const double step = (magnitude + code) * (half ? 0x1p-11 : 0x1p-8);
  return code + std::max(step, half ? 0x1p-25 : 0x1p-134);
}

}  // namespace agentmem
