// The sizes of slots: every grant and every resident block uses one of these.
//
// A block takes the smallest slot that holds it; at most half of a slot above
// 1 KiB is unused. Part of the contract between memd (which grants) and
// libagentmem (which looks for a grant of the right size).
//
// Threads: pure functions. Errors: SizeClassOf answers kSizeClasses for a
// length of 0 or beyond the largest. Cost: a search in 23 numbers.
#ifndef AGENTMEM_PROTO_SIZE_CLASS_H_
#define AGENTMEM_PROTO_SIZE_CLASS_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "proto/types.h"

namespace agentmem {

inline constexpr std::size_t kSizeClasses = 23;

inline constexpr std::array<std::uint32_t, kSizeClasses> kSizeClassBytes = {
    512,       1 << 10,   2 << 10,   4 << 10,   6 << 10,   8 << 10,
    12 << 10,  16 << 10,  24 << 10,  32 << 10,  48 << 10,  64 << 10,
    96 << 10,  128 << 10, 192 << 10, 256 << 10, 384 << 10, 512 << 10,
    768 << 10, 1 << 20,   3 << 19,   2 << 20,   4 << 20};
static_assert(kSizeClassBytes.back() == kMaxBlockBytes);

constexpr std::uint32_t SizeClassBytes(std::size_t size_class) {
  return kSizeClassBytes[size_class];
}

constexpr std::size_t SizeClassOf(std::uint64_t length) {
  if (length == 0) return kSizeClasses;
  std::size_t size_class = 0;
  while (size_class < kSizeClasses && kSizeClassBytes[size_class] < length) {
    ++size_class;
  }
  return size_class;
}
static_assert(SizeClassOf(0) == kSizeClasses);
static_assert(SizeClassOf(1) == 0 && SizeClassOf(512) == 0);
static_assert(SizeClassOf(513) == 1);
static_assert(SizeClassOf(kMaxBlockBytes) == kSizeClasses - 1);
static_assert(SizeClassOf(kMaxBlockBytes + 1) == kSizeClasses);

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_SIZE_CLASS_H_
