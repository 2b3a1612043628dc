// The index of a tenant: a memfd that memd alone writes (F_SEAL_FUTURE_WRITE)
// and every client of the tenant maps read-only. Version 1; docs/formats.md.
//
//   offset 0        IndexHeader (4 KiB)
//   buckets_offset  Bucket[bucket_count]   64 B each, bucket_count = 2^n
//   slots_offset    Slot[slot_count]       32 B each: two to a cache line
//
// An entry (8 bytes) of a bucket is one of
//
//   63 62 61 60            40 39                          0
//   [ 0 0 |            all zero                           ]  empty
//   [ 0 1 | c | tag (21)     | slot (40)                  ]  in DRAM
//   [ 1 0 | c | fingerprint (61)                          ]  below: the store
//   [ 1 1 | c | fingerprint (61)                          ]  below: the pool
//
// c is the class (0 cache, 1 state). tag and fingerprint are bits of HashKey
// and of a second fold of the key; a resident entry is confirmed by the key in
// its slot, a fingerprint (61 bits) is an answer to Contains and Match only:
// bytes are always fetched by key.
//
// A key's home bucket is HashKey & (bucket_count - 1). When it is full, the
// entry goes to one of the next probe_limit - 1 buckets, and `overflow` of each
// bucket that was passed counts it; a reader stops at the first bucket whose
// overflow is 0. Entries never move while they exist.
//
// Slot: generation is odd while the slot is published. Every publish and every
// unpublish adds one; it never repeats. The other fields change only while it
// is even and no pin, hold or I/O is on the slot. The order of accesses is
// argued in docs/data-path.md.
#ifndef AGENTMEM_PROTO_INDEX_LAYOUT_H_
#define AGENTMEM_PROTO_INDEX_LAYOUT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "proto/types.h"

namespace agentmem {

inline constexpr std::uint64_t kIndexMagic =
    0x31584449'4d454741ULL;  // AGEMIDX1
inline constexpr std::uint32_t kIndexVersion = 1;
inline constexpr std::uint32_t kEntriesPerBucket = 7;
inline constexpr std::uint32_t kProbeLimit = 8;

struct IndexHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t header_bytes;  // sizeof(IndexHeader)
  std::uint32_t tenant_id;
  std::uint32_t probe_limit;
  std::uint64_t bucket_count;  // a power of two
  std::uint64_t buckets_offset;
  std::uint64_t slot_count;
  std::uint64_t slots_offset;
  std::uint64_t data_bytes;  // size of the data memfd
  std::uint64_t instance;    // random: which run of memd made it
  std::uint8_t reserved[4096 - 72];
};
static_assert(sizeof(IndexHeader) == 4096);
static_assert(offsetof(IndexHeader, instance) == 64);

struct alignas(64) Bucket {
  std::atomic<std::uint64_t> entries[kEntriesPerBucket];
  std::atomic<std::uint64_t> overflow;
};
static_assert(sizeof(Bucket) == 64);

// Where a slot's bytes are, in one word:
//
//   63                        24  23  22                       0
//   [ data offset / 512 (40)    | c | length (23)               ]
class Place {
 public:
  static constexpr std::uint64_t kOffsetUnit = 512;

  Place(std::uint64_t data_offset, std::uint32_t length, BlockClass block_class)
      : word_((data_offset / kOffsetUnit) << 24 |
              static_cast<std::uint64_t>(block_class == BlockClass::kState)
                  << 23 |
              length) {}
  explicit Place(std::uint64_t word) : word_(word) {}

  std::uint64_t data_offset() const { return (word_ >> 24) * kOffsetUnit; }
  std::uint32_t length() const {
    return static_cast<std::uint32_t>(word_ & ((1 << 23) - 1));
  }
  BlockClass block_class() const {
    return word_ >> 23 & 1 ? BlockClass::kState : BlockClass::kCache;
  }
  std::uint64_t word() const { return word_; }

 private:
  std::uint64_t word_;
};
static_assert(kMaxBlockBytes < 1 << 23);

struct alignas(32) Slot {
  std::atomic<std::uint64_t> generation;
  std::atomic<std::uint64_t> key_low;
  std::atomic<std::uint64_t> key_high;
  std::atomic<std::uint64_t> place;  // Place

  // Stable under a confirmed pin only.
  Place LoadPlace() const {
    return Place(place.load(std::memory_order_relaxed));
  }
};
static_assert(sizeof(Slot) == 32);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

enum class EntryKind : std::uint8_t {
  kEmpty = 0,
  kResident = 1,
  kInStore = 2,
  kInPool = 3,
};

inline constexpr std::uint64_t kTagMask = (1ULL << 21) - 1;
inline constexpr std::uint64_t kSlotMask = (1ULL << 40) - 1;
inline constexpr std::uint64_t kFingerprintMask = (1ULL << 61) - 1;

inline EntryKind KindOf(std::uint64_t entry) {
  return static_cast<EntryKind>(entry >> 62);
}
inline BlockClass ClassOf(std::uint64_t entry) {
  return (entry >> 61) & 1 ? BlockClass::kState : BlockClass::kCache;
}
inline std::uint64_t TagOf(std::uint64_t hash) {
  return (hash >> 43) & kTagMask;
}
inline std::uint64_t FingerprintOf(const Key& key) {
  // Independent of the bucket: the low bits of HashKey choose that.
  const std::uint64_t hash = HashKey(Key::FromWords(key.high(), key.low()));
  return hash & kFingerprintMask;
}
inline std::uint64_t ResidentEntry(std::uint64_t hash, SlotIndex slot,
                                   BlockClass block_class) {
  return (1ULL << 62) |
         (static_cast<std::uint64_t>(block_class == BlockClass::kState) << 61) |
         (TagOf(hash) << 40) | slot.value();
}
inline std::uint64_t BelowEntry(const Key& key, EntryKind kind,
                                BlockClass block_class) {
  return (static_cast<std::uint64_t>(kind) << 62) |
         (static_cast<std::uint64_t>(block_class == BlockClass::kState) << 61) |
         FingerprintOf(key);
}
inline SlotIndex SlotOf(std::uint64_t entry) {
  return SlotIndex(static_cast<std::uint32_t>(entry & kSlotMask));
}
inline bool IsPublished(std::uint64_t generation) { return generation & 1; }

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_INDEX_LAYOUT_H_
