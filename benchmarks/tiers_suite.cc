#include "base/status.h"
#include "benchmarks/suites.h"

namespace agentmem::bench {

absl::StatusOr<SuiteResult> RunTiersSuite(const SuiteOptions& options) {
  SuiteResult result;
  result.suite = "tiers";
  result.machine = DescribeMachine();
  AGENTMEM_RETURN_IF_ERROR(AddDeviceCases(options, &result));
  AGENTMEM_RETURN_IF_ERROR(AddDramCases(options, &result));
  AGENTMEM_RETURN_IF_ERROR(AddPoolCases(options, &result));
  AGENTMEM_RETURN_IF_ERROR(AddStoreCases(options, &result));
  return result;
}

}  // namespace agentmem::bench
