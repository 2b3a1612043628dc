// KV to FP8 and back, in scalar code: what the kernels of the same names are
// checked against, bit for bit.
//
// The elements of one head in one block (a plane of a layer of it) share a
// float:
//
//     scale = max(largest finite |x| / 448, 2^-120)
//     code  = E4M3(x * (1 / scale))
//     x'    = type(float(code) * scale)
//
// each step a float operation rounded to nearest even, no fused ones. E4M3 is
// the OCP 8-bit format "FN": sign, 4 bits of exponent (bias 7), 3 of mantissa;
// the largest is 448, the smallest normal 2^-6, the step below it 2^-9; no
// infinities, NaN is 0x7F and 0xFF. (OCP 8-bit Floating Point Specification,
// revision 1.0.) NaN and infinities come back as NaN and have no part in the
// scale. 2^-120 keeps scale and 1 / scale normal floats, which GPUs that flush
// others to zero compute alike.
//
// Bound of the error, with y = |x| / scale <= 448:
//     y >= 2^-6: half a step of E4M3, at most 2^-4 of y; so |x| * 2^-4
//     y <  2^-6: half of 2^-9; so scale * 2^-10
// times 1 + 2^-20 for the roundings of floats, and half a step of the type for
// the last one: Fp8ErrorMax. So relative to the head's largest value the error
// is at most 1 / 28 (y just above 256, by 16 of 448), and the largest itself
// comes back as it was. The sign is kept, that of zero too.
//
// Ownership: borrows. Threads: pure. Errors: INVALID_ARGUMENT: a type other
// than float16 and bfloat16, a shape that its arrays do not hold. Cost: two
// passes to encode, one to decode.
#ifndef AGENTMEM_CUDA_FP8_CODEC_H_
#define AGENTMEM_CUDA_FP8_CODEC_H_

#include <cstdint>
#include <span>

#include "cuda/kv_layout.h"
#include "proto/outcome.h"

namespace agentmem {

inline constexpr float kFp8Max = 448.0F;
inline constexpr float kFp8ScaleMin = 0x1p-120F;

// Nearest, ties to the even code; beyond 448 saturated; infinity is NaN.
std::uint8_t Fp8FromFloat(float value);
float FloatFromFp8(std::uint8_t code);

// Of kFloat16 or kBfloat16 (else NaN, 0); to nearest even.
float FloatFromBits(std::uint16_t bits, KvType type);
std::uint16_t BitsFromFloat(float value, KvType type);

// Where a head's elements are: token t's begin at t * token_stride, elements
// and codes alike, so that neighbours in a block need no rearranging.
struct Fp8Head {
  std::uint32_t tokens = 0;
  std::uint32_t head_size = 0;
  std::uint32_t token_stride = 0;  // in elements
};

Outcome EncodeFp8(const Fp8Head& head, KvType type,
                  std::span<const std::uint16_t> elements,
                  std::span<std::uint8_t> codes, float* scale);
Outcome DecodeFp8(const Fp8Head& head, KvType type,
                  std::span<const std::uint8_t> codes, float scale,
                  std::span<std::uint16_t> elements);

// No finite element `value` comes back farther away than this.
double Fp8ErrorMax(float value, float scale, KvType type);

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_FP8_CODEC_H_
