#include "benchmarks/busy_work.h"

#include <algorithm>
#include <string>

#if AGENTMEM_BENCH_WITH_CUDA
#include "benchmarks/busy_kernel.h"
#endif

namespace agentmem::bench {
namespace {

constexpr std::uint64_t kScratchBytes = 1 << 20;

}  // namespace

absl::Status BusyWork::Start() {
  return gpu_ ? absl::OkStatus() : memory_.Take(kScratchBytes);
}

absl::Status BusyWork::Post(std::uint64_t steps, Stream stream) {
#if AGENTMEM_BENCH_WITH_CUDA
  constexpr std::uint64_t kWavesALaunch = 16;
  if (gpu_) {
    for (std::uint64_t at = 0; at < steps; at += kWavesALaunch) {
      const cudaError_t error = LaunchBusyKernel(
          device_->properties().multiprocessors,
          static_cast<std::uint32_t>(std::min(kWavesALaunch, steps - at)),
          reinterpret_cast<cudaStream_t>(stream.native()));
      if (error != cudaSuccess) {
        return Unavailable(std::string("a busy kernel: ") +
                           cudaGetErrorString(error));
      }
    }
    return absl::OkStatus();
  }
#endif
  constexpr std::uint32_t kStepBytes = 64 << 10;
  const Fragment one = {memory_.device(), memory_.output().data(), kStepBytes};
  // The same bytes again and again: nobody reads them.
  const std::vector<Fragment> all(steps, one);
  return ToAbsl(device_->Copy(
      {Direction::kToHost, CopyMethod::kCopyEngine, all}, stream));
}

}  // namespace agentmem::bench
