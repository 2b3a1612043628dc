// CUDA's runtime, and of its driver what cuda/ asks for by name, on the
// emulated GPU. Of each function what cuda_runtime_api.h (CUDA 13) says of it.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/emulation/emulated_gpu.h"

namespace agentmem::emulation {
namespace {

struct Piece {
  char* to = nullptr;
  const char* from = nullptr;
  std::size_t bytes = 0;
};

thread_local std::vector<CUcontext> contexts;
thread_local cudaError_t last_error = cudaSuccess;
thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;

// There is one context.
CUcontext TheContext() { return reinterpret_cast<CUcontext>(0x100); }

cudaError_t Answer(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

EmulatedGpu& Gpu() { return EmulatedGpu::Get(); }

// Begins a call; what it answers if it is to end at once.
#define EMULATION_ENTER()                                \
  if (const cudaError_t entered = Gpu().Enter(__func__); \
      entered != cudaSuccess) {                          \
    return Answer(entered);                              \
  }

// Both sides must be the device's or registered: whatever else CUDA would do
// with them (through a staging buffer, say) is not what a caller here means.
bool AreReachable(const char* call, void* to, const void* from,
                  std::size_t bytes) {
  const bool are = Gpu().memory().Reach(to, bytes) != nullptr &&
                   Gpu().memory().Reach(from, bytes) != nullptr;
  if (!are) {
    Gpu().Find(std::string(call) + " of " + std::to_string(bytes) +
               " bytes that are neither registered nor the device's");
  }
  return are;
}

// When the stream comes to it, the memory must still be there.
cudaError_t Copy(void* to, const void* from, std::size_t bytes) {
  char* const there = Gpu().memory().Reach(to, bytes);
  const char* const here = Gpu().memory().Reach(from, bytes);
  if (there == nullptr || here == nullptr) {
    Gpu().Find("memory was taken away under a copy of " +
               std::to_string(bytes) + " bytes");
    return cudaErrorIllegalAddress;
  }
  std::memcpy(there, here, bytes);
  Gpu().memory().CountCopy();
  return cudaSuccess;
}

CUresult Retain(CUcontext* context, CUdevice device) {
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  Gpu().RetainContext();
  *context = TheContext();
  return CUDA_SUCCESS;
}
CUresult Release(CUdevice device) {
  const bool was = device == 0 && Gpu().ReleaseContext();
  return was ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}
CUresult Push(CUcontext context) {
  if (context != TheContext()) return CUDA_ERROR_INVALID_CONTEXT;
  contexts.push_back(context);
  return CUDA_SUCCESS;
}
CUresult Pop(CUcontext* context) {
  if (contexts.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  *context = contexts.back();
  contexts.pop_back();
  return CUDA_SUCCESS;
}

}  // namespace

std::uint32_t ContextsEntered() {
  return static_cast<std::uint32_t>(contexts.size());
}

extern "C" {

// ---- without a context ----

cudaError_t cudaDriverGetVersion(int* version) {
  *version = Gpu().driver_version();
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  return std::exchange(last_error, Gpu().lost());
}
const char* cudaGetErrorName(cudaError_t) { return "cudaErrorEmulated"; }
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory"
                                            : "an emulated error";
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, capture_mode);
  return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(
    const char* symbol, void** function, unsigned, unsigned long long flags,
    cudaDriverEntryPointQueryResult* result) {
  if (flags != cudaEnableDefault) return Answer(cudaErrorInvalidValue);
  const std::string name = symbol;
  void* found = nullptr;
  if (name == "cuDevicePrimaryCtxRetain") {
    found = reinterpret_cast<void*>(&Retain);
  } else if (name == "cuDevicePrimaryCtxRelease") {
    found = reinterpret_cast<void*>(&Release);
  } else if (name == "cuCtxPushCurrent") {
    found = reinterpret_cast<void*>(&Push);
  } else if (name == "cuCtxPopCurrent") {
    found = reinterpret_cast<void*>(&Pop);
  }
  *function = found;
  *result = found == nullptr ? cudaDriverEntryPointSymbolNotFound
                             : cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : Answer(cudaErrorInvalidDevice);
}

// ---- of the device ----

// As an H100 has them, of fewer multiprocessors: kernels have three blocks.
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  EMULATION_ENTER();
  if (device != 0) return Answer(cudaErrorInvalidDevice);
  *properties = {};
  std::string("emulated GPU")
      .copy(properties->name, sizeof(properties->name) - 1);
  std::memset(properties->uuid.bytes, 0x5a, sizeof(properties->uuid.bytes));
  properties->totalGlobalMem = GpuMemory::kBytes;
  properties->multiProcessorCount = 48;
  properties->asyncEngineCount = 3;
  properties->major = 9;
  properties->minor = 0;
  properties->unifiedAddressing = 1;
  properties->canUseHostPointerForRegisteredMem = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  EMULATION_ENTER();
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes,
                                  const void* function) {
  EMULATION_ENTER();
  if (function == nullptr) return Answer(cudaErrorInvalidDeviceFunction);
  *attributes = {};
  return cudaSuccess;
}

// ---- memory ----

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  EMULATION_ENTER();
  *memory = Gpu().memory().Allocate(bytes);
  return *memory != nullptr ? cudaSuccess : Answer(cudaErrorMemoryAllocation);
}
// (It may wait for what runs, and does not here.)
cudaError_t cudaFree(void* memory) {
  EMULATION_ENTER();
  if (memory == nullptr || Gpu().memory().Free(memory)) return cudaSuccess;
  return Answer(cudaErrorInvalidValue);
}
cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) {
  EMULATION_ENTER();
  *memory = Gpu().memory().AllocateHost(bytes);
  return *memory != nullptr ? cudaSuccess : Answer(cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeHost(void* memory) {
  EMULATION_ENTER();
  Gpu().Drain();
  return Gpu().memory().FreeHost(memory) ? cudaSuccess
                                         : Answer(cudaErrorInvalidValue);
}
cudaError_t cudaHostRegister(void* memory, std::size_t bytes, unsigned flags) {
  EMULATION_ENTER();
  if ((flags & cudaHostRegisterMapped) == 0) {
    Gpu().Find("cudaHostRegister of memory that kernels do not reach");
  }
  return Answer(Gpu().memory().Register(memory, bytes));
}
cudaError_t cudaHostUnregister(void* memory) {
  EMULATION_ENTER();
  return Answer(Gpu().memory().Unregister(memory));
}

// ---- streams ----

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags,
                                         int priority) {
  EMULATION_ENTER();
  if (flags != cudaStreamNonBlocking) {
    Gpu().Find("a stream that waits for the legacy one");
  }
  if (priority < -5 || priority > 0) Gpu().Find("a priority out of range");
  return Answer(Gpu().MakeStream(stream));
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return Answer(Gpu().EndStream(stream));
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const auto found = Gpu().StreamOf(stream);
  if (found == nullptr) return Answer(cudaErrorInvalidResourceHandle);
  found->Drain();
  return Answer(Gpu().lost());
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream,
                                  cudaStreamCaptureStatus* status) {
  EMULATION_ENTER();
  *status = Gpu().IsCaptured(stream) ? cudaStreamCaptureStatusActive
                                     : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event,
                                unsigned) {
  EMULATION_ENTER();
  const auto found = Gpu().EventOf(event);
  if (found == nullptr) return Answer(cudaErrorInvalidResourceHandle);
  return Answer(
      Gpu().Post(__func__, stream, [found, number = found->last_posted()] {
        found->Await(number);
        return cudaSuccess;
      }));
}

// ---- events ----

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  EMULATION_ENTER();
  return Answer(Gpu().MakeEvent(event));
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return Answer(Gpu().EndEvent(event));
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  EMULATION_ENTER();
  const auto found = Gpu().EventOf(event);
  if (found == nullptr) return Answer(cudaErrorInvalidResourceHandle);
  const std::uint64_t number = found->Post();
  const cudaError_t posted = Gpu().Post(__func__, stream, [found, number] {
    found->Done(number);
    return cudaSuccess;
  });
  if (posted != cudaSuccess) found->Done(number);
  return Answer(posted);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  EMULATION_ENTER();
  const auto found = Gpu().EventOf(event);
  if (found == nullptr) return Answer(cudaErrorInvalidResourceHandle);
  const bool has_passed = found->HasPassed();
  if (Gpu().lost() != cudaSuccess) return Answer(Gpu().lost());
  return has_passed ? cudaSuccess : Answer(cudaErrorNotReady);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const auto found = Gpu().EventOf(event);
  if (found == nullptr) return Answer(cudaErrorInvalidResourceHandle);
  found->Await(found->last_posted());
  return Answer(Gpu().lost());
}

// ---- copies ----

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes,
                            cudaMemcpyKind kind, cudaStream_t stream) {
  EMULATION_ENTER();
  if (kind != cudaMemcpyDefault) Gpu().Find("a copy with a kind of its own");
  if (!AreReachable(__func__, to, from, bytes)) {
    return Answer(cudaErrorInvalidValue);
  }
  return Answer(Gpu().Post(__func__, stream, [to, from, bytes] {
    return Gpu().lost() != cudaSuccess ? cudaSuccess : Copy(to, from, bytes);
  }));
}

// In any order, as is written: the last ones first here, or in the middle.
cudaError_t cudaMemcpyBatchAsync(void* const* to, const void* const* from,
                                 const std::size_t* bytes, std::size_t count,
                                 cudaMemcpyAttributes* attributes,
                                 std::size_t* indices,
                                 std::size_t attribute_count,
                                 cudaStream_t stream) {
  EMULATION_ENTER();
  const bool is_legacy = stream == nullptr || stream == cudaStreamLegacy;
  bool is_valid = !is_legacy && count != 0 && attribute_count != 0 &&
                  attribute_count <= count && indices[0] == 0;
  for (std::size_t i = 0; is_valid && i < attribute_count; ++i) {
    const auto order = attributes[i].srcAccessOrder;
    is_valid = order == cudaMemcpySrcAccessOrderStream ||
               order == cudaMemcpySrcAccessOrderDuringApiCall ||
               order == cudaMemcpySrcAccessOrderAny;
    if (i > 0) is_valid = is_valid && indices[i] > indices[i - 1];
  }
  std::vector<Piece> pieces;
  for (std::size_t i = 0; is_valid && i < count; ++i) {
    is_valid =
        bytes[i] != 0 && AreReachable(__func__, to[i], from[i], bytes[i]);
    pieces.push_back({static_cast<char*>(to[i]),
                      static_cast<const char*>(from[i]), bytes[i]});
  }
  if (!is_valid) return Answer(cudaErrorInvalidValue);
  std::minstd_rand random(static_cast<unsigned>(count));
  std::shuffle(pieces.begin(), pieces.end(), random);
  return Answer(Gpu().Post(__func__, stream, [pieces = std::move(pieces)] {
    for (const Piece& piece : pieces) {
      if (Gpu().lost() != cudaSuccess) return cudaSuccess;
      const cudaError_t error = Copy(piece.to, piece.from, piece.bytes);
      if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
  }));
}

}  // extern "C"

#undef EMULATION_ENTER

}  // namespace agentmem::emulation
