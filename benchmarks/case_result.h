// What a suite finds out: one row a case.
//
// `value` is in `unit`, and so is the baseline's; ratio = ours / baseline. The
// percentiles are of our single operations, in nanoseconds.
//
// Ownership: values. Threads: thread-compatible. Errors: none.
#ifndef AGENTMEM_BENCHMARKS_CASE_RESULT_H_
#define AGENTMEM_BENCHMARKS_CASE_RESULT_H_

#include <string>
#include <vector>

#include "benchmarks/bars.h"
#include "benchmarks/machine.h"

namespace agentmem::bench {

struct CaseResult {
  std::string name;
  double p50_ns = 0;
  double p99_ns = 0;
  double p999_ns = 0;
  double value = 0;
  std::string unit;
  bool higher_is_better = false;
  std::string baseline;  // empty: nothing to compare with
  double baseline_value = 0;
  double baseline_p50_ns = 0;  // for notes

  double Ratio() const {
    return baseline_value > 0 ? value / baseline_value : 0;
  }
};

struct SuiteResult {
  std::string suite;
  Machine machine;
  std::string device;  // that copies, if one does
  std::vector<CaseResult> cases;
  std::vector<std::string> notes;  // how to read the numbers
  std::vector<Bar> bars;           // all that were announced
  std::string failure;       // of a group, while others were measured; "": none
  bool device_lost = false;  // what was to come after it was not tried
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_CASE_RESULT_H_
