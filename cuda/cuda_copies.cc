// How CudaDevice copies: by the copy engine, or by kernels.
#include <algorithm>
#include <array>
#include <utility>

#include "cuda/cuda_device.h"

namespace agentmem {
namespace {

// Fragments of one call of the driver: their arrays stand on the stack
// (12 KiB), and a batch of any length needs no memory.
constexpr std::size_t kRun = 512;

std::uint64_t AddressOf(const Fragment& fragment) {
  return reinterpret_cast<std::uint64_t>(fragment.host);
}

std::uint64_t BytesOf(std::span<const Fragment> fragments) {
  std::uint64_t bytes = 0;
  for (const Fragment& fragment : fragments) bytes += fragment.bytes;
  return bytes;
}

cudaStream_t Native(Stream stream) {
  return reinterpret_cast<cudaStream_t>(stream.native());
}

// CUDA's legacy default stream by either of its names takes no batches.
bool TakesBatches(cudaStream_t stream) {
  return stream != nullptr && stream != cudaStreamLegacy;
}

}  // namespace

Outcome CudaDevice::Copy(const CopyBatch& batch, Stream stream) {
  const CudaContext::Entered entered(context_);
  if (Outcome usable = Usable(entered); !usable.ok()) return usable;
  // Its own streams nobody captures.
  if (!IsOwn(stream)) {
    if (Outcome free = CheckNotCaptured("Copy", stream); !free.ok()) {
      return free;
    }
  }
  if (batch.fp8 == nullptr) {
    if (Outcome checked = CheckFragments(batch); !checked.ok()) return checked;
  }
  const Stream staged_on = batch.direction == Direction::kToHost
                               ? properties_.to_host
                               : properties_.to_device;
  if (batch.method == CopyMethod::kStaged && batch.fp8 == nullptr &&
      properties_.stages && stream == staged_on) {
    return PostByKernel(batch, stream, true);
  }
  if (Outcome behind = StandBehindStaged(stream); !behind.ok()) return behind;
  Outcome posted;
  if (batch.fp8 != nullptr) {
    posted = CopyFp8(batch, Native(stream));
  } else if (batch.method == CopyMethod::kCopyEngine ||
             descriptors_ == nullptr) {
    posted = CopyByEngine(batch, false, Native(stream));
  } else {
    posted = PostByKernel(batch, stream, false);
  }
  CountOther(stream);
  return posted;
}

// Those that it takes, and the others by the copy engine.
Outcome CudaDevice::PostByKernel(const CopyBatch& batch, Stream stream,
                                 bool is_staged) {
  const auto takes = std::count_if(batch.fragments.begin(),
                                   batch.fragments.end(), KernelTakes);
  const auto count = static_cast<std::uint32_t>(takes);
  // First what can be refused, so that nothing is posted then.
  if (count > 0) {
    Outcome posted = is_staged ? CopyStaged(batch, count, Native(stream))
                               : CopyByKernel(batch, count, Native(stream));
    if (!posted.ok()) return posted;
  }
  if (count == batch.fragments.size()) return {};
  Outcome posted = CopyByEngine(batch, true, Native(stream));
  CountOther(stream);
  return count == 0 ? std::move(posted) : Halfway(std::move(posted));
}

Outcome CudaDevice::CheckFragments(const CopyBatch& batch) {
  const std::string text = "Copy on GPU " + std::to_string(gpu_) + ": ";
  if (batch.method != CopyMethod::kCopyEngine && descriptors_ != nullptr &&
      batch.fragments.size() > properties_.kernel_fragments_max) {
    return Fail(Code::kInvalidArgument,
                text + std::to_string(batch.fragments.size()) +
                    " fragments by a kernel, at most " +
                    std::to_string(properties_.kernel_fragments_max));
  }
  MutexLock lock(&memory_mutex_);
  ReachableRange range;
  for (std::size_t i = 0; i < batch.fragments.size(); ++i) {
    const Fragment& fragment = batch.fragments[i];
    if (fragment.bytes != 0 &&
        IsReachable(AddressOf(fragment), fragment.bytes, &range)) {
      continue;
    }
    return Fail(
        Code::kInvalidArgument,
        text + "fragment " + std::to_string(i) + " (" +
            std::to_string(fragment.bytes) + " bytes)" +
            (fragment.bytes == 0 ? " is of 0 bytes"
                                 : " lies outside of the host memory that was "
                                   "registered, and of the device's"));
  }
  return {};
}

bool CudaDevice::IsReachable(std::uint64_t at, std::uint64_t bytes,
                             ReachableRange* range) const {
  for (const auto* ranges : {&registered_, &allocated_}) {
    if (at >= range->begin && at - range->begin < range->bytes) break;
    auto found = ranges->upper_bound(at);
    if (found == ranges->begin()) continue;
    --found;
    *range = {found->first, found->second};
  }
  return at >= range->begin && at - range->begin <= range->bytes &&
         bytes <= range->bytes - (at - range->begin);
}

// `others_only`: those that the kernel did not take.
Outcome CudaDevice::CopyByEngine(const CopyBatch& batch, bool others_only,
                                 cudaStream_t stream) {
  if (!others_only) {
    for (std::size_t at = 0; at < batch.fragments.size(); at += kRun) {
      const std::size_t count = std::min(kRun, batch.fragments.size() - at);
      Outcome posted =
          PostRun(batch.direction, batch.fragments.subspan(at, count), stream);
      if (!posted.ok()) return at == 0 ? posted : Halfway(std::move(posted));
    }
    return {};
  }
  for (const Fragment& fragment : batch.fragments) {
    if (KernelTakes(fragment)) continue;
    Outcome posted = PostRun(batch.direction, {&fragment, 1}, stream);
    if (!posted.ok()) return posted;
  }
  return {};
}

Outcome CudaDevice::PostRun(Direction direction, std::span<const Fragment> run,
                            cudaStream_t stream) {
  const bool to_host = direction == Direction::kToHost;
  if (run.size() == 1 || !properties_.copies_batches || !TakesBatches(stream)) {
    for (const Fragment& fragment : run) {
      void* device = reinterpret_cast<void*>(fragment.device.value());
      void* host = fragment.host;
      // By the addresses: `host` may be the device's, too.
      const cudaError_t error =
          cudaMemcpyAsync(to_host ? host : device, to_host ? device : host,
                          fragment.bytes, cudaMemcpyDefault, stream);
      if (error != cudaSuccess) {
        return Failed(error, "cudaMemcpyAsync", fragment.bytes);
      }
    }
    return {};
  }
  std::array<void*, kRun> to = {};
  std::array<void*, kRun> from = {};
  std::array<std::size_t, kRun> bytes = {};
  for (std::size_t i = 0; i < run.size(); ++i) {
    void* device = reinterpret_cast<void*>(run[i].device.value());
    to[i] = to_host ? run[i].host : device;
    from[i] = to_host ? device : run[i].host;
    bytes[i] = run[i].bytes;
  }
  // (No hints of location: these are of managed memory alone.)
  cudaMemcpyAttributes attributes = {};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  std::size_t first = 0;
#if CUDART_VERSION >= 13000
  const cudaError_t error =
      cudaMemcpyBatchAsync(to.data(), from.data(), bytes.data(), run.size(),
                           &attributes, &first, 1, stream);
#else
  std::size_t wrong = 0;
  const cudaError_t error =
      cudaMemcpyBatchAsync(to.data(), from.data(), bytes.data(), run.size(),
                           &attributes, &first, 1, &wrong, stream);
#endif
  if (error != cudaSuccess) {
    return Failed(error, "cudaMemcpyBatchAsync", BytesOf(run));
  }
  return {};
}

// The oldest first: a span behind one that is under way waits for it.
Outcome CudaDevice::ReclaimDescriptors() {
  while (!launched_.empty()) {
    const cudaError_t error = cudaEventQuery(launched_.front());
    if (error == cudaErrorNotReady) {
      cudaGetLastError();  // it is none
      break;
    }
    if (error != cudaSuccess) return Failed(error, "a copy kernel", 0);
    spare_events_.push_back(launched_.front());
    launched_.pop_front();
    spans_.GiveBackOldest();
  }
  return {};
}

Outcome CudaDevice::TakeDescriptors(std::uint32_t count, KernelCopy** first) {
  if (Outcome reclaimed = ReclaimDescriptors(); !reclaimed.ok()) {
    return reclaimed;
  }
  if (spare_events_.empty()) {
    cudaEvent_t fresh = nullptr;
    const cudaError_t error =
        cudaEventCreateWithFlags(&fresh, cudaEventDisableTiming);
    if (error != cudaSuccess) {
      return Failed(error, "cudaEventCreateWithFlags", 0);
    }
    spare_events_.push_back(fresh);
  }
  const auto place = spans_.Take(count);
  if (!place.has_value()) {
    return Fail(Code::kResourceExhausted,
                "Copy on GPU " + std::to_string(gpu_) + ": no room for " +
                    std::to_string(count) +
                    " descriptors while the kernels before are under way: try "
                    "again when an event has passed");
  }
  *first = descriptors_ + *place;
  return {};
}

Outcome CudaDevice::SealDescriptors(cudaError_t error, const char* kernel,
                                    cudaStream_t stream) {
  if (error != cudaSuccess) {
    spans_.GiveBackNewest();
    return Failed(error, kernel, 0);
  }
  error = cudaEventRecord(spare_events_.back(), stream);
  if (error != cudaSuccess) {
    // Nothing will tell when the kernel is done with its descriptors, so this
    // once it is waited for.
    Outcome failed = Failed(error, "cudaEventRecord", 0);
    cudaStreamSynchronize(stream);
    spans_.GiveBackNewest();
    return Halfway(std::move(failed));
  }
  launched_.push_back(spare_events_.back());
  spare_events_.pop_back();
  return {};
}

Outcome CudaDevice::CopyByKernel(const CopyBatch& batch, std::uint32_t count,
                                 cudaStream_t stream) {
  MutexLock lock(&kernel_mutex_);
  KernelCopy* taken = nullptr;
  if (Outcome room = TakeDescriptors(count, &taken); !room.ok()) return room;
  KernelCopy* copy = taken;
  for (const Fragment& fragment : batch.fragments) {
    if (!KernelTakes(fragment)) continue;
    const std::uint64_t device = fragment.device.value();
    const std::uint64_t host = AddressOf(fragment);
    *copy++ = batch.direction == Direction::kToHost
                  ? KernelCopy{device, host, fragment.bytes, 0}
                  : KernelCopy{host, device, fragment.bytes, 0};
  }
  const cudaError_t error =
      LaunchCopyKernel(taken, count, kernel_blocks_, stream);
  return SealDescriptors(error, "a copy kernel", stream);
}

}  // namespace agentmem
