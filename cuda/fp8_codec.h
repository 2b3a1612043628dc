// KV to FP8 and back, on the host: what the host device does in place of
// kernels, and what theirs is checked against, bit for bit (the arithmetic of
// both is cuda/fp8_math.h).
//
// The elements of one head in one piece of a block (a plane of a layer of it)
// share a float:
//
//     scale = max(largest finite |x| / 448, 2^-120)
//     code  = E4M3(x * (1 / scale))
//     x'    = type(float(code) * scale)
//
// each step a float operation rounded to nearest even, no fused ones. E4M3 is
// the OCP 8-bit format "FN": sign, 4 bits of exponent (bias 7), 3 of mantissa;
// the largest is 448, the smallest normal 2^-6, the step below it 2^-9; no
// infinities, NaN is 0x7F and 0xFF. (OCP 8-bit Floating Point Specification,
// revision 1.0.) NaN and infinities come back as NaN of their sign, one pattern
// for each type, and have no part in the scale. 2^-120 keeps scale and 1 /
// scale normal floats.
//
// Bound of the error, with y = |x| / scale <= 448:
//     y >= 2^-6: half a step of E4M3, at most 2^-4 of y; so |x| * 2^-4
//     y <  2^-6: half of 2^-9; so scale * 2^-10
// times 1 + 2^-20 for the roundings of floats, and half a step of the type for
// the last one: Fp8ErrorMax. So relative to the head's largest value the error
// is at most 1 / 28 (y just above 256, by 16 of 448), and the largest itself
// comes back as it was (of float32: but for 2^-20 of it). Nothing finite comes
// back as infinity. The sign is kept, that of zero too.
//
// What codes and scales give that are no encoding's (a scale that is NaN, say)
// is not said, only that it is some elements.
//
// Ownership: borrows. Threads: pure. Errors: none. Cost: two passes to encode,
// one to decode; some nanoseconds an element.
#ifndef AGENTMEM_CUDA_FP8_CODEC_H_
#define AGENTMEM_CUDA_FP8_CODEC_H_

#include <cstdint>
#include <span>

#include "cuda/fp8_batch.h"
#include "cuda/fp8_math.h"
#include "cuda/kv_layout.h"

namespace agentmem {

inline constexpr float kFp8Max = fp8::kMax;
inline constexpr float kFp8ScaleMin = fp8::kScaleMin;

// One piece (cuda/fp8_batch.h), of a shape that CheckFp8 let pass. `plane` is
// where the engine's page 0 is, `pages` are the piece's own.
void EncodeFp8(const Fp8Shape& shape, const char* plane,
               std::span<const std::uint32_t> pages, std::uint8_t* codes,
               float* scales);
void DecodeFp8(const Fp8Shape& shape, const std::uint8_t* codes,
               const float* scales, std::span<const std::uint32_t> pages,
               char* plane);

// No finite element `value` comes back farther away than this, given its head's
// scale.
double Fp8ErrorMax(float value, float scale, KvType type);

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_FP8_CODEC_H_
