// absl::Status for the daemon and its tools, made from standard strings.
//
// Debian's Abseil has its own string_view, so the constructors are wrapped
// here once. A message names the thing, its value and the allowed range, and
// says what to do. libagentmem does not include this file (no Abseil there).
#ifndef AGENTMEM_BASE_STATUS_H_
#define AGENTMEM_BASE_STATUS_H_

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace agentmem {

inline absl::Status MakeStatus(absl::StatusCode code,
                               const std::string& message) {
  return absl::Status(code, absl::string_view(message.data(), message.size()));
}
inline absl::Status InvalidArgument(const std::string& message) {
  return MakeStatus(absl::StatusCode::kInvalidArgument, message);
}
inline absl::Status NotFound(const std::string& message) {
  return MakeStatus(absl::StatusCode::kNotFound, message);
}
inline absl::Status FailedPrecondition(const std::string& message) {
  return MakeStatus(absl::StatusCode::kFailedPrecondition, message);
}
inline absl::Status ResourceExhausted(const std::string& message) {
  return MakeStatus(absl::StatusCode::kResourceExhausted, message);
}
inline absl::Status Unavailable(const std::string& message) {
  return MakeStatus(absl::StatusCode::kUnavailable, message);
}
inline absl::Status DataLoss(const std::string& message) {
  return MakeStatus(absl::StatusCode::kDataLoss, message);
}
inline absl::Status Aborted(const std::string& message) {
  return MakeStatus(absl::StatusCode::kAborted, message);
}
inline absl::Status PermissionDenied(const std::string& message) {
  return MakeStatus(absl::StatusCode::kPermissionDenied, message);
}
inline absl::Status DeadlineExceeded(const std::string& message) {
  return MakeStatus(absl::StatusCode::kDeadlineExceeded, message);
}
inline absl::Status Internal(const std::string& message) {
  return MakeStatus(absl::StatusCode::kInternal, message);
}

// "what: strerror(error)" under the code that fits the errno.
inline absl::Status ErrnoStatus(const std::string& what, int error = errno) {
  const std::string message = what + ": " + std::strerror(error);
  switch (error) {
    case ENOENT:
      return NotFound(message);
    case EACCES:
    case EPERM:
      return PermissionDenied(message);
    case ENOSPC:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return ResourceExhausted(message);
    default:
      return Unavailable(message);
  }
}

inline std::string StatusMessage(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

}  // namespace agentmem

#define AGENTMEM_RETURN_IF_ERROR(expression)          \
  do {                                                \
    if (absl::Status agentmem_status_ = (expression); \
        !agentmem_status_.ok()) {                     \
      return agentmem_status_;                        \
    }                                                 \
  } while (false)

#define AGENTMEM_CONCAT_INNER_(a, b) a##b
#define AGENTMEM_CONCAT_(a, b) AGENTMEM_CONCAT_INNER_(a, b)
#define AGENTMEM_ASSIGN_OR_RETURN(target, expression) \
  AGENTMEM_ASSIGN_OR_RETURN_IMPL_(                    \
      AGENTMEM_CONCAT_(agentmem_result_, __LINE__), target, expression)
#define AGENTMEM_ASSIGN_OR_RETURN_IMPL_(result, target, expression) \
  auto result = (expression);                                       \
  if (!result.ok()) return result.status();                         \
  target = std::move(result).value()

#endif  // AGENTMEM_BASE_STATUS_H_
