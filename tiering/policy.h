// The policy of one tenant's DRAM tier: events in, decisions out.
//
// Pure: no threads, no I/O, no clock, no logging, no allocation proportional to
// anything but the number of slots; time is passed in. The same code runs in
// memd and in the simulator.
//
// A block is known by its slot while it is in DRAM. Events must be true (a slot
// is inserted once before it is touched or removed); memd checks clients, not
// the policy.
//
// Ownership: of its books only. Threads: thread-compatible. Errors: none; a
// broken precondition is a check. Cost: O(1) an event; Coldest is O(answers +
// skipped).
#ifndef AGENTMEM_TIERING_POLICY_H_
#define AGENTMEM_TIERING_POLICY_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "proto/types.h"

namespace agentmem::tiering {

// What an agent is doing: a hint, never a promise. Order and values are final.
enum class Phase : std::uint8_t {
  kReasoning = 1,
  kTool = 2,
  kHumanWait = 3,
  kIdle = 4,
  kDone = 5,
};

// What was done with a hint.
enum class HintAnswer : std::uint8_t {
  kAccepted = 1,
  kClipped = 2,
  kDeferred = 3,
  kRejected = 4,
};

struct PhaseHint {
  std::uint64_t agent = 0;
  Phase phase = Phase::kIdle;
  DurationNs eta = 0;  // 0: unknown
};

struct BlockInfo {
  SlotIndex slot;
  Key key;
  BlockClass block_class = BlockClass::kCache;
  std::uint32_t bytes = 0;  // of the slot: what dropping it gives back
  bool below = false;       // a copy is in the tier below
};

enum class InsertCause : std::uint8_t { kPut = 1, kPromoted = 2 };

struct Decision {
  enum class Kind : std::uint8_t {
    kWriteThrough = 1,  // copy the block down, so that dropping it is cheap
  };
  Kind kind = Kind::kWriteThrough;
  SlotIndex slot;
};

// What Coldest's caller says of an offered victim.
enum class Verdict : std::uint8_t {
  kTake = 1,  // the caller drops it: it will send Removed for it
  kSkip = 2,  // not now (pinned, being written): offer the next
  kStop = 3,  // enough; not taken
};

class Policy {
 public:
  virtual ~Policy() = default;

  virtual const char* name() const = 0;

  // Events.
  virtual void Inserted(const BlockInfo& block, InsertCause cause,
                        TimeNs now) = 0;
  virtual void Accessed(SlotIndex slot, TimeNs now) = 0;
  virtual void Removed(SlotIndex slot, TimeNs now) = 0;
  virtual void StoredBelow(SlotIndex slot, TimeNs now) = 0;
  virtual HintAnswer Hinted(const PhaseHint& hint, TimeNs now) = 0;

  // The decisions that follow from the events so far; each is given once.
  // Appends at most `count_max`.
  virtual void Decide(TimeNs now, std::size_t count_max,
                      std::vector<Decision>* decisions) = 0;

  // Offers blocks in the order in which they should leave until `offer` stops
  // it or none is left. `offer` must not call into the policy.
  virtual void Coldest(TimeNs now,
                       const std::function<Verdict(SlotIndex)>& offer) = 0;
};

}  // namespace agentmem::tiering

#endif  // AGENTMEM_TIERING_POLICY_H_
