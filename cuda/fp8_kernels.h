// The kernels that make FP8 of KV and KV of FP8 (cuda/fp8_batch.h): only where
// nvcc was found.
//
// On the way out a warp has one head of one piece: once over its elements for
// the largest, once more for the codes, which go to host memory 16 bytes a
// lane. On the way in a warp has 256 units of 16 codes, of whatever heads.
//
// Ownership: none; the descriptors and what they name stay until the kernel is
// done. Threads: any, with the device's context current. Errors: CUDA's own.
// Cost: one launch.
#ifndef AGENTMEM_CUDA_FP8_KERNELS_H_
#define AGENTMEM_CUDA_FP8_KERNELS_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/device.h"
#include "cuda/fast_divisor.h"
#include "cuda/fp8_batch.h"

namespace agentmem {

// A piece, as the kernels read it from pinned memory: a sector of the bus.
struct alignas(32) KernelPiece {
  std::uint64_t device = 0;
  std::uint64_t codes = 0;
  std::uint64_t scales = 0;
  std::uint32_t first_page = 0;
  std::uint32_t pages = 0;
};
static_assert(sizeof(KernelPiece) == 32);

// What a launch's pieces have in common.
struct KernelFp8 {
  const KernelPiece* pieces = nullptr;
  const std::uint32_t* pages = nullptr;
  std::uint32_t count = 0;  // of pieces
  std::uint32_t chunks =
      0;  // of the piece that has most of them; on the way in
  std::uint32_t page_tokens = 0;
  std::uint32_t heads = 0;
  std::uint32_t head_size = 0;
  std::uint32_t row_units = 0;  // units of a token's head
  std::uint64_t page_stride = 0;
  std::uint64_t token_stride = 0;
  std::uint64_t head_stride = 0;
  FastDivisor by_heads;
  FastDivisor by_chunks;
  FastDivisor by_row;   // row_units
  FastDivisor by_page;  // page_tokens
};

// Of 16 elements where all places and strides are multiples of 16 bytes, else
// of one element, at a fraction of the speed.
constexpr std::uint32_t kFp8WideUnit = 16;
constexpr std::uint32_t kFp8ChunkUnits = 256;

// All of them now, not each at its first launch (copy_kernels.h).
cudaError_t LoadFp8Kernels();

// `blocks`: as of the copy kernel.
cudaError_t LaunchFp8(const KernelFp8& launch, Direction direction, KvType type,
                      bool is_wide, std::uint32_t blocks, cudaStream_t stream);

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_FP8_KERNELS_H_
