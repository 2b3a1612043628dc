// The primary context of one GPU, the one that the process's own CUDA code uses
// too. A thread enters it for a call and leaves it as it was: cudaSetDevice
// would change the host program's current device, and setting that back could
// create a context on a GPU that it never uses.
//
// Also what all of cuda/ says of CUDA's errors.
//
// Ownership: retains the context until it ends. Threads: thread-safe once
// retained. Errors: UNAVAILABLE naming what is missing. Cost: to enter and
// leave, four calls of CUDA (tens of ns); to retain, the first time in a
// process, hundreds of ms.
#ifndef AGENTMEM_CUDA_CUDA_CONTEXT_H_
#define AGENTMEM_CUDA_CUDA_CONTEXT_H_

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "proto/outcome.h"

namespace agentmem {

// "CALL of BYTES bytes on GPU N: what CUDA says (its name)"; 0 bytes: no size.
Outcome CudaFailure(cudaError_t error, const char* call, std::uint64_t bytes,
                    std::uint32_t gpu);
// Nothing works any more in this process on that device.
bool IsLoss(cudaError_t error);

class CudaContext {
 public:
  CudaContext() = default;
  ~CudaContext();
  CudaContext(const CudaContext&) = delete;
  CudaContext& operator=(const CudaContext&) = delete;

  Outcome Retain(std::uint32_t gpu);

  // In this context while it lives.
  class Entered {
   public:
    explicit Entered(const CudaContext& context) : context_(context) {
      // None, if Retain failed: a device that did not open ends, too.
      entered_ = context_.context_ != nullptr &&
                 context_.push_(context_.context_) == CUDA_SUCCESS;
      cudaThreadExchangeStreamCaptureMode(&capture_);
    }
    ~Entered() {
      cudaThreadExchangeStreamCaptureMode(&capture_);
      CUcontext left = nullptr;
      if (entered_) context_.pop_(&left);
    }
    Entered(const Entered&) = delete;
    Entered& operator=(const Entered&) = delete;
    bool ok() const { return entered_; }

   private:
    const CudaContext& context_;
    bool entered_ = false;
    // While another thread captures a graph, as engines do at start, a query or
    // an allocation here would spoil it, if we did not say that it is no part.
    cudaStreamCaptureMode capture_ = cudaStreamCaptureModeRelaxed;
  };

 private:
  // By cudaGetDriverEntryPointByVersion: nothing links libcuda, which machines
  // without a GPU do not have.
  using Retainer = CUresult (*)(CUcontext*, CUdevice);
  using Releaser = CUresult (*)(CUdevice);
  using Pusher = CUresult (*)(CUcontext);
  using Popper = CUresult (*)(CUcontext*);

  CUcontext context_ = nullptr;
  CUdevice gpu_ = 0;
  Releaser release_ = nullptr;
  Pusher push_ = nullptr;
  Popper pop_ = nullptr;
};

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_CUDA_CONTEXT_H_
