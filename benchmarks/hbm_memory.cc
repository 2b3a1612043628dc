#include "benchmarks/hbm_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <string>

#include "benchmarks/hbm_post.h"

namespace agentmem::bench {

// The device's memory first: freeing it waits for the copies that touch all. A
// device that hangs is not waited for: what it may write into stays.
HbmMemory::~HbmMemory() {
  HbmPost last(device_);
  absl::Status ended = last.Record(device_->properties().to_host);
  if (ended.ok()) ended = last.Record(device_->properties().to_device);
  if (ended.ok()) ended = last.Await();
  if (ended.code() == absl::StatusCode::kDeadlineExceeded) return;
  if (memory_ != DeviceAddress()) device_->Free(memory_);
  for (const std::span<char> chunk : registered_) {
    // Nobody is there to be told, and the memory goes either way.
    (void)device_->Register(chunk, Device::Registration::kEnd);
  }
  for (const std::span<char> host : {source_, output_}) {
    if (!host.empty()) ::munmap(host.data(), host.size());
  }
}

absl::Status HbmMemory::Take(std::uint64_t bytes) {
  AGENTMEM_RETURN_IF_ERROR(TakeHost(bytes, &source_));
  AGENTMEM_RETURN_IF_ERROR(TakeHost(bytes, &output_));
  return TakeDevice(bytes);
}

absl::Status HbmMemory::TakeDevice(std::uint64_t bytes) {
  DeviceAddress memory;
  AGENTMEM_RETURN_IF_ERROR(ToAbsl(device_->Allocate(bytes, &memory)));
  memory_ = memory;
  return absl::OkStatus();
}

absl::Status HbmMemory::TakeHost(std::uint64_t bytes, std::span<char>* host) {
  void* const mapped =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (mapped == MAP_FAILED) {
    return ErrnoStatus(std::to_string(bytes) + " bytes of host memory");
  }
  *host = {static_cast<char*>(mapped), bytes};
  for (std::uint64_t at = 0; at < bytes; at += kChunkBytes) {
    const auto chunk = host->subspan(at, std::min(kChunkBytes, bytes - at));
    AGENTMEM_RETURN_IF_ERROR(
        ToAbsl(device_->Register(chunk, Device::Registration::kBegin)));
    registered_.push_back(chunk);
  }
  return absl::OkStatus();
}

}  // namespace agentmem::bench
