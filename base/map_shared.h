// Maps memory that processes share.
//
// Ownership: the caller unmaps [result, result + bytes). Threads: thread-safe.
// Errors: MAP_FAILED, with errno. Cost: one to four system calls.
#ifndef AGENTMEM_BASE_MAP_SHARED_H_
#define AGENTMEM_BASE_MAP_SHARED_H_

#include <sys/mman.h>

#include <cstdint>

namespace agentmem {

inline constexpr std::uint64_t kHugePageBytes = 2ULL << 20;

// The first `bytes` bytes of `fd`; mmap's `protection`. What is as long as a
// huge page begins at a multiple of one: else the kernel could not map its huge
// pages as such.
inline void* MapShared(int fd, std::uint64_t bytes, int protection) {
  if (bytes < kHugePageBytes) {
    return mmap(nullptr, bytes, protection, MAP_SHARED, fd, 0);
  }
  // Address space with room to move, of which the ends are given back.
  constexpr std::uint64_t kPage = 4096;
  const std::uint64_t whole = (bytes + kPage - 1) / kPage * kPage;
  void* const space = mmap(nullptr, whole + kHugePageBytes, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (space == MAP_FAILED) return MAP_FAILED;
  char* const begin = static_cast<char*>(space);
  const std::uint64_t before =
      (kHugePageBytes -
       reinterpret_cast<std::uintptr_t>(begin) % kHugePageBytes) %
      kHugePageBytes;
  char* const base = begin + before;
  void* const mapped =
      mmap(base, bytes, protection, MAP_SHARED | MAP_FIXED, fd, 0);
  if (mapped == MAP_FAILED) {
    munmap(space, whole + kHugePageBytes);
    return MAP_FAILED;
  }
  if (before != 0) munmap(begin, before);
  if (before != kHugePageBytes) {
    munmap(base + whole, kHugePageBytes - before);
  }
  return mapped;
}

}  // namespace agentmem

#endif  // AGENTMEM_BASE_MAP_SHARED_H_
