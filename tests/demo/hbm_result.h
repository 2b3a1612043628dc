// What came of the demo's agents with KV caches in device memory.
//
// Ownership: a value. Threads: thread-compatible. Errors: none.
#ifndef AGENTMEM_TESTS_DEMO_HBM_RESULT_H_
#define AGENTMEM_TESTS_DEMO_HBM_RESULT_H_

#include <array>
#include <cstdint>
#include <string>

#include "tests/demo/hbm_protocol.h"

namespace agentmem::demo {

struct HbmResult {
  bool done = false;   // to its end
  std::string device;  // "host": there is no GPU
  std::string no_gpu;  // why; empty: there is one
  std::uint64_t nodes = 1;
  std::uint64_t agents = 0;
  std::uint64_t engines = 0;          // processes
  std::uint64_t blocks = 0;           // of all agents, at the end
  std::uint64_t budget_bytes = 0;     // of an engine's HBM, the most seen
  std::uint64_t allocated_bytes = 0;  // of that, the most seen
  std::array<std::uint64_t, kHbmTiers> hits = {};
  // In HBM, as memctl shows them: engines tell memd once a second, so that the
  // last of one that is killed, or of a memd that is, are missing; and some may
  // be of a load in whose midst the engine was killed, which is not in `hits`.
  std::uint64_t hits_shown = 0;
  std::uint64_t recomputed = 0;
  // A human was waited for: the agent's HBM is to be empty by memd's deadline.
  std::uint64_t human_waits = 0;
  std::uint64_t emptied = 0;
  std::uint64_t emptied_late = 0;  // as memd says
  double emptied_ms_max = 0;       // as memctl shows it
  // It reasons again: its blocks are to come back before it asks for them.
  std::uint64_t returns = 0;
  std::uint64_t returned = 0;  // of them, with blocks in HBM
  double returned_ms_max = 0;
  std::uint64_t return_blocks = 0;    // loaded then, as many as came back
  std::uint64_t return_hbm_hits = 0;  // of them, from HBM
  std::uint64_t moves = 0;            // an engine on another node went on
  std::uint64_t delays = 0;
  std::uint64_t delay_ns_max = 0;
  std::uint64_t kills = 0;  // of engines
  std::uint64_t kills_mid_copy = 0;
  std::uint64_t memd_kills = 0;
  std::uint64_t bytes_verified = 0;
  std::uint64_t mismatches = 0;
  double seconds = 0;
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_HBM_RESULT_H_
