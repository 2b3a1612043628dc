// Exact least recently used, split in a hot and a cold part.
//
// The life of a block. Inserted puts it at the front of hot; every access puts
// it there again. When hot holds more than (1 - cold_share) of the budget, its
// last block ages: it goes to the front of cold. So, front to back, hot
// followed by cold is always the exact LRU order, and in a full tier cold holds
// about cold_share of the budget. While the tier is not full, cold is smaller
// or empty: nothing has to leave soon, so nothing is prepared for leaving. A
// removal from hot does not bring cold blocks back; only an access does.
//
// Going down is prepared before it is needed. Write-through is decided, once
// in a block's stay (from Inserted to Removed) and only while no copy is below:
//   - for a `state` block, when it is inserted;
//   - for a `cache` block, when it ages. If it is accessed before Decide gave
//     the decision, the decision waits for its next ageing: a hot block needs
//     no copy below.
// `state` decisions are given before `cache` decisions, each kind in the order
// of its events. A write that fails is not decided again in the same stay; the
// caller repeats it, or sends Removed and Inserted.
//
// Coldest offers every block at most once in a call, `state` blocks without a
// copy below included: that they must not be dropped is the caller's rule, and
// it answers kSkip.
//
// Ownership: owns its tables, about 25 bytes a slot. Threads:
// thread-compatible. Errors: a broken precondition is a check. Cost: O(1) an
// event, amortized (an insert may age several smaller blocks); no allocation
// after construction but in Decide's output.
#ifndef AGENTMEM_TIERING_POLICIES_LRU_POLICY_H_
#define AGENTMEM_TIERING_POLICIES_LRU_POLICY_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "tiering/policies/slot_list.h"
#include "tiering/policy.h"

namespace agentmem::tiering {

struct LruOptions {
  std::uint32_t slots = 0;         // 1 to 2^32 - 2; slot indices are below it
  std::uint64_t budget_bytes = 0;  // of the tier
  double cold_share = 0.25;        // 0 to 1, of budget_bytes
};

class LruPolicy final : public Policy {
 public:
  explicit LruPolicy(const LruOptions& options);

  const char* name() const override { return "lru"; }
  void Inserted(const BlockInfo& block, InsertCause cause, TimeNs now) override;
  void Accessed(SlotIndex slot, TimeNs now) override;
  void Removed(SlotIndex slot, TimeNs now) override;
  void StoredBelow(SlotIndex slot, TimeNs now) override;
  // Always kDeferred: recency alone decides here.
  HintAnswer Hinted(const PhaseHint& hint, TimeNs now) override;
  void Decide(TimeNs now, std::size_t count_max,
              std::vector<Decision>* decisions) override;
  void Coldest(TimeNs now,
               const std::function<Verdict(SlotIndex)>& offer) override;

  std::uint64_t hot_bytes() const { return hot_bytes_; }
  std::uint64_t cold_bytes() const { return cold_bytes_; }

 private:
  enum class Part : std::uint8_t { kAbsent, kHot, kCold };

  struct Node {
    std::uint32_t bytes = 0;
    Part part = Part::kAbsent;
    BlockClass block_class = BlockClass::kCache;
    bool below : 1 = false;
    bool queued : 1 = false;   // a decision waits for Decide
    bool decided : 1 = false;  // Decide gave it in this stay
  };

  Node& NodeOf(SlotIndex slot);
  void LeavePart(std::uint32_t slot);
  void EnterHot(std::uint32_t slot);
  void AgeUntilHotFits();
  void Queue(std::uint32_t slot);
  void Unqueue(std::uint32_t slot);
  SlotList& QueueOf(std::uint32_t slot);
  std::uint32_t Warmer(std::uint32_t slot) const;
  std::uint64_t OfferCleanAmongColdest(
      const std::function<Verdict(SlotIndex)>& offer, bool* stopped) const;

  const std::uint64_t hot_bytes_max_;
  std::vector<Node> nodes_;
  std::vector<SlotLinks> order_links_;
  std::vector<SlotLinks> queue_links_;
  SlotList hot_;
  SlotList cold_;
  SlotList state_queue_;  // decisions not given yet, the oldest at the back
  SlotList cache_queue_;
  std::uint64_t hot_bytes_ = 0;
  std::uint64_t cold_bytes_ = 0;
  bool offering_ = false;
};

std::unique_ptr<Policy> MakeLruPolicy(const LruOptions& options);

}  // namespace agentmem::tiering

#endif  // AGENTMEM_TIERING_POLICIES_LRU_POLICY_H_
