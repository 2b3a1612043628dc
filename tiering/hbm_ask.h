// What an agent's phase asks of its blocks in device memory.
//
// Blocks that leave come back over the same bus: to leave costs twice the time
// that it takes to bring them back, and gives the device to others for as long
// as the agent waits, less that. A human is waited for 1.4 min at the median; a
// tool 0.3 s at the median and 3.6 min at p99, and 15 to 39 GB of KV take 0.3
// to 1.6 s over a bus of 25 to 50 GB/s. So a tool's wait pays only if it is
// said to be long, and half of all tools are back before their agent would be
// out: one that says nothing is taken for these.
//
// Pure. Threads: pure functions. Errors: none. Cost: a few comparisons.
#ifndef AGENTMEM_TIERING_HBM_ASK_H_
#define AGENTMEM_TIERING_HBM_ASK_H_

#include <cstdint>

#include "base/clock.h"
#include "tiering/policy.h"

namespace agentmem::tiering {

enum class HbmAsk : std::uint8_t {
  kNothing = 0,
  kEmpty = 1,      // no block of the agent stays
  kBringBack = 2,  // what left comes back
};

// A tool's wait of so many reloads pays: an eta is no promise, and a reload in
// vain, of a tool that was back at once, is a tenth of what was announced.
inline constexpr std::int64_t kToolReloads = 10;

// `reload_ns`: to bring an agent's blocks back. `left`: the last that was asked
// of it was to leave.
HbmAsk AskOf(Phase phase, DurationNs eta, DurationNs reload_ns, bool left);

}  // namespace agentmem::tiering

#endif  // AGENTMEM_TIERING_HBM_ASK_H_
