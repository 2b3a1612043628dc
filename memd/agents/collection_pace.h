// When a tenant's garbage is collected (collection_thread.h): every so often;
// and early when nodes have no room for copies, since garbage may be what takes
// it.
//
// An early round costs what any does, so they keep a distance that nobody who
// fills the memory can make shorter: kRestTimes what the last round took, and a
// pause. That is kPauseNsMin, and twice as long after each early round that
// freed little, up to kPauseTimes the usual distance; a round that freed
// something makes it short again. The usual rounds come as if there were no
// early ones.
//
// Ownership: a value. Threads: thread-compatible. Errors: none. Cost: O(1).
#ifndef AGENTMEM_MEMD_AGENTS_COLLECTION_PACE_H_
#define AGENTMEM_MEMD_AGENTS_COLLECTION_PACE_H_

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace agentmem {

class CollectionPace {
 public:
  // Shorter than a put waits for room (kPutPatienceNs in pool_timing.h).
  static constexpr DurationNs kPauseNsMin = 400 * kMillisecondNs;
  static constexpr int kPauseTimes = 6;
  static constexpr int kRestTimes = 8;
  // Fewer blocks than that are little.
  static constexpr std::uint64_t kWorthBlocks = 16;

  CollectionPace(DurationNs every, TimeNs now)
      : every_(every),
        pause_(std::min(kPauseNsMin, every)),
        next_(now + every),
        early_(now + pause_) {}

  // When the next round is; `wanted`: early, if it may be.
  TimeNs Next(bool wanted) const {
    return wanted ? std::min(next_, early_) : next_;
  }
  bool IsEarly(TimeNs now) const { return now < next_; }

  // A round that began then, and dropped so many blocks.
  void Ended(TimeNs began, TimeNs now, std::uint64_t dropped) {
    const bool early = IsEarly(began);
    if (dropped >= kWorthBlocks) {
      pause_ = std::min(kPauseNsMin, every_);
    } else if (early) {
      pause_ = std::min(2 * pause_, kPauseTimes * every_);
    }
    early_ = now + std::max(pause_, kRestTimes * (now - began));
    if (!early) next_ = now + every_;
  }
  // It was time for a round that then was none: that says nothing of what
  // rounds are worth.
  void Skipped(TimeNs now) {
    if (!IsEarly(now)) next_ = now + every_;
    early_ = now + std::min(kPauseNsMin, every_);
  }

 private:
  const DurationNs every_;
  DurationNs pause_;
  TimeNs next_;
  TimeNs early_;  // not before
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_COLLECTION_PACE_H_
