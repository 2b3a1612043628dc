// The memory of the emulated GPU, and what it may reach of the host's.
//
// Device memory stands at addresses that nobody may read or write but a kernel
// that runs: copies use a second mapping of it. A gap lies behind each piece.
// Fresh memory is full of 0xCD.
//
// Ownership: owns the device's memory. Threads: thread-safe. Errors: null, or
// CUDA's codes. Cost: an allocation is a system call or three.
#ifndef AGENTMEM_TESTS_EMULATION_GPU_MEMORY_H_
#define AGENTMEM_TESTS_EMULATION_GPU_MEMORY_H_

#include <driver_types.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "base/mutex.h"

namespace agentmem::emulation {

class GpuMemory {
 public:
  static constexpr std::uint64_t kBytes = 2ULL << 30;

  GpuMemory();

  void* Allocate(std::uint64_t bytes) AGENTMEM_EXCLUDES(mutex_);
  bool Free(void* memory) AGENTMEM_EXCLUDES(mutex_);
  // Registered memory of its own; null: there is none.
  void* AllocateHost(std::uint64_t bytes) AGENTMEM_EXCLUDES(mutex_);
  bool FreeHost(void* memory) AGENTMEM_EXCLUDES(mutex_);
  cudaError_t Register(void* memory, std::uint64_t bytes)
      AGENTMEM_EXCLUDES(mutex_);
  cudaError_t Unregister(void* memory) AGENTMEM_EXCLUDES(mutex_);

  // Where the bytes can be read and written, if they lie in one piece of the
  // device's memory or in one registered range; else null.
  char* Reach(const void* memory, std::uint64_t bytes)
      AGENTMEM_EXCLUDES(mutex_);
  // The one in which the byte lies; 0 bytes: none.
  struct Range {
    std::uint64_t begin = 0;
    std::uint64_t bytes = 0;
  };
  Range RangeOf(std::uint64_t at) AGENTMEM_EXCLUDES(mutex_);

  // Copies that were done, of whatever length.
  std::uint64_t copies() const { return copies_.load(); }
  void CountCopy() { ++copies_; }

  // Kernels may touch device memory while one runs.
  void BeginKernel() AGENTMEM_EXCLUDES(mutex_);
  void EndKernel() AGENTMEM_EXCLUDES(mutex_);

  // "N allocations, M registered ranges"; empty: nothing is left.
  std::string Left() AGENTMEM_EXCLUDES(mutex_);
  void Reset() AGENTMEM_EXCLUDES(mutex_);

 private:
  void Protect(std::uint64_t begin, std::uint64_t bytes, bool is_open);
  void Discard(std::uint64_t begin, std::uint64_t bytes);
  char* Alias(std::uint64_t at) const { return alias_ + (at - base_); }

  std::uint64_t base_ = 0;  // of the device's addresses
  char* alias_ = nullptr;   // the same memory for copies
  std::atomic<std::uint64_t> copies_ = 0;
  Mutex mutex_;
  std::uint32_t kernels_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  std::uint64_t taken_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  std::map<std::uint64_t, std::uint64_t> allocated_
      AGENTMEM_GUARDED_BY(mutex_);  // address -> bytes
  std::map<std::uint64_t, std::uint64_t> registered_
      AGENTMEM_GUARDED_BY(mutex_);
  std::set<void*> host_allocated_ AGENTMEM_GUARDED_BY(mutex_);
};

}  // namespace agentmem::emulation

#endif  // AGENTMEM_TESTS_EMULATION_GPU_MEMORY_H_
