// What it takes to wake a process that sleeps on a futex: two processes that
// wake each other in turn.
//
// Ownership: owns the other process and the page they share. Threads:
// thread-compatible; Start forks. Errors: UNAVAILABLE. Cost: blocks.
#ifndef AGENTMEM_BENCHMARKS_WAKE_UP_H_
#define AGENTMEM_BENCHMARKS_WAKE_UP_H_

#include <sys/types.h>

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "benchmarks/samples.h"

namespace agentmem::bench {

class WakeUp {
 public:
  static absl::StatusOr<std::unique_ptr<WakeUp>> Start();
  ~WakeUp();
  WakeUp(const WakeUp&) = delete;
  WakeUp& operator=(const WakeUp&) = delete;

  // Nanoseconds a wake-up: half a round trip. Their mean.
  double Measure(std::size_t count, Samples* samples);

 private:
  struct Shared;
  explicit WakeUp(Shared* shared) : shared_(shared) {}

  Shared* const shared_;
  pid_t pid_ = -1;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_WAKE_UP_H_
