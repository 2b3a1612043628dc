#include <cuda_runtime.h>

#include "benchmarks/busy_kernel.h"

namespace agentmem::bench {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kBlocksAtOnce = 8;  // of a multiprocessor's 2048 threads
constexpr unsigned kSteps = 2048;

// Never true, which the compiler does not know: `sink` is not written.
__global__ void Busy(float* sink, float factor) {
  float value = static_cast<float>(threadIdx.x);
  for (unsigned i = 0; i < kSteps; ++i) value = fmaf(value, factor, 0.5f);
  if (value == -1.0f) *sink = value;
}

// Reads and writes each word once.
__global__ void BusyMemory(uint4* words, std::uint64_t count) {
  const std::uint64_t all = std::uint64_t{gridDim.x} * blockDim.x;
  std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (; i < count; i += all) {
    uint4 word = words[i];
    word.x += 1;
    word.y ^= word.x;
    word.z += word.y;
    word.w ^= word.z;
    words[i] = word;
  }
}

}  // namespace

cudaError_t LaunchBusyKernel(std::uint32_t multiprocessors, std::uint32_t waves,
                             cudaStream_t stream) {
  const cudaError_t set = cudaSetDevice(0);
  if (set != cudaSuccess) return set;
  const cudaLaunchConfig_t config = {
      dim3(multiprocessors * kBlocksAtOnce * waves),
      dim3(kThreads),
      0,
      stream,
      nullptr,
      0};
  return cudaLaunchKernelEx(&config, Busy, nullptr, 0.999f);
}

cudaError_t LaunchBusyMemoryKernel(std::uint32_t multiprocessors, void* memory,
                                   std::uint64_t bytes, cudaStream_t stream) {
  const cudaError_t set = cudaSetDevice(0);
  if (set != cudaSuccess) return set;
  BusyMemory<<<multiprocessors * kBlocksAtOnce, kThreads, 0, stream>>>(
      static_cast<uint4*>(memory), bytes / sizeof(uint4));
  return cudaGetLastError();
}

}  // namespace agentmem::bench
