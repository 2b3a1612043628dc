// What the demo shows at its end, and what it writes for programs.
//
// Ownership: none. Threads: pure functions. Errors: WriteSummary: of the file
// system. Cost: formatting.
#ifndef AGENTMEM_TESTS_DEMO_REPORT_H_
#define AGENTMEM_TESTS_DEMO_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/demo/options.h"
#include "tests/demo/run_result.h"
#include "tests/demo/scoreboard.h"
#include "tests/demo/workload.h"

namespace agentmem::demo {

struct Report {
  const DemoOptions& options;
  const WorkloadHeader& workload;
  const Scoreboard& board;
  const RunResult& result;
};

// What the run failed to show; empty: all of it.
std::vector<std::string> Failures(const Report& report);

std::string RenderScreen(const Report& report);
std::string RenderSummary(const Report& report);  // JSON
absl::Status WriteSummary(const Report& report);

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_REPORT_H_
