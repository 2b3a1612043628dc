#include "tiering/warmth.h"

namespace agentmem::tiering {
namespace {

bool SaysWhen(const PhaseHint& hint) {
  return hint.eta > 0 && hint.phase != Phase::kReasoning &&
         hint.phase != Phase::kDone;
}

}  // namespace

Warmth WarmthOf(const PhaseHint& hint, TimeNs said_at, TimeNs now) {
  if (SaysWhen(hint)) {
    const DurationNs waited = now - said_at;
    // (Differences: an eta may be as long as it likes.)
    if (waited >= hint.eta ? waited - hint.eta < kSoonNs
                           : hint.eta - waited < kSoonNs) {
      return Warmth::kWorking;
    }
  }
  switch (hint.phase) {
    case Phase::kReasoning:
      return Warmth::kWorking;
    case Phase::kTool:
      return Warmth::kTool;
    case Phase::kHumanWait:
      return Warmth::kHumanWait;
    case Phase::kIdle:
      return Warmth::kIdle;
    case Phase::kDone:
      return Warmth::kDone;
  }
  return Warmth::kWorking;
}

TimeNs NextChange(const PhaseHint& hint, TimeNs said_at, TimeNs now) {
  if (!SaysWhen(hint) || hint.eta > kNoDeadline - said_at - kSoonNs) {
    return kNoDeadline;
  }
  const TimeNs ends = said_at + hint.eta;
  // Warm while ends - kSoonNs < now < ends + kSoonNs.
  if (now <= ends - kSoonNs) return ends - kSoonNs + 1;
  if (now < ends + kSoonNs) return ends + kSoonNs;
  return kNoDeadline;
}

}  // namespace agentmem::tiering
