// In place of benchmarks/busy_kernel.cu: work of a stream that lasts as long as
// on a GPU, about, so that copies run beside it. (By the lanes of a whole GPU
// it would take minutes.)
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "benchmarks/busy_kernel.h"
#include "tests/emulation/emulated_gpu.h"

namespace agentmem::bench {
namespace {

constexpr std::chrono::microseconds kWave(20);
constexpr std::uint64_t kBytesAWave = 32 << 20;

cudaError_t Launch(std::uint64_t waves, cudaStream_t stream) {
  return emulation::EmulatedGpu::Get().Post("a busy kernel", stream, [waves] {
    // Nobody wakes it: this machine's processors are left to the copies.
    std::mutex mutex;
    std::condition_variable never;
    std::unique_lock lock(mutex);
    const auto end = std::chrono::steady_clock::now() + waves * kWave;
    while (never.wait_until(lock, end) == std::cv_status::no_timeout) {
    }
    return cudaSuccess;
  });
}

}  // namespace

cudaError_t LaunchBusyKernel(std::uint32_t /*multiprocessors*/,
                             std::uint32_t waves, cudaStream_t stream) {
  return Launch(waves, stream);
}

cudaError_t LaunchBusyMemoryKernel(std::uint32_t /*multiprocessors*/,
                                   void* /*memory*/, std::uint64_t bytes,
                                   cudaStream_t stream) {
  return Launch(bytes / kBytesAWave, stream);
}

}  // namespace agentmem::bench
