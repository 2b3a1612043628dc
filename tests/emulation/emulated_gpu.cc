#include "tests/emulation/emulated_gpu.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "tests/emulation/warp.h"

namespace agentmem::emulation {
namespace {

std::uint64_t NumberOf(cudaStream_t stream) {
  return reinterpret_cast<std::uint64_t>(stream);
}
std::uint64_t NumberOf(cudaEvent_t event) {
  return reinterpret_cast<std::uint64_t>(event);
}

// By either of its names.
std::uint64_t KeyOf(cudaStream_t stream) {
  const bool is_legacy = stream == nullptr || stream == cudaStreamLegacy;
  return is_legacy ? NumberOf(cudaStreamLegacy) : NumberOf(stream);
}

bool IsMade(std::uint64_t key) { return key > NumberOf(cudaStreamPerThread); }

}  // namespace

// Never ended: threads of a process that ends may still use it.
EmulatedGpu& EmulatedGpu::Get() {
  static auto* const gpu = new EmulatedGpu;
  return *gpu;
}

// The streams that nobody makes. (One for all threads, where CUDA has one a
// thread: more order than there.)
EmulatedGpu::EmulatedGpu() {
  MutexLock lock(&mutex_);
  for (const cudaStream_t stream : {cudaStreamLegacy, cudaStreamPerThread}) {
    streams_[NumberOf(stream)] =
        std::make_shared<GpuStream>([this](cudaError_t error) { Lose(error); });
  }
}

std::vector<std::string> EmulatedGpu::TakeFindings() {
  MutexLock lock(&mutex_);
  return std::exchange(findings_, {});
}

void EmulatedGpu::FailCall(std::uint64_t number, cudaError_t error,
                           const std::string& name) {
  MutexLock lock(&mutex_);
  armed_ = true;
  calls_left_ = number;
  error_ = error;
  name_ = name;
}

bool EmulatedGpu::Disarm() {
  MutexLock lock(&mutex_);
  return !std::exchange(armed_, false);
}

void EmulatedGpu::FailOnDevice() {
  MutexLock lock(&mutex_);
  fails_on_device_ = true;
}

void EmulatedGpu::HoldStream(cudaStream_t stream) {
  StreamOf(stream)->Hold(true);
}

void EmulatedGpu::ReleaseStream(cudaStream_t stream) {
  StreamOf(stream)->Hold(false);
}

void EmulatedGpu::HoldOthers(cudaStream_t stream, bool is_held) {
  MutexLock lock(&mutex_);
  for (const auto& [key, other] : streams_) {
    if (key != KeyOf(stream)) other->Hold(is_held);
  }
}

std::uint64_t EmulatedGpu::WorkDone(cudaStream_t stream) {
  return StreamOf(stream)->done();
}

void EmulatedGpu::SetCapturing(cudaStream_t stream, bool is_captured) {
  MutexLock lock(&mutex_);
  captured_[KeyOf(stream)] = is_captured;
}

void EmulatedGpu::SetDriverVersion(int version) {
  MutexLock lock(&mutex_);
  driver_version_ = version;
}

cudaError_t EmulatedGpu::Enter(const char* call) {
  MutexLock lock(&mutex_);
  if (ContextsEntered() == 0) {
    Keep(std::string(call) + " outside of a context");
  }
  if (lost() != cudaSuccess) return lost();
  if (!armed_ || (!name_.empty() && name_ != call)) return cudaSuccess;
  if (calls_left_-- > 0) return cudaSuccess;
  armed_ = false;
  return error_;
}

void EmulatedGpu::Find(const std::string& finding) {
  MutexLock lock(&mutex_);
  Keep(finding);
}

// For programs that do not ask for them, too.
void EmulatedGpu::Keep(const std::string& finding) {
  std::fprintf(stderr, "emulated GPU: found: %s\n", finding.c_str());
  findings_.push_back(finding);
}

cudaError_t EmulatedGpu::MakeStream(cudaStream_t* stream) {
  MutexLock lock(&mutex_);
  const std::uint64_t key = next_handle_++;
  streams_[key] =
      std::make_shared<GpuStream>([this](cudaError_t error) { Lose(error); });
  *stream = reinterpret_cast<cudaStream_t>(key);
  return cudaSuccess;
}

// What is posted is done before, as CUDA does it (and the caller does not wait
// there).
cudaError_t EmulatedGpu::EndStream(cudaStream_t stream) {
  std::shared_ptr<GpuStream> ended;
  MutexLock lock(&mutex_);
  const auto found = streams_.find(NumberOf(stream));
  if (found == streams_.end() || !IsMade(found->first)) {
    return cudaErrorInvalidResourceHandle;
  }
  ended = std::move(found->second);
  streams_.erase(found);
  return cudaSuccess;
}

std::shared_ptr<GpuStream> EmulatedGpu::StreamOf(cudaStream_t stream) {
  MutexLock lock(&mutex_);
  const auto found = streams_.find(KeyOf(stream));
  return found == streams_.end() ? nullptr : found->second;
}

cudaError_t EmulatedGpu::Post(const char* call, cudaStream_t stream,
                              std::function<cudaError_t()> work) {
  const std::shared_ptr<GpuStream> posted = StreamOf(stream);
  if (posted == nullptr) return cudaErrorInvalidResourceHandle;
  if (IsCaptured(stream)) {
    Find(std::string(call) + " on a stream that is being captured");
  }
  bool fails = false;
  {
    MutexLock lock(&mutex_);
    fails = std::exchange(fails_on_device_, false);
  }
  posted->Post([fails, work = std::move(work)] {
    if (fails) return cudaErrorIllegalAddress;
    // (Events pass, so that nobody waits for a lost device.)
    return work();
  });
  return cudaSuccess;
}

cudaError_t EmulatedGpu::MakeEvent(cudaEvent_t* event) {
  MutexLock lock(&mutex_);
  const std::uint64_t key = next_handle_++;
  events_[key] = std::make_shared<GpuEvent>();
  *event = reinterpret_cast<cudaEvent_t>(key);
  return cudaSuccess;
}

cudaError_t EmulatedGpu::EndEvent(cudaEvent_t event) {
  MutexLock lock(&mutex_);
  return events_.erase(NumberOf(event)) == 0 ? cudaErrorInvalidResourceHandle
                                             : cudaSuccess;
}

std::shared_ptr<GpuEvent> EmulatedGpu::EventOf(cudaEvent_t event) {
  MutexLock lock(&mutex_);
  const auto found = events_.find(NumberOf(event));
  return found == events_.end() ? nullptr : found->second;
}

bool EmulatedGpu::IsCaptured(cudaStream_t stream) {
  MutexLock lock(&mutex_);
  const auto found = captured_.find(KeyOf(stream));
  return found != captured_.end() && found->second;
}

int EmulatedGpu::driver_version() {
  MutexLock lock(&mutex_);
  return driver_version_;
}

void EmulatedGpu::Drain() {
  std::vector<std::shared_ptr<GpuStream>> all;
  {
    MutexLock lock(&mutex_);
    for (const auto& [key, stream] : streams_) all.push_back(stream);
  }
  for (const auto& stream : all) stream->Drain();
}

void EmulatedGpu::RetainContext() {
  MutexLock lock(&mutex_);
  ++context_refs_;
}

// The last reference resets the device, a lost one, too.
bool EmulatedGpu::ReleaseContext() {
  {
    MutexLock lock(&mutex_);
    if (context_refs_ == 0) return false;
    if (--context_refs_ > 0) return true;
  }
  Drain();
  std::string left = memory_.Left();
  std::map<std::uint64_t, std::shared_ptr<GpuStream>> ended;
  {
    MutexLock lock(&mutex_);
    for (auto it = streams_.begin(); it != streams_.end();) {
      if (!IsMade(it->first)) {
        ++it;
        continue;
      }
      left += " a stream";
      ended.insert(streams_.extract(it++));
    }
    if (!events_.empty()) {
      left += " " + std::to_string(events_.size()) + " events";
    }
    events_.clear();
    captured_.clear();
    // A lost device takes nothing back.
    if (!left.empty() && lost() == cudaSuccess) {
      Keep("left when the context ended: " + left);
    }
    fails_on_device_ = false;
  }
  memory_.Reset();
  lost_.store(cudaSuccess);
  return true;
}

cudaError_t LaunchKernel(const cudaLaunchConfig_t& config,
                         std::function<void()> kernel) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  if (const cudaError_t error = gpu.Enter("cudaLaunchKernelEx");
      error != cudaSuccess) {
    return error;
  }
  const std::uint32_t blocks = config.gridDim.x;
  const std::uint32_t threads = config.blockDim.x;
  const bool has_one_dimension = config.gridDim.y * config.gridDim.z *
                                     config.blockDim.y * config.blockDim.z ==
                                 1;
  if (!has_one_dimension || config.dynamicSmemBytes != 0 ||
      config.numAttrs != 0) {
    std::fprintf(stderr, "the emulation runs no such kernel\n");
    std::abort();
  }
  if (blocks == 0 || threads == 0 || threads > 1024) {
    return cudaErrorInvalidConfiguration;
  }
  return gpu.Post("a kernel", config.stream,
                  [&gpu, blocks, threads, kernel = std::move(kernel)] {
                    if (gpu.lost() != cudaSuccess) return cudaSuccess;
                    gpu.memory().BeginKernel();
                    const std::string why = RunGrid(blocks, threads, kernel);
                    gpu.memory().EndKernel();
                    if (why.empty()) return cudaSuccess;
                    gpu.Find(why);
                    return cudaErrorIllegalAddress;
                  });
}

}  // namespace agentmem::emulation
