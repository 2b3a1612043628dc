// In place of benchmarks/busy_kernel.cu: work of a stream that lasts as long as
// on a GPU, about, so that copies run beside it. (By the lanes of a whole GPU
// it would take minutes.)
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "base/clock.h"
#include "benchmarks/busy_kernel.h"
#include "tests/emulation/emulated_gpu.h"

namespace agentmem::bench {
namespace {

constexpr DurationNs kWaveNs = 20 * kMicrosecondNs;
constexpr std::uint64_t kBytesAWave = 32 << 20;

// Nobody wakes it: this machine's processors are left to the copies.
cudaError_t Wait(DurationNs duration) {
  std::mutex mutex;
  std::condition_variable never;
  std::unique_lock lock(mutex);
  const TimeNs end = MonotonicNowNs() + duration;
  for (TimeNs now = MonotonicNowNs(); now < end; now = MonotonicNowNs()) {
    never.wait_for(lock, std::chrono::nanoseconds(end - now));
  }
  return cudaSuccess;
}

cudaError_t Launch(std::uint64_t waves, cudaStream_t stream) {
  const DurationNs duration = static_cast<DurationNs>(waves) * kWaveNs;
  return emulation::EmulatedGpu::Get().Post(
      "a busy kernel", stream, [duration] { return Wait(duration); });
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
