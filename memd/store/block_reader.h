// One read thread's work: a few gets, carried out together.
//
// A get that asks for little first looks for its record in "blocks"; else, or
// if that is not there, its location says where to read. A location may be old
// by the time the bytes are read: when they do not check, it is looked up
// again, and they are lost only if it still says the same.
//
// Ownership: borrows what it is made from; the gets' buffers are the callers'.
// Threads: one at a time. Errors: in the completions, as BlockStore.
// Cost: blocks for the disk. Memory: as SegmentReader.
#ifndef AGENTMEM_MEMD_STORE_BLOCK_READER_H_
#define AGENTMEM_MEMD_STORE_BLOCK_READER_H_

#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "memd/store/block_locations.h"
#include "memd/store/block_store.h"
#include "memd/store/rocks_database.h"
#include "memd/store/segment_reader.h"

namespace agentmem {

class BlockReader {
 public:
  using Complete = absl::FunctionRef<void(std::span<const StoreCompletion>)>;

  BlockReader(RocksDatabase* database, SegmentSet* segments)
      : database_(database), reader_(segments) {}

  // Carries out `gets`; calls `complete` as they are done, in any order.
  void Execute(std::span<const StoreOp> gets, Complete complete);

 private:
  // Carries a get out as far as RocksDB goes; true: `read` is left to be done.
  bool Begin(const StoreOp& get, SegmentRead* read, StoreCompletion* done);
  // What a read of a segment comes to.
  StoreCompletion Finish(const StoreOp& get, SegmentRead* read);
  StoreCompletion Failed(const StoreOp& get, const absl::Status& status);

  RocksDatabase* const database_;
  SegmentReader reader_;
  // Of the present gets.
  std::vector<SegmentRead> reads_;
  std::vector<SegmentRead*> order_;
  std::vector<StoreCompletion> done_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_BLOCK_READER_H_
