#include "memd/store/rocks_database.h"

#include <rocksdb/cache.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "memd/store/rocks_tuning.h"
#include "proto/record_layout.h"

namespace agentmem {
namespace {

constexpr std::size_t kBlockCacheBytes = 32 << 20;

absl::Status MakeDirectories(const std::string& path) {
  if (path.empty()) {
    return InvalidArgument("the store's path is empty: name a directory");
  }
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      return ErrnoStatus("the store's directory " + part +
                         " cannot be made");
    }
    if (end == std::string::npos) return absl::OkStatus();
  }
}

bool IsLockHeld(const rocksdb::Status& status) {
  const std::string text = status.ToString();
  return status.IsIOError() && text.find("lock") != std::string::npos &&
         text.find("/LOCK") != std::string::npos;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RocksDatabase>> RocksDatabase::Open(
    const std::string& path) {
  AGENTMEM_RETURN_IF_ERROR(MakeDirectories(path));
  std::unique_ptr<RocksDatabase> database(new RocksDatabase(path));
  AGENTMEM_RETURN_IF_ERROR(database->OpenFamilies());
  AGENTMEM_RETURN_IF_ERROR(database->CheckFormat());
  return database;
}

RocksDatabase::~RocksDatabase() {
  if (db_ == nullptr) return;
  for (rocksdb::ColumnFamilyHandle* handle : handles_) {
    db_->DestroyColumnFamilyHandle(handle);
  }
  const rocksdb::Status status = db_->Close();
  if (!status.ok()) {
    LogError(StatusMessage(FromRocks(status, "closing the store")));
  }
}

absl::Status RocksDatabase::OpenFamilies() {
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
      rocksdb::DB::Open(options, path_, families, &handles_, &db);
  if (IsLockHeld(status)) {
    return FailedPrecondition("the store in " + path_ +
                              " is in use: its LOCK is held by another "
                              "process; stop it, or name another directory");
  }
  if (!status.ok()) return FromRocks(status, "opening the store");
  db_.reset(db);
  for (rocksdb::ColumnFamilyHandle* handle : handles_) {
    if (handle->GetName() == "blocks") blocks_ = handle;
    if (handle->GetName() == "locations") locations_ = handle;
    if (handle->GetName() == "refs") refs_ = handle;
  }
  return absl::OkStatus();
}

absl::Status RocksDatabase::CheckFormat() {
  const std::string ours = std::to_string(kStoreFormatVersion);
  std::string found;
  const rocksdb::Status status =
      db_->Get(rocksdb::ReadOptions(), kStoreFormatName, &found);
  if (status.ok()) {
    if (found == ours) return absl::OkStatus();
    return FailedPrecondition("the store in " + path_ + " has format version " +
                              found + ", this memd reads and writes version " +
                              ours +
                              "; run the memd that wrote it, or name another "
                              "directory");
  }
  if (!status.IsNotFound()) {
    return FromRocks(status, "reading the store's format version");
  }
  AGENTMEM_ASSIGN_OR_RETURN(const bool empty, IsEmpty());
  if (!empty) {
    return FailedPrecondition("the store in " + path_ +
                              " has data but no format version; this memd "
                              "reads and writes version " +
                              ours + "; name another directory");
  }
  rocksdb::WriteOptions synced;
  synced.sync = true;
  return FromRocks(db_->Put(synced, kStoreFormatName, ours),
                   "writing the store's format version");
}

absl::StatusOr<bool> RocksDatabase::IsEmpty() {
  for (rocksdb::ColumnFamilyHandle* handle : handles_) {
    const std::unique_ptr<rocksdb::Iterator> iterator(
        db_->NewIterator(rocksdb::ReadOptions(), handle));
    iterator->SeekToFirst();
    if (iterator->Valid()) return false;
    AGENTMEM_RETURN_IF_ERROR(
        FromRocks(iterator->status(), "looking into the store"));
  }
  return true;
}

absl::Status RocksDatabase::FromRocks(const rocksdb::Status& status,
                                      const std::string& what) const {
  if (status.ok()) return absl::OkStatus();
  const std::string message = what + " in " + path_ + ": " + status.ToString();
  if (status.IsNotFound()) return NotFound(message);
  if (status.IsNoSpace() || status.IsSpaceLimit()) {
    return ResourceExhausted(message +
                             "; free space there, writes then go on by "
                             "themselves");
  }
  if (status.IsCorruption()) return DataLoss(message);
  return Unavailable(message);
}

absl::Status RocksDatabase::Write(const rocksdb::WriteOptions& options,
                                  rocksdb::WriteBatch* batch) {
  AGENTMEM_RETURN_IF_ERROR(ResumeAfterError());
  return NoteWrite(db_->Write(options, batch), "writing blocks");
}

absl::Status RocksDatabase::Flush() {
  AGENTMEM_RETURN_IF_ERROR(ResumeAfterError());
  rocksdb::Status status = db_->FlushWAL(/*sync=*/true);
  if (status.ok()) status = db_->Flush(rocksdb::FlushOptions(), handles_);
  return NoteWrite(status, "flushing");
}

absl::Status RocksDatabase::ResumeAfterError() {
  {
    MutexLock lock(&mutex_);
    if (!failing_) return absl::OkStatus();
  }
  // Does nothing if there is no background error. Blocks for a flush, and fails
  // at once while the disk is still full.
  return NoteWrite(db_->Resume(), "resuming after an error");
}

absl::Status RocksDatabase::NoteWrite(const rocksdb::Status& status,
                                      const std::string& what) {
  const absl::Status result = FromRocks(status, what);
  bool changed = false;
  {
    MutexLock lock(&mutex_);
    changed = failing_ != !result.ok();
    failing_ = !result.ok();
  }
  if (!changed) return result;
  if (result.ok()) {
    LogInfo("the store in " + path_ + " takes writes again");
  } else {
    LogError("the store failed: " + StatusMessage(result));
  }
  return result;
}

void RocksDatabase::LogOnce(const std::string& message) {
  bool last = false;
  {
    MutexLock lock(&mutex_);
    if (logged_.size() >= kLoggedMax) return;
    if (!logged_.insert(message).second) return;
    last = logged_.size() == kLoggedMax;
  }
  LogError(message);
  if (last) LogError("further errors of the store are counted, not logged");
}

std::uint64_t RocksDatabase::DiskBytes() {
  std::uint64_t sum = 0;
  for (rocksdb::ColumnFamilyHandle* handle : handles_) {
    for (const std::string* property :
         {&rocksdb::DB::Properties::kLiveSstFilesSize,
          &rocksdb::DB::Properties::kTotalBlobFileSize}) {
      std::uint64_t bytes = 0;
      if (db_->GetIntProperty(handle, *property, &bytes)) sum += bytes;
    }
  }
  return sum;
}

}  // namespace agentmem
