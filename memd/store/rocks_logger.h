// RocksDB's own messages, as lines of memd's log.
//
// RocksDB's default is a file beside the data. On a full disk that file fails
// first, and RocksDB 7.8 asserts at the next line that goes into it: memd would
// die of its own diary.
//
// Ownership: shared with the database. Threads: thread-safe. Errors: none.
// Cost: warnings and errors only, and of those kLinesPerMinute; what was left
// out is counted in the next line that is not.
#ifndef AGENTMEM_MEMD_STORE_ROCKS_LOGGER_H_
#define AGENTMEM_MEMD_STORE_ROCKS_LOGGER_H_

#include <rocksdb/env.h>

#include <cstdarg>
#include <cstdint>

#include "base/clock.h"
#include "base/mutex.h"

namespace agentmem {

class RocksLogger : public rocksdb::Logger {
 public:
  static constexpr std::uint32_t kLinesPerMinute = 20;

  RocksLogger() : rocksdb::Logger(rocksdb::InfoLogLevel::WARN_LEVEL) {}

  using rocksdb::Logger::Logv;
  // Of no level: what RocksDB says of its options at start; dropped.
  void Logv(const char* format, std::va_list arguments) override;
  void Logv(rocksdb::InfoLogLevel level, const char* format,
            std::va_list arguments) override;

 private:
  Mutex mutex_;
  TimeNs minute_began_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  std::uint32_t lines_ AGENTMEM_GUARDED_BY(mutex_) = 0;  // in this minute
  std::uint64_t left_out_ AGENTMEM_GUARDED_BY(mutex_) = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_ROCKS_LOGGER_H_
