#include "memd/store/rocks_database.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "base/log.h"
#include "base/status.h"

namespace agentmem {
namespace {

absl::Status MakeDirectories(const std::string& path) {
  if (path.empty()) {
    return InvalidArgument("the store's path is empty: name a directory");
  }
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      return ErrnoStatus("the store's directory " + part + " cannot be made");
    }
    if (end == std::string::npos) return absl::OkStatus();
  }
}

// Is there space to open the database again? Opening writes what is in the log
// into tables. Too little, and it would fail with the database closed, and
// reads would end too.
bool HasSpaceToOpen(const std::string& path) {
  constexpr std::uint64_t kSlackBytes = 8 << 20;
  std::uint64_t needed = kSlackBytes;
  std::error_code error;
  for (std::filesystem::directory_iterator it(path, error), end;
       !error && it != end; it.increment(error)) {
    if (it->path().extension() != ".log") continue;
    std::error_code vanished;
    const std::uint64_t bytes = it->file_size(vanished);
    if (!vanished) needed += bytes;
  }
  struct statvfs disk;
  return !error && ::statvfs(path.c_str(), &disk) == 0 &&
         disk.f_bavail >= needed / disk.f_frsize;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RocksDatabase>> RocksDatabase::Open(
    const std::string& path) {
  AGENTMEM_RETURN_IF_ERROR(MakeDirectories(path));
  std::unique_ptr<RocksDatabase> database(new RocksDatabase(path));
  const absl::Status status = database->OpenDatabase();
  if (status.code() == absl::StatusCode::kResourceExhausted) {
    std::string message = StatusMessage(status);
    if (message.ends_with(kGoesOnByItself)) {
      message.resize(message.size() - kGoesOnByItself.size());
    }
    return ResourceExhausted(message +
                             "; free space there, and start memd again");
  }
  AGENTMEM_RETURN_IF_ERROR(status);
  return database;
}

RocksDatabase::~RocksDatabase() { CloseDatabase(); }

absl::Status RocksDatabase::OpenDatabase() {
  AGENTMEM_ASSIGN_OR_RETURN(std::unique_ptr<OpenedRocks> opened,
                            OpenedRocks::Open(path_));
  MutexLock lock(&mutex_);
  closed_ = false;
  // Whoever drops the last use closes the database and says so.
  opened_ =
      std::shared_ptr<OpenedRocks>(opened.release(), [this](OpenedRocks* last) {
        delete last;
        MutexLock closing(&mutex_);
        closed_ = true;
        closed_waits_.NotifyAll();
      });
  return absl::OkStatus();
}

void RocksDatabase::CloseDatabase() {
  std::shared_ptr<OpenedRocks> opened;
  {
    MutexLock lock(&mutex_);
    opened.swap(opened_);
  }
  opened.reset();
  MutexLock lock(&mutex_);
  while (!closed_) closed_waits_.Wait(&mutex_);
}

absl::StatusOr<std::shared_ptr<OpenedRocks>> RocksDatabase::Use() {
  if (std::shared_ptr<OpenedRocks> opened = Opened()) return opened;
  // It is being opened again, which is waited for, or could not be.
  AGENTMEM_RETURN_IF_ERROR(RecoverAfterFailure());
  if (std::shared_ptr<OpenedRocks> opened = Opened()) return opened;
  return Unavailable("the store in " + path_ + " is closed after a failure");
}

std::shared_ptr<OpenedRocks> RocksDatabase::Opened() {
  MutexLock lock(&mutex_);
  return opened_;
}

absl::Status RocksDatabase::Write(const rocksdb::WriteOptions& options,
                                  rocksdb::WriteBatch* batch) {
  AGENTMEM_RETURN_IF_ERROR(RecoverAfterFailure());
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenedRocks> opened, Use());
  return NoteWrite(opened->db()->Write(options, batch), "writing",
                   options.disableWAL ? kMemory : kLog);
}

absl::Status RocksDatabase::SyncLog() {
  AGENTMEM_RETURN_IF_ERROR(RecoverAfterFailure());
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenedRocks> opened, Use());
  return NoteWrite(opened->db()->FlushWAL(/*sync=*/true), "syncing the log",
                   kLog);
}

absl::Status RocksDatabase::Flush() {
  AGENTMEM_RETURN_IF_ERROR(RecoverAfterFailure());
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenedRocks> opened, Use());
  rocksdb::Status status = opened->db()->FlushWAL(/*sync=*/true);
  if (status.ok()) {
    status = opened->db()->Flush(rocksdb::FlushOptions(), opened->families());
  }
  return NoteWrite(status, "flushing", kMemory);
}

absl::Status RocksDatabase::RecoverAfterFailure() {
  if (Failure().ok()) return absl::OkStatus();
  MutexLock recovering(&recovery_mutex_);
  const absl::Status failure = Failure();
  if (failure.ok()) return absl::OkStatus();
  if (const std::shared_ptr<OpenedRocks> opened = Opened()) {
    // OK at once if nothing stands in the way of a write.
    const rocksdb::Status resumed = opened->db()->Resume();
    if (resumed.ok()) return absl::OkStatus();
    if (failure.code() != absl::StatusCode::kResourceExhausted) return failure;
  }
  if (!HasSpaceToOpen(path_)) return failure;
  LogInfo("the store in " + path_ +
          " has space again: opening it anew; blocks of class cache that were "
          "in memory only are dropped");
  CloseDatabase();
  return OpenDatabase();
}

absl::Status RocksDatabase::Failure() {
  MutexLock lock(&mutex_);
  return failures_[kLog].ok() ? failures_[kMemory] : failures_[kLog];
}

absl::Status RocksDatabase::NoteWrite(const rocksdb::Status& status,
                                      const std::string& what, WriteTo to) {
  const absl::Status result = RocksStatus(status, what, path_);
  bool changed = false;
  {
    MutexLock lock(&mutex_);
    changed = failures_[to].ok() != result.ok();
    // The first failure is the cause; RocksDB may only repeat that it stopped.
    if (changed) failures_[to] = result;
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
  if (last) LogError("that many errors of the store were logged: no more are");
}

void RocksDatabase::NameTenant(TenantId tenant, const std::string& name) {
  MutexLock lock(&mutex_);
  tenant_names_[tenant] = name;
}

std::string RocksDatabase::WhoseText(TenantId tenant) {
  MutexLock lock(&mutex_);
  const auto found = tenant_names_.find(tenant);
  if (found == tenant_names_.end()) return "";
  return "; tenant " + std::to_string(tenant.value()) + " is \"" +
         found->second + "\"";
}

std::uint64_t RocksDatabase::DiskBytes() {
  const std::shared_ptr<OpenedRocks> opened = Opened();
  if (opened == nullptr) return 0;
  std::uint64_t sum = 0;
  for (rocksdb::ColumnFamilyHandle* family : opened->families()) {
    for (const std::string* property :
         {&rocksdb::DB::Properties::kLiveSstFilesSize,
          &rocksdb::DB::Properties::kTotalBlobFileSize}) {
      std::uint64_t bytes = 0;
      if (opened->db()->GetIntProperty(family, *property, &bytes)) {
        sum += bytes;
      }
    }
  }
  return sum;
}

}  // namespace agentmem
