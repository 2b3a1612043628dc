// How a call of the C++ layer ended: Status, and Result<T> for a value or one.
//
// Ownership: values. Threads: thread-compatible. Errors: are these. Cost: an OK
// Status allocates nothing. Needs nothing but the standard library, and no
// exceptions: Result::value() of an error ends the process.
#ifndef AGENTMEM_STATUS_HPP_
#define AGENTMEM_STATUS_HPP_

#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

#include "agentmem/agentmem.h"

namespace agentmem {
inline namespace v0 {

enum class Code : int {
  kOk = AGENTMEM_OK,
  kCancelled = AGENTMEM_CANCELLED,
  kUnknown = AGENTMEM_UNKNOWN,
  kInvalidArgument = AGENTMEM_INVALID_ARGUMENT,
  kDeadlineExceeded = AGENTMEM_DEADLINE_EXCEEDED,
  kNotFound = AGENTMEM_NOT_FOUND,
  kAlreadyExists = AGENTMEM_ALREADY_EXISTS,
  kPermissionDenied = AGENTMEM_PERMISSION_DENIED,
  kResourceExhausted = AGENTMEM_RESOURCE_EXHAUSTED,
  kFailedPrecondition = AGENTMEM_FAILED_PRECONDITION,
  kAborted = AGENTMEM_ABORTED,
  kOutOfRange = AGENTMEM_OUT_OF_RANGE,
  kUnimplemented = AGENTMEM_UNIMPLEMENTED,
  kInternal = AGENTMEM_INTERNAL,
  kUnavailable = AGENTMEM_UNAVAILABLE,
  kDataLoss = AGENTMEM_DATA_LOSS,
};

inline const char* CodeName(Code code) {
  static constexpr const char* kNames[] = {"OK",
                                           "CANCELLED",
                                           "UNKNOWN",
                                           "INVALID_ARGUMENT",
                                           "DEADLINE_EXCEEDED",
                                           "NOT_FOUND",
                                           "ALREADY_EXISTS",
                                           "PERMISSION_DENIED",
                                           "RESOURCE_EXHAUSTED",
                                           "FAILED_PRECONDITION",
                                           "ABORTED",
                                           "OUT_OF_RANGE",
                                           "UNIMPLEMENTED",
                                           "INTERNAL",
                                           "UNAVAILABLE",
                                           "DATA_LOSS"};
  const auto index = static_cast<unsigned>(code);
  return index < sizeof(kNames) / sizeof(kNames[0]) ? kNames[index] : "?";
}

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message)
      : code_(code), message_(std::move(message)) {}
  // From a call of the C ABI. Reads `error` only when `code` is not OK.
  static Status From(agentmem_code code, const agentmem_error& error) {
    if (code == AGENTMEM_OK) return Status();
    return Status(static_cast<Code>(code), error.message);
  }

  bool ok() const { return code_ == Code::kOk; }
  explicit operator bool() const { return ok(); }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  std::string ToString() const {
    if (ok()) return CodeName(code_);
    return std::string(CodeName(code_)) + ": " + message_;
  }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : held_(std::move(value)) {}         // NOLINT: implicit
  Result(Status status) : held_(std::move(status)) {}  // NOLINT: implicit

  bool ok() const { return std::holds_alternative<T>(held_); }
  explicit operator bool() const { return ok(); }
  Status status() const {
    return ok() ? Status() : *std::get_if<Status>(&held_);
  }
  T& value() & { return *Checked(); }
  T&& value() && { return std::move(*Checked()); }
  const T& value() const& { return *const_cast<Result*>(this)->Checked(); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return Checked(); }
  const T* operator->() const { return &value(); }

 private:
  T* Checked() {
    T* value = std::get_if<T>(&held_);
    if (value == nullptr) std::abort();
    return value;
  }

  std::variant<T, Status> held_;
};

}  // namespace v0
}  // namespace agentmem

#endif  // AGENTMEM_STATUS_HPP_
