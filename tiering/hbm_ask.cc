#include "tiering/hbm_ask.h"

namespace agentmem::tiering {

HbmAsk AskOf(Phase phase, DurationNs eta, DurationNs reload_ns, bool left) {
  switch (phase) {
    case Phase::kReasoning:
      return left ? HbmAsk::kBringBack : HbmAsk::kNothing;
    case Phase::kTool:
      // (A quotient: a reload may be as long as it likes.)
      return eta / kToolReloads > reload_ns ? HbmAsk::kEmpty : HbmAsk::kNothing;
    case Phase::kHumanWait:
    case Phase::kIdle:
    case Phase::kDone:
      return HbmAsk::kEmpty;
  }
  return HbmAsk::kNothing;
}

}  // namespace agentmem::tiering
