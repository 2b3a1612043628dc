// Time as a parameter: nothing but main() and the reactor decides which clock.
//
// TimeNs is nanoseconds of CLOCK_MONOTONIC, which all processes of a machine
// share, so deadlines may cross shared memory. DurationNs is a difference.
#ifndef AGENTMEM_BASE_CLOCK_H_
#define AGENTMEM_BASE_CLOCK_H_

#include <time.h>

#include <cstdint>

namespace agentmem {

using TimeNs = std::int64_t;
using DurationNs = std::int64_t;

inline constexpr DurationNs kMicrosecondNs = 1'000;
inline constexpr DurationNs kMillisecondNs = 1'000'000;
inline constexpr DurationNs kSecondNs = 1'000'000'000;
inline constexpr TimeNs kNoDeadline = INT64_MAX;

// Thread-safe. Cost: a vDSO read (about 20 ns) for the real one.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimeNs Now() const = 0;
};

inline TimeNs MonotonicNowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kSecondNs + now.tv_nsec;
}

// Nanoseconds since 1970, UTC: for people, and to say how old something is that
// outlives the machine's uptime. Never for deadlines.
inline std::int64_t WallNowNs() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * kSecondNs + now.tv_nsec;
}

class MonotonicClock final : public Clock {
 public:
  TimeNs Now() const override { return MonotonicNowNs(); }
};

// A clock moved by hand; for tests and simulations.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(TimeNs start = 0) : now_(start) {}
  TimeNs Now() const override { return now_; }
  void Advance(DurationNs by) { now_ += by; }

 private:
  TimeNs now_;
};

}  // namespace agentmem

#endif  // AGENTMEM_BASE_CLOCK_H_
