// A GPU by CUDA's runtime API: only where nvcc was found. Built against
// CUDA 12.8 or later.
//
// The copy engine gets a batch in one call of the driver where that can
// (cudaMemcpyBatchAsync, driver 12.8; not on CUDA's legacy default stream),
// else a call a fragment. Kernels read their descriptors from a ring of pinned
// memory; a place of it is free again when the kernel behind it is done.
//
// A staged batch goes through a ring in device memory (24 MiB for both
// directions, taken when the device is opened if they are there): DMA on a
// stream of its own, so that a piece is on the bus while the kernel has the one
// before.
//
// Host memory is checked against the registered ranges before anything is
// posted: a kernel that touched any other would cost the process its context.
// Device memory is the engine's, and not checked.
//
// Ownership: owns six streams, its events, the ring, and what was allocated or
// registered here and not given back. Threads: thread-safe; each call leaves
// its thread's current device as it was. Errors: see device.h; after one that
// CUDA does not recover from, everything is UNAVAILABLE and says why. Cost: a
// post is a call of the driver a batch and a look-up a fragment; a kernel's
// also 32 bytes of pinned memory a fragment, written under a mutex; a staged
// one a dozen calls for 4 MiB, and another look-up for fragments that lie
// together.
#ifndef AGENTMEM_CUDA_CUDA_DEVICE_H_
#define AGENTMEM_CUDA_CUDA_DEVICE_H_

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "cuda/copy_kernels.h"
#include "cuda/cuda_context.h"
#include "cuda/cuda_staging.h"
#include "cuda/device.h"
#include "cuda/fp8_batch.h"
#include "cuda/ring_spans.h"

namespace agentmem {

class CudaDevice final : public Device {
 public:
  static Outcome Open(std::uint32_t gpu, std::unique_ptr<Device>* device);
  ~CudaDevice() override;
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  Outcome Allocate(std::uint64_t bytes, DeviceAddress* memory) override;
  void Free(DeviceAddress memory) override;
  Outcome Register(std::span<char> host, Registration what) override;
  Outcome Copy(const CopyBatch& batch, Stream stream) override;
  Outcome Record(Stream stream, Event* event) override;
  EventState Query(Event event, Outcome* why) override;
  Outcome Wait(Stream stream, Event event) override;
  const DeviceProperties& properties() const override { return properties_; }

 private:
  // An event's id is its place and the place's turn.
  struct Place {
    std::uint64_t turn = 0;
    bool taken = false;
    cudaEvent_t event = nullptr;  // made once, recorded anew each turn
  };

  explicit CudaDevice(std::uint32_t gpu);
  Outcome Start();
  Outcome StartStreams();
  Outcome StartKernels();
  void ReadProperties(const cudaDeviceProp& of_gpu, int driver);
  // OK, or why there is nothing to be had of it any more.
  Outcome Usable(const CudaContext::Entered& entered);
  std::array<Stream, 6> OwnStreams() const {
    return {properties_.to_host, properties_.to_device, properties_.gather,
            properties_.scatter, properties_.down,      properties_.up};
  }
  bool IsOwn(Stream stream) const {
    const auto own = OwnStreams();
    return std::find(own.begin(), own.end(), stream) != own.end();
  }
  // Behind what is posted to `stream` and not staged.
  void CountOther(Stream stream) {
    if (stream == properties_.to_device) ++others_;
  }
  // RESOURCE_EXHAUSTED says that nothing was posted: not this.
  static Outcome Halfway(Outcome outcome) {
    if (outcome.code == Code::kResourceExhausted) {
      outcome.code = Code::kInternal;
    }
    return outcome;
  }
  Outcome CheckNotCaptured(const char* call, Stream stream);
  Outcome Failed(cudaError_t error, const char* call, std::uint64_t bytes);

  // Registered, or of this device. The range in which the last one lay:
  // neighbours mostly do.
  struct ReachableRange {
    std::uint64_t begin = 0;
    std::uint64_t bytes = 0;
  };
  bool IsReachable(std::uint64_t at, std::uint64_t bytes,
                   ReachableRange* range) const
      AGENTMEM_REQUIRES(memory_mutex_);
  Outcome CheckFragments(const CopyBatch& batch);
  Outcome CheckPieces(const Fp8Batch& batch);
  Outcome PostByKernel(const CopyBatch& batch, Stream stream, bool is_staged);
  Outcome CopyByEngine(const CopyBatch& batch, bool others_only,
                       cudaStream_t stream);
  Outcome PostRun(Direction direction, std::span<const Fragment> run,
                  cudaStream_t stream);
  Outcome CopyByKernel(const CopyBatch& batch, std::uint32_t count,
                       cudaStream_t stream);
  Outcome CopyFp8(const CopyBatch& copy, cudaStream_t stream);
  // cuda_staged.cc.
  void StartStaging();
  void EndStaging() AGENTMEM_REQUIRES(kernel_mutex_);
  Outcome CopyStaged(const CopyBatch& batch, std::uint32_t count,
                     cudaStream_t stream);
  Outcome PostStaged(const CopyBatch& batch, KernelCopy* descriptors,
                     cudaStream_t stream, bool* launched)
      AGENTMEM_REQUIRES(kernel_mutex_);
  void AddToRuns(const Fragment& fragment, std::vector<Fragment>* runs)
      AGENTMEM_EXCLUDES(memory_mutex_);
  Outcome Joined(CudaStaging* staging, cudaStream_t earlier, cudaStream_t later)
      AGENTMEM_REQUIRES(kernel_mutex_);
  Outcome StandBehindOthers(CudaStaging* staging, cudaStream_t stream)
      AGENTMEM_REQUIRES(kernel_mutex_);
  Outcome StandBehindStaged(Stream stream) AGENTMEM_EXCLUDES(kernel_mutex_);
  Outcome StreamOfAll(Stream stream, cudaStream_t* of_all)
      AGENTMEM_EXCLUDES(kernel_mutex_);
  void SynchronizeStaging() AGENTMEM_EXCLUDES(kernel_mutex_);
  Outcome PostPiece(Direction direction, CudaStaging* staging,
                    std::span<const KernelCopy> copies, cudaStream_t stream,
                    bool* launched) AGENTMEM_REQUIRES(kernel_mutex_);
  Outcome ReclaimDescriptors() AGENTMEM_REQUIRES(kernel_mutex_);
  // Places for `count` descriptors; a kernel that reads them is launched, and
  // its `error` told to SealDescriptors.
  Outcome TakeDescriptors(std::uint32_t count, KernelCopy** first)
      AGENTMEM_REQUIRES(kernel_mutex_);
  Outcome SealDescriptors(cudaError_t error, const char* kernel,
                          cudaStream_t stream) AGENTMEM_REQUIRES(kernel_mutex_);
  // The place of an event that was not ended; null: none.
  Place* Find(Event event) AGENTMEM_REQUIRES(events_mutex_);

  const std::uint32_t gpu_;
  DeviceProperties properties_;
  CudaContext context_;  // ends last
  std::uint32_t kernel_blocks_ = 0;

  std::atomic<bool> lost_ = false;
  Mutex lost_mutex_;
  std::string why_lost_ AGENTMEM_GUARDED_BY(lost_mutex_);

  Mutex memory_mutex_;
  std::map<std::uint64_t, std::uint64_t> allocated_
      AGENTMEM_GUARDED_BY(memory_mutex_);  // address -> bytes
  std::map<std::uint64_t, std::uint64_t> registered_
      AGENTMEM_GUARDED_BY(memory_mutex_);

  Mutex events_mutex_;
  std::vector<Place> places_ AGENTMEM_GUARDED_BY(events_mutex_);
  std::vector<std::uint32_t> free_places_ AGENTMEM_GUARDED_BY(events_mutex_);

  // The descriptor ring: `launched_` has an event for each of its spans.
  Mutex kernel_mutex_;
  KernelCopy* descriptors_ = nullptr;
  RingSpans spans_ AGENTMEM_GUARDED_BY(kernel_mutex_);
  std::deque<cudaEvent_t> launched_ AGENTMEM_GUARDED_BY(kernel_mutex_);
  std::vector<cudaEvent_t> spare_events_ AGENTMEM_GUARDED_BY(kernel_mutex_);

  // What was posted to to_device and not staged.
  std::atomic<std::uint64_t> others_ = 0;
  // One a direction: copies both ways at once.
  std::array<std::unique_ptr<CudaStaging>, 2> staging_
      AGENTMEM_GUARDED_BY(kernel_mutex_);
};

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_CUDA_DEVICE_H_
