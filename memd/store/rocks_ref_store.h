// RefStore over a RocksDatabase: one synced write a change, under one mutex.
//
// Ownership: borrows the database, which must outlive it. Threads: thread-safe.
// Errors: as RefStore, and DATA_LOSS: a ref's record cannot be read; it is then
// never changed either. Cost: as RefStore; changes wait for one another.
#ifndef AGENTMEM_MEMD_STORE_ROCKS_REF_STORE_H_
#define AGENTMEM_MEMD_STORE_ROCKS_REF_STORE_H_

#include <string>
#include <vector>

#include "base/mutex.h"
#include "memd/store/ref_store.h"
#include "memd/store/rocks_database.h"

namespace agentmem {

class RocksRefStore final : public RefStore {
 public:
  explicit RocksRefStore(RocksDatabase* database) : database_(database) {}

  absl::StatusOr<Ref> Get(const std::string& name) override;
  absl::StatusOr<Ref> Read(const std::string& name) override;
  absl::StatusOr<Fence> AcquireFence(const std::string& name) override;
  absl::StatusOr<std::uint64_t> CompareAndSwap(
      const std::string& name, std::uint64_t expected_version, Fence fence,
      const std::string& value) override;
  absl::Status Commit(std::span<const RefChange> changes,
                      std::span<const RefBlock> blocks) override;
  absl::StatusOr<std::vector<std::string>> List(
      const std::string& prefix) override;
  absl::StatusOr<std::vector<NamedRef>> ReadAll(
      std::span<const std::string> prefixes) override;

 private:
  // The ref as `change` makes it.
  absl::StatusOr<NamedRef> Changed(const RefChange& change)
      AGENTMEM_REQUIRES(mutex_);
  absl::Status Write(std::span<const NamedRef> refs,
                     std::span<const RefBlock> blocks)
      AGENTMEM_REQUIRES(mutex_);

  RocksDatabase* const database_;
  Mutex mutex_;  // from the read to the write of a change
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_ROCKS_REF_STORE_H_
