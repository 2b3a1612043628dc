#include "memd/dram/index_writer.h"

#include <bit>

#include "base/check.h"

namespace agentmem {

IndexWriter::Shape IndexWriter::ShapeFor(std::uint64_t slots,
                                         std::uint64_t entries) {
  return {std::bit_ceil((entries + 3) / 4), slots};
}

std::uint64_t IndexWriter::BytesFor(const Shape& shape) {
  return sizeof(IndexHeader) + shape.bucket_count * sizeof(Bucket) +
         shape.slot_count * sizeof(Slot);
}

IndexWriter::IndexWriter(void* base, const Shape& shape, TenantId tenant,
                         std::uint64_t data_bytes, std::uint64_t instance)
    : bucket_mask_(shape.bucket_count - 1) {
  auto* header = static_cast<IndexHeader*>(base);
  header->version = kIndexVersion;
  header->header_bytes = sizeof(IndexHeader);
  header->tenant_id = tenant.value();
  header->probe_limit = kProbeLimit;
  header->bucket_count = shape.bucket_count;
  header->buckets_offset = sizeof(IndexHeader);
  header->slot_count = shape.slot_count;
  header->slots_offset =
      header->buckets_offset + shape.bucket_count * sizeof(Bucket);
  header->data_bytes = data_bytes;
  header->instance = instance;
  header->magic = kIndexMagic;
  char* bytes = static_cast<char*>(base);
  buckets_ = reinterpret_cast<Bucket*>(bytes + header->buckets_offset);
  slots_ = reinterpret_cast<Slot*>(bytes + header->slots_offset);
}

bool IndexWriter::Set(const Key& key, Cell* cell, std::uint64_t to) {
  if (cell->probe != Cell::kNowhere) {
    buckets_[cell->bucket].entries[cell->position].store(
        to, std::memory_order_release);
    if (to == 0) {
      CountPassed(key, *cell, ~0ULL);  // minus one
      *cell = Cell{};
    }
    return true;
  }
  if (to == 0) return true;
  const std::uint64_t home = HashKey(key);
  for (std::uint8_t probe = 0; probe < kProbeLimit; ++probe) {
    const std::uint64_t bucket = (home + probe) & bucket_mask_;
    for (std::uint8_t i = 0; i < kEntriesPerBucket; ++i) {
      auto& entry = buckets_[bucket].entries[i];
      if (entry.load(std::memory_order_relaxed) != 0) continue;
      *cell = Cell{bucket, i, probe};
      // Count it in the passed buckets first, so that no reader stops short.
      CountPassed(key, *cell, 1);
      entry.store(to, std::memory_order_release);
      return true;
    }
  }
  return false;
}

void IndexWriter::CountPassed(const Key& key, const Cell& cell,
                              std::uint64_t by) {
  const std::uint64_t home = HashKey(key);
  for (std::uint8_t i = 0; i < cell.probe; ++i) {
    buckets_[(home + i) & bucket_mask_].overflow.fetch_add(
        by, std::memory_order_release);
  }
}

std::uint64_t IndexWriter::Publish(SlotIndex index, const Key& key,
                                   std::uint64_t data_offset,
                                   std::uint32_t length,
                                   BlockClass block_class) {
  Slot& slot = slots_[index.value()];
  const std::uint64_t generation =
      slot.generation.load(std::memory_order_relaxed);
  AGENTMEM_CHECK(!IsPublished(generation));
  slot.key_low.store(key.low(), std::memory_order_relaxed);
  slot.key_high.store(key.high(), std::memory_order_relaxed);
  slot.place.store(Place(data_offset, length, block_class).word(),
                   std::memory_order_relaxed);
  slot.generation.store(generation + 1, std::memory_order_seq_cst);
  return generation + 1;
}

void IndexWriter::Unpublish(SlotIndex index) {
  Slot& slot = slots_[index.value()];
  const std::uint64_t generation =
      slot.generation.load(std::memory_order_relaxed);
  AGENTMEM_CHECK(IsPublished(generation));
  slot.generation.store(generation + 1, std::memory_order_seq_cst);
}

}  // namespace agentmem
