#include "base/log.h"

#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

namespace agentmem {
namespace {

std::atomic<bool> g_journal{false};

const char* Word(LogLevel level) {
  switch (level) {
    case LogLevel::kError:
      return "error";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kDebug:
      return "debug";
  }
  return "?";
}

}  // namespace

void SetLogForJournal(bool journal) { g_journal = journal; }

void Log(LogLevel level, const std::string& message) {
  std::string line;
  if (g_journal.load(std::memory_order_relaxed)) {
    line = "<" + std::to_string(static_cast<int>(level)) + ">";
  } else {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char stamp[64];
    std::snprintf(stamp, sizeof(stamp),
                  "%02d:%02d:%02d.%03ld %s: ", utc.tm_hour, utc.tm_min,
                  utc.tm_sec, now.tv_nsec / 1'000'000, Word(level));
    line = stamp;
  }
  line += message;
  line += '\n';
  [[maybe_unused]] ssize_t written =
      ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace agentmem
