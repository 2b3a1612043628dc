// Timing of operations of tens of nanoseconds and more.
//
// A single operation is timed between two reads of the monotonic clock; the
// median of two reads with nothing in between is taken off. A read waits until
// the loads before it are done, so a single operation does not overlap with its
// neighbours, as it would in a loop. Batches of kBatchOps between two reads
// show what a loop pays; their mean is a case's value.
//
// Ownership: a value. Threads: thread-compatible. Errors: none.
// Cost: about 20 ns a read.
#ifndef AGENTMEM_BENCHMARKS_STOPWATCH_H_
#define AGENTMEM_BENCHMARKS_STOPWATCH_H_

#include <algorithm>
#include <cstddef>

#include "base/clock.h"
#include "benchmarks/samples.h"

namespace agentmem::bench {

class Stopwatch {
 public:
  static constexpr std::size_t kBatchOps = 64;

  Stopwatch() {
    constexpr int kReads = 50'000;
    Samples empty;
    empty.Reserve(kReads);
    for (int i = 0; i < kReads; ++i) {
      const TimeNs start = MonotonicNowNs();
      const double ns = static_cast<double>(MonotonicNowNs() - start);
      empty.Add(ns);
    }
    overhead_ns_ = empty.Percentile(0.5);
    // Two readings differ by whole ticks.
    for (double share = 0; share <= 1; share += 0.001) {
      const double more = empty.Percentile(share) - empty.Percentile(0);
      if (more < 3) continue;  // rounding
      tick_ns_ = more;
      break;
    }
  }

  double overhead_ns() const { return overhead_ns_; }
  // How far apart two readings are at least, if they differ; about.
  double tick_ns() const { return tick_ns_; }

  // op(i) for i in [0, count), each timed; the mean in nanoseconds. before(i)
  // precedes op(i) and is not timed.
  template <class Op, class Before>
  double TimeSingles(std::size_t count, Samples* samples, Op&& op,
                     Before&& before) const {
    double sum = 0;
    for (std::size_t i = 0; i < count; ++i) {
      before(i);
      const TimeNs start = MonotonicNowNs();
      op(i);
      const TimeNs end = MonotonicNowNs();
      const double ns =
          std::max(0.0, static_cast<double>(end - start) - overhead_ns_);
      samples->Add(ns);
      sum += ns;
    }
    return count == 0 ? 0 : sum / static_cast<double>(count);
  }

  template <class Op>
  double TimeSingles(std::size_t count, Samples* samples, Op&& op) const {
    return TimeSingles(count, samples, op, [](std::size_t) {});
  }

  // The mean of an operation, in nanoseconds, over batches; before(i) of a
  // whole batch precedes it.
  template <class Op, class Before>
  double TimeBatches(std::size_t batches, Op&& op, Before&& before) const {
    double sum = 0;
    for (std::size_t batch = 0; batch < batches; ++batch) {
      for (std::size_t i = 0; i < kBatchOps; ++i) before(i);
      const TimeNs start = MonotonicNowNs();
      for (std::size_t i = 0; i < kBatchOps; ++i) op(i);
      const TimeNs end = MonotonicNowNs();
      sum += std::max(0.0, static_cast<double>(end - start) - overhead_ns_);
    }
    return batches == 0 ? 0 : sum / static_cast<double>(batches * kBatchOps);
  }

 private:
  double overhead_ns_ = 0;
  double tick_ns_ = 1;
};

// The compiler must have `value` ready here.
template <class T>
inline void Keep(const T& value) {
  asm volatile("" : : "r,m"(value) : "memory");
}

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_STOPWATCH_H_
