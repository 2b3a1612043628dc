#include "cuda/cuda_device.h"

#include <utility>

#include "cuda/fp8_kernels.h"

namespace agentmem {
namespace {

// A ring of twice the longest batch, so that one can be written while the one
// before it is read: 2 MiB of pinned memory.
constexpr std::uint32_t kKernelFragmentsMax = 32768;
constexpr std::uint32_t kDescriptors = 2 * kKernelFragmentsMax;

// One a layer for several requests at once (kv_layout.h: 1024 layers at most).
constexpr std::uint32_t kEventsMax = 8192;
constexpr std::uint32_t kPlaceBits = 20;
static_assert(kEventsMax <= 1u << kPlaceBits);

// The driver's first with cuMemcpyBatchAsync.
constexpr int kBatchDriver = 12080;

cudaStream_t Native(Stream stream) {
  return reinterpret_cast<cudaStream_t>(stream.native());
}
Stream Ours(cudaStream_t stream) {
  return Stream::Of(reinterpret_cast<std::uint64_t>(stream));
}
void* Pointer(std::uint64_t address) {
  return reinterpret_cast<void*>(address);
}

// As nvidia-smi writes it. (A part of a divided GPU has one of its own.)
std::string UuidText(const cudaUUID_t& uuid) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    const auto byte = static_cast<unsigned char>(uuid.bytes[i]);
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string Version(int number) {
  return std::to_string(number / 1000) + "." +
         std::to_string(number % 1000 / 10);
}

}  // namespace

CudaDevice::CudaDevice(std::uint32_t gpu) : gpu_(gpu), spans_(kDescriptors) {}

Outcome CudaDevice::Open(std::uint32_t gpu, std::unique_ptr<Device>* device) {
  int driver = 0;
  int runtime = 0;
  cudaDriverGetVersion(&driver);  // 0: there is none
  cudaRuntimeGetVersion(&runtime);
  if (driver == 0) {
    cudaGetLastError();
    return Fail(Code::kUnavailable, "GPU " + std::to_string(gpu) +
                                        ": there is no CUDA driver here");
  }
  int gpus = 0;
  const cudaError_t counted = cudaGetDeviceCount(&gpus);
  if (counted != cudaSuccess) {
    Outcome failed = CudaFailure(counted, "cudaGetDeviceCount", 0, gpu);
    failed.message += "; the driver is of CUDA " + Version(driver) +
                      ", agentmem was built with " + Version(runtime);
    return Fail(Code::kUnavailable, std::move(failed.message));
  }
  if (gpu >= static_cast<std::uint32_t>(gpus)) {
    return Fail(Code::kUnavailable, "GPU " + std::to_string(gpu) +
                                        ": there are " + std::to_string(gpus) +
                                        ", counted from 0");
  }
  std::unique_ptr<CudaDevice> opened(new CudaDevice(gpu));
  if (Outcome retained = opened->context_.Retain(gpu); !retained.ok()) {
    return retained;
  }
  if (Outcome started = opened->Start(); !started.ok()) return started;
  *device = std::move(opened);
  return {};
}

Outcome CudaDevice::Start() {
  const CudaContext::Entered entered(context_);
  if (Outcome usable = Usable(entered); !usable.ok()) return usable;
  cudaDeviceProp of_gpu;
  const cudaError_t error =
      cudaGetDeviceProperties(&of_gpu, static_cast<int>(gpu_));
  if (error != cudaSuccess) {
    return Failed(error, "cudaGetDeviceProperties", 0);
  }
  int driver = 0;
  cudaDriverGetVersion(&driver);
  ReadProperties(of_gpu, driver);
  if (Outcome started = StartStreams(); !started.ok()) return started;
  // Kernels use the host's addresses as they are. Where that cannot be, the
  // copy engine does everything.
  if (!of_gpu.canUseHostPointerForRegisteredMem) return {};
  Outcome started = StartKernels();
  if (started.ok()) StartStaging();
  return started;
}

void CudaDevice::ReadProperties(const cudaDeviceProp& of_gpu, int driver) {
  properties_.name = of_gpu.name;
  properties_.id = UuidText(of_gpu.uuid);
  properties_.memory_bytes = of_gpu.totalGlobalMem;
  properties_.multiprocessors =
      static_cast<std::uint32_t>(of_gpu.multiProcessorCount);
  properties_.copy_engines =
      static_cast<std::uint32_t>(of_gpu.asyncEngineCount);
  properties_.compute_major = static_cast<std::uint32_t>(of_gpu.major);
  properties_.compute_minor = static_cast<std::uint32_t>(of_gpu.minor);
  // A batch has the host's addresses as they are, as kernels have.
  properties_.copies_batches =
      driver >= kBatchDriver && of_gpu.canUseHostPointerForRegisteredMem != 0;
}

// Of the greatest priority: copies need few multiprocessors for a short while,
// and what a model has posted before would keep them waiting for all of it.
// (It orders kernels; copies by the copy engine know none.)
Outcome CudaDevice::StartStreams() {
  int least = 0;
  int greatest = 0;
  const cudaError_t asked = cudaDeviceGetStreamPriorityRange(&least, &greatest);
  if (asked != cudaSuccess) {
    return Failed(asked, "cudaDeviceGetStreamPriorityRange", 0);
  }
  for (Stream* stream :
       {&properties_.to_host, &properties_.to_device, &properties_.gather,
        &properties_.scatter, &properties_.down, &properties_.up}) {
    cudaStream_t made = nullptr;
    const cudaError_t error =
        cudaStreamCreateWithPriority(&made, cudaStreamNonBlocking, greatest);
    if (error != cudaSuccess) {
      return Failed(error, "cudaStreamCreateWithPriority", 0);
    }
    *stream = Ours(made);
  }
  return {};
}

Outcome CudaDevice::StartKernels() {
  for (const auto load : {&LoadCopyKernel, &LoadFp8Kernels}) {
    const cudaError_t loaded = load();
    if (loaded != cudaSuccess) return Failed(loaded, "to load kernels", 0);
  }
  void* pinned = nullptr;
  constexpr std::uint64_t kBytes = kDescriptors * sizeof(KernelCopy);
  const cudaError_t error = cudaHostAlloc(
      &pinned, kBytes, cudaHostAllocPortable | cudaHostAllocMapped);
  if (error != cudaSuccess) return Failed(error, "cudaHostAlloc", kBytes);
  descriptors_ = static_cast<KernelCopy*>(pinned);
  kernel_blocks_ = CopyKernelBlocks(properties_.multiprocessors);
  properties_.kernel_fragments_max = kKernelFragmentsMax;
  return {};
}

// Errors are not looked at: whatever they are, nobody is left to be told.
CudaDevice::~CudaDevice() {
  const CudaContext::Entered entered(context_);
  if (!entered.ok()) return;
  for (Stream stream : OwnStreams()) {
    if (stream == Stream::LegacyDefault()) continue;  // was not made
    cudaStreamSynchronize(Native(stream));
    cudaStreamDestroy(Native(stream));
  }
  {
    MutexLock lock(&events_mutex_);
    for (const Place& place : places_) cudaEventDestroy(place.event);
  }
  {
    MutexLock lock(&kernel_mutex_);
    for (cudaEvent_t event : launched_) {
      cudaEventSynchronize(event);
      cudaEventDestroy(event);
    }
    EndStaging();  // which those kernels used
    for (cudaEvent_t event : spare_events_) cudaEventDestroy(event);
    if (descriptors_ != nullptr) cudaFreeHost(descriptors_);
  }
  MutexLock lock(&memory_mutex_);
  for (const auto& [at, bytes] : registered_) cudaHostUnregister(Pointer(at));
  for (const auto& [at, bytes] : allocated_) cudaFree(Pointer(at));
  cudaGetLastError();
}

Outcome CudaDevice::Usable(const CudaContext::Entered& entered) {
  if (lost_.load(std::memory_order_acquire)) {
    MutexLock lock(&lost_mutex_);
    return Fail(Code::kUnavailable, "GPU " + std::to_string(gpu_) +
                                        " was lost before: " + why_lost_);
  }
  if (!entered.ok()) {
    return Fail(Code::kUnavailable,
                "the CUDA context of GPU " + std::to_string(gpu_) + " is gone");
  }
  return {};
}

Outcome CudaDevice::Failed(cudaError_t error, const char* call,
                           std::uint64_t bytes) {
  Outcome failed = CudaFailure(error, call, bytes, gpu_);
  if (IsLoss(error)) {
    MutexLock lock(&lost_mutex_);
    if (why_lost_.empty()) why_lost_ = failed.message;
    lost_.store(true, std::memory_order_release);
  }
  return failed;
}

Outcome CudaDevice::Allocate(std::uint64_t bytes, DeviceAddress* memory) {
  const CudaContext::Entered entered(context_);
  if (Outcome usable = Usable(entered); !usable.ok()) return usable;
  if (bytes == 0) {
    return Fail(
        Code::kInvalidArgument,
        "Allocate on GPU " + std::to_string(gpu_) + ": 0 bytes were asked for");
  }
  void* fresh = nullptr;
  const cudaError_t error = cudaMalloc(&fresh, bytes);
  if (error != cudaSuccess) return Failed(error, "cudaMalloc", bytes);
  *memory = DeviceAddress(reinterpret_cast<std::uint64_t>(fresh));
  MutexLock lock(&memory_mutex_);
  allocated_[memory->value()] = bytes;
  return {};
}

void CudaDevice::Free(DeviceAddress memory) {
  const CudaContext::Entered entered(context_);
  {
    MutexLock lock(&memory_mutex_);
    if (allocated_.erase(memory.value()) == 0) return;
  }
  if (!entered.ok()) return;  // the memory went with the context
  // (That cudaFree waits for what runs is its habit, not its promise.)
  for (Stream stream : OwnStreams()) {
    cudaStreamSynchronize(Native(stream));
  }
  SynchronizeStaging();
  const cudaError_t error = cudaFree(Pointer(memory.value()));
  // Told by the next call: this one answers nothing.
  if (error != cudaSuccess) (void)Failed(error, "cudaFree", 0);
}

Outcome CudaDevice::Register(std::span<char> host, Registration what) {
  const CudaContext::Entered entered(context_);
  if (Outcome usable = Usable(entered); !usable.ok()) return usable;
  const auto begin = reinterpret_cast<std::uint64_t>(host.data());
  if (host.empty()) {
    return Fail(Code::kInvalidArgument,
                "Register with GPU " + std::to_string(gpu_) + ": 0 bytes");
  }
  if (what == Registration::kBegin) {
    const cudaError_t error =
        cudaHostRegister(host.data(), host.size(),
                         cudaHostRegisterPortable | cudaHostRegisterMapped);
    if (error != cudaSuccess) {
      return Failed(error, "cudaHostRegister", host.size());
    }
    MutexLock lock(&memory_mutex_);
    registered_[begin] = host.size();
    return {};
  }
  {
    MutexLock lock(&memory_mutex_);
    auto found = registered_.find(begin);
    if (found == registered_.end() || found->second != host.size()) {
      return Fail(Code::kInvalidArgument,
                  "Register of " + std::to_string(host.size()) +
                      " bytes with GPU " + std::to_string(gpu_) +
                      " to be ended: no such range was registered");
    }
    registered_.erase(found);
  }
  const cudaError_t error = cudaHostUnregister(host.data());
  if (error != cudaSuccess) {
    return Failed(error, "cudaHostUnregister", host.size());
  }
  return {};
}

CudaDevice::Place* CudaDevice::Find(Event event) {
  const std::uint64_t index = event.value() & ((1u << kPlaceBits) - 1);
  if (index >= places_.size()) return nullptr;
  Place& place = places_[index];
  const bool same = place.taken && place.turn == event.value() >> kPlaceBits;
  return same ? &place : nullptr;
}

// A stream that is being captured would draw this device's own into its graph,
// with what others have posted there; and a copy would not run.
Outcome CudaDevice::CheckNotCaptured(const char* call, Stream stream) {
  // (Asking is an error itself on the legacy stream while others capture.)
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  const cudaError_t error = cudaStreamIsCapturing(Native(stream), &status);
  if (error != cudaSuccess) return Failed(error, "cudaStreamIsCapturing", 0);
  if (status == cudaStreamCaptureStatusNone) return {};
  return Fail(Code::kFailedPrecondition,
              std::string(call) + " on GPU " + std::to_string(gpu_) +
                  ": the stream is being captured into a graph; post it "
                  "outside of the capture");
}

Outcome CudaDevice::Record(Stream stream, Event* event) {
  const CudaContext::Entered entered(context_);
  if (Outcome usable = Usable(entered); !usable.ok()) return usable;
  if (Outcome free = CheckNotCaptured("Record", stream); !free.ok()) {
    return free;
  }
  cudaStream_t of_all = nullptr;
  if (Outcome joined = StreamOfAll(stream, &of_all); !joined.ok()) {
    return joined;
  }
  MutexLock lock(&events_mutex_);
  if (free_places_.empty()) {
    if (places_.size() >= kEventsMax) {
      return Fail(Code::kResourceExhausted,
                  "Record on GPU " + std::to_string(gpu_) + ": " +
                      std::to_string(kEventsMax) +
                      " events are pending, as many as it keeps: end some "
                      "with Query");
    }
    Place fresh;
    const cudaError_t error =
        cudaEventCreateWithFlags(&fresh.event, cudaEventDisableTiming);
    if (error != cudaSuccess) {
      return Failed(error, "cudaEventCreateWithFlags", 0);
    }
    free_places_.push_back(static_cast<std::uint32_t>(places_.size()));
    places_.push_back(fresh);
  }
  const std::uint32_t index = free_places_.back();
  Place& place = places_[index];
  const cudaError_t error = cudaEventRecord(place.event, of_all);
  if (error != cudaSuccess) return Failed(error, "cudaEventRecord", 0);
  free_places_.pop_back();
  place.taken = true;
  ++place.turn;
  *event = Event((place.turn << kPlaceBits) | index);
  return {};
}

EventState CudaDevice::Query(Event event, Outcome* why) {
  if (event == Event()) return EventState::kPassed;
  const CudaContext::Entered entered(context_);
  Outcome failed = Usable(entered);
  if (failed.ok()) {
    MutexLock lock(&events_mutex_);
    Place* place = Find(event);
    if (place == nullptr) {
      failed = Fail(Code::kInvalidArgument,
                    "Query on GPU " + std::to_string(gpu_) + ": no such event");
    } else {
      const cudaError_t error = cudaEventQuery(place->event);
      // Another error than a loss says nothing of the copies: they may run.
      if (error != cudaSuccess && !IsLoss(error)) {
        cudaGetLastError();
        return EventState::kPending;
      }
      place->taken = false;
      free_places_.push_back(
          static_cast<std::uint32_t>(place - places_.data()));
      if (error == cudaSuccess) return EventState::kPassed;
      failed = Failed(error, "what was posted before an event", 0);
    }
  }
  if (why != nullptr) *why = std::move(failed);
  return EventState::kFailed;
}

Outcome CudaDevice::Wait(Stream stream, Event event) {
  if (event == Event()) return {};
  const CudaContext::Entered entered(context_);
  if (Outcome usable = Usable(entered); !usable.ok()) return usable;
  if (Outcome free = CheckNotCaptured("Wait", stream); !free.ok()) return free;
  MutexLock lock(&events_mutex_);
  const Place* place = Find(event);
  if (place == nullptr) {
    return Fail(Code::kInvalidArgument,
                "Wait on GPU " + std::to_string(gpu_) + ": no such event");
  }
  const cudaError_t error =
      cudaStreamWaitEvent(Native(stream), place->event, 0);
  if (error != cudaSuccess) return Failed(error, "cudaStreamWaitEvent", 0);
  CountOther(stream);
  return {};
}

}  // namespace agentmem
