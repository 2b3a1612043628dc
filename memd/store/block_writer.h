// One write thread's work: a batch of puts and deletes, carried out.
//
//   find what the blocks' locations were
//   larger blocks -> one group in this thread's segment, synced if one of them
//                    is durable or replaces something
//   locations, and the records of small blocks -> one batch of RocksDB
//   what was replaced or deleted -> the SpaceReclaimer
//
// The bytes are where a location says before anybody reads the location. What
// replaces a block is synced first even if its put is not durable: the batch
// may reach the disk before it, with somebody else's sync, and the block that
// it replaces was perhaps acknowledged as durable.
//
// Ownership: borrows what it is made from. Threads: one at a time; a block is
// always one BlockWriter's. Errors: in the completions, as BlockStore. A put
// without space first has the space of deleted blocks given back.
// Cost: blocks for the disk. Memory: rocks_database.h.
#ifndef AGENTMEM_MEMD_STORE_BLOCK_WRITER_H_
#define AGENTMEM_MEMD_STORE_BLOCK_WRITER_H_

#include <rocksdb/write_batch.h>

#include <optional>
#include <span>
#include <vector>

#include "memd/store/block_locations.h"
#include "memd/store/block_store.h"
#include "memd/store/rocks_database.h"
#include "memd/store/segment_writer.h"
#include "memd/store/space_reclaimer.h"

namespace agentmem {

// Do its bytes go into a segment?
inline bool IsSegmentPut(const StoreOp& op) {
  return op.kind == StoreOp::Kind::kPut &&
         op.bytes[0].iov_len > kBytesInBlocksMax;
}

class BlockWriter {
 public:
  BlockWriter(RocksDatabase* database, SegmentSet* segments,
              SpaceReclaimer* reclaimer);

  // Carries out `ops`, valid puts and deletes, kSegmentGroupRecordsMax at most:
  // all in the log, or, segment puts excepted, none of them. Appends their
  // completions to `done`.
  void Execute(std::span<const StoreOp> ops, bool in_log,
               std::vector<StoreCompletion>* done);

 private:
  static constexpr std::size_t kNone = ~std::size_t{0};

  struct Write {
    const StoreOp* op = nullptr;
    std::size_t earlier = kNone;          // the one before it of its block
    std::optional<BlockLocation> before;  // in the database, if it is the first
    bool before_known = false;
    SegmentPlace place;  // of a segment put
    absl::Status status = absl::OkStatus();
  };

  absl::Status FindBefore();
  void Append();
  absl::Status WriteBatch(bool in_log);
  absl::Status AddToBatch(OpenedRocks* opened, const Write& write);
  bool MayBeInBlocks(const Write& write) const;
  void FreeReplaced(bool in_log);
  void FreeWritten();

  RocksDatabase* const database_;
  SpaceReclaimer* const reclaimer_;
  SegmentWriter writer_;
  // Used again and again: fresh memory of this size would cost a page fault
  // for every 4 KiB put.
  rocksdb::WriteBatch batch_;
  // Of the present batch.
  std::vector<Write> writes_;
  std::vector<FreedRecord> freed_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_BLOCK_WRITER_H_
