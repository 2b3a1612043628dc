#include "memd/store/rocks_block_store.h"

#include <rocksdb/snapshot.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "memd/store/record_codec.h"

namespace agentmem {
namespace {

// A group's bytes, its last block, and for each operation keys, both records
// and RocksDB's framing.
constexpr std::size_t kBatchBytesMax = RocksBlockStore::kGroupBytesMax +
                                       kMaxBlockBytes +
                                       RocksBlockStore::kGroupOpsMax * 256;

bool IsPut(const StoreOp& op) { return op.kind == StoreOp::Kind::kPut; }

bool GoesIntoWal(const StoreOp& op) {
  return !IsPut(op) || op.durable || op.block_class == BlockClass::kState;
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

Code CodeOf(const absl::Status& status) {
  return static_cast<Code>(status.code());
}

rocksdb::Slice SliceOf(const StoreKey& key) {
  return rocksdb::Slice(key.data(), key.size());
}

// Adds `op` to `batch`, whose representation is the only copy of the bytes.
rocksdb::Status AddTo(OpenedRocks* opened, const StoreOp& op,
                      rocksdb::WriteBatch* batch) {
  const StoreKey key = EncodeStoreKey(op.tenant, op.key);
  if (!IsPut(op)) {
    const rocksdb::Status status =
        batch->Delete(opened->locations(), SliceOf(key));
    if (!status.ok()) return status;
    return batch->Delete(opened->blocks(), SliceOf(key));
  }
  const char* const bytes = static_cast<const char*>(op.bytes[0].iov_base);
  const std::size_t length = op.bytes[0].iov_len;
  const RecordHeader header =
      MakeRecordHeader(op.tenant, op.key, op.block_class, {bytes, length});
  const LocationRecord location = MakeLocation(op.block_class, header.length);
  const rocksdb::Slice key_slice = SliceOf(key);
  const rocksdb::Slice parts[] = {
      {reinterpret_cast<const char*>(&header), sizeof(header)},
      {bytes, length}};
  const rocksdb::Status status =
      batch->Put(opened->blocks(), rocksdb::SliceParts(&key_slice, 1),
                 rocksdb::SliceParts(parts, 2));
  if (!status.ok()) return status;
  return batch->Put(opened->locations(), key_slice,
                    rocksdb::Slice(reinterpret_cast<const char*>(&location),
                                   sizeof(location)));
}

absl::Status MakeBatch(RocksDatabase* database, std::span<const StoreOp> ops,
                       rocksdb::WriteBatch* batch) {
  // Families keep their numbers when the database is opened again, so the batch
  // outlives this use of it.
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenedRocks> opened,
                            database->Use());
  for (const StoreOp& op : ops) {
    AGENTMEM_RETURN_IF_ERROR(RocksStatus(AddTo(opened.get(), op, batch),
                                         "making a batch", database->path()));
  }
  return absl::OkStatus();
}

// RocksDB's own checksums are not verified here: Debian's build computes them
// in software, at a fifth of the speed of the record's, which covers all that
// is handed out. What only RocksDB's would notice is a block that seems not to
// be there; its location, read with checksums, tells that from a miss.
rocksdb::Status ReadRecord(OpenedRocks* opened, const StoreKey& key,
                           rocksdb::PinnableSlice* record) {
  rocksdb::ReadOptions options;
  options.verify_checksums = false;
  rocksdb::DB* const db = opened->db();
  const rocksdb::Status read =
      db->Get(options, opened->blocks(), SliceOf(key), record);
  if (!read.IsNotFound()) return read;
  // One moment for both, or a put in between would look like a loss.
  rocksdb::ManagedSnapshot moment(db);
  options.verify_checksums = true;
  options.fill_cache = false;
  options.snapshot = moment.snapshot();
  std::string location;
  const rocksdb::Status located =
      db->Get(options, opened->locations(), SliceOf(key), &location);
  if (!located.ok()) return located;
  record->Reset();
  const rocksdb::Status again =
      db->Get(options, opened->blocks(), SliceOf(key), record);
  if (!again.IsNotFound()) return again;
  return rocksdb::Status::Corruption("it has a location and no record");
}

}  // namespace

absl::StatusOr<std::unique_ptr<RocksBlockStore>> RocksBlockStore::Start(
    RocksDatabase* database, std::uint32_t read_threads,
    std::uint32_t write_threads, std::uint32_t queue_ops_max) {
  std::unique_ptr<RocksBlockStore> store(
      new RocksBlockStore(database, write_threads, queue_ops_max));
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
                                 std::uint32_t write_threads,
                                 std::uint32_t queue_ops_max)
    : database_(database),
      queue_ops_max_(queue_ops_max),
      writes_(write_threads) {}

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

void RocksBlockStore::ReadLoop() {
  for (;;) {
    StoreOp op;
    {
      MutexLock lock(&mutex_);
      while (reads_.empty() && !stopping_) read_waits_.Wait(&mutex_);
      if (reads_.empty()) return;
      op = reads_.front();
      reads_.pop_front();
    }
    const StoreCompletion done = ExecuteGet(op);
    completions_.Push({&done, 1});
  }
}

void RocksBlockStore::WriteLoop(std::size_t writer) {
  std::vector<StoreOp> group;
  std::vector<StoreCompletion> done;
  // Used again and again: fresh memory of this size would cost a page fault
  // for every 4 KiB put.
  rocksdb::WriteBatch batch(kBatchBytesMax);
  for (;;) {
    {
      MutexLock lock(&mutex_);
      while (writes_[writer].empty() && !stopping_) write_waits_.Wait(&mutex_);
      if (writes_[writer].empty()) return;
      TakeGroup(&writes_[writer], &group);
    }
    ExecuteGroup(group, &batch, &done);
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
                                   rocksdb::WriteBatch* batch,
                                   std::vector<StoreCompletion>* done) {
  done->clear();
  for (const StoreOp& op : group) {
    if (!IsValidWrite(op)) {
      done->push_back({.ticket = op.ticket, .code = Code::kInvalidArgument});
    }
  }
  completions_.Push(*done);
  // The batch without a log waits for no disk: its completions come first.
  for (const bool in_wal : {false, true}) {
    done->clear();
    WriteBatchOf(group, in_wal, batch, done);
    completions_.Push(*done);
  }
}

void RocksBlockStore::WriteBatchOf(std::span<const StoreOp> group, bool in_wal,
                                   rocksdb::WriteBatch* batch,
                                   std::vector<StoreCompletion>* done) {
  batch->Clear();
  rocksdb::WriteOptions options;
  options.disableWAL = !in_wal;
  std::vector<StoreOp> ops;
  for (const StoreOp& op : group) {
    if (!IsValidWrite(op) || GoesIntoWal(op) != in_wal) continue;
    ops.push_back(op);
    options.sync |= op.durable;
    const std::size_t length = IsPut(op) ? op.bytes[0].iov_len : 0;
    done->push_back(
        {.ticket = op.ticket, .length = static_cast<std::uint32_t>(length)});
  }
  if (ops.empty()) return;
  absl::Status status = MakeBatch(database_, ops, batch);
  if (status.ok()) status = database_->Write(options, batch);
  if (status.ok()) return;
  for (StoreCompletion& completion : *done) {
    completion.code = CodeOf(status);
    completion.length = 0;
  }
}

StoreCompletion RocksBlockStore::ExecuteGet(const StoreOp& op) {
  StoreCompletion done{.ticket = op.ticket};
  const StoreKey key = EncodeStoreKey(op.tenant, op.key);
  const absl::StatusOr<std::shared_ptr<OpenedRocks>> opened = database_->Use();
  if (!opened.ok()) {
    done.code = CodeOf(opened.status());
    return done;
  }
  rocksdb::PinnableSlice record;
  const rocksdb::Status read = ReadRecord(opened->get(), key, &record);
  if (read.IsNotFound()) {
    done.code = Code::kNotFound;
    return done;
  }
  if (!read.ok()) {
    const absl::Status status = RocksStatus(
        read, "reading " + BlockName(op.tenant, op.key), database_->path());
    database_->LogOnce(StatusMessage(status));
    done.code = CodeOf(status);
    return done;
  }
  const absl::StatusOr<std::span<const char>> bytes =
      CheckRecord(op.tenant, op.key, {record.data(), record.size()});
  if (!bytes.ok()) {
    database_->LogOnce(StatusMessage(bytes.status()) + ", in " +
                       database_->path());
    done.code = CodeOf(bytes.status());
    return done;
  }
  done.length = static_cast<std::uint32_t>(bytes->size());
  if (op.bytes[0].iov_len != bytes->size() || op.bytes[0].iov_base == nullptr) {
    done.code = Code::kInvalidArgument;
    return done;
  }
  std::memcpy(op.bytes[0].iov_base, bytes->data(), bytes->size());
  return done;
}

absl::Status RocksBlockStore::Scan(
    const std::function<void(const StoredBlock&)>& visit) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenedRocks> opened,
                            database_->Use());
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  options.readahead_size = 2 << 20;
  const std::unique_ptr<rocksdb::Iterator> iterator(
      opened->db()->NewIterator(options, opened->locations()));
  for (iterator->SeekToFirst(); iterator->Valid(); iterator->Next()) {
    const absl::StatusOr<StoredBlock> block =
        DecodeLocation({iterator->key().data(), iterator->key().size()},
                       {iterator->value().data(), iterator->value().size()});
    if (block.ok()) {
      visit(*block);
    } else {
      // One broken location must not hide all others: the block is a miss.
      database_->LogOnce(StatusMessage(block.status()) + ", in " +
                         database_->path());
    }
  }
  return RocksStatus(iterator->status(), "scanning the blocks",
                     database_->path());
}

absl::Status RocksBlockStore::Flush() {
  {
    MutexLock lock(&mutex_);
    while (writes_pending_ > 0) writes_done_.Wait(&mutex_);
  }
  return database_->Flush();
}

}  // namespace agentmem
