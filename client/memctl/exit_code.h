// What memctl's exit code says; documented in its help.
#ifndef AGENTMEM_CLIENT_MEMCTL_EXIT_CODE_H_
#define AGENTMEM_CLIENT_MEMCTL_EXIT_CODE_H_

#include "absl/status/status.h"

namespace agentmem::memctl {

enum class ExitCode : int {
  kOk = 0,
  kFailed = 1,       // the operation failed: not found, refused, timed out
  kUsage = 2,        // the command line is wrong
  kUnreachable = 3,  // no memd answers; one that does may lack others (1)
  kProblem = 4,      // doctor found a problem
};

// `connected`: a memd took the connection.
inline ExitCode ExitCodeOf(const absl::Status& status, bool connected) {
  if (status.ok()) return ExitCode::kOk;
  return status.code() == absl::StatusCode::kUnavailable && !connected
             ? ExitCode::kUnreachable
             : ExitCode::kFailed;
}

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_EXIT_CODE_H_
