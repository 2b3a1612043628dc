// Ours and its baselines in one run: round by round, each side once a round (A
// B A B ...), so that what drifts meets all of them. A case's value is the
// median of its rounds; of several baselines the fastest counts.
//
// Ownership: a Side borrows what its function captures. Threads:
// thread-compatible. Errors: the first side that fails ends the case.
// Cost: as long as the sides take.
#ifndef AGENTMEM_BENCHMARKS_COMPARISON_H_
#define AGENTMEM_BENCHMARKS_COMPARISON_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "benchmarks/case_result.h"
#include "benchmarks/samples.h"

namespace agentmem::bench {

// What a case tells, from nanoseconds an operation.
struct Unit {
  static Unit Nanoseconds() { return {}; }
  static Unit OpsPerSecond() { return {"ops/s", true, 1e9}; }
  static Unit MegabytesPerSecond(double bytes_per_op) {
    return {"MB/s", true, 1e3 * bytes_per_op};
  }
  double Of(double ns_per_op) const {
    if (!higher_is_better) return ns_per_op * factor;
    return ns_per_op > 0 ? factor / ns_per_op : 0;
  }

  std::string name = "ns";
  bool higher_is_better = false;
  double factor = 1;  // times, or when higher is better divided by, ns an op
};

struct Side {
  std::string name;
  // One round: nanoseconds an operation; single operations go into `samples`.
  std::function<absl::StatusOr<double>(int round, Samples* samples)> run;
};

// sides[0] is ours, the others are baselines.
absl::StatusOr<CaseResult> Compare(const std::string& name, const Unit& unit,
                                   int rounds, const std::vector<Side>& sides);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_COMPARISON_H_
