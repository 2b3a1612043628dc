// The groups of cases of the suite `hbm`, one after the other: what fails ends
// its group, and not what others have shown.
//
// Ownership: borrows. Threads: one. Errors: in the result: `failure` is what
// went wrong first; a note each. A group that may fail (it asks for more than
// each device has) is only noted, unless bytes were wrong, or the device was
// lost or does not end what it began: none is tried after that. Cost: the
// groups'.
#ifndef AGENTMEM_BENCHMARKS_HBM_GROUPS_H_
#define AGENTMEM_BENCHMARKS_HBM_GROUPS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "benchmarks/bars.h"
#include "benchmarks/suites.h"

namespace agentmem::bench {

struct HbmGroup {
  std::string name;
  bool may_fail = false;
  std::vector<Bar> bars;
  std::function<absl::Status()> add;
};

// Those that options.only wants: announces the bars of all of them, then runs
// each, and tells options.so_far after each. False: the device is not to be
// used any more, nor to be waited for.
bool RunHbmGroups(const SuiteOptions& options,
                  const std::vector<HbmGroup>& groups, SuiteResult* result);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_HBM_GROUPS_H_
