// Lock-free lookup in a tenant's index; the read side of proto/index_layout.h.
//
// Ownership: borrows the mapping. Threads: thread-safe. Errors: an index of
// another version is refused by IndexReader::Validate, naming both versions.
// Cost: one cache line for the bucket, one for the slot; no system call, no
// allocation, no lock; bounded by kProbeLimit buckets whatever a writer does.
#ifndef AGENTMEM_PROTO_INDEX_READER_H_
#define AGENTMEM_PROTO_INDEX_READER_H_

#include <string>

#include "proto/index_layout.h"

namespace agentmem {

class IndexReader {
 public:
  struct Found {
    EntryKind kind = EntryKind::kEmpty;
    BlockClass block_class = BlockClass::kCache;
    SlotIndex slot;                // kResident only
    std::uint64_t generation = 0;  // kResident only; odd
  };

  IndexReader() = default;
  // `base` is a mapping of `bytes` bytes that Validate accepted.
  explicit IndexReader(const void* base)
      : header_(static_cast<const IndexHeader*>(base)),
        buckets_(reinterpret_cast<const Bucket*>(
            static_cast<const char*>(base) + header_->buckets_offset)),
        slots_(reinterpret_cast<const Slot*>(static_cast<const char*>(base) +
                                             header_->slots_offset)),
        bucket_mask_(header_->bucket_count - 1) {}

  // Empty when the mapping is an index that this code can read; else the
  // reason, for a person.
  static std::string Validate(const void* base, std::uint64_t bytes) {
    if (bytes < sizeof(IndexHeader)) return "index: shorter than its header";
    const auto* header = static_cast<const IndexHeader*>(base);
    if (header->magic != kIndexMagic) return "index: magic number is wrong";
    if (header->version != kIndexVersion) {
      return "index: layout version " + std::to_string(header->version) +
             ", this library reads version " + std::to_string(kIndexVersion) +
             "; update the older of memd and libagentmem";
    }
    const std::uint64_t buckets = header->bucket_count;
    if (buckets == 0 || (buckets & (buckets - 1)) != 0 ||
        buckets > bytes / sizeof(Bucket) || header->buckets_offset % 64 != 0 ||
        header->buckets_offset > bytes - buckets * sizeof(Bucket) ||
        header->slot_count > bytes / sizeof(Slot) ||
        header->slots_offset % 64 != 0 ||
        header->slots_offset > bytes - header->slot_count * sizeof(Slot)) {
      return "index: header does not fit its size";
    }
    return "";
  }

  // A resident slot whose key matched under `generation`, or where else the
  // block is. The caller pins the slot and then confirms with StillPublished.
  Found Find(const Key& key) const { return Find(key, HashKey(key)); }

  Found Find(const Key& key, std::uint64_t hash) const {
    const std::uint64_t wanted_tag = TagOf(hash);
    std::uint64_t fingerprint = 0;  // computed on first need
    bool have_fingerprint = false;
    for (std::uint32_t probe = 0; probe < kProbeLimit; ++probe) {
      const Bucket& bucket = buckets_[(hash + probe) & bucket_mask_];
      for (const auto& cell : bucket.entries) {
        const std::uint64_t entry = cell.load(std::memory_order_acquire);
        const EntryKind kind = KindOf(entry);
        if (kind == EntryKind::kResident) {
          if (((entry >> 40) & kTagMask) != wanted_tag) continue;
          const SlotIndex index = SlotOf(entry);
          if (index.value() >= header_->slot_count) continue;
          const Slot& slot = slots_[index.value()];
          const std::uint64_t generation =
              slot.generation.load(std::memory_order_acquire);
          if (!IsPublished(generation) ||
              slot.key_low.load(std::memory_order_relaxed) != key.low() ||
              slot.key_high.load(std::memory_order_relaxed) != key.high()) {
            continue;
          }
          return Found{kind, ClassOf(entry), index, generation};
        }
        if (kind == EntryKind::kEmpty) continue;
        if (!have_fingerprint) {
          fingerprint = FingerprintOf(key);
          have_fingerprint = true;
        }
        if ((entry & kFingerprintMask) == fingerprint) {
          return Found{kind, ClassOf(entry), SlotIndex(), 0};
        }
      }
      if (bucket.overflow.load(std::memory_order_acquire) == 0) break;
    }
    return Found{};
  }

  // The second look of the pin protocol. Sequentially consistent on purpose:
  // it must not pass the store of the pin (docs/data-path.md).
  bool StillPublished(SlotIndex slot, std::uint64_t generation) const {
    return slots_[slot.value()].generation.load(std::memory_order_seq_cst) ==
           generation;
  }

  // Valid while the slot is pinned.
  const Slot& slot(SlotIndex index) const { return slots_[index.value()]; }
  const IndexHeader& header() const { return *header_; }

 private:
  const IndexHeader* header_ = nullptr;
  const Bucket* buckets_ = nullptr;
  const Slot* slots_ = nullptr;
  std::uint64_t bucket_mask_ = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_INDEX_READER_H_
