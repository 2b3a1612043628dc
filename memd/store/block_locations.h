// Where each block is: the column families "locations" and "blocks".
//
// Ownership: views of an opened database. Threads: thread-safe; a batch is one
// thread's. Errors: as RocksStatus, and DATA_LOSS for a location that cannot be
// read. Cost: Find: a lookup in memory, or a read of the disk where RocksDB's
// cache has it not; the scans: a row at a time, in the order of keys.
#ifndef AGENTMEM_MEMD_STORE_BLOCK_LOCATIONS_H_
#define AGENTMEM_MEMD_STORE_BLOCK_LOCATIONS_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memd/store/block_store.h"
#include "memd/store/record_codec.h"
#include "memd/store/rocks_database.h"

namespace agentmem {

// Up to this a block's bytes stay in RocksDB, which writes them twice, into its
// log and into a table, at about half the disk's speed: 32 KiB cost 30 us more
// than in a segment. A segment costs a sector for the header and, if durable, a
// second sync, 100 us and more, that a smaller block does not earn back.
inline constexpr std::uint32_t kBytesInBlocksMax = 32 << 10;

// As of `moment`, or now. NOT_FOUND: there is no such block.
absl::StatusOr<BlockLocation> FindLocation(
    OpenedRocks* opened, TenantId tenant, const Key& key,
    const rocksdb::Snapshot* moment = nullptr);

// Puts the record of a block, and its location, into the batch.
absl::Status AddRecord(OpenedRocks* opened, const StoreOp& put,
                       rocksdb::WriteBatch* batch);
// The location of a block in a segment.
absl::Status AddLocation(OpenedRocks* opened, const StoreOp& put,
                         const SegmentPlace& place, rocksdb::WriteBatch* batch);
absl::Status DeleteRecord(OpenedRocks* opened, const StoreOp& op,
                          rocksdb::WriteBatch* batch);
absl::Status DeleteLocation(OpenedRocks* opened, const StoreOp& op,
                            rocksdb::WriteBatch* batch);

// The locations of `tenant` whose Key::low() is `key_low`; with neither, all.
// One that cannot be read is logged and left out. `visit` must not write to
// the database, nor wait for who does: writing waits for the scan's end when
// the database has to be opened again.
absl::Status ScanLocations(
    RocksDatabase* database,
    const std::function<void(const BlockLocation&)>& visit);
absl::Status ScanLocations(
    RocksDatabase* database, TenantId tenant, std::uint64_t key_low,
    const std::function<void(const BlockLocation&)>& visit);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_BLOCK_LOCATIONS_H_
