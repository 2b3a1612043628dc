// One opened RocksDB database with the column families of rocks_store.h.
//
// Ownership: owns the database and its lock on the directory; both go with it,
// after the handles. Iterators and pinned slices must have ended before.
// Threads: thread-safe. Errors: RocksStatus makes canonical codes of RocksDB's:
// NOT_FOUND, RESOURCE_EXHAUSTED (no space), DATA_LOSS (corruption), UNAVAILABLE
// (the rest); each message names the directory.
// Cost: Open replays the log, at most 128 MiB of it (rocks_tuning.cc).
#ifndef AGENTMEM_MEMD_STORE_OPENED_ROCKS_H_
#define AGENTMEM_MEMD_STORE_OPENED_ROCKS_H_

#include <rocksdb/db.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace agentmem {

// "`what` in `path`: ..." of `status`, under a canonical code.
// How RocksStatus ends where a disk is full; a start has other advice.
inline constexpr std::string_view kGoesOnByItself =
    "; free space there, writes then go on by themselves";

absl::Status RocksStatus(const rocksdb::Status& status, const std::string& what,
                         const std::string& path);

class OpenedRocks {
 public:
  // `path` must be a directory. FAILED_PRECONDITION: another process has it
  // open, or its format is of another version.
  static absl::StatusOr<std::unique_ptr<OpenedRocks>> Open(
      const std::string& path);
  ~OpenedRocks();
  OpenedRocks(const OpenedRocks&) = delete;
  OpenedRocks& operator=(const OpenedRocks&) = delete;

  const std::string& path() const { return path_; }
  rocksdb::DB* db() { return db_.get(); }
  rocksdb::ColumnFamilyHandle* blocks() { return blocks_; }
  rocksdb::ColumnFamilyHandle* locations() { return locations_; }
  rocksdb::ColumnFamilyHandle* refs() { return refs_; }
  const std::vector<rocksdb::ColumnFamilyHandle*>& families() {
    return families_;
  }

 private:
  explicit OpenedRocks(std::string path) : path_(std::move(path)) {}
  absl::Status OpenFamilies();
  absl::Status CheckFormat();
  absl::Status WriteFormat();
  absl::StatusOr<bool> IsEmpty();

  // All constant after Open.
  const std::string path_;
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;
  rocksdb::ColumnFamilyHandle* blocks_ = nullptr;
  rocksdb::ColumnFamilyHandle* locations_ = nullptr;
  rocksdb::ColumnFamilyHandle* refs_ = nullptr;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_OPENED_ROCKS_H_
