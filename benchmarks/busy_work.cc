#include "benchmarks/busy_work.h"

#include <algorithm>
#include <string>

#if AGENTMEM_BENCH_WITH_CUDA
#include "benchmarks/busy_kernel.h"
#endif

namespace agentmem::bench {
namespace {

constexpr std::uint64_t kScratchBytes = 1 << 20;
constexpr std::uint64_t kStepsALaunch = 8;
// Of a launch more than any cache holds, of a step what 20 us take on a GPU
// whose memory reads and writes 3 TB/s.
constexpr std::uint64_t kMemoryStepBytes = 32 << 20;

#if AGENTMEM_BENCH_WITH_CUDA
absl::Status ToAbsl(cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  cudaGetLastError();  // or the next call would answer this error again
  const std::string why =
      std::string("a busy kernel: ") + cudaGetErrorString(error);
  switch (error) {
    case cudaErrorMemoryAllocation:
    case cudaErrorLaunchOutOfResources:
      return ResourceExhausted(why);
    // It was built for other GPUs.
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorInvalidKernelImage:
    case cudaErrorInvalidPtx:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorJitCompilerNotFound:
      return MakeStatus(absl::StatusCode::kUnimplemented, why);
    default:
      return Internal(why);
  }
}
#endif

}  // namespace

absl::Status BusyWork::Start() {
  if (!gpu_) return memory_.Take(kScratchBytes);
  if (bound_ == Bound::kCompute) return absl::OkStatus();
  return memory_.TakeDevice(kStepsALaunch * kMemoryStepBytes);
}

absl::Status BusyWork::Post(std::uint64_t steps, Stream stream) {
#if AGENTMEM_BENCH_WITH_CUDA
  if (gpu_) {
    const std::uint32_t all = device_->properties().multiprocessors;
    const auto on = reinterpret_cast<cudaStream_t>(stream.native());
    for (std::uint64_t at = 0; at < steps; at += kStepsALaunch) {
      const std::uint64_t now = std::min(kStepsALaunch, steps - at);
      AGENTMEM_RETURN_IF_ERROR(ToAbsl(
          bound_ == Bound::kCompute
              ? LaunchBusyKernel(all, static_cast<std::uint32_t>(now), on)
              : LaunchBusyMemoryKernel(
                    all, reinterpret_cast<void*>(memory_.device().value()),
                    now * kMemoryStepBytes, on)));
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
