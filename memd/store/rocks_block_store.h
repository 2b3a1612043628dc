// BlockStore over a RocksDatabase and segment files: bounded queues, and
// threads that drain them.
//
//   Submit -> reads_         -> read threads (BlockReader)      -> completions_
//          -> writes_[key's] -> its write thread (BlockWriter)  -> completions_
//
// A read thread takes its share of the gets that wait, of about 1 MiB; one that
// waits alone is read alone, at once.
//
// A write thread takes all that waits for it, up to kGroupOpsMax operations or
// kGroupBytesMax bytes, and makes at most two batches of it: one that skips the
// WAL (small cache puts that are not durable), one in the WAL, synced if one of
// its operations is durable. Deletes always go into the WAL, so that a crash
// brings back nothing that was deleted before something that survived.
//
// Order: operations on a key go through one write thread in the order of
// Submit, and a group ends before an operation whose key is in its other batch:
// a delete after a put deletes. A get submitted after a put's completion was
// taken finds the block; before that it may or may not.
//
// Ownership: borrows database and SegmentIo, which must outlive it. Ending it
// executes what was accepted first. Threads: as BlockStore. Errors: as
// BlockStore, and INVALID_ARGUMENT: a put of 0 bytes or more than
// kMaxBlockBytes, an unknown class, or a get whose room is not the stored
// length (which its completion then holds). Cost: Submit and Poll take a mutex
// that is held for a few moves.
#ifndef AGENTMEM_MEMD_STORE_ROCKS_BLOCK_STORE_H_
#define AGENTMEM_MEMD_STORE_ROCKS_BLOCK_STORE_H_

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "memd/store/block_store.h"
#include "memd/store/block_writer.h"
#include "memd/store/completion_queue.h"
#include "memd/store/rocks_database.h"
#include "memd/store/segment_set.h"
#include "memd/store/space_reclaimer.h"

namespace agentmem {

class RocksBlockStore final : public BlockStore {
 public:
  static constexpr std::size_t kGroupOpsMax = 64;
  static constexpr std::size_t kGroupBytesMax = 16 << 20;

  static absl::StatusOr<std::unique_ptr<RocksBlockStore>> Start(
      RocksDatabase* database, SegmentIo* io, std::uint32_t read_threads,
      std::uint32_t write_threads, std::uint32_t queue_ops_max);
  ~RocksBlockStore() override;

  std::size_t Submit(std::span<const StoreOp> ops) override;
  std::size_t Poll(std::span<StoreCompletion> out) override;
  int completion_fd() const override { return completions_.fd(); }
  absl::Status Scan(
      const std::function<void(const StoredBlock&)>& visit) override;
  absl::Status ScanPrefix(
      TenantId tenant, std::uint64_t key_low,
      const std::function<void(const StoredBlock&)>& visit) override;
  std::unique_ptr<LoneReader> NewReader() override;
  absl::Status Flush() override;

  // Of the segments. Thread-safe; cheap.
  std::uint64_t segment_bytes() const { return segments_->disk_bytes(); }
  // As it was started.
  StoreLosses losses() const { return segments_->losses(); }

 private:
  RocksBlockStore(RocksDatabase* database, std::uint32_t read_threads,
                  std::uint32_t write_threads, std::uint32_t queue_ops_max);
  absl::Status OpenSegments(SegmentIo* io);

  void ReadLoop();
  void TakeReads(std::vector<StoreOp>* gets) AGENTMEM_REQUIRES(mutex_);
  void WriteLoop(std::size_t writer);
  // Moves the next group of `queue` into `group`.
  static void TakeGroup(std::deque<StoreOp>* queue,
                        std::vector<StoreOp>* group);
  void ExecuteGroup(std::span<const StoreOp> group, BlockWriter* blocks,
                    std::vector<StoreCompletion>* done);

  // Constant after construction; they synchronise themselves.
  RocksDatabase* const database_;
  const std::size_t queue_ops_max_;
  const std::size_t read_threads_;
  std::unique_ptr<SegmentSet> segments_;
  std::unique_ptr<SpaceReclaimer> reclaimer_;
  CompletionQueue completions_;
  // Operations accepted and not polled yet.
  std::atomic<std::size_t> accepted_ = 0;
  std::vector<std::thread> threads_;

  Mutex mutex_;
  CondVar read_waits_;
  CondVar write_waits_;
  CondVar writes_done_;
  std::deque<StoreOp> reads_ AGENTMEM_GUARDED_BY(mutex_);
  std::vector<std::deque<StoreOp>> writes_ AGENTMEM_GUARDED_BY(mutex_);
  // Writes accepted and not executed yet.
  std::size_t writes_pending_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  bool stopping_ AGENTMEM_GUARDED_BY(mutex_) = false;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_ROCKS_BLOCK_STORE_H_
