// A point in CLOCK_MONOTONIC until which an operation may wait.
//
// Ownership: a value. Threads: thread-compatible. Errors: none. Cost: one clock
// read to make, none for a timeout of 0 or AGENTMEM_FOREVER.
#ifndef AGENTMEM_CLIENT_DEADLINE_H_
#define AGENTMEM_CLIENT_DEADLINE_H_

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace agentmem::client {

class Deadline {
 public:
  static Deadline After(std::uint64_t timeout_ns) {
    if (timeout_ns == 0) return Deadline(0);
    if (timeout_ns > static_cast<std::uint64_t>(kNoDeadline)) {
      return Deadline(kNoDeadline);
    }
    const TimeNs now = MonotonicNowNs();
    const auto timeout = static_cast<DurationNs>(timeout_ns);
    return Deadline(timeout > kNoDeadline - now ? kNoDeadline : now + timeout);
  }

  TimeNs at() const { return at_; }
  bool may_wait() const { return at_ != 0; }
  bool Passed() const {
    return at_ == 0 || (at_ != kNoDeadline && MonotonicNowNs() >= at_);
  }
  // What is left of it, at most `limit`; 0 when it has passed.
  DurationNs Remaining(DurationNs limit) const {
    if (at_ == 0) return 0;
    if (at_ == kNoDeadline) return limit;
    return std::clamp<DurationNs>(at_ - MonotonicNowNs(), 0, limit);
  }

 private:
  explicit Deadline(TimeNs at) : at_(at) {}

  TimeNs at_;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_DEADLINE_H_
