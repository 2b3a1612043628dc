// A suite's result as a table for a terminal, as a table for README.md, and as
// JSON for programs.
//
// Ownership: none. Threads: pure functions, but for Publish and WriteFile.
// Errors: those two name the path. Cost: once a run.
#ifndef AGENTMEM_BENCHMARKS_REPORT_H_
#define AGENTMEM_BENCHMARKS_REPORT_H_

#include <string>

#include "absl/status/status.h"
#include "benchmarks/case_result.h"

namespace agentmem::bench {

std::string TextTable(const SuiteResult& result);
std::string MarkdownTable(const SuiteResult& result);
// {"suite", "machine", "cases": [{"name", "p50_ns", "p99_ns", "p999_ns",
// "value", "unit", "better", "baseline", "baseline_value", "ratio"}]}; a case
// without a baseline has null in the last three. "device", if one copied;
// "bars": [{"name", "limit", "at", "value", "result"}], if there are some, a
// value of null being one that was not measured; "failure", if it ended so.
std::string Json(const SuiteResult& result);

// "73 ns", "1.25 us", "3.4 ms", "1.2 s".
std::string DurationText(double ns);

// Prints the table; writes the JSON, and the table for README.md beside it.
absl::Status Publish(const SuiteResult& result, const std::string& output);

// Makes the directories that are missing. Beside, and then renamed: whoever
// reads it, or ends this in the midst, has the old text or the new.
absl::Status WriteFile(const std::string& path, const std::string& text);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_REPORT_H_
