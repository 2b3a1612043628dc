// RocksDB and segment files behind BlockStore and RefStore.
//
// One database, three column families: "blocks" (key -> record: header and
// bytes), "locations" (key -> class, length, place; small, scanned at start)
// and "refs". Blocks of more than kBytesInBlocksMax (block_locations.h) lie in
// files of their own under `path`/segments, written and read by direct I/O
// (proto/segment_layout.h). Keys are tenant (big-endian u32) then the 16 bytes
// of the block's key. Records are versioned (docs/formats.md) and carry an
// XXH3-64 checksum of their bytes, verified on every Get before the completion.
//
// Durable puts are one synced WriteBatch with whatever else waits (group
// commit), after the sync of one write to a segment, if one of them is large.
// Of the others, state goes into the unsynced log, and so do the locations of
// large blocks: a crash of memd loses none of them; one of the machine may, and
// that is a miss, or DATA_LOSS. Small cache puts skip the log, and any crash
// may lose them, which is a miss.
//
// Ownership: owns the database, the segments and its worker threads. Threads:
// see the interfaces. Errors: Open's stand beside it, the rest with the
// interfaces. Bounds: at most `queue_ops_max` operations accepted and not yet
// polled; Submit takes no more.
#ifndef AGENTMEM_MEMD_STORE_ROCKS_STORE_H_
#define AGENTMEM_MEMD_STORE_ROCKS_STORE_H_

#include <memory>
#include <string>

#include "memd/store/block_store.h"
#include "memd/store/ref_store.h"
#include "memd/store/segment_io.h"
#include "memd/store/store_losses.h"
#include "proto/types.h"

namespace agentmem {

struct RocksStoreOptions {
  std::string path;
  std::uint32_t read_threads = 1;
  std::uint32_t write_threads = 1;
  std::uint32_t queue_ops_max = 1024;
  SegmentIo* segment_io = nullptr;  // borrowed; null: the machine's disk
};

class RocksStore {
 public:
  virtual ~RocksStore() = default;
  // Opens or makes the store. FAILED_PRECONDITION: the format is of another
  // version (both named), another process holds the lock, or there are segments
  // without a database.
  static absl::StatusOr<std::unique_ptr<RocksStore>> Open(
      const RocksStoreOptions& options);

  // Borrowed; live as long as this object.
  virtual BlockStore& blocks() = 0;
  virtual RefStore& refs() = 0;
  // Bytes on disk: RocksDB's files and the segments. Thread-safe; cheap.
  virtual std::uint64_t disk_bytes() = 0;
  // The log's lines on that tenant's blocks have its name then. Thread-safe.
  virtual void NameTenant(TenantId tenant, const std::string& name) = 0;
  // As it was found at Open; the log has it, too.
  virtual StoreLosses losses() const { return {}; }
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_ROCKS_STORE_H_
