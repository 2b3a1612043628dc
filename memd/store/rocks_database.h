// One opened RocksDB database with the column families of rocks_store.h.
//
// Ownership: owns the database and its lock on the directory; both go with it.
// Whoever borrows the handles ends its threads first.
// Threads: thread-safe. Errors: FromRocks makes canonical codes of RocksDB's:
// NOT_FOUND, RESOURCE_EXHAUSTED (no space), DATA_LOSS (corruption), UNAVAILABLE
// (the rest); each message names the directory.
// Cost: Write blocks for the disk when synced, and while RocksDB is behind.
//
// Memory, beside the operating system's page cache:
//   blocks     4 write buffers x 64 MiB   = 256 MiB
//   locations  2 x 8 MiB                  =  16 MiB
//   refs       2 x 4 MiB                  =   8 MiB
//   default    2 x 1 MiB                  =   2 MiB
//   the block cache, with indexes and filters  32 MiB
//   a write batch per writer thread            20 MiB  (16 and one block)
//   table and blob readers, 512 files          ~8 MiB
// In all about 342 MiB with one writer thread; a write buffer may be passed by
// one batch before it is switched.
#ifndef AGENTMEM_MEMD_STORE_ROCKS_DATABASE_H_
#define AGENTMEM_MEMD_STORE_ROCKS_DATABASE_H_

#include <rocksdb/db.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"

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

  // After an error in its background work RocksDB refuses writes; each Write
  // then tries to resume first, so that writes work again once space returned.
  absl::Status Write(const rocksdb::WriteOptions& options,
                     rocksdb::WriteBatch* batch);

  // Everything written is on stable storage when this returned OK.
  absl::Status Flush();

  // The status of `what` under a canonical code.
  absl::Status FromRocks(const rocksdb::Status& status,
                         const std::string& what) const;

  // Logs `message` if it was not logged before. At most kLoggedMax messages
  // are, so that a broken disk does not fill the log; a last line says so.
  void LogOnce(const std::string& message);

  std::uint64_t DiskBytes();

  rocksdb::DB* db() { return db_.get(); }
  rocksdb::ColumnFamilyHandle* blocks() { return blocks_; }
  rocksdb::ColumnFamilyHandle* locations() { return locations_; }
  rocksdb::ColumnFamilyHandle* refs() { return refs_; }
  const std::string& path() const { return path_; }

 private:
  static constexpr std::size_t kLoggedMax = 256;

  explicit RocksDatabase(std::string path) : path_(std::move(path)) {}
  absl::Status OpenFamilies();
  absl::Status CheckFormat();
  absl::StatusOr<bool> IsEmpty();
  absl::Status ResumeAfterError();
  // Notes the outcome of a write: logs the first failure and the recovery.
  absl::Status NoteWrite(const rocksdb::Status& status,
                         const std::string& what);

  // Constant after Open; they synchronise themselves.
  const std::string path_;
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;
  rocksdb::ColumnFamilyHandle* blocks_ = nullptr;
  rocksdb::ColumnFamilyHandle* locations_ = nullptr;
  rocksdb::ColumnFamilyHandle* refs_ = nullptr;

  Mutex mutex_;
  bool failing_ AGENTMEM_GUARDED_BY(mutex_) = false;
  std::set<std::string> logged_ AGENTMEM_GUARDED_BY(mutex_);
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_ROCKS_DATABASE_H_
