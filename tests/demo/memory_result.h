// What came of the demo's working-memory phase.
//
// Ownership: a value. Threads: thread-compatible. Errors: none.
#ifndef AGENTMEM_TESTS_DEMO_MEMORY_RESULT_H_
#define AGENTMEM_TESTS_DEMO_MEMORY_RESULT_H_

#include <cstdint>

#include "tests/demo/latency_histogram.h"

namespace agentmem::demo {

struct MemoryResult {
  bool done = false;  // to its end
  std::uint64_t nodes = 1;
  std::uint64_t agents = 0;
  std::uint64_t processes = 0;
  std::uint64_t commits = 0;          // acknowledged
  std::uint64_t commits_durable = 0;  // of them
  std::uint64_t commits_rescued = 0;  // in flight at a kill, there afterwards
  std::uint64_t commits_undone = 0;   // visible alone when memd was killed
  std::uint64_t delays = 0;           // UNAVAILABLE at first
  std::uint64_t delay_ns_max = 0;
  std::uint64_t kills = 0;
  std::uint64_t kills_mid_commit = 0;  // of them
  std::uint64_t memd_kills = 0;
  std::uint64_t hibernations = 0;
  std::uint64_t hibernated_bytes = 0;  // of DRAM, let go
  std::uint64_t resumes = 0;           // by another process, and compared
  std::uint64_t moves = 0;             // of them: on another node than before
  std::uint64_t pool_hits = 0;         // blocks from other nodes' memory
  std::uint64_t forks = 0;
  std::uint64_t bytes_verified = 0;
  std::uint64_t mismatches = 0;
  double seconds = 0;
  LatencyHistogram first_page;  // of a resumed agent
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_MEMORY_RESULT_H_
