// The kernel that gathers and scatters fragments: only where nvcc was found.
//
// Ownership: none; the descriptors and what they name stay until the kernel is
// done. Threads: any, with the device's context current. Errors: CUDA's own.
// Cost: one launch.
#ifndef AGENTMEM_CUDA_COPY_KERNELS_H_
#define AGENTMEM_CUDA_COPY_KERNELS_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace agentmem {

// A fragment, as the kernel reads it from pinned memory: a sector of the bus.
// Addresses and bytes are multiples of 16; the spaces of host and device are
// one.
struct alignas(32) KernelCopy {
  std::uint64_t from = 0;
  std::uint64_t to = 0;
  std::uint64_t bytes = 0;
  std::uint64_t unused = 0;
};
static_assert(sizeof(KernelCopy) == 32);

// One multiprocessor of 16 (8 of an H100's 132): each block has 64 KiB under
// way, so that 8 of them cover a link of 55 GB/s with a latency of 2 us four
// times over, and the model keeps 94% of its multiprocessors.
// (Out of the device. Kernels that read the host's memory are said to reach 35
// GB/s on an H100 whatever their number: nvbandwidth, issue 24.)
constexpr std::uint32_t CopyKernelBlocks(std::uint32_t multiprocessors) {
  return multiprocessors < 32 ? 2 : multiprocessors / 16;
}

// The driver loads a kernel at its first launch otherwise, which needs device
// memory that may be gone by then.
cudaError_t LoadCopyKernel();

// `copies` is memory that the device reaches.
cudaError_t LaunchCopyKernel(const KernelCopy* copies, std::uint32_t count,
                             std::uint32_t blocks, cudaStream_t stream);

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_COPY_KERNELS_H_
