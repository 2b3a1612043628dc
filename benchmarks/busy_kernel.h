// The kernels of busy_work.h: only where nvcc was found.
//
// Ownership: none. Threads: any. Errors: CUDA's own. Cost: one launch.
#ifndef AGENTMEM_BENCHMARKS_BUSY_KERNEL_H_
#define AGENTMEM_BENCHMARKS_BUSY_KERNEL_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace agentmem::bench {

// `waves`: how often all multiprocessors are filled, on GPU 0.
cudaError_t LaunchBusyKernel(std::uint32_t multiprocessors, std::uint32_t waves,
                             cudaStream_t stream);
// Reads and writes `bytes` of GPU 0's memory once.
cudaError_t LaunchBusyMemoryKernel(std::uint32_t multiprocessors, void* memory,
                                   std::uint64_t bytes, cudaStream_t stream);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_BUSY_KERNEL_H_
