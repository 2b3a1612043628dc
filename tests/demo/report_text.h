// Numbers as people read them, and the report's two tables.
//
// Ownership: none. Threads: pure functions. Errors: none. Cost: formatting.
#ifndef AGENTMEM_TESTS_DEMO_REPORT_TEXT_H_
#define AGENTMEM_TESTS_DEMO_REPORT_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/demo/run_result.h"
#include "tests/demo/scoreboard.h"

namespace agentmem::demo {

// A line of a label and a value.
std::string Line(const char* label, const std::string& value);
std::string CountText(std::uint64_t count);   // 1,234,567
std::string BytesText(std::uint64_t bytes);   // 1.5 GiB
std::string TimeText(std::uint64_t time_ns);  // 1.5 ms
std::string Percent(std::uint64_t part, std::uint64_t whole);

const char* OperationName(Operation operation);   // for people
const char* OperationField(Operation operation);  // in JSON

std::string LatencyTable(const Scoreboard& board);
std::string TierTable(const std::vector<TierSample>& samples);

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_REPORT_TEXT_H_
