#include "memd/service/peer_grpc_log.h"

#include <grpc/support/log.h>

#include <cstring>
#include <set>
#include <string>

#include "absl/strings/escaping.h"
#include "base/log.h"
#include "base/mutex.h"

namespace agentmem {
namespace {

constexpr std::size_t kRemembered = 64;
// What follows is dates and nested causes, other ones each time.
constexpr std::size_t kTellingBytes = 120;

// gRPC takes a bare function: what it remembers is the process's, and is never
// destroyed, since gRPC's threads may log while the process ends.
struct Said {
  Mutex mutex;
  std::set<std::string> lines AGENTMEM_GUARDED_BY(mutex);
};

Said* TheSaid() {
  static Said* const said = new Said;
  return said;
}

// Whole words of it, and a sign that there was more.
std::string Beginning(const char* message) {
  const std::size_t bytes = ::strnlen(message, kTellingBytes);
  std::string line(message, bytes);
  if (message[bytes] == 0) return line;
  const std::size_t space = line.rfind(' ');
  if (space != std::string::npos && space != 0) line.resize(space);
  return line + " ...";
}

void Say(gpr_log_func_args* entry) {
  if (entry->severity != GPR_LOG_SEVERITY_ERROR) return;
  if (std::strstr(entry->message, "No match found for server name") !=
      nullptr) {
    return;
  }
  const std::string line = Beginning(entry->message);
  Said* const said = TheSaid();
  MutexLock lock(&said->mutex);
  if (said->lines.size() > kRemembered || !said->lines.insert(line).second) {
    return;
  }
  if (said->lines.size() > kRemembered) {
    LogWarning("gRPC: more kinds of errors than " +
               std::to_string(kRemembered) + ": no more of them are said");
    return;
  }
  LogWarning("gRPC (said once): " + absl::CHexEscape(line));
}

}  // namespace

void LogGrpcErrorsOnce() { gpr_set_log_function(&Say); }

}  // namespace agentmem
