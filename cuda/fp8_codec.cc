#include "cuda/fp8_codec.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace agentmem {
namespace {

// Elements of one head of one piece, in the order of its tokens: where on the
// device, and which of the codes.
template <typename Visit>
void ForEach(const Fp8Shape& shape, std::span<const std::uint32_t> pages,
             std::uint32_t head, Visit visit) {
  const std::uint64_t row = shape.head_size;
  std::uint64_t token = 0;
  for (const std::uint32_t page : pages) {
    for (std::uint32_t t = 0; t < shape.page_tokens; ++t, ++token) {
      std::uint64_t at = page * shape.page_stride;
      if (t > 0) at += t * shape.token_stride;
      if (head > 0) at += head * shape.head_stride;
      const std::uint64_t code = (token * shape.heads + head) * row;
      for (std::uint64_t i = 0; i < row; ++i) {
        visit(at + i * BytesOf(shape.type), code + i);
      }
    }
  }
}

template <typename Type>
void EncodeAs(const Fp8Shape& shape, const char* plane,
              std::span<const std::uint32_t> pages, std::uint8_t* codes,
              float* scales) {
  using Bits = typename Type::Bits;
  const auto element = [plane](std::uint64_t at) {
    Bits bits = 0;
    std::memcpy(&bits, plane + at, sizeof(bits));
    return bits;
  };
  for (std::uint32_t head = 0; head < shape.heads; ++head) {
    std::uint32_t largest = 0;
    ForEach(shape, pages, head, [&](std::uint64_t at, std::uint64_t) {
      largest = fp8::Larger(largest, Type::ToFloat(element(at)));
    });
    const float scale = fp8::ScaleOf(largest);
    const float inverse = fp8::Quotient(1.0F, scale);
    scales[head] = scale;
    ForEach(shape, pages, head, [&](std::uint64_t at, std::uint64_t code) {
      codes[code] = fp8::Encode<Type>(element(at), inverse);
    });
  }
}

template <typename Type>
void DecodeAs(const Fp8Shape& shape, const std::uint8_t* codes,
              const float* scales, std::span<const std::uint32_t> pages,
              char* plane) {
  for (std::uint32_t head = 0; head < shape.heads; ++head) {
    const float scale = scales[head];
    ForEach(shape, pages, head, [&](std::uint64_t at, std::uint64_t code) {
      const auto bits = fp8::Decode<Type>(codes[code], scale);
      std::memcpy(plane + at, &bits, sizeof(bits));
    });
  }
}

}  // namespace

void EncodeFp8(const Fp8Shape& shape, const char* plane,
               std::span<const std::uint32_t> pages, std::uint8_t* codes,
               float* scales) {
  const auto encode = shape.type == KvType::kFloat16 ? EncodeAs<fp8::Float16>
                      : shape.type == KvType::kBfloat16
                          ? EncodeAs<fp8::Bfloat16>
                          : EncodeAs<fp8::Float32>;
  encode(shape, plane, pages, codes, scales);
}

void DecodeFp8(const Fp8Shape& shape, const std::uint8_t* codes,
               const float* scales, std::span<const std::uint32_t> pages,
               char* plane) {
  const auto decode = shape.type == KvType::kFloat16 ? DecodeAs<fp8::Float16>
                      : shape.type == KvType::kBfloat16
                          ? DecodeAs<fp8::Bfloat16>
                          : DecodeAs<fp8::Float32>;
  decode(shape, codes, scales, pages, plane);
}

double Fp8ErrorMax(float value, float scale, KvType type) {
  const double magnitude = std::fabs(value);
  const double code =
      std::max(magnitude * 0x1p-4, static_cast<double>(scale) * 0x1p-10) *
      (1 + 0x1p-20);
  // Half a step of the type, at the largest that can come back and at least at
  // its smallest.
  double step = 0x1p-24;
  double step_min = 0x1p-150;
  if (type == KvType::kFloat16) {
    step = 0x1p-11;
    step_min = 0x1p-25;
  } else if (type == KvType::kBfloat16) {
    step = 0x1p-8;
    step_min = 0x1p-134;
  }
  return code + std::max((magnitude + code) * step, step_min);
}

}  // namespace agentmem
