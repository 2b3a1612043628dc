#include "benchmarks/rocks_baseline.h"

#include <rocksdb/cache.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <filesystem>

#include "base/status.h"

namespace agentmem::bench {
namespace {

rocksdb::Slice SliceOf(const agentmem_key& key) {
  return {reinterpret_cast<const char*>(&key), sizeof(key)};
}

rocksdb::Options OptionsFor(RocksBaseline::Values values) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.compression = rocksdb::kNoCompression;
  options.write_buffer_size = 64 << 20;
  options.max_write_buffer_number = 4;
  options.max_background_jobs = 2;
  options.bytes_per_sync = 1 << 20;
  options.wal_bytes_per_sync = 1 << 20;
  // The log's space is used again instead of allocated anew.
  options.recycle_log_file_num = 4;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(256 << 20);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10, false));
  table.checksum = rocksdb::kXXH3;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  if (values == RocksBaseline::Values::kInBlobs) {
    options.enable_blob_files = true;
    options.min_blob_size = 4 << 10;
    options.blob_compression_type = rocksdb::kNoCompression;
    options.enable_blob_garbage_collection = true;
  }
  return options;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RocksBaseline>> RocksBaseline::Open(
    const std::string& directory, Values values) {
  std::error_code ignored;  // opening says what is wrong
  std::filesystem::create_directories(directory, ignored);
  std::unique_ptr<RocksBaseline> baseline(new RocksBaseline(directory, values));
  AGENTMEM_RETURN_IF_ERROR(baseline->OpenDatabase());
  return baseline;
}

absl::Status RocksBaseline::OpenDatabase() {
  rocksdb::DB* opened = nullptr;
  AGENTMEM_RETURN_IF_ERROR(
      Check(rocksdb::DB::Open(OptionsFor(values_), directory_, &opened)));
  db_.reset(opened);
  return absl::OkStatus();
}

absl::Status RocksBaseline::Put(std::span<const agentmem_key> keys,
                                const std::vector<char>& bytes,
                                std::size_t length) {
  rocksdb::WriteOptions synced;
  synced.sync = true;
  const rocksdb::Slice value(bytes.data(), length);
  if (keys.size() == 1) {
    return Check(db_->Put(synced, SliceOf(keys[0]), value));
  }
  rocksdb::WriteBatch batch(keys.size() * (length + 64));
  for (const agentmem_key& key : keys) {
    AGENTMEM_RETURN_IF_ERROR(Check(batch.Put(SliceOf(key), value)));
  }
  return Check(db_->Write(synced, &batch));
}

absl::Status RocksBaseline::Get(const agentmem_key& key, std::size_t length) {
  value_.Reset();
  // Each value is read once: memory that is used again is faster to read into
  // than the cache's next, which was never touched.
  rocksdb::ReadOptions once;
  once.fill_cache = false;
  AGENTMEM_RETURN_IF_ERROR(
      Check(db_->Get(once, db_->DefaultColumnFamily(), SliceOf(key), &value_)));
  if (value_.size() == length) return absl::OkStatus();
  return Internal(directory_ + ": a value has " +
                  std::to_string(value_.size()) + " bytes, not " +
                  std::to_string(length));
}

absl::Status RocksBaseline::Reopen() {
  value_.Reset();
  AGENTMEM_RETURN_IF_ERROR(Check(db_->Flush(rocksdb::FlushOptions())));
  AGENTMEM_RETURN_IF_ERROR(Check(db_->Close()));
  db_.reset();
  return OpenDatabase();
}

absl::Status RocksBaseline::Check(const rocksdb::Status& status) const {
  if (status.ok()) return absl::OkStatus();
  return Unavailable("RocksDB in " + directory_ + ": " + status.ToString());
}

}  // namespace agentmem::bench
