// How CudaDevice copies by way of a ring in its memory (cuda_staging.h).
#include <array>
#include <utility>
#include <vector>

#include "cuda/cuda_device.h"

namespace agentmem {

// Without the memory it is done without, and nobody is told but by
// DeviceProperties::stages.
void CudaDevice::StartStaging() {
  MutexLock lock(&kernel_mutex_);
  int least = 0;
  int greatest = 0;
  cudaError_t error = cudaDeviceGetStreamPriorityRange(&least, &greatest);
  for (std::unique_ptr<CudaStaging>& made : staging_) {
    made = std::make_unique<CudaStaging>();
    void* ring = nullptr;
    if (error == cudaSuccess) {
      error = cudaMalloc(&ring, made->slots.size() * CudaStaging::kSlotBytes);
    }
    made->ring = reinterpret_cast<std::uint64_t>(ring);
    if (error == cudaSuccess) {
      error = cudaStreamCreateWithPriority(&made->stream, cudaStreamNonBlocking,
                                           greatest);
    }
    std::vector<cudaEvent_t*> events = {&made->joint};
    for (CudaStaging::Slot& slot : made->slots) {
      events.insert(events.end(), {&slot.filled, &slot.emptied});
    }
    for (cudaEvent_t* const event : events) {
      if (error != cudaSuccess) break;
      error = cudaEventCreateWithFlags(event, cudaEventDisableTiming);
    }
  }
  properties_.stages = error == cudaSuccess;
  if (error == cudaSuccess) return;
  (void)Failed(error, "the ring of staged copies", 0);  // one that is lost is
  EndStaging();
}

void CudaDevice::EndStaging() {
  for (std::unique_ptr<CudaStaging>& ended : staging_) {
    if (ended == nullptr) continue;
    if (ended->stream != nullptr) {
      cudaStreamSynchronize(ended->stream);
      cudaStreamDestroy(ended->stream);
    }
    std::vector<cudaEvent_t> events = {ended->joint};
    for (const CudaStaging::Slot& slot : ended->slots) {
      events.insert(events.end(), {slot.filled, slot.emptied});
    }
    for (cudaEvent_t const event : events) {
      if (event != nullptr) cudaEventDestroy(event);
    }
    if (ended->ring != 0) cudaFree(reinterpret_cast<void*>(ended->ring));
    ended.reset();
  }
}

Outcome CudaDevice::CopyStaged(const CopyBatch& batch, std::uint32_t count,
                               cudaStream_t stream) {
  MutexLock lock(&kernel_mutex_);
  KernelCopy* descriptors = nullptr;
  Outcome room = TakeDescriptors(count, &descriptors);
  if (!room.ok()) return room;
  bool launched = false;
  Outcome posted = PostStaged(batch, descriptors, stream, &launched);
  if (!posted.ok() && !launched) {
    spans_.GiveBackNewest();
    // (Out, the DMA comes last.)
    return batch.direction == Direction::kToHost ? posted
                                                 : Halfway(std::move(posted));
  }
  Outcome sealed = SealDescriptors(cudaSuccess, "a staged copy", stream);
  return Halfway(posted.ok() ? std::move(sealed) : std::move(posted));
}

Outcome CudaDevice::PostStaged(const CopyBatch& batch, KernelCopy* descriptors,
                               cudaStream_t stream, bool* launched) {
  const bool out = batch.direction == Direction::kToHost;
  CudaStaging* const staging = staging_[out ? 0 : 1].get();
  if (out) {
    staging->is_apart = true;
  } else if (Outcome behind = StandBehindOthers(staging, stream);
             !behind.ok()) {
    return behind;
  }
  Outcome posted;
  std::uint64_t filled = 0;  // bytes of the slot
  KernelCopy* first = descriptors;
  KernelCopy* next = descriptors;
  staging->runs.clear();
  for (const Fragment& fragment : batch.fragments) {
    if (!KernelTakes(fragment)) continue;
    if (filled + fragment.bytes > CudaStaging::kSlotBytes) {
      posted =
          PostPiece(batch.direction, staging, {first, next}, stream, launched);
      if (!posted.ok()) break;
      first = next;
      filled = 0;
    }
    const std::uint64_t device = fragment.device.value();
    const std::uint64_t place = staging->at(staging->next) + filled;
    *next++ = out ? KernelCopy{device, place, fragment.bytes, 0}
                  : KernelCopy{place, device, fragment.bytes, 0};
    filled += fragment.bytes;
    AddToRuns({DeviceAddress(place), fragment.host, fragment.bytes},
              &staging->runs);
  }
  if (posted.ok()) {
    posted =
        PostPiece(batch.direction, staging, {first, next}, stream, launched);
  }
  // An event behind a batch that failed stands behind its DMA, too.
  if (!posted.ok() && !out) {
    if (!Joined(staging, staging->stream, stream).ok()) {
      cudaStreamSynchronize(staging->stream);
    }
  }
  return posted;
}

// `later` waits for what `earlier` has now.
Outcome CudaDevice::Joined(CudaStaging* staging, cudaStream_t earlier,
                           cudaStream_t later) {
  cudaError_t error = cudaEventRecord(staging->joint, earlier);
  if (error == cudaSuccess) {
    error = cudaStreamWaitEvent(later, staging->joint, 0);
  }
  if (error == cudaSuccess) return {};
  return Failed(error, "staged copies to be joined with others", 0);
}

// In: the DMA does. (Counted before it is recorded: who posts something counts
// it after.)
Outcome CudaDevice::StandBehindOthers(CudaStaging* staging,
                                      cudaStream_t stream) {
  const std::uint64_t others = others_.load(std::memory_order_acquire);
  if (staging->behind == others) return {};
  Outcome joined = Joined(staging, stream, staging->stream);
  if (joined.ok()) staging->behind = others;
  return joined;
}

// Before another copy is posted to one of the device's own streams.
Outcome CudaDevice::StandBehindStaged(Stream stream) {
  if (stream != properties_.to_host || !properties_.stages) return {};
  MutexLock lock(&kernel_mutex_);
  CudaStaging* const staging = staging_[0].get();
  if (!staging->is_apart) return {};
  Outcome joined = Joined(staging, staging->stream,
                          reinterpret_cast<cudaStream_t>(stream.native()));
  if (joined.ok()) staging->is_apart = false;
  return joined;
}

// The stream on which an event stands behind all that `stream` has.
Outcome CudaDevice::StreamOfAll(Stream stream, cudaStream_t* of_all) {
  *of_all = reinterpret_cast<cudaStream_t>(stream.native());
  if (stream != properties_.to_host || !properties_.stages) return {};
  MutexLock lock(&kernel_mutex_);
  CudaStaging* const staging = staging_[0].get();
  if (!staging->is_apart) return {};
  Outcome joined = Joined(staging, *of_all, staging->stream);
  *of_all = staging->stream;
  return joined;
}

void CudaDevice::SynchronizeStaging() {
  std::array<cudaStream_t, 2> streams = {};
  {
    MutexLock lock(&kernel_mutex_);
    for (std::size_t i = 0; i < streams.size(); ++i) {
      if (staging_[i] != nullptr) streams[i] = staging_[i]->stream;
    }
  }
  for (const cudaStream_t stream : streams) {
    if (stream != nullptr) cudaStreamSynchronize(stream);
  }
}

// (The ring's side always goes on where the last one ended.)
void CudaDevice::AddToRuns(const Fragment& fragment,
                           std::vector<Fragment>* runs) {
  if (!runs->empty() &&
      runs->back().host + runs->back().bytes == fragment.host) {
    // The driver takes no copy that touches two registered ranges.
    Fragment& run = runs->back();
    const std::uint64_t bytes = std::uint64_t{run.bytes} + fragment.bytes;
    ReachableRange range;
    MutexLock lock(&memory_mutex_);
    if (IsReachable(reinterpret_cast<std::uint64_t>(run.host), bytes, &range)) {
      run.bytes = static_cast<std::uint32_t>(bytes);
      return;
    }
  }
  runs->push_back(fragment);
}

// What is in `copies` and staging->runs, by the next slot.
Outcome CudaDevice::PostPiece(Direction direction, CudaStaging* staging,
                              std::span<const KernelCopy> copies,
                              cudaStream_t stream, bool* launched) {
  const bool out = direction == Direction::kToHost;
  const CudaStaging::Slot& slot = staging->slots[staging->next];
  staging->next = (staging->next + 1) % staging->slots.size();
  const auto scatter = [&] {
    const cudaError_t error = LaunchCopyKernel(
        copies.data(), static_cast<std::uint32_t>(copies.size()),
        kernel_blocks_, stream);
    *launched |= error == cudaSuccess;
    return error;
  };
  const cudaStream_t fills = out ? stream : staging->stream;
  const cudaStream_t empties = out ? staging->stream : stream;
  const auto copy = [&] {
    return CopyByEngine({direction, CopyMethod::kCopyEngine, staging->runs},
                        false, staging->stream);
  };
  cudaError_t error = cudaStreamWaitEvent(fills, slot.emptied, 0);
  if (error == cudaSuccess && out) error = scatter();
  if (error != cudaSuccess) return Failed(error, "a staged copy", 0);
  if (!out) {
    if (Outcome copied = copy(); !copied.ok()) return copied;
  }
  error = cudaEventRecord(slot.filled, fills);
  if (error == cudaSuccess)
    error = cudaStreamWaitEvent(empties, slot.filled, 0);
  if (error == cudaSuccess && !out) error = scatter();
  if (error != cudaSuccess) return Failed(error, "a staged copy", 0);
  if (out) {
    if (Outcome copied = copy(); !copied.ok()) return copied;
  }
  error = cudaEventRecord(slot.emptied, empties);
  if (error != cudaSuccess) return Failed(error, "a staged copy", 0);
  staging->runs.clear();
  return {};
}

}  // namespace agentmem
