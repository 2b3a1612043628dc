// In which order agents' working memory leaves under pressure, by what they say
// that they do.
//
// A hint can only make memory leave sooner than without one: who says nothing
// is as warm as who is at work, so that to lie gains nothing.
//
// Pure: no clock; times are passed in. Threads: pure functions. Errors: none.
// Cost: a few comparisons.
#ifndef AGENTMEM_TIERING_WARMTH_H_
#define AGENTMEM_TIERING_WARMTH_H_

#include <cstdint>

#include "base/clock.h"
#include "tiering/policy.h"

namespace agentmem::tiering {

// The lower, the sooner.
enum class Warmth : std::uint8_t {
  kDone = 1,       // not expected back
  kIdle = 2,       // nobody has asked for it
  kHumanWait = 3,  // minutes
  kTool = 4,       // seconds
  kWorking = 5,    // now
};

// Less than it takes to read a working set back. A phase that is said to end so
// soon, or was by so little ago, is work.
inline constexpr DurationNs kSoonNs = kSecondNs;

// `said_at`: when it said so, with `hint.eta` from then on. `now` >= `said_at`.
Warmth WarmthOf(const PhaseHint& hint, TimeNs said_at, TimeNs now);

// When WarmthOf answers something else without another hint; kNoDeadline:
// never.
TimeNs NextChange(const PhaseHint& hint, TimeNs said_at, TimeNs now);

}  // namespace agentmem::tiering

#endif  // AGENTMEM_TIERING_WARMTH_H_
