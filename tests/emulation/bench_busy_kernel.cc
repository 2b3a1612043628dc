// In place of benchmarks/busy_kernel.cu: work of a stream that takes no time.
// (By the lanes of a whole GPU it would take minutes.)
#include "benchmarks/busy_kernel.h"
#include "tests/emulation/emulated_gpu.h"

namespace agentmem::bench {
namespace {

cudaError_t LaunchNothing(cudaStream_t stream) {
  return emulation::EmulatedGpu::Get().Post("a busy kernel", stream,
                                            [] { return cudaSuccess; });
}

}  // namespace

cudaError_t LaunchBusyKernel(std::uint32_t /*multiprocessors*/,
                             std::uint32_t /*waves*/, cudaStream_t stream) {
  return LaunchNothing(stream);
}

cudaError_t LaunchBusyMemoryKernel(std::uint32_t /*multiprocessors*/,
                                   void* /*memory*/, std::uint64_t /*bytes*/,
                                   cudaStream_t stream) {
  return LaunchNothing(stream);
}

}  // namespace agentmem::bench
