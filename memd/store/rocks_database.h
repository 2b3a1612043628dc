// The store's database, opened for as long as this object lives, and opened
// again when RocksDB itself cannot go on.
//
// A failed write stops RocksDB. RocksDB 7.8 resumes after some failures, but
// never after one of its log on a full disk (the log's writer stays broken): as
// soon as there is space again, the next write closes the database and opens it
// anew. What was in memory only is then lost: blocks of class cache, whose puts
// were not durable, become misses. While the disk is full, reads go on.
//
// Ownership: owns the database; it stays open while somebody uses it (Use), and
// an opening waits for those. Threads: thread-safe; a thread that holds a Use
// must not call Use, Write or Flush. Errors: as RocksStatus (opened_rocks.h).
// Cost: Use takes a mutex. Write blocks for the disk when synced, while RocksDB
// is behind, and while the database is opened again.
//
// Memory, beside the operating system's page cache:
//   blocks     2 write buffers x 16 MiB   =  32 MiB
//   locations  2 x 4 MiB                  =   8 MiB
//   refs       2 x 4 MiB                  =   8 MiB
//   default    2 x 1 MiB                  =   2 MiB
//   the block cache, with indexes and filters  16 MiB
//   a write batch per writer thread             2 MiB  (64 blocks of 32 KiB)
//   sectors per writer and per reader thread    1 MiB  (segment_writer.h)
//   table and blob readers, 512 files          ~8 MiB
// In all about 77 MiB with one thread of each, and nothing for the bytes of
// larger blocks; a write buffer may be passed by one batch before it is
// switched.
#ifndef AGENTMEM_MEMD_STORE_ROCKS_DATABASE_H_
#define AGENTMEM_MEMD_STORE_ROCKS_DATABASE_H_

#include <map>
#include <memory>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "memd/store/opened_rocks.h"
#include "proto/types.h"

namespace agentmem {

class RocksDatabase {
 public:
  // Makes missing directories with mode 0700. FAILED_PRECONDITION: another
  // process has it open, or its format is of another version.
  static absl::StatusOr<std::unique_ptr<RocksDatabase>> Open(
      const std::string& path);
  ~RocksDatabase();
  RocksDatabase(const RocksDatabase&) = delete;
  RocksDatabase& operator=(const RocksDatabase&) = delete;

  // The opened database, for one operation. Waits while it is being opened
  // again; an error if that failed (the next Use tries again).
  absl::StatusOr<std::shared_ptr<OpenedRocks>> Use();

  // After a failure each Write first tries to make writes possible again.
  absl::Status Write(const rocksdb::WriteOptions& options,
                     rocksdb::WriteBatch* batch);

  // Everything written into the log is on stable storage when this returned OK.
  absl::Status SyncLog();

  // Everything written is, too.
  absl::Status Flush();

  // Logs `message` if it was not logged before. At most kLoggedMax messages
  // are, so that a broken disk does not fill the log; a last line says so.
  void LogOnce(const std::string& message);

  // For the log, in which a number alone tells nobody whose a block is.
  void NameTenant(TenantId tenant, const std::string& name);
  // "; tenant 3 is \"assistants\"", for the end of a line; empty: no name.
  std::string WhoseText(TenantId tenant);

  std::uint64_t DiskBytes();

  const std::string& path() const { return path_; }

 private:
  static constexpr std::size_t kLoggedMax = 256;
  // Where a write went first. On a full disk writes to memory may succeed
  // between failures of the log; noted apart, neither hides the other's.
  enum WriteTo { kLog = 0, kMemory = 1 };

  explicit RocksDatabase(std::string path) : path_(std::move(path)) {}
  absl::Status OpenDatabase() AGENTMEM_EXCLUDES(mutex_);
  // Waits until nobody uses the database; it is closed then.
  void CloseDatabase() AGENTMEM_EXCLUDES(mutex_);
  std::shared_ptr<OpenedRocks> Opened();
  absl::Status RecoverAfterFailure();
  absl::Status Failure();
  // Notes the outcome of a write: logs the first failure and the recovery.
  absl::Status NoteWrite(const rocksdb::Status& status, const std::string& what,
                         WriteTo to);

  const std::string path_;
  Mutex recovery_mutex_;  // one recovery at a time; taken before mutex_
  Mutex mutex_;
  CondVar closed_waits_;
  std::shared_ptr<OpenedRocks> opened_ AGENTMEM_GUARDED_BY(mutex_);
  bool closed_ AGENTMEM_GUARDED_BY(mutex_) = true;
  // The last failure, until a write of that kind succeeds.
  absl::Status failures_[2] AGENTMEM_GUARDED_BY(mutex_);
  std::set<std::string> logged_ AGENTMEM_GUARDED_BY(mutex_);
  // As many as are configured.
  std::map<TenantId, std::string> tenant_names_ AGENTMEM_GUARDED_BY(mutex_);
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_ROCKS_DATABASE_H_
