#include "memd/store/rocks_block_store.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "memd/store/block_locations.h"
#include "memd/store/block_reader.h"
#include "memd/store/block_writer.h"

namespace agentmem {
namespace {

bool IsPut(const StoreOp& op) { return op.kind == StoreOp::Kind::kPut; }

// A segment put leaves the log only a location, which is cheap.
bool GoesIntoWal(const StoreOp& op) {
  return !IsPut(op) || op.durable || op.block_class == BlockClass::kState ||
         IsSegmentPut(op);
}

bool IsSameBlock(const StoreOp& a, const StoreOp& b) {
  return a.key == b.key && a.tenant == b.tenant;
}

bool IsValidWrite(const StoreOp& op) {
  if (op.kind == StoreOp::Kind::kDelete) return true;
  return IsPut(op) && IsValid(op.block_class) && op.bytes[0].iov_len > 0 &&
         op.bytes[0].iov_len <= kMaxBlockBytes &&
         op.bytes[0].iov_base != nullptr;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RocksBlockStore>> RocksBlockStore::Start(
    RocksDatabase* database, SegmentIo* io, std::uint32_t read_threads,
    std::uint32_t write_threads, std::uint32_t queue_ops_max) {
  std::unique_ptr<RocksBlockStore> store(new RocksBlockStore(
      database, read_threads, write_threads, queue_ops_max));
  AGENTMEM_RETURN_IF_ERROR(store->OpenSegments(io));
  AGENTMEM_RETURN_IF_ERROR(store->completions_.Open());
  for (std::uint32_t i = 0; i < read_threads; ++i) {
    store->threads_.emplace_back([s = store.get()] { s->ReadLoop(); });
  }
  for (std::uint32_t i = 0; i < write_threads; ++i) {
    store->threads_.emplace_back([s = store.get(), i] { s->WriteLoop(i); });
  }
  return store;
}

RocksBlockStore::RocksBlockStore(RocksDatabase* database,
                                 std::uint32_t read_threads,
                                 std::uint32_t write_threads,
                                 std::uint32_t queue_ops_max)
    : database_(database),
      queue_ops_max_(queue_ops_max),
      read_threads_(read_threads),
      writes_(write_threads) {}

absl::Status RocksBlockStore::OpenSegments(SegmentIo* io) {
  AGENTMEM_ASSIGN_OR_RETURN(
      segments_, SegmentSet::Open(database_->path() + "/segments", io));
  AGENTMEM_RETURN_IF_ERROR(ScanLocations(
      database_,
      [this](const BlockLocation& location) { segments_->AddLive(location); }));
  if (const StoreLosses losses = segments_->losses(); losses.blocks != 0) {
    LogError(losses.text() +
             "; put the files back and start memd again, or those blocks are "
             "lost where no other node has them");
  }
  const absl::Status swept = segments_->SweepOrphans(
      [this](const std::function<void(const BlockLocation&)>& visit) {
        return ScanLocations(database_, visit);
      });
  // Space alone is at stake: a filesystem may know no holes, for one.
  if (!swept.ok()) {
    LogWarning("space that a crash left in " + database_->path() +
               " is not given back: " + StatusMessage(swept));
  }
  reclaimer_ = std::make_unique<SpaceReclaimer>(database_, segments_.get());
  return absl::OkStatus();
}

RocksBlockStore::~RocksBlockStore() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  read_waits_.NotifyAll();
  write_waits_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
}

std::size_t RocksBlockStore::Submit(std::span<const StoreOp> ops) {
  const std::size_t room =
      queue_ops_max_ - accepted_.load(std::memory_order_relaxed);
  const std::span<const StoreOp> taken = ops.first(std::min(ops.size(), room));
  if (taken.empty()) return 0;
  accepted_.fetch_add(taken.size(), std::memory_order_relaxed);
  std::size_t reads = 0;
  {
    MutexLock lock(&mutex_);
    for (const StoreOp& op : taken) {
      if (op.kind == StoreOp::Kind::kGet) {
        reads_.push_back(op);
        ++reads;
      } else {
        writes_[HashKey(op.key) % writes_.size()].push_back(op);
      }
    }
    writes_pending_ += taken.size() - reads;
  }
  if (reads == 1) read_waits_.NotifyOne();
  if (reads > 1) read_waits_.NotifyAll();
  if (reads < taken.size()) write_waits_.NotifyAll();
  return taken.size();
}

std::size_t RocksBlockStore::Poll(std::span<StoreCompletion> out) {
  const std::size_t count = completions_.Pop(out);
  accepted_.fetch_sub(count, std::memory_order_relaxed);
  return count;
}

std::unique_ptr<LoneReader> RocksBlockStore::NewReader() {
  class Reader final : public LoneReader {
   public:
    Reader(RocksDatabase* database, SegmentSet* segments)
        : reader_(database, segments) {}
    StoreCompletion Read(const StoreOp& get) override {
      StoreCompletion done;
      reader_.Execute({&get, 1}, [&](std::span<const StoreCompletion> all) {
        done = all.front();
      });
      return done;
    }

   private:
    BlockReader reader_;
  };
  return std::make_unique<Reader>(database_, segments_.get());
}

void RocksBlockStore::ReadLoop() {
  BlockReader reader(database_, segments_.get());
  std::vector<StoreOp> gets;
  for (;;) {
    {
      MutexLock lock(&mutex_);
      while (reads_.empty() && !stopping_) read_waits_.Wait(&mutex_);
      if (reads_.empty()) return;
      TakeReads(&gets);
    }
    reader.Execute(gets, [this](std::span<const StoreCompletion> done) {
      completions_.Push(done);
    });
  }
}

void RocksBlockStore::TakeReads(std::vector<StoreOp>* gets) {
  gets->clear();
  // What waits is shared among the threads: together they read a queue's
  // blocks from several places at a time.
  const std::size_t share = (reads_.size() + read_threads_ - 1) / read_threads_;
  std::size_t bytes = 0;
  while (gets->size() < share && bytes < SegmentReader::kReadBytesMax) {
    bytes += reads_.front().bytes[0].iov_len;
    gets->push_back(reads_.front());
    reads_.pop_front();
  }
}

void RocksBlockStore::WriteLoop(std::size_t writer) {
  BlockWriter blocks(database_, segments_.get(), reclaimer_.get());
  std::vector<StoreOp> group;
  std::vector<StoreCompletion> done;
  for (;;) {
    {
      MutexLock lock(&mutex_);
      while (writes_[writer].empty() && !stopping_) write_waits_.Wait(&mutex_);
      if (writes_[writer].empty()) return;
      TakeGroup(&writes_[writer], &group);
    }
    ExecuteGroup(group, &blocks, &done);
    {
      MutexLock lock(&mutex_);
      writes_pending_ -= group.size();
      if (writes_pending_ == 0) writes_done_.NotifyAll();
    }
  }
}

void RocksBlockStore::TakeGroup(std::deque<StoreOp>* queue,
                                std::vector<StoreOp>* group) {
  group->clear();
  std::size_t bytes = 0;
  while (!queue->empty() && group->size() < kGroupOpsMax &&
         bytes < kGroupBytesMax) {
    const StoreOp& op = queue->front();
    const bool in_other_batch =
        std::any_of(group->begin(), group->end(), [&op](const StoreOp& before) {
          return IsSameBlock(before, op) &&
                 GoesIntoWal(before) != GoesIntoWal(op);
        });
    if (in_other_batch) return;
    if (IsPut(op)) bytes += op.bytes[0].iov_len;
    group->push_back(op);
    queue->pop_front();
  }
}

void RocksBlockStore::ExecuteGroup(std::span<const StoreOp> group,
                                   BlockWriter* blocks,
                                   std::vector<StoreCompletion>* done) {
  done->clear();
  for (const StoreOp& op : group) {
    if (!IsValidWrite(op)) {
      done->push_back({.ticket = op.ticket, .code = Code::kInvalidArgument});
    }
  }
  completions_.Push(*done);
  // The batch without a log waits for no disk: its completions come first.
  std::vector<StoreOp> ops;
  for (const bool in_wal : {false, true}) {
    ops.clear();
    done->clear();
    for (const StoreOp& op : group) {
      if (IsValidWrite(op) && GoesIntoWal(op) == in_wal) ops.push_back(op);
    }
    if (!ops.empty()) blocks->Execute(ops, in_wal, done);
    completions_.Push(*done);
  }
}

absl::Status RocksBlockStore::Scan(
    const std::function<void(const StoredBlock&)>& visit) {
  return ScanLocations(database_, [&visit](const BlockLocation& location) {
    visit(location.block);
  });
}

absl::Status RocksBlockStore::ScanPrefix(
    TenantId tenant, std::uint64_t key_low,
    const std::function<void(const StoredBlock&)>& visit) {
  return ScanLocations(
      database_, tenant, key_low,
      [&visit](const BlockLocation& location) { visit(location.block); });
}

absl::Status RocksBlockStore::Flush() {
  {
    MutexLock lock(&mutex_);
    while (writes_pending_ > 0) writes_done_.Wait(&mutex_);
  }
  // The bytes before the locations.
  AGENTMEM_RETURN_IF_ERROR(segments_->SyncWritten());
  AGENTMEM_RETURN_IF_ERROR(database_->Flush());
  return reclaimer_->Reclaim();
}

}  // namespace agentmem
