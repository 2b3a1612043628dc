// The words that cross processes and machines: key, class, acknowledgement,
// tier, and the four names of version (fence, generation, cluster epoch, key
// id). Values are final; see docs/formats.md.
#ifndef AGENTMEM_PROTO_TYPES_H_
#define AGENTMEM_PROTO_TYPES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "base/strong_id.h"

namespace agentmem {

// A block's name: 128 bits, little-endian words.
//   word 0      group: decides placement (rendezvous hashing over nodes)
//   words 1-3   name: 96 bits
struct Key {
  std::uint32_t group = 0;
  std::array<std::uint32_t, 3> name = {};

  friend bool operator==(const Key&, const Key&) = default;
  friend auto operator<=>(const Key&, const Key&) = default;

  std::uint64_t low() const {
    return group | (static_cast<std::uint64_t>(name[0]) << 32);
  }
  std::uint64_t high() const {
    return name[1] | (static_cast<std::uint64_t>(name[2]) << 32);
  }
  template <typename H>
  friend H AbslHashValue(H state, const Key& key) {
    return H::combine(std::move(state), key.low(), key.high());
  }
  static Key FromWords(std::uint64_t low, std::uint64_t high) {
    return Key{static_cast<std::uint32_t>(low),
               {static_cast<std::uint32_t>(low >> 32),
                static_cast<std::uint32_t>(high),
                static_cast<std::uint32_t>(high >> 32)}};
  }
};
static_assert(sizeof(Key) == 16 && std::is_trivially_copyable_v<Key>);

// The index's hash of a key: two rounds of 64x64->128 multiply and fold.
// Part of the index format (version 1).
inline std::uint64_t HashKey(const Key& key) {
  const auto fold = [](std::uint64_t a, std::uint64_t b) {
    const unsigned __int128 product =
        static_cast<unsigned __int128>(a) * static_cast<unsigned __int128>(b);
    return static_cast<std::uint64_t>(product) ^
           static_cast<std::uint64_t>(product >> 64);
  };
  const std::uint64_t mixed = fold(key.low() ^ 0x9e3779b97f4a7c15ULL,
                                   key.high() ^ 0xd1b54a32d192ed03ULL);
  return fold(mixed ^ key.low(), 0xa0761d6478bd642fULL ^ key.high());
}

// May a block be dropped from every tier?
enum class BlockClass : std::uint8_t {
  kCache = 1,  // yes: it can be computed again
  kState = 2,  // only when a copy as safe as acknowledged exists below
};
inline bool IsValid(BlockClass c) {
  return c == BlockClass::kCache || c == BlockClass::kState;
}

// What a completed put promises. Each implies the one before it.
enum class Ack : std::uint8_t {
  kVisible = 1,     // in this node's memory: readers here find it
  kReplicated = 2,  // in the memory of two nodes
  kDurable = 3,     // on stable storage
};
inline bool IsValid(Ack a) { return a >= Ack::kVisible && a <= Ack::kDurable; }

enum class Tier : std::uint8_t {
  kNone = 0,
  kHbm = 1,
  kDram = 2,
  kPool = 3,
  kStore = 4,
};

// Canonical codes (the gRPC numbering), as they stand in completions.
enum class Code : std::uint16_t {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
};

inline constexpr std::uint64_t kMaxBlockBytes = 4ULL << 20;  // 4 MiB
inline constexpr std::uint64_t kExtentBytes = 4ULL << 20;    // 2 MiB aligned

// Strong ids. The four names of version are never "epoch" alone.
using TenantId = StrongId<struct TenantIdTag, std::uint32_t>;
using ClientId = StrongId<struct ClientIdTag, std::uint64_t>;
using SlotIndex = StrongId<struct SlotIndexTag, std::uint32_t>;
using Generation = StrongId<struct GenerationTag, std::uint64_t>;
using Fence = StrongId<struct FenceTag, std::uint64_t>;
using ClusterEpoch = StrongId<struct ClusterEpochTag, std::uint64_t>;
using KeyId = StrongId<struct KeyIdTag, std::uint32_t>;

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_TYPES_H_
