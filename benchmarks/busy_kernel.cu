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

}  // namespace agentmem::bench
