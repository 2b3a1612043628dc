#include "memd/store/opened_rocks.h"

#include <rocksdb/cache.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "memd/store/rocks_tuning.h"
#include "proto/record_layout.h"

namespace agentmem {
namespace {

constexpr std::size_t kBlockCacheBytes = 16 << 20;

bool IsLockHeld(const rocksdb::Status& status) {
  const std::string text = status.ToString();
  return status.IsIOError() && text.find("lock") != std::string::npos &&
         text.find("/LOCK") != std::string::npos;
}

}  // namespace

absl::Status RocksStatus(const rocksdb::Status& status, const std::string& what,
                         const std::string& path) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = what + " in " + path + ": " + status.ToString();
  if (status.IsNotFound()) return NotFound(message);
  if (status.IsNoSpace()) {
    return ResourceExhausted(message + std::string(kGoesOnByItself));
  }
  if (status.IsCorruption()) return DataLoss(message);
  return Unavailable(message);
}

absl::StatusOr<std::unique_ptr<OpenedRocks>> OpenedRocks::Open(
    const std::string& path) {
  std::unique_ptr<OpenedRocks> opened(new OpenedRocks(path));
  AGENTMEM_RETURN_IF_ERROR(opened->OpenFamilies());
  AGENTMEM_RETURN_IF_ERROR(opened->CheckFormat());
  return opened;
}

OpenedRocks::~OpenedRocks() {
  if (db_ == nullptr) return;
  for (rocksdb::ColumnFamilyHandle* handle : families_) {
    db_->DestroyColumnFamilyHandle(handle);
  }
  const rocksdb::Status status = db_->Close();
  if (!status.ok()) {
    LogError(StatusMessage(RocksStatus(status, "closing the store", path_)));
  }
}

absl::Status OpenedRocks::OpenFamilies() {
  const rocksdb::DBOptions options = DatabaseTuning();
  // Families that a later version added have to be opened too, or its format
  // version could not be read and named.
  std::vector<std::string> names;
  const rocksdb::Status listed =
      rocksdb::DB::ListColumnFamilies(options, path_, &names);
  if (!listed.ok()) names.clear();  // no database yet, or Open says what is
  for (const char* const ours : {"default", "blocks", "locations", "refs"}) {
    if (std::find(names.begin(), names.end(), ours) == names.end()) {
      names.push_back(ours);
    }
  }
  const std::shared_ptr<rocksdb::Cache> cache =
      rocksdb::NewLRUCache(kBlockCacheBytes);
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const std::string& name : names) {
    families.emplace_back(name, FamilyTuning(name, cache));
  }
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      rocksdb::DB::Open(options, path_, families, &families_, &db);
  if (IsLockHeld(status)) {
    return FailedPrecondition("the store in " + path_ +
                              " is in use: its LOCK is held by another "
                              "process; stop it, or name another directory");
  }
  if (!status.ok()) return RocksStatus(status, "opening the store", path_);
  db_.reset(db);
  for (rocksdb::ColumnFamilyHandle* handle : families_) {
    if (handle->GetName() == "blocks") blocks_ = handle;
    if (handle->GetName() == "locations") locations_ = handle;
    if (handle->GetName() == "refs") refs_ = handle;
  }
  return absl::OkStatus();
}

absl::Status OpenedRocks::CheckFormat() {
  const std::string ours = std::to_string(kStoreFormatVersion);
  std::string found;
  const rocksdb::Status status =
      db_->Get(rocksdb::ReadOptions(), kStoreFormatName, &found);
  if (status.ok()) {
    if (found == ours) return absl::OkStatus();
    if (found == std::to_string(kStoreFormatVersionOldest)) {
      // All that it has is read as it is; what is written from now on may not
      // be read by an older memd.
      LogInfo("the store in " + path_ + " is now one of format version " +
              ours + "; it was of version " + found);
      return WriteFormat();
    }
    return FailedPrecondition("the store in " + path_ + " has format version " +
                              found + ", this memd reads versions " +
                              std::to_string(kStoreFormatVersionOldest) +
                              " and " + ours +
                              "; run the memd that wrote it, or name another "
                              "directory");
  }
  if (!status.IsNotFound()) {
    return RocksStatus(status, "reading the store's format version", path_);
  }
  AGENTMEM_ASSIGN_OR_RETURN(const bool empty, IsEmpty());
  if (!empty) {
    return FailedPrecondition("the store in " + path_ +
                              " has data but no format version; this memd "
                              "reads and writes version " +
                              ours + "; name another directory");
  }
  return WriteFormat();
}

absl::Status OpenedRocks::WriteFormat() {
  rocksdb::WriteOptions synced;
  synced.sync = true;
  return RocksStatus(
      db_->Put(synced, kStoreFormatName, std::to_string(kStoreFormatVersion)),
      "writing the store's format version", path_);
}

absl::StatusOr<bool> OpenedRocks::IsEmpty() {
  for (rocksdb::ColumnFamilyHandle* handle : families_) {
    const std::unique_ptr<rocksdb::Iterator> iterator(
        db_->NewIterator(rocksdb::ReadOptions(), handle));
    iterator->SeekToFirst();
    if (iterator->Valid()) return false;
    AGENTMEM_RETURN_IF_ERROR(
        RocksStatus(iterator->status(), "looking into the store", path_));
  }
  return true;
}

}  // namespace agentmem
