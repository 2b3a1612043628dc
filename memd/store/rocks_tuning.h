// RocksDB's options for blocks of 4 KiB to 4 MiB beside small metadata.
//
// Ownership: values. Threads: pure functions. Errors: none. The memory that
// they allow is summed in rocks_database.h.
#ifndef AGENTMEM_MEMD_STORE_ROCKS_TUNING_H_
#define AGENTMEM_MEMD_STORE_ROCKS_TUNING_H_

#include <rocksdb/cache.h>
#include <rocksdb/options.h>

#include <memory>
#include <string>

namespace agentmem {

rocksdb::DBOptions DatabaseTuning();

// Of the column family `name`; an unknown one gets small defaults.
rocksdb::ColumnFamilyOptions FamilyTuning(
    const std::string& name, const std::shared_ptr<rocksdb::Cache>& cache);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_ROCKS_TUNING_H_
