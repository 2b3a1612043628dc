#include "memd/store/block_locations.h"

#include <rocksdb/write_batch.h>

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace agentmem {
namespace {

// Tenant and Key::low(), as a store key begins.
constexpr std::size_t kPrefixBytes = 4 + sizeof(std::uint64_t);

rocksdb::Slice SliceOf(const StoreKey& key) {
  return rocksdb::Slice(key.data(), key.size());
}

std::string_view View(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

absl::Status BatchStatus(const rocksdb::Status& status) {
  return RocksStatus(status, "making a batch", "memory");
}

absl::Status ScanFrom(RocksDatabase* database, std::string_view prefix,
                      const std::function<void(const BlockLocation&)>& visit) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenedRocks> opened,
                            database->Use());
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  if (prefix.empty()) options.readahead_size = 2 << 20;
  const std::unique_ptr<rocksdb::Iterator> iterator(
      opened->db()->NewIterator(options, opened->locations()));
  for (iterator->Seek(rocksdb::Slice(prefix.data(), prefix.size()));
       iterator->Valid() && View(iterator->key()).starts_with(prefix);
       iterator->Next()) {
    const absl::StatusOr<BlockLocation> location =
        DecodeLocation(View(iterator->key()), View(iterator->value()));
    if (location.ok()) {
      visit(*location);
    } else {
      // One broken location must not hide all others: the block is a miss.
      database->LogOnce(StatusMessage(location.status()) + ", in " +
                        database->path());
    }
  }
  return RocksStatus(iterator->status(), "scanning the blocks",
                     database->path());
}

}  // namespace

absl::StatusOr<BlockLocation> FindLocation(OpenedRocks* opened, TenantId tenant,
                                           const Key& key,
                                           const rocksdb::Snapshot* moment) {
  rocksdb::ReadOptions options;
  options.snapshot = moment;
  const StoreKey store_key = EncodeStoreKey(tenant, key);
  rocksdb::PinnableSlice value;
  const rocksdb::Status found = opened->db()->Get(options, opened->locations(),
                                                  SliceOf(store_key), &value);
  if (!found.ok()) {
    return RocksStatus(found, "locating " + BlockName(tenant, key),
                       opened->path());
  }
  return DecodeLocation({store_key.data(), store_key.size()}, View(value));
}

absl::Status AddRecord(OpenedRocks* opened, const StoreOp& put,
                       rocksdb::WriteBatch* batch) {
  const StoreKey key = EncodeStoreKey(put.tenant, put.key);
  const char* const bytes = static_cast<const char*>(put.bytes[0].iov_base);
  const std::size_t length = put.bytes[0].iov_len;
  const RecordHeader header =
      MakeRecordHeader(put.tenant, put.key, put.block_class, {bytes, length});
  const rocksdb::Slice key_slice = SliceOf(key);
  const rocksdb::Slice parts[] = {
      {reinterpret_cast<const char*>(&header), sizeof(header)},
      {bytes, length}};
  AGENTMEM_RETURN_IF_ERROR(BatchStatus(
      batch->Put(opened->blocks(), rocksdb::SliceParts(&key_slice, 1),
                 rocksdb::SliceParts(parts, 2))));
  return AddLocation(opened, put, SegmentPlace(), batch);
}

absl::Status AddLocation(OpenedRocks* opened, const StoreOp& put,
                         const SegmentPlace& place,
                         rocksdb::WriteBatch* batch) {
  const StoreKey key = EncodeStoreKey(put.tenant, put.key);
  const auto length = static_cast<std::uint32_t>(put.bytes[0].iov_len);
  return BatchStatus(
      batch->Put(opened->locations(), SliceOf(key),
                 EncodeLocation(put.block_class, length, place)));
}

absl::Status DeleteRecord(OpenedRocks* opened, const StoreOp& op,
                          rocksdb::WriteBatch* batch) {
  return BatchStatus(batch->Delete(opened->blocks(),
                                   SliceOf(EncodeStoreKey(op.tenant, op.key))));
}

absl::Status DeleteLocation(OpenedRocks* opened, const StoreOp& op,
                            rocksdb::WriteBatch* batch) {
  return BatchStatus(batch->Delete(opened->locations(),
                                   SliceOf(EncodeStoreKey(op.tenant, op.key))));
}

absl::Status ScanLocations(
    RocksDatabase* database,
    const std::function<void(const BlockLocation&)>& visit) {
  return ScanFrom(database, {}, visit);
}

absl::Status ScanLocations(
    RocksDatabase* database, TenantId tenant, std::uint64_t key_low,
    const std::function<void(const BlockLocation&)>& visit) {
  const StoreKey key = EncodeStoreKey(tenant, Key::FromWords(key_low, 0));
  return ScanFrom(database, {key.data(), kPrefixBytes}, visit);
}

}  // namespace agentmem
