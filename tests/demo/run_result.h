// What came of a run, apart from what the scoreboard counts.
//
// Ownership: a value. Threads: thread-compatible. Errors: none.
#ifndef AGENTMEM_TESTS_DEMO_RUN_RESULT_H_
#define AGENTMEM_TESTS_DEMO_RUN_RESULT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/demo/admin_probe.h"
#include "tests/demo/hbm_result.h"
#include "tests/demo/memory_result.h"

namespace agentmem::demo {

struct TierSample {
  double progress = 0;  // 0 to 1
  double seconds = 0;
  TenantSample tenant;
};

struct RunResult {
  std::uint64_t requests_done = 0;
  std::uint64_t kills = 0;
  std::uint64_t kills_posed = 0;   // of them: with hands full
  std::uint64_t kills_forked = 0;  // of them: with a forked child alive
  double reclaim_ms_max = 0;       // from proven death until memctl agreed
  std::uint64_t requests_redone = 0;
  double seconds = 0;
  double work_seconds = 0;  // the requests alone

  std::vector<TierSample> samples;
  TenantSample at_end;  // all agents gone, forked children still there

  // After memd was killed.
  bool recovered = false;  // the phase ran
  std::uint64_t resident_while_down = 0;
  double restart_seconds = 0;
  std::uint64_t durable_acknowledged = 0;
  std::uint64_t durable_verified = 0;

  MemoryResult memory;
  HbmResult hbm;

  bool interrupted = false;
  std::vector<std::string> troubles;  // the first few, in words
  std::uint64_t troubles_count = 0;
  bool out_of_time = false;  // --seconds-max ended it

  void Trouble(const std::string& text) {
    ++troubles_count;
    if (troubles.size() < 10) troubles.push_back(text);
  }
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_RUN_RESULT_H_
