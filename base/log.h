// One line a message on standard error, as journald reads it: "<level>text".
//
// Never per operation: an error once, where it is detected, with its cause.
//
// Threads: thread-safe (one write(2) a line). Errors: none. Cost: a system
// call.
#ifndef AGENTMEM_BASE_LOG_H_
#define AGENTMEM_BASE_LOG_H_

#include <string>

namespace agentmem {

enum class LogLevel { kError = 3, kWarning = 4, kInfo = 6, kDebug = 7 };

void Log(LogLevel level, const std::string& message);
inline void LogError(const std::string& m) { Log(LogLevel::kError, m); }
inline void LogWarning(const std::string& m) { Log(LogLevel::kWarning, m); }
inline void LogInfo(const std::string& m) { Log(LogLevel::kInfo, m); }

// With the journal's "<6>" prefix, or with a word and the time for a person.
void SetLogForJournal(bool journal);

}  // namespace agentmem

#endif  // AGENTMEM_BASE_LOG_H_
