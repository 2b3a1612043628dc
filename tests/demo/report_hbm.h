// The part of the report that is of agents with KV caches in device memory.
//
// Ownership: none. Threads: pure functions. Errors: none. Cost: formatting.
#ifndef AGENTMEM_TESTS_DEMO_REPORT_HBM_H_
#define AGENTMEM_TESTS_DEMO_REPORT_HBM_H_

#include <string>
#include <vector>

#include "tests/demo/hbm_result.h"
#include "tests/demo/report.h"

namespace agentmem::demo {

// What it has not shown.
void AddHbmFailures(const Report& report, std::vector<std::string>* failures);

std::string HbmLines(const HbmResult& hbm);

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_REPORT_HBM_H_
