#include "memd/store/rocks_store.h"

#include <filesystem>
#include <utility>

#include "base/status.h"
#include "memd/store/direct_segment_io.h"
#include "memd/store/rocks_block_store.h"
#include "memd/store/rocks_database.h"
#include "memd/store/rocks_ref_store.h"
#include "memd/store/segment_set.h"

namespace agentmem {
namespace {

constexpr std::uint32_t kThreadsMax = 64;
constexpr std::uint32_t kQueueOpsMax = 1 << 20;

absl::Status CheckRange(const char* field, std::uint32_t value,
                        std::uint32_t max) {
  if (value >= 1 && value <= max) return absl::OkStatus();
  return InvalidArgument(std::string("store: ") + field + " = " +
                         std::to_string(value) + ": allowed are 1 to " +
                         std::to_string(max));
}

class OpenedRocksStore final : public RocksStore {
 public:
  OpenedRocksStore(std::unique_ptr<DirectSegmentIo> io,
                   std::unique_ptr<RocksDatabase> database,
                   std::unique_ptr<RocksBlockStore> blocks)
      : io_(std::move(io)),
        database_(std::move(database)),
        refs_(database_.get()),
        blocks_(std::move(blocks)) {}

  BlockStore& blocks() override { return *blocks_; }
  RefStore& refs() override { return refs_; }
  std::uint64_t disk_bytes() override {
    return database_->DiskBytes() + blocks_->segment_bytes();
  }
  void NameTenant(TenantId tenant, const std::string& name) override {
    database_->NameTenant(tenant, name);
  }
  StoreLosses losses() const override { return blocks_->losses(); }

 private:
  // In this order: the threads of blocks_ end before the database closes.
  std::unique_ptr<DirectSegmentIo> io_;
  std::unique_ptr<RocksDatabase> database_;
  RocksRefStore refs_;
  std::unique_ptr<RocksBlockStore> blocks_;
};

// Segments whose database is gone are not this store's to sweep away. Before
// the database is made, or the next start would find one.
absl::Status CheckNoSegmentsAlone(const std::string& path) {
  std::error_code error;
  if (std::filesystem::exists(path + "/CURRENT", error)) {
    return absl::OkStatus();
  }
  const auto segments = ListSegments(path + "/segments");
  if (!segments.ok() || segments->empty()) return absl::OkStatus();
  return FailedPrecondition(
      "the store in " + path + " has " + std::to_string(segments->size()) +
      " segments and no database: restore its other files, or name another "
      "directory");
}

}  // namespace

absl::StatusOr<std::unique_ptr<RocksStore>> RocksStore::Open(
    const RocksStoreOptions& options) {
  AGENTMEM_RETURN_IF_ERROR(
      CheckRange("read_threads", options.read_threads, kThreadsMax));
  AGENTMEM_RETURN_IF_ERROR(
      CheckRange("write_threads", options.write_threads, kThreadsMax));
  AGENTMEM_RETURN_IF_ERROR(
      CheckRange("queue_ops_max", options.queue_ops_max, kQueueOpsMax));
  AGENTMEM_RETURN_IF_ERROR(CheckNoSegmentsAlone(options.path));
  AGENTMEM_ASSIGN_OR_RETURN(std::unique_ptr<RocksDatabase> database,
                            RocksDatabase::Open(options.path));
  auto disk = std::make_unique<DirectSegmentIo>();
  SegmentIo* const io =
      options.segment_io == nullptr ? disk.get() : options.segment_io;
  AGENTMEM_ASSIGN_OR_RETURN(
      std::unique_ptr<RocksBlockStore> blocks,
      RocksBlockStore::Start(database.get(), io, options.read_threads,
                             options.write_threads, options.queue_ops_max));
  return std::unique_ptr<RocksStore>(std::make_unique<OpenedRocksStore>(
      std::move(disk), std::move(database), std::move(blocks)));
}

}  // namespace agentmem
