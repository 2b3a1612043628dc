// Before memd ends: the `state` blocks in the memory that this node lends go
// into its own store. Their copies elsewhere may go with the nodes that have
// them, when all of a cluster are stopped for maintenance.
//
// It walks over the export extents until a walk finds nothing to write, or
// kOpenWalks times; then `close` is called, after which nothing is committed
// any more, and the last walk sees all that there will ever be. What its store
// has already is passed over; what it refuses is tried once.
//
// A block is copied first, checked and opened in the copy, and written from
// there: peers can write to export extents at any time, and a drop gives the
// place to another block. On the disk it is then as this node's own blocks are.
//
// Ownership: borrows exports, store and sealing. Threads: reactor-only.
// Errors: in the report, with the reason. Cost: nothing blocks; Pump looks at
// kWalkMax records at most. Bounds: kBytesMax are being written, or one block.
#ifndef AGENTMEM_MEMD_POOL_LENT_DRAIN_H_
#define AGENTMEM_MEMD_POOL_LENT_DRAIN_H_

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "memd/pool/export_pool.h"
#include "memd/pool/sealing.h"
#include "memd/pool/served_store.h"

namespace agentmem {

struct DrainSum {
  std::uint64_t blocks = 0;
  std::uint64_t bytes = 0;
  void Add(std::uint64_t length) {
    ++blocks;
    bytes += length;
  }
};

class LentDrain {
 public:
  static constexpr std::uint64_t kBytesMax = 32 << 20;
  static constexpr int kOpenWalks = 4;
  static constexpr std::size_t kWalkMax = 1 << 15;

  // `sealing` may be null: blocks lie there as they are.
  LentDrain(ExportPool* exports, ServedStore* store, Sealing* sealing,
            std::function<void()> close)
      : exports_(exports),
        store_(store),
        sealing_(sealing),
        close_(std::move(close)) {}

  // Goes on; true: it has ended.
  bool Pump();
  // The end of a ServedStore::Write. False: it was none of these.
  bool OnStored(std::uint64_t generation, const StoreVerdict& verdict);

  const DrainSum& written() const { return written_; }
  const absl::btree_map<StoreRefusal, DrainSum>& refused() const {
    return refused_;
  }
  // That lie there, and that the store may take still.
  DrainSum CountLeft() const;

 private:
  struct FreeBytes {
    void operator()(char* bytes) const { std::free(bytes); }
  };
  struct Copy {
    ServedBlock block;
    std::unique_ptr<char, FreeBytes> bytes;
  };

  bool Walk();
  // False: there is no room for it now.
  bool Consider(const ExportPool::Block& block);
  StoreRefusal Take(const ExportPool::Block& block, Copy* copy) const;
  bool IsWanted(const ExportPool::Block& block) const;
  bool Write(std::uint64_t generation);
  void Refuse(std::uint64_t generation, std::uint32_t length,
              StoreRefusal refusal);

  ExportPool* const exports_;
  ServedStore* const store_;
  Sealing* const sealing_;
  const std::function<void()> close_;
  bool closed_ = false;
  int walks_ = 0;
  std::size_t cursor_ = 0;
  bool walked_ = false;      // but for what is being written
  std::uint64_t found_ = 0;  // in this walk
  // By generation. What has no place in the store's queue waits.
  absl::flat_hash_map<std::uint64_t, Copy> writing_;
  std::uint64_t writing_bytes_ = 0;
  std::uint64_t waiting_ = 0;  // a generation; 0: none
  absl::flat_hash_map<std::uint64_t, StoreRefusal> tried_;
  DrainSum written_;
  absl::btree_map<StoreRefusal, DrainSum> refused_;
};

// What the log says of it.
std::string TextOfRefusal(StoreRefusal refusal);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_LENT_DRAIN_H_
