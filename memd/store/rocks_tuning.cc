#include "memd/store/rocks_tuning.h"

#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>

#include <memory>

#include "memd/store/rocks_logger.h"

namespace agentmem {
namespace {

void TuneBlocks(rocksdb::ColumnFamilyOptions* options) {
  // Blocks of at most 32 KiB: one buffer fills while another is written. Each
  // becomes a blob file, and of those there should not be too many.
  options->write_buffer_size = 16 << 20;
  options->max_write_buffer_number = 2;
  options->enable_blob_files = true;
  options->min_blob_size = 4 << 10;
  options->blob_compression_type = rocksdb::kNoCompression;
  // The older half of the blob files is rewritten once half of it is garbage:
  // at most twice the live bytes on disk, for about one rewrite of each byte.
  options->enable_blob_garbage_collection = true;
  options->blob_garbage_collection_age_cutoff = 0.5;
  options->blob_garbage_collection_force_threshold = 0.5;
  // Without it compaction reads blobs one system call each.
  options->blob_compaction_readahead_size = 2 << 20;
}

}  // namespace

rocksdb::DBOptions DatabaseTuning() {
  rocksdb::DBOptions options;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  // Puts that skip the WAL reach both "blocks" and "locations" only by a flush:
  // it must take the two together.
  options.atomic_flush = true;
  options.max_background_jobs = 2;
  // Well below the usual soft limit of 1024 descriptors, which the sockets and
  // shared memory of clients need too.
  options.max_open_files = 512;
  // Bounds the replay after a crash.
  options.max_total_wal_size = 128 << 20;
  // Writeback begins early and evenly instead of in one stall at the sync.
  options.bytes_per_sync = 1 << 20;
  options.wal_bytes_per_sync = 1 << 20;
  options.info_log_level = rocksdb::WARN_LEVEL;
  options.info_log = std::make_shared<RocksLogger>();
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.skip_stats_update_on_db_open = true;
  return options;
}

rocksdb::ColumnFamilyOptions FamilyTuning(
    const std::string& name, const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::ColumnFamilyOptions options;
  options.compression = rocksdb::kNoCompression;
  options.max_write_buffer_number = 2;
  options.write_buffer_size = 1 << 20;
  if (name == "blocks") TuneBlocks(&options);
  if (name == "locations") options.write_buffer_size = 4 << 20;
  if (name == "refs") options.write_buffer_size = 4 << 20;

  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache;
  table.cache_index_and_filter_blocks = true;  // bounded by the cache
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10, false));
  table.whole_key_filtering = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

}  // namespace agentmem
