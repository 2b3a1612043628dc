#include "memd/store/rocks_logger.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>

#include "base/log.h"

namespace agentmem {
namespace {

constexpr DurationNs kMinuteNs = 60 * kSecondNs;
constexpr std::size_t kLineBytesMax = 1024;

}  // namespace

void RocksLogger::Logv(const char*, std::va_list) {}

void RocksLogger::Logv(rocksdb::InfoLogLevel level, const char* format,
                       std::va_list arguments) {
  if (level < rocksdb::InfoLogLevel::WARN_LEVEL ||
      level >= rocksdb::InfoLogLevel::HEADER_LEVEL) {
    return;
  }
  std::uint64_t left_out = 0;
  {
    MutexLock lock(&mutex_);
    const TimeNs now = MonotonicNowNs();
    if (lines_ == 0 || now - minute_began_ >= kMinuteNs) {
      minute_began_ = now;
      lines_ = 0;
    }
    if (lines_ == kLinesPerMinute) {
      ++left_out_;
      return;
    }
    ++lines_;
    left_out = std::exchange(left_out_, 0);
  }
  char text[kLineBytesMax];
  if (std::vsnprintf(text, sizeof(text), format, arguments) < 0) return;
  std::string line = std::string("RocksDB: ") + text;
  std::replace(line.begin(), line.end(), '\n', ' ');
  while (line.back() == ' ') line.pop_back();
  if (left_out != 0) {
    line += " (" + std::to_string(left_out) + " lines before it left out)";
  }
  if (level == rocksdb::InfoLogLevel::WARN_LEVEL) {
    LogWarning(line);
  } else {
    LogError(line);
  }
}

}  // namespace agentmem
