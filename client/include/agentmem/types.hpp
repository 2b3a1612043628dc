// The words of the C++ layer: key, class, acknowledgement, tier, timeout.
//
// Ownership: values. Threads: thread-compatible. Errors, cost: none.
#ifndef AGENTMEM_TYPES_HPP_
#define AGENTMEM_TYPES_HPP_

#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>

#include "agentmem/agentmem.h"

namespace agentmem {
inline namespace v0 {

struct Key : agentmem_key {
  friend bool operator==(const Key& a, const Key& b) {
    return (a <=> b) == std::strong_ordering::equal;
  }
  friend std::strong_ordering operator<=>(const Key& a, const Key& b) {
    if (auto order = a.group <=> b.group; order != 0) return order;
    for (int i = 0; i < 3; ++i) {
      if (auto order = a.name[i] <=> b.name[i]; order != 0) return order;
    }
    return std::strong_ordering::equal;
  }
};
static_assert(sizeof(Key) == sizeof(agentmem_key));

// May a block be dropped from every tier?
enum class BlockClass : agentmem_class {
  kCache = AGENTMEM_CACHE,  // yes: it can be computed again
  kState = AGENTMEM_STATE,  // only when a copy as safe as acknowledged exists
};

// What a completed put promises. Each implies the one before it.
enum class Ack : agentmem_ack {
  kVisible = AGENTMEM_VISIBLE,        // in this node's memory
  kReplicated = AGENTMEM_REPLICATED,  // in the memory of two nodes
  kDurable = AGENTMEM_DURABLE,        // on stable storage
};

enum class Tier : agentmem_tier {
  kNone = AGENTMEM_TIER_NONE,
  kHbm = AGENTMEM_TIER_HBM,
  kDram = AGENTMEM_TIER_DRAM,
  kPool = AGENTMEM_TIER_POOL,
  kStore = AGENTMEM_TIER_STORE,
};

using Bytes = std::span<const std::byte>;
using Tokens = std::span<const std::uint32_t>;

using Timeout = std::chrono::nanoseconds;
inline constexpr Timeout kForever = Timeout::max();
inline constexpr Timeout kDefaultTimeout = std::chrono::seconds(10);

// The C ABI's timeout: a negative one means "do not wait".
constexpr std::uint64_t TimeoutNs(Timeout timeout) {
  if (timeout == kForever) return AGENTMEM_FOREVER;
  return timeout.count() > 0 ? static_cast<std::uint64_t>(timeout.count()) : 0;
}

}  // namespace v0
}  // namespace agentmem

#endif  // AGENTMEM_TYPES_HPP_
