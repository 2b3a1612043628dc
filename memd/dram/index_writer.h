// The write side of proto/index_layout.h: one writer, any number of readers.
//
// Ownership: borrows the mapping. Threads: reactor-only (one writer).
// Errors: Set answers false when the eight buckets of a key are full; the block
// then exists, but is only found by asking memd.
// Cost: a probe of at most kProbeLimit cache lines; no allocation.
#ifndef AGENTMEM_MEMD_DRAM_INDEX_WRITER_H_
#define AGENTMEM_MEMD_DRAM_INDEX_WRITER_H_

#include <cstdint>

#include "proto/index_layout.h"

namespace agentmem {

class IndexWriter {
 public:
  // Where a key's entry stands. The writer changes and removes it there and
  // nowhere else: entries of different keys may be equal, since clients choose
  // keys and can make fingerprints collide.
  struct Cell {
    static constexpr std::uint8_t kNowhere = 0xff;
    std::uint64_t bucket = 0;
    std::uint8_t position = 0;
    std::uint8_t probe = kNowhere;  // buckets passed on the way from home
  };
  struct Shape {
    std::uint64_t bucket_count = 0;  // a power of two
    std::uint64_t slot_count = 0;
  };
  // Buckets for `entries` keys at a load of at most 4 of 7.
  static Shape ShapeFor(std::uint64_t slots, std::uint64_t entries);
  static std::uint64_t BytesFor(const Shape& shape);

  // Writes the header into zeroed memory of BytesFor(shape) bytes.
  IndexWriter(void* base, const Shape& shape, TenantId tenant,
              std::uint64_t data_bytes, std::uint64_t instance);

  // Sets the key's entry (0: none), which stands in *cell, or nowhere. A new
  // entry may not fit: false, and the key has none then.
  bool Set(const Key& key, Cell* cell, std::uint64_t to);

  // Publishes a slot whose generation is even; returns the new, odd one.
  // Readers see the fields before the generation.
  std::uint64_t Publish(SlotIndex slot, const Key& key,
                        std::uint64_t data_offset, std::uint32_t length,
                        BlockClass block_class);
  // Makes the slot's generation even. After this, and a look at all pins, the
  // slot may be used again (docs/data-path.md).
  void Unpublish(SlotIndex slot);

 private:
  void CountPassed(const Key& key, const Cell& cell, std::uint64_t by);

  Bucket* buckets_;
  Slot* slots_;
  std::uint64_t bucket_mask_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_DRAM_INDEX_WRITER_H_
