// RocksDB alone, tuned for values of 4 KiB to 4 MiB: no compression, memtables
// of 64 MiB, checksums verified by the fastest kind, buffered I/O; values in
// its tables or in blob files, whichever a case's run shows to be faster.
//
// Ownership: owns the database; its directory is the caller's. Threads:
// thread-compatible. Errors: RocksDB's, naming the directory. Cost: see
// RocksDB.
#ifndef AGENTMEM_BENCHMARKS_ROCKS_BASELINE_H_
#define AGENTMEM_BENCHMARKS_ROCKS_BASELINE_H_

#include <rocksdb/db.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agentmem/agentmem.h"

namespace agentmem::bench {

class RocksBaseline {
 public:
  enum class Values { kInTables, kInBlobs };

  static absl::StatusOr<std::unique_ptr<RocksBaseline>> Open(
      const std::string& directory, Values values);

  // One synced write of all `keys`, each with `length` of `bytes`.
  absl::Status Put(std::span<const agentmem_key> keys,
                   const std::vector<char>& bytes, std::size_t length);
  // Pinned in RocksDB's memory, as cheap as it can.
  absl::Status Get(const agentmem_key& key, std::size_t length);
  // Everything out of memtables and logs, and opened again.
  absl::Status Reopen();

  std::string name() const {
    return values_ == Values::kInBlobs ? "RocksDB, blobs" : "RocksDB";
  }

 private:
  RocksBaseline(std::string directory, Values values)
      : directory_(std::move(directory)), values_(values) {}
  absl::Status OpenDatabase();
  absl::Status Check(const rocksdb::Status& status) const;

  const std::string directory_;
  const Values values_;
  std::unique_ptr<rocksdb::DB> db_;
  rocksdb::PinnableSlice value_;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_ROCKS_BASELINE_H_
