#include <cuda_runtime.h>

#include "cuda/copy_kernels.h"

namespace agentmem {
namespace {

constexpr unsigned kWarp = 32;
constexpr unsigned kThreads = 512;
// Loads under way of each thread: with 16 bytes each, a warp has 4 KiB.
constexpr unsigned kUnroll = 8;

__device__ KernelCopy Load(const KernelCopy* copy) {
  const auto* words = reinterpret_cast<const ulonglong2*>(copy);
  const ulonglong2 addresses = words[0];
  const ulonglong2 rest = words[1];
  return {addresses.x, addresses.y, rest.x, rest.y};
}

// All loads of a round are issued before its stores: the latency of the bus is
// paid once a round. The bytes are touched once: they are not kept in caches.
__device__ void CopyByWarp(const KernelCopy& copy, unsigned lane) {
  const auto* from = reinterpret_cast<const uint4*>(copy.from);
  auto* to = reinterpret_cast<uint4*>(copy.to);
  const unsigned units = static_cast<unsigned>(copy.bytes / sizeof(uint4));
  unsigned at = lane;
  for (; at + (kUnroll - 1) * kWarp < units; at += kUnroll * kWarp) {
    uint4 held[kUnroll];
#pragma unroll
    for (unsigned i = 0; i < kUnroll; ++i) {
      held[i] = __ldcs(from + at + i * kWarp);
    }
#pragma unroll
    for (unsigned i = 0; i < kUnroll; ++i) {
      __stcs(to + at + i * kWarp, held[i]);
    }
  }
  for (; at < units; at += kWarp) __stcs(to + at, __ldcs(from + at));
}

// A warp takes every warps-th fragment; neighbours go to different blocks, so
// that a short batch occupies all of them. The next descriptor is on its way
// while this fragment is copied.
__global__ void __launch_bounds__(kThreads)
    CopyFragments(const KernelCopy* copies, unsigned count) {
  const unsigned lane = threadIdx.x % kWarp;
  const unsigned warp = (threadIdx.x / kWarp) * gridDim.x + blockIdx.x;
  const unsigned warps = gridDim.x * (kThreads / kWarp);
  if (warp >= count) return;
  KernelCopy next = Load(copies + warp);
  for (unsigned i = warp; i < count; i += warps) {
    const KernelCopy now = next;
    if (i + warps < count) next = Load(copies + i + warps);
    CopyByWarp(now, lane);
  }
}

}  // namespace

cudaError_t LoadCopyKernel() {
  cudaFuncAttributes ignored;
  return cudaFuncGetAttributes(&ignored,
                               reinterpret_cast<const void*>(&CopyFragments));
}

cudaError_t LaunchCopyKernel(const KernelCopy* copies, std::uint32_t count,
                             std::uint32_t blocks, cudaStream_t stream) {
  const cudaLaunchConfig_t config = {dim3(blocks), dim3(kThreads), 0,
                                     stream,       nullptr,        0};
  return cudaLaunchKernelEx(&config, CopyFragments, copies, count);
}

}  // namespace agentmem
