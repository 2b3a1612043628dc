// A GPU for tests, by the CPU: CUDA's runtime API as far as cuda/ uses it, and
// kernels that are compiled as C++ and run lane by lane (warp.h). What it is
// for: that cuda/'s CUDA sources, which this machine can only compile, run with
// every byte compared, under the sanitizers, with errors at any call. It shares
// no code with them; what it knows is CUDA's documentation. It is no GPU: it
// says nothing of speed, and of the driver only what is written there.
//
// It is stricter than a GPU. What a program may not rely on is a finding: a
// call outside of a context that was entered, a copy or a kernel's access that
// touches memory which is neither registered nor the device's, a copy on a
// stream that is being captured, lanes that part at a warp's instruction, and
// what is left when the context ends. The host's reads of device memory are a
// segmentation fault, as there.
//
// Streams are threads; copies of one batch are done in any order.
//
// Ownership: one for the process. Threads: thread-safe. Errors: CUDA's; of the
// emulation itself: it aborts with its reason. Cost: a lane is a fiber, two
// switches of them each instruction of a warp: about 0.5 us.
#ifndef AGENTMEM_TESTS_EMULATION_EMULATED_GPU_H_
#define AGENTMEM_TESTS_EMULATION_EMULATED_GPU_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "tests/emulation/gpu_memory.h"
#include "tests/emulation/gpu_stream.h"

namespace agentmem::emulation {

class EmulatedGpu {
 public:
  static EmulatedGpu& Get();

  // ---- for tests ----

  // Since the last time: what was done that may not be, in words.
  std::vector<std::string> TakeFindings() AGENTMEM_EXCLUDES(mutex_);
  // The `number`-th call from now on (0: the next) of those that can fail
  // answers `error` and does nothing. Of `name` alone, if that is not empty.
  void FailCall(std::uint64_t number, cudaError_t error,
                const std::string& name = "") AGENTMEM_EXCLUDES(mutex_);
  // Whether the call that was to fail has come; from here on none fails.
  bool Disarm() AGENTMEM_EXCLUDES(mutex_);
  // What is posted next on any stream fails on the device: the context is lost.
  void FailOnDevice() AGENTMEM_EXCLUDES(mutex_);
  // The stream's work is kept back until Release.
  void HoldStream(cudaStream_t stream);
  void ReleaseStream(cudaStream_t stream);
  // All streams but this one.
  void HoldOthers(cudaStream_t stream, bool is_held) AGENTMEM_EXCLUDES(mutex_);
  // Copies, kernels, records and waits.
  std::uint64_t WorkDone(cudaStream_t stream) AGENTMEM_EXCLUDES(mutex_);
  void SetCapturing(cudaStream_t stream, bool is_captured)
      AGENTMEM_EXCLUDES(mutex_);
  // 12040, say: before batches. What was open keeps what it has read.
  void SetDriverVersion(int version) AGENTMEM_EXCLUDES(mutex_);

  // ---- for the runtime's functions ----

  // Begins `call`; not success: it answers that.
  cudaError_t Enter(const char* call) AGENTMEM_EXCLUDES(mutex_);
  void Find(const std::string& finding) AGENTMEM_EXCLUDES(mutex_);
  GpuMemory& memory() { return memory_; }
  // Not success once the context is lost.
  cudaError_t lost() const { return lost_.load(); }
  void Lose(cudaError_t error) { lost_.store(error); }

  cudaError_t MakeStream(cudaStream_t* stream) AGENTMEM_EXCLUDES(mutex_);
  cudaError_t EndStream(cudaStream_t stream) AGENTMEM_EXCLUDES(mutex_);
  // Null: there is none.
  std::shared_ptr<GpuStream> StreamOf(cudaStream_t stream)
      AGENTMEM_EXCLUDES(mutex_);
  // `work` answers what became of it on the device.
  cudaError_t Post(const char* call, cudaStream_t stream,
                   std::function<cudaError_t()> work) AGENTMEM_EXCLUDES(mutex_);
  cudaError_t MakeEvent(cudaEvent_t* event) AGENTMEM_EXCLUDES(mutex_);
  cudaError_t EndEvent(cudaEvent_t event) AGENTMEM_EXCLUDES(mutex_);
  std::shared_ptr<GpuEvent> EventOf(cudaEvent_t event)
      AGENTMEM_EXCLUDES(mutex_);
  bool IsCaptured(cudaStream_t stream) AGENTMEM_EXCLUDES(mutex_);
  int driver_version() AGENTMEM_EXCLUDES(mutex_);
  // All that is posted is done.
  void Drain() AGENTMEM_EXCLUDES(mutex_);

  void RetainContext() AGENTMEM_EXCLUDES(mutex_);
  bool ReleaseContext() AGENTMEM_EXCLUDES(mutex_);

 private:
  EmulatedGpu();
  void Keep(const std::string& finding) AGENTMEM_REQUIRES(mutex_);

  GpuMemory memory_;
  std::atomic<cudaError_t> lost_ = cudaSuccess;
  Mutex mutex_;
  std::vector<std::string> findings_ AGENTMEM_GUARDED_BY(mutex_);
  bool armed_ AGENTMEM_GUARDED_BY(mutex_) = false;
  std::uint64_t calls_left_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  cudaError_t error_ AGENTMEM_GUARDED_BY(mutex_) = cudaSuccess;
  std::string name_ AGENTMEM_GUARDED_BY(mutex_);
  bool fails_on_device_ AGENTMEM_GUARDED_BY(mutex_) = false;
  int driver_version_ AGENTMEM_GUARDED_BY(mutex_) = CUDART_VERSION;
  std::uint32_t context_refs_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  std::uint64_t next_handle_ AGENTMEM_GUARDED_BY(mutex_) = 0x1000;
  std::map<std::uint64_t, std::shared_ptr<GpuStream>> streams_
      AGENTMEM_GUARDED_BY(mutex_);
  std::map<std::uint64_t, std::shared_ptr<GpuEvent>> events_
      AGENTMEM_GUARDED_BY(mutex_);
  std::map<std::uint64_t, bool> captured_ AGENTMEM_GUARDED_BY(mutex_);
};

// This thread's contexts, entered and not left.
std::uint32_t ContextsEntered();

// Runs `kernel` for every thread of the grid, once the stream comes to it.
cudaError_t LaunchKernel(const cudaLaunchConfig_t& config,
                         std::function<void()> kernel);

}  // namespace agentmem::emulation

#endif  // AGENTMEM_TESTS_EMULATION_EMULATED_GPU_H_
