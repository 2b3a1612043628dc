// The arithmetic of FP8, for kernels and for the host: one source, so that both
// give the same bits. What it computes, and its bound: cuda/fp8_codec.h.
//
// Nothing here leaves a choice to a compiler: products and quotients are
// rounded to nearest even and not fused, NaN is made by hand (processors differ
// in the bits of those that they make), and no function of a library is called.
//
// Ownership: none. Threads: pure. Errors: none. Cost: ten instructions or so an
// element.
#ifndef AGENTMEM_CUDA_FP8_MATH_H_
#define AGENTMEM_CUDA_FP8_MATH_H_

#include <bit>
#include <cstdint>

#ifdef __CUDACC__
#define AGENTMEM_HOST_DEVICE __host__ __device__
#else
#define AGENTMEM_HOST_DEVICE
#endif

namespace agentmem::fp8 {

inline constexpr float kMax = 448.0F;
inline constexpr float kScaleMin = 0x1p-120F;
inline constexpr std::uint32_t kNan = 0x7f;  // a code; and with its sign

inline constexpr std::uint32_t kMagnitude = 0x7fffffff;  // of a float's bits
inline constexpr std::uint32_t kInfinity = 0x7f800000;

inline AGENTMEM_HOST_DEVICE std::uint32_t BitsOf(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(value);
#else
  return std::bit_cast<std::uint32_t>(value);
#endif
}

inline AGENTMEM_HOST_DEVICE float FloatOf(std::uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}

inline AGENTMEM_HOST_DEVICE float Product(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

inline AGENTMEM_HOST_DEVICE float Sum(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

inline AGENTMEM_HOST_DEVICE float Quotient(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fdiv_rn(a, b);
#else
  return a / b;
#endif
}

// The upper bits of a float from `bit` on, rounded to nearest even.
inline AGENTMEM_HOST_DEVICE std::uint32_t RoundedShift(std::uint32_t bits,
                                                       unsigned bit) {
  const std::uint32_t odd = (bits >> bit) & 1;
  return (bits + ((1u << (bit - 1)) - 1) + odd) >> bit;
}

// `magnitude` in units of the last bit of `base`, a power of two far above it,
// rounded to nearest even: the sum does it.
inline AGENTMEM_HOST_DEVICE std::uint32_t InUnits(std::uint32_t magnitude,
                                                  float base) {
  return BitsOf(Sum(FloatOf(magnitude), base)) - BitsOf(base);
}

inline AGENTMEM_HOST_DEVICE std::uint32_t Least(std::uint32_t a,
                                                std::uint32_t b) {
  return a < b ? a : b;
}

// Nearest, ties to the even code; beyond 448 saturated; infinity is NaN.
inline AGENTMEM_HOST_DEVICE std::uint8_t FromFloat(float value) {
  const std::uint32_t bits = BitsOf(value);
  const std::uint32_t magnitude = bits & kMagnitude;
  std::uint32_t code = 0;
  if (magnitude >= kInfinity) {
    code = kNan;
  } else if (magnitude < (127u - 6u) << 23) {
    code = InUnits(magnitude, 0x1p14F);  // whose last bit is 2^-9
  } else {
    code = Least(RoundedShift(magnitude, 20) - ((127u - 7u) << 3), 0x7eu);
  }
  return static_cast<std::uint8_t>((bits >> 24 & 0x80) | code);
}

inline AGENTMEM_HOST_DEVICE float ToFloat(std::uint8_t code) {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x80) << 24;
  const std::uint32_t exponent = code >> 3 & 0xf;
  const std::uint32_t mantissa = code & 7;
  std::uint32_t magnitude = (exponent + 127 - 7) << 23 | mantissa << 20;
  if ((code & kNan) == kNan) {
    magnitude = kInfinity | 1u << 22;
  } else if (exponent == 0) {
    magnitude = BitsOf(Product(static_cast<float>(mantissa), 0x1p-9F));
  }
  return FloatOf(sign | magnitude);
}

// The types of elements: their bits, as floats, and the nearest of a float.

struct Float16 {
  using Bits = std::uint16_t;
  static constexpr Bits kNanBits = 0x7e00;  // and a sign
  static constexpr Bits kInfinityBits = 0x7c00;

  static AGENTMEM_HOST_DEVICE float ToFloat(Bits bits) {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16;
    const std::uint32_t exponent = bits >> 10 & 0x1f;
    const std::uint32_t mantissa = bits & 0x3ff;
    const std::uint32_t wide = exponent == 31 ? 255 : exponent + 127 - 15;
    std::uint32_t magnitude = wide << 23 | mantissa << 13;
    if (exponent == 0) {
      magnitude = BitsOf(Product(static_cast<float>(mantissa), 0x1p-24F));
    }
    return FloatOf(sign | magnitude);
  }
  static AGENTMEM_HOST_DEVICE Bits FromFloat(float value) {
    const std::uint32_t bits = BitsOf(value);
    const std::uint32_t magnitude = bits & kMagnitude;
    std::uint32_t half = 0;
    if (magnitude > kInfinity) {
      half = kNanBits;
    } else if (magnitude < (127u - 14u) << 23) {
      half = InUnits(magnitude, 0.5F);  // whose last bit is 2^-24
    } else {
      // Exponents 127 and 15 are the same; beyond the largest is infinity.
      half = Least(RoundedShift(magnitude, 13) - ((127u - 15u) << 10), 0x7c00u);
    }
    return static_cast<Bits>((bits >> 16 & 0x8000) | half);
  }
};

struct Bfloat16 {
  using Bits = std::uint16_t;
  static constexpr Bits kNanBits = 0x7fc0;
  static constexpr Bits kInfinityBits = 0x7f80;

  static AGENTMEM_HOST_DEVICE float ToFloat(Bits bits) {
    return FloatOf(static_cast<std::uint32_t>(bits) << 16);
  }
  static AGENTMEM_HOST_DEVICE Bits FromFloat(float value) {
    const std::uint32_t bits = BitsOf(value);
    if ((bits & kMagnitude) > kInfinity) {
      return static_cast<Bits>((bits >> 16 & 0x8000) | kNanBits);
    }
    return static_cast<Bits>(RoundedShift(bits, 16));
  }
};

struct Float32 {
  using Bits = std::uint32_t;
  static constexpr Bits kNanBits = 0x7fc00000;
  static constexpr Bits kInfinityBits = 0x7f800000;

  static AGENTMEM_HOST_DEVICE float ToFloat(Bits bits) { return FloatOf(bits); }
  static AGENTMEM_HOST_DEVICE Bits FromFloat(float value) {
    return BitsOf(value);
  }
};

// ---- a head ----------------------------------------------------------------

// `largest`: the bits of the largest finite magnitude. (Of floats without a
// sign, those of the larger are the larger number.)
inline AGENTMEM_HOST_DEVICE float ScaleOf(std::uint32_t largest) {
  const float scale = Quotient(FloatOf(largest), kMax);
  return scale < kScaleMin ? kScaleMin : scale;
}

// What `bits` adds to `largest`: nothing, if it is none of a finite element.
inline AGENTMEM_HOST_DEVICE std::uint32_t Larger(std::uint32_t largest,
                                                 float element) {
  const std::uint32_t magnitude = BitsOf(element) & kMagnitude;
  return magnitude < kInfinity && magnitude > largest ? magnitude : largest;
}

// `inverse`: Quotient(1, scale).
template <typename Type>
AGENTMEM_HOST_DEVICE std::uint8_t Encode(typename Type::Bits element,
                                         float inverse) {
  const float value = Type::ToFloat(element);
  const std::uint32_t bits = BitsOf(value);
  if ((bits & kMagnitude) >= kInfinity) {
    return static_cast<std::uint8_t>((bits >> 24 & 0x80) | kNan);
  }
  return FromFloat(Product(value, inverse));
}

template <typename Type>
AGENTMEM_HOST_DEVICE typename Type::Bits Decode(std::uint8_t code,
                                                float scale) {
  using Bits = typename Type::Bits;
  if ((code & kNan) == kNan) {
    constexpr unsigned kSignBit = 8 * sizeof(Bits) - 1;
    return static_cast<Bits>(Type::kNanBits | static_cast<Bits>(code >> 7)
                                                  << kSignBit);
  }
  return Type::FromFloat(Product(ToFloat(code), scale));
}

}  // namespace agentmem::fp8

#endif  // AGENTMEM_CUDA_FP8_MATH_H_
