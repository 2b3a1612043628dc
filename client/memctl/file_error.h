// What a failed call on an operator's file says.
//
// Threads: pure function. Errors: those of ErrnoStatus, but never UNAVAILABLE,
//   which is memctl's word for a memd that does not answer. Cost: allocates.
#ifndef AGENTMEM_CLIENT_MEMCTL_FILE_ERROR_H_
#define AGENTMEM_CLIENT_MEMCTL_FILE_ERROR_H_

#include <cerrno>
#include <string>

#include "absl/status/status.h"
#include "base/status.h"

namespace agentmem::memctl {

// "what: strerror(error)".
inline absl::Status FileError(const std::string& what, int error = errno) {
  const absl::Status status = ErrnoStatus(what, error);
  return status.code() == absl::StatusCode::kUnavailable
             ? FailedPrecondition(StatusMessage(status))
             : status;
}

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_FILE_ERROR_H_
