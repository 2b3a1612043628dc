// The groups of cases of the suite `hbm`, one after the other: what fails ends
// its group, and not what others have shown.
//
// Ownership: borrows. Threads: one. Errors: in the result: `failure` is what
// went wrong first; a note each. A group that may fail (it asks for more than
// each device has) is only noted if it fails for want of that. After a failure
// the device is asked whether it is lost, or does not end what it began: its
// code does not say so, for UNAVAILABLE is much else, too. Then no group is
// tried any more. Cost: the groups'.
#ifndef AGENTMEM_BENCHMARKS_HBM_GROUPS_H_
#define AGENTMEM_BENCHMARKS_HBM_GROUPS_H_

#include <cstddef>
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
  std::size_t cases = 1;
};

// Of the groups that options.only wants.
std::size_t CasesOf(const SuiteOptions& options,
                    const std::vector<HbmGroup>& groups);
// Those that options.only wants: announces the bars of all of them, then runs
// each, and tells options.so_far after each. `is_lost` asks the device. False,
// and so in the result: it is not to be used any more, nor to be waited for.
bool RunHbmGroups(const SuiteOptions& options,
                  const std::vector<HbmGroup>& groups,
                  const std::function<bool()>& is_lost, SuiteResult* result);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_HBM_GROUPS_H_
