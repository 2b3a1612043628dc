#include "tests/emulation/gpu_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace agentmem::emulation {
namespace {

constexpr std::uint64_t kPage = 4096;
// The gaps are in it.
constexpr std::uint64_t kAddresses = 2 * GpuMemory::kBytes;
// Of a fresh piece; all of it would take the machine's memory.
constexpr std::uint64_t kPoisoned = 256 << 10;

std::uint64_t Pages(std::uint64_t bytes) {
  return (bytes + kPage - 1) / kPage * kPage;
}

[[noreturn]] void Abort(const char* what) {
  std::perror(what);
  std::abort();
}

// The entry of `ranges` that has all of them; null: none.
const std::pair<const std::uint64_t, std::uint64_t>* Holds(
    const std::map<std::uint64_t, std::uint64_t>& ranges, std::uint64_t at,
    std::uint64_t bytes) {
  auto found = ranges.upper_bound(at);
  if (found == ranges.begin()) return nullptr;
  --found;
  const std::uint64_t skipped = at - found->first;
  if (skipped >= found->second || bytes > found->second - skipped) {
    return nullptr;
  }
  return &*found;
}

}  // namespace

GpuMemory::GpuMemory() {
  const int file = memfd_create("emulated-gpu", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, kAddresses) != 0) Abort("memfd_create");
  void* const device =
      mmap(nullptr, kAddresses, PROT_NONE, MAP_SHARED | MAP_NORESERVE, file, 0);
  void* const alias = mmap(nullptr, kAddresses, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_NORESERVE, file, 0);
  if (device == MAP_FAILED || alias == MAP_FAILED) Abort("mmap");
  close(file);
  base_ = reinterpret_cast<std::uint64_t>(device);
  alias_ = static_cast<char*>(alias);
}

void GpuMemory::Protect(std::uint64_t begin, std::uint64_t bytes,
                        bool is_open) {
  if (mprotect(reinterpret_cast<void*>(begin), Pages(bytes),
               is_open ? PROT_READ | PROT_WRITE : PROT_NONE) != 0) {
    Abort("mprotect");
  }
}

void GpuMemory::Discard(std::uint64_t begin, std::uint64_t bytes) {
  if (madvise(Alias(begin), Pages(bytes), MADV_REMOVE) != 0) Abort("madvise");
}

void* GpuMemory::Allocate(std::uint64_t bytes) {
  MutexLock lock(&mutex_);
  if (bytes > kBytes - taken_) return nullptr;
  std::uint64_t at = base_;
  for (const auto& [begin, length] : allocated_) {
    if (begin - at >= Pages(bytes) + kPage) break;
    at = begin + Pages(length) + kPage;
  }
  if (at + Pages(bytes) > base_ + kAddresses) return nullptr;
  allocated_[at] = bytes;
  taken_ += bytes;
  std::memset(Alias(at), 0xcd, std::min(bytes, kPoisoned));
  if (kernels_ > 0) Protect(at, bytes, true);
  return reinterpret_cast<void*>(at);
}

bool GpuMemory::Free(void* memory) {
  MutexLock lock(&mutex_);
  const auto found = allocated_.find(reinterpret_cast<std::uint64_t>(memory));
  if (found == allocated_.end()) return false;
  Protect(found->first, found->second, false);
  Discard(found->first, found->second);
  taken_ -= found->second;
  allocated_.erase(found);
  return true;
}

void* GpuMemory::AllocateHost(std::uint64_t bytes) {
  void* const memory = std::aligned_alloc(kPage, Pages(bytes));
  if (memory == nullptr || Register(memory, bytes) != cudaSuccess) {
    return nullptr;
  }
  MutexLock lock(&mutex_);
  host_allocated_.insert(memory);
  return memory;
}

bool GpuMemory::FreeHost(void* memory) {
  MutexLock lock(&mutex_);
  if (host_allocated_.erase(memory) == 0) return false;
  registered_.erase(reinterpret_cast<std::uint64_t>(memory));
  std::free(memory);
  return true;
}

cudaError_t GpuMemory::Register(void* memory, std::uint64_t bytes) {
  const auto begin = reinterpret_cast<std::uint64_t>(memory);
  if (bytes == 0 || memory == nullptr) return cudaErrorInvalidValue;
  MutexLock lock(&mutex_);
  const auto next = registered_.lower_bound(begin);
  const bool overlaps =
      (next != registered_.end() && next->first < begin + bytes) ||
      Holds(registered_, begin, 1) != nullptr;
  if (overlaps) return cudaErrorHostMemoryAlreadyRegistered;
  registered_[begin] = bytes;
  return cudaSuccess;
}

cudaError_t GpuMemory::Unregister(void* memory) {
  MutexLock lock(&mutex_);
  const bool was =
      registered_.erase(reinterpret_cast<std::uint64_t>(memory)) != 0;
  return was ? cudaSuccess : cudaErrorHostMemoryNotRegistered;
}

char* GpuMemory::Reach(const void* memory, std::uint64_t bytes) {
  const auto at = reinterpret_cast<std::uint64_t>(memory);
  MutexLock lock(&mutex_);
  if (Holds(allocated_, at, bytes) != nullptr) return Alias(at);
  if (Holds(registered_, at, bytes) == nullptr) return nullptr;
  return static_cast<char*>(const_cast<void*>(memory));
}

GpuMemory::Range GpuMemory::RangeOf(std::uint64_t at) {
  MutexLock lock(&mutex_);
  for (const auto* ranges : {&allocated_, &registered_}) {
    const auto* const holds = Holds(*ranges, at, 1);
    if (holds != nullptr) return {holds->first, holds->second};
  }
  return {};
}

void GpuMemory::BeginKernel() {
  MutexLock lock(&mutex_);
  if (kernels_++ > 0) return;
  for (const auto& [begin, bytes] : allocated_) Protect(begin, bytes, true);
}

void GpuMemory::EndKernel() {
  MutexLock lock(&mutex_);
  if (--kernels_ > 0) return;
  for (const auto& [begin, bytes] : allocated_) Protect(begin, bytes, false);
}

std::string GpuMemory::Left() {
  MutexLock lock(&mutex_);
  if (allocated_.empty() && registered_.empty()) return "";
  return std::to_string(allocated_.size()) + " allocations, " +
         std::to_string(registered_.size()) + " registered ranges";
}

void GpuMemory::Reset() {
  MutexLock lock(&mutex_);
  for (const auto& [begin, bytes] : allocated_) {
    Protect(begin, bytes, false);
    Discard(begin, bytes);
  }
  for (void* const memory : host_allocated_) std::free(memory);
  allocated_.clear();
  registered_.clear();
  host_allocated_.clear();
  taken_ = 0;
}

}  // namespace agentmem::emulation
