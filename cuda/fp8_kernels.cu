#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <type_traits>

#include "cuda/fp8_kernels.h"
#include "cuda/fp8_math.h"

namespace agentmem {
namespace {

constexpr unsigned kWarp = 32;
// Of 128 registers a thread at most, by the bounds below: a block of 128 finds
// room beside those of a model, where one of 512 would wait for a
// multiprocessor of its own. Four of them have the warps of a block of the copy
// kernel.
constexpr unsigned kThreads = 128;
constexpr unsigned kBlocksForOne = 4;  // and as many fit a multiprocessor
constexpr unsigned kAll = 0xffffffff;  // lanes

// The conversions of FP8 are instructions from sm_89 on.
#if __CUDA_ARCH__ >= 890
#define AGENTMEM_FP8_BY_INSTRUCTIONS 1
#endif

// Units of a lane under way at once: of 16-bit elements 4 KiB a warp.
template <typename Type>
constexpr unsigned kUnroll = sizeof(typename Type::Bits) == 4 ? 2 : 4;

// A unit's elements, in words.
template <typename Type, unsigned kUnit>
constexpr unsigned kWords = kUnit == 1
                                ? 1
                                : kUnit * sizeof(typename Type::Bits) / 4;

__device__ KernelPiece Load(const KernelPiece* piece) {
  const auto* words = reinterpret_cast<const ulonglong2*>(piece);
  const ulonglong2 places = words[0];
  const ulonglong2 rest = words[1];
  return {places.x, places.y, rest.x, static_cast<std::uint32_t>(rest.y),
          static_cast<std::uint32_t>(rest.y >> 32)};
}

// Of the piece's pages, the one that is `lane` behind `first`.
__device__ unsigned PageOf(const KernelFp8& fp8, const KernelPiece& piece,
                           unsigned first, unsigned lane) {
  const unsigned at = first + lane;
  return at < piece.pages ? fp8.pages[piece.first_page + at] : 0;
}

template <typename Type, unsigned kUnit>
__device__ void LoadUnit(std::uint64_t from, std::uint32_t* words) {
  if constexpr (kUnit == 1) {
    words[0] = *reinterpret_cast<const typename Type::Bits*>(from);
  } else {
#pragma unroll
    for (unsigned i = 0; i < kWords<Type, kUnit> / 4; ++i) {
      const uint4 held = __ldcg(reinterpret_cast<const uint4*>(from) + i);
      words[4 * i] = held.x;
      words[4 * i + 1] = held.y;
      words[4 * i + 2] = held.z;
      words[4 * i + 3] = held.w;
    }
  }
}

template <typename Type, unsigned kUnit>
__device__ void StoreUnit(std::uint64_t to, const std::uint32_t* words) {
  if constexpr (kUnit == 1) {
    *reinterpret_cast<typename Type::Bits*>(to) =
        static_cast<typename Type::Bits>(words[0]);
  } else {
#pragma unroll
    for (unsigned i = 0; i < kWords<Type, kUnit> / 4; ++i) {
      reinterpret_cast<uint4*>(to)[i] = make_uint4(
          words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]);
    }
  }
}

template <typename Type>
__device__ typename Type::Bits ElementOf(const std::uint32_t* words,
                                         unsigned i) {
  if constexpr (sizeof(typename Type::Bits) == 4) return words[i];
  return static_cast<typename Type::Bits>(words[i / 2] >> 16 * (i % 2));
}

// ---- the arithmetic of fp8_math.h, by the instructions that do the same ----

// Of a finite element.
template <typename Type>
__device__ float FloatOfFinite(typename Type::Bits bits) {
  if constexpr (std::is_same_v<Type, fp8::Float16>) {
    return __half2float(__ushort_as_half(bits));
  } else {
    return Type::ToFloat(bits);
  }
}

// Of finite values; the first in the low byte.
__device__ std::uint32_t CodesOf(float first, float second) {
#if AGENTMEM_FP8_BY_INSTRUCTIONS
  return __nv_cvt_float2_to_fp8x2(make_float2(first, second), __NV_SATFINITE,
                                  __NV_E4M3);
#else
  return fp8::FromFloat(first) |
         static_cast<std::uint32_t>(fp8::FromFloat(second)) << 8;
#endif
}

// Of codes that are not NaN.
__device__ float2 FloatsOf(std::uint32_t codes) {
#if AGENTMEM_FP8_BY_INSTRUCTIONS
  const __half2_raw halves = __nv_cvt_fp8x2_to_halfraw2(
      static_cast<__nv_fp8x2_storage_t>(codes), __NV_E4M3);
  return make_float2(__half2float(__ushort_as_half(halves.x)),
                     __half2float(__ushort_as_half(halves.y)));
#else
  return make_float2(fp8::ToFloat(static_cast<std::uint8_t>(codes)),
                     fp8::ToFloat(static_cast<std::uint8_t>(codes >> 8)));
#endif
}

// Two elements of 16 bits, the first in the low half.
template <typename Type>
__device__ std::uint32_t PairOf(float first, float second) {
  if constexpr (std::is_same_v<Type, fp8::Float16>) {
    return static_cast<std::uint32_t>(__half_as_ushort(__float2half_rn(second)))
               << 16 |
           __half_as_ushort(__float2half_rn(first));
  } else {
    return static_cast<std::uint32_t>(
               __bfloat16_as_ushort(__float2bfloat16_rn(second)))
               << 16 |
           __bfloat16_as_ushort(__float2bfloat16_rn(first));
  }
}

// ---- out of the device ----

// Each unit of a head: `use` gets its words and which code is its first. All
// loads of a round are issued before their words are used.
template <typename Type, unsigned kUnit, typename Use>
__device__ void ForEachUnit(const KernelFp8& fp8, const KernelPiece& piece,
                            unsigned head, unsigned page, unsigned lane,
                            Use use) {
  const std::uint64_t begin = piece.device + head * fp8.head_stride;
  // The pages are held one a lane, 32 at a time; the first are there already.
  for (unsigned first = 0; first < piece.pages; first += kWarp) {
    if (first != 0) page = PageOf(fp8, piece, first, lane);
    const unsigned pages = min(kWarp, piece.pages - first);
    const unsigned units = pages * fp8.page_tokens * fp8.row_units;
    for (unsigned at = lane; at - lane < units; at += kUnroll<Type> * kWarp) {
      std::uint32_t words[kUnroll<Type>][kWords<Type, kUnit>];
      unsigned codes[kUnroll<Type>];
#pragma unroll
      for (unsigned i = 0; i < kUnroll<Type>; ++i) {
        const unsigned unit = at + i * kWarp;
        const unsigned token = fp8.by_row.Quotient(unit);
        const unsigned in_row = (unit - token * fp8.row_units) * kUnit;
        const unsigned of_pages = fp8.by_page.Quotient(token);
        const unsigned number = __shfl_sync(kAll, page, of_pages);
        codes[i] = ((first * fp8.page_tokens + token) * fp8.heads + head) *
                       fp8.head_size +
                   in_row;
        if (unit >= units) continue;
        LoadUnit<Type, kUnit>(
            begin + number * fp8.page_stride +
                (token - of_pages * fp8.page_tokens) * fp8.token_stride +
                in_row * sizeof(typename Type::Bits),
            words[i]);
      }
#pragma unroll
      for (unsigned i = 0; i < kUnroll<Type>; ++i) {
        if (at + i * kWarp < units) use(words[i], codes[i]);
      }
    }
  }
}

// 16 codes, or one, of a unit. `is_finite`: all of its elements are.
template <typename Type, unsigned kUnit>
__device__ void StoreCodes(std::uint64_t to, const std::uint32_t* words,
                           float inverse, bool is_finite) {
  if constexpr (kUnit == 1) {
    *reinterpret_cast<std::uint8_t*>(to) =
        fp8::Encode<Type>(ElementOf<Type>(words, 0), inverse);
  } else {
    std::uint32_t codes[4] = {};
#pragma unroll
    for (unsigned i = 0; i < kUnit; i += 2) {
      const auto first = ElementOf<Type>(words, i);
      const auto second = ElementOf<Type>(words, i + 1);
      std::uint32_t pair = 0;
      if (is_finite) {
        pair = CodesOf(fp8::Product(FloatOfFinite<Type>(first), inverse),
                       fp8::Product(FloatOfFinite<Type>(second), inverse));
      } else {
        pair = fp8::Encode<Type>(first, inverse) |
               static_cast<std::uint32_t>(fp8::Encode<Type>(second, inverse))
                   << 8;
      }
      codes[i / 4] |= pair << 8 * (i % 4);
    }
    __stcs(reinterpret_cast<uint4*>(to),
           make_uint4(codes[0], codes[1], codes[2], codes[3]));
  }
}

// The bits, as the type has them, of the largest magnitude of a head, be it
// finite or not; of halves two are compared at once.
template <typename Type, unsigned kUnit>
__device__ std::uint32_t LargestBits(const KernelFp8& fp8,
                                     const KernelPiece& piece, unsigned head,
                                     unsigned page, unsigned lane) {
  std::uint32_t largest = 0;
  ForEachUnit<Type, kUnit>(
      fp8, piece, head, page, lane, [&](const std::uint32_t* words, unsigned) {
#pragma unroll
        for (unsigned i = 0; i < kWords<Type, kUnit>; ++i) {
          if constexpr (sizeof(typename Type::Bits) == 4) {
            largest = max(largest, words[i] & 0x7fffffff);
          } else {
            largest = __vmaxu2(largest, words[i] & 0x7fff7fff);
          }
        }
      });
  if constexpr (sizeof(typename Type::Bits) == 2) {
    largest = max(largest & 0xffff, largest >> 16);
  }
  return __reduce_max_sync(kAll, largest);
}

// The bits of the largest finite one, as a float.
template <typename Type, unsigned kUnit>
__device__ std::uint32_t LargestFinite(const KernelFp8& fp8,
                                       const KernelPiece& piece, unsigned head,
                                       unsigned page, unsigned lane) {
  std::uint32_t largest = 0;
  ForEachUnit<Type, kUnit>(
      fp8, piece, head, page, lane, [&](const std::uint32_t* words, unsigned) {
#pragma unroll
        for (unsigned i = 0; i < kUnit; ++i) {
          largest =
              fp8::Larger(largest, Type::ToFloat(ElementOf<Type>(words, i)));
        }
      });
  return __reduce_max_sync(kAll, largest);
}

template <typename Type, unsigned kUnit>
__device__ void EncodeHead(const KernelFp8& fp8, const KernelPiece& piece,
                           unsigned head, unsigned page, unsigned lane) {
  const std::uint32_t bits =
      LargestBits<Type, kUnit>(fp8, piece, head, page, lane);
  const bool is_finite = bits < Type::kInfinityBits;
  const std::uint32_t largest =
      is_finite
          ? fp8::BitsOf(Type::ToFloat(static_cast<typename Type::Bits>(bits)))
          : LargestFinite<Type, kUnit>(fp8, piece, head, page, lane);
  const float scale = fp8::ScaleOf(largest);
  const float inverse = fp8::Quotient(1.0F, scale);
  if (lane == 0) reinterpret_cast<float*>(piece.scales)[head] = scale;
  ForEachUnit<Type, kUnit>(fp8, piece, head, page, lane,
                           [&](const std::uint32_t* words, unsigned code) {
                             StoreCodes<Type, kUnit>(piece.codes + code, words,
                                                     inverse, is_finite);
                           });
}

// A warp takes every warps-th head; neighbours go to different blocks, so that
// a short batch occupies all of them. The descriptor after the next, and the
// pages of the next, are on their way while this head is gone through.
template <typename Type, unsigned kUnit>
__global__ void __launch_bounds__(kThreads, kBlocksForOne)
    Encode(const __grid_constant__ KernelFp8 fp8) {
  const unsigned lane = threadIdx.x % kWarp;
  const unsigned warp = (threadIdx.x / kWarp) * gridDim.x + blockIdx.x;
  const unsigned warps = gridDim.x * (kThreads / kWarp);
  const unsigned items = fp8.count * fp8.heads;
  if (warp >= items) return;
  const auto load = [&](unsigned item) {
    return Load(fp8.pieces + fp8.by_heads.Quotient(min(item, items - 1)));
  };
  KernelPiece now = load(warp);
  KernelPiece next = load(warp + warps);
  unsigned page = PageOf(fp8, now, 0, lane);
  for (unsigned i = warp; i < items; i += warps) {
    const KernelPiece after = load(i + 2 * warps);
    const unsigned next_page = PageOf(fp8, next, 0, lane);
    const unsigned head = i - fp8.by_heads.Quotient(i) * fp8.heads;
    EncodeHead<Type, kUnit>(fp8, now, head, page, lane);
    now = next;
    next = after;
    page = next_page;
  }
}

// ---- into the device ----

// Of a chunk, what a warp has before it begins: 32 pages from the chunk's first
// on, and the scales, one a lane, where there are no more heads than lanes.
struct Ahead {
  unsigned first_page = 0;  // of the piece's
  unsigned page = 0;
  float scale = 0;
};

__device__ Ahead LookAhead(const KernelFp8& fp8, const KernelPiece& piece,
                           unsigned chunk, unsigned lane) {
  Ahead ahead;
  const unsigned row = fp8.by_row.Quotient(chunk * kFp8ChunkUnits);
  ahead.first_page = fp8.by_page.Quotient(fp8.by_heads.Quotient(row));
  ahead.page = PageOf(fp8, piece, ahead.first_page, lane);
  if (fp8.heads <= kWarp && lane < fp8.heads) {
    ahead.scale = reinterpret_cast<const float*>(piece.scales)[lane];
  }
  return ahead;
}

// 16 elements, or one, of a unit's codes.
template <typename Type, unsigned kUnit>
__device__ void StoreElements(std::uint64_t to, const std::uint32_t* codes,
                              float scale) {
  std::uint32_t words[kWords<Type, kUnit>];
  if constexpr (kUnit == 1) {
    words[0] = fp8::Decode<Type>(static_cast<std::uint8_t>(codes[0]), scale);
  } else {
    const auto nan_of = [](std::uint32_t word) {
      return __vcmpeq4(word & 0x7f7f7f7f, 0x7f7f7f7f);
    };
    const bool has_nan = (nan_of(codes[0]) | nan_of(codes[1]) |
                          nan_of(codes[2]) | nan_of(codes[3])) != 0;
#pragma unroll
    for (unsigned i = 0; i < kUnit; i += 2) {
      const std::uint32_t pair = codes[i / 4] >> 8 * (i % 4);
      if (has_nan) {
        const std::uint32_t first =
            fp8::Decode<Type>(static_cast<std::uint8_t>(pair), scale);
        const std::uint32_t second =
            fp8::Decode<Type>(static_cast<std::uint8_t>(pair >> 8), scale);
        if constexpr (sizeof(typename Type::Bits) == 4) {
          words[i] = first;
          words[i + 1] = second;
        } else {
          words[i / 2] = second << 16 | first;
        }
        continue;
      }
      const float2 values = FloatsOf(pair & 0xffff);
      const float first = fp8::Product(values.x, scale);
      const float second = fp8::Product(values.y, scale);
      if constexpr (sizeof(typename Type::Bits) == 4) {
        words[i] = fp8::BitsOf(first);
        words[i + 1] = fp8::BitsOf(second);
      } else {
        words[i / 2] = PairOf<Type>(first, second);
      }
    }
  }
  StoreUnit<Type, kUnit>(to, words);
}

template <unsigned kUnit>
__device__ void LoadCodes(std::uint64_t from, std::uint32_t* codes) {
  if constexpr (kUnit == 1) {
    codes[0] = *reinterpret_cast<const std::uint8_t*>(from);
  } else {
    const uint4 held = __ldcs(reinterpret_cast<const uint4*>(from));
    codes[0] = held.x;
    codes[1] = held.y;
    codes[2] = held.z;
    codes[3] = held.w;
  }
}

template <typename Type, unsigned kUnit>
__device__ void DecodeChunk(const KernelFp8& fp8, const KernelPiece& piece,
                            unsigned chunk, const Ahead& ahead, unsigned lane) {
  constexpr unsigned kRound = 4;  // loads under way of each lane
  const unsigned units =
      piece.pages * fp8.page_tokens * fp8.heads * fp8.row_units;
  const unsigned begin = chunk * kFp8ChunkUnits;
  if (begin >= units) return;  // of a piece that is shorter than others
  const unsigned end = min(units, begin + kFp8ChunkUnits);
  for (unsigned at = begin + lane; at - lane < end; at += kRound * kWarp) {
    std::uint32_t codes[kRound][4];
#pragma unroll
    for (unsigned i = 0; i < kRound; ++i) {
      const unsigned unit = at + i * kWarp;
      if (unit < end) LoadCodes<kUnit>(piece.codes + unit * kUnit, codes[i]);
    }
#pragma unroll
    for (unsigned i = 0; i < kRound; ++i) {
      const unsigned unit = at + i * kWarp;
      const unsigned row = fp8.by_row.Quotient(unit);
      const unsigned token = fp8.by_heads.Quotient(row);
      const unsigned head = row - token * fp8.heads;
      const unsigned of_pages = fp8.by_page.Quotient(token);
      const unsigned behind = of_pages - ahead.first_page;
      unsigned number = __shfl_sync(kAll, ahead.page, behind);
      float scale = __shfl_sync(kAll, ahead.scale, head);
      if (unit >= end) continue;
      if (behind >= kWarp) number = fp8.pages[piece.first_page + of_pages];
      if (fp8.heads > kWarp) {
        scale = reinterpret_cast<const float*>(piece.scales)[head];
      }
      StoreElements<Type, kUnit>(
          piece.device + number * fp8.page_stride +
              (token - of_pages * fp8.page_tokens) * fp8.token_stride +
              head * fp8.head_stride +
              (unit - row * fp8.row_units) * kUnit *
                  sizeof(typename Type::Bits),
          codes[i], scale);
    }
  }
}

// As Encode, with chunks for heads.
template <typename Type, unsigned kUnit>
__global__ void __launch_bounds__(kThreads, kBlocksForOne)
    Decode(const __grid_constant__ KernelFp8 fp8) {
  const unsigned lane = threadIdx.x % kWarp;
  const unsigned warp = (threadIdx.x / kWarp) * gridDim.x + blockIdx.x;
  const unsigned warps = gridDim.x * (kThreads / kWarp);
  const unsigned items = fp8.count * fp8.chunks;
  if (warp >= items) return;
  const auto piece_of = [&](unsigned item) {
    return fp8.by_chunks.Quotient(min(item, items - 1));
  };
  const auto chunk_of = [&](unsigned item) {
    const unsigned last = min(item, items - 1);
    return last - fp8.by_chunks.Quotient(last) * fp8.chunks;
  };
  KernelPiece now = Load(fp8.pieces + piece_of(warp));
  KernelPiece next = Load(fp8.pieces + piece_of(warp + warps));
  Ahead ahead = LookAhead(fp8, now, chunk_of(warp), lane);
  for (unsigned i = warp; i < items; i += warps) {
    const KernelPiece after = Load(fp8.pieces + piece_of(i + 2 * warps));
    const Ahead of_next = LookAhead(fp8, next, chunk_of(i + warps), lane);
    DecodeChunk<Type, kUnit>(fp8, now, chunk_of(i), ahead, lane);
    now = next;
    next = after;
    ahead = of_next;
  }
}

using Kernel = void (*)(KernelFp8);

template <typename Type>
Kernel KernelOf(Direction direction, bool is_wide) {
  if (direction == Direction::kToHost) {
    return is_wide ? Encode<Type, kFp8WideUnit> : Encode<Type, 1>;
  }
  return is_wide ? Decode<Type, kFp8WideUnit> : Decode<Type, 1>;
}

Kernel KernelOf(Direction direction, KvType type, bool is_wide) {
  switch (type) {
    case KvType::kFloat16:
      return KernelOf<fp8::Float16>(direction, is_wide);
    case KvType::kBfloat16:
      return KernelOf<fp8::Bfloat16>(direction, is_wide);
    default:
      return KernelOf<fp8::Float32>(direction, is_wide);
  }
}

}  // namespace

cudaError_t LoadFp8Kernels() {
  for (const Direction direction : {Direction::kToHost, Direction::kToDevice}) {
    for (const KvType type :
         {KvType::kFloat16, KvType::kBfloat16, KvType::kFloat32}) {
      for (const bool is_wide : {false, true}) {
        cudaFuncAttributes ignored;
        const cudaError_t error = cudaFuncGetAttributes(
            &ignored,
            reinterpret_cast<const void*>(KernelOf(direction, type, is_wide)));
        if (error != cudaSuccess) return error;
      }
    }
  }
  return cudaSuccess;
}

cudaError_t LaunchFp8(const KernelFp8& launch, Direction direction, KvType type,
                      bool is_wide, std::uint32_t blocks, cudaStream_t stream) {
  const cudaLaunchConfig_t config = {
      dim3(blocks * kBlocksForOne), dim3(kThreads), 0, stream, nullptr, 0};
  return cudaLaunchKernelEx(&config, KernelOf(direction, type, is_wide),
                            launch);
}

}  // namespace agentmem
