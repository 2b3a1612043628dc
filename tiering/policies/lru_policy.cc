#include "tiering/policies/lru_policy.h"

#include "base/check.h"

namespace agentmem::tiering {
namespace {

// How far Coldest looks ahead for clean blocks: one bit each in a word.
constexpr int kLookAheadBlocks = 64;

std::uint64_t HotBytesMax(const LruOptions& options) {
  AGENTMEM_CHECK(options.cold_share >= 0 && options.cold_share <= 1);
  return static_cast<std::uint64_t>(static_cast<double>(options.budget_bytes) *
                                    (1 - options.cold_share));
}

}  // namespace

LruPolicy::LruPolicy(const LruOptions& options)
    : hot_bytes_max_(HotBytesMax(options)),
      nodes_(options.slots),
      order_links_(options.slots),
      queue_links_(options.slots),
      hot_(order_links_.data()),
      cold_(order_links_.data()),
      state_queue_(queue_links_.data()),
      cache_queue_(queue_links_.data()) {
  AGENTMEM_CHECK(options.slots > 0 && options.slots < kNoSlot);
}

LruPolicy::Node& LruPolicy::NodeOf(SlotIndex slot) {
  AGENTMEM_CHECK(!offering_);
  AGENTMEM_CHECK(slot.value() < nodes_.size());
  return nodes_[slot.value()];
}

void LruPolicy::Inserted(const BlockInfo& block, InsertCause /*cause*/,
                         TimeNs /*now*/) {
  Node& node = NodeOf(block.slot);
  AGENTMEM_CHECK(node.part == Part::kAbsent);
  node = Node{};
  node.bytes = block.bytes;
  node.block_class = block.block_class;
  node.below = block.below;
  if (node.block_class == BlockClass::kState) Queue(block.slot.value());
  EnterHot(block.slot.value());
  AgeUntilHotFits();
}

void LruPolicy::Accessed(SlotIndex slot, TimeNs /*now*/) {
  const Node& node = NodeOf(slot);
  AGENTMEM_CHECK(node.part != Part::kAbsent);
  if (node.part == Part::kHot && hot_.front() == slot.value()) return;
  if (node.block_class == BlockClass::kCache) Unqueue(slot.value());
  LeavePart(slot.value());
  EnterHot(slot.value());
  AgeUntilHotFits();
}

void LruPolicy::Removed(SlotIndex slot, TimeNs /*now*/) {
  AGENTMEM_CHECK(NodeOf(slot).part != Part::kAbsent);
  Unqueue(slot.value());
  LeavePart(slot.value());
}

void LruPolicy::StoredBelow(SlotIndex slot, TimeNs /*now*/) {
  Node& node = NodeOf(slot);
  AGENTMEM_CHECK(node.part != Part::kAbsent);
  node.below = true;
  Unqueue(slot.value());
}

HintAnswer LruPolicy::Hinted(const PhaseHint& /*hint*/, TimeNs /*now*/) {
  return HintAnswer::kDeferred;
}

void LruPolicy::Decide(TimeNs /*now*/, std::size_t count_max,
                       std::vector<Decision>* decisions) {
  AGENTMEM_CHECK(!offering_);
  for (std::size_t count = 0; count < count_max; ++count) {
    const SlotList& queue = state_queue_.empty() ? cache_queue_ : state_queue_;
    if (queue.empty()) return;
    const std::uint32_t slot = queue.back();
    Unqueue(slot);
    nodes_[slot].decided = true;
    decisions->push_back({Decision::Kind::kWriteThrough, SlotIndex(slot)});
  }
}

// Clean blocks first, within a short look-ahead: dropping a clean block loses
// nothing (it is promoted again at the price of a read), dropping a dirty
// `cache` block loses the only copy and costs a computation, and a dirty
// `state` block cannot leave at all. All of the first 64 would leave soon
// anyway, so letting one go a few places early costs hardly a hit, and the
// bound keeps the rest of the order exact and the search short. It ends where
// hot begins: a hot block is not sacrificed for being clean.
void LruPolicy::Coldest(TimeNs /*now*/,
                        const std::function<Verdict(SlotIndex)>& offer) {
  AGENTMEM_CHECK(!offering_);
  offering_ = true;  // `offer` must not call into the policy: the list stands
  bool stopped = false;
  std::uint64_t offered = OfferCleanAmongColdest(offer, &stopped);
  std::uint32_t slot = cold_.empty() ? hot_.back() : cold_.back();
  while (!stopped && slot != kNoSlot) {
    // Bit 0 of `offered` belongs to this slot, and past the look-ahead is 0.
    if ((offered & 1) == 0) {
      stopped = offer(SlotIndex(slot)) == Verdict::kStop;
    }
    offered >>= 1;
    slot = Warmer(slot);
  }
  offering_ = false;
}

// Returns a bit for each of the coldest blocks, the coldest lowest: offered?
std::uint64_t LruPolicy::OfferCleanAmongColdest(
    const std::function<Verdict(SlotIndex)>& offer, bool* stopped) const {
  std::uint64_t offered = 0;
  std::uint32_t slot = cold_.back();
  for (int i = 0; i < kLookAheadBlocks && slot != kNoSlot && !*stopped; ++i) {
    if (nodes_[slot].below) {
      offered |= std::uint64_t{1} << i;
      *stopped = offer(SlotIndex(slot)) == Verdict::kStop;
    }
    slot = cold_.TowardsFront(slot);
  }
  return offered;
}

// The next more recently used slot, over the border from cold to hot.
std::uint32_t LruPolicy::Warmer(std::uint32_t slot) const {
  const std::uint32_t warmer = cold_.TowardsFront(slot);
  if (warmer != kNoSlot || nodes_[slot].part == Part::kHot) return warmer;
  return hot_.back();
}

void LruPolicy::LeavePart(std::uint32_t slot) {
  Node& node = nodes_[slot];
  if (node.part == Part::kHot) {
    hot_.Remove(slot);
    hot_bytes_ -= node.bytes;
  } else {
    cold_.Remove(slot);
    cold_bytes_ -= node.bytes;
  }
  node.part = Part::kAbsent;
}

void LruPolicy::EnterHot(std::uint32_t slot) {
  Node& node = nodes_[slot];
  hot_.PushFront(slot);
  hot_bytes_ += node.bytes;
  node.part = Part::kHot;
}

void LruPolicy::AgeUntilHotFits() {
  while (hot_bytes_ > hot_bytes_max_) {
    const std::uint32_t slot = hot_.back();
    LeavePart(slot);
    cold_.PushFront(slot);
    cold_bytes_ += nodes_[slot].bytes;
    nodes_[slot].part = Part::kCold;
    Queue(slot);
  }
}

void LruPolicy::Queue(std::uint32_t slot) {
  Node& node = nodes_[slot];
  if (node.below || node.queued || node.decided) return;
  QueueOf(slot).PushFront(slot);
  node.queued = true;
}

void LruPolicy::Unqueue(std::uint32_t slot) {
  if (!nodes_[slot].queued) return;
  QueueOf(slot).Remove(slot);
  nodes_[slot].queued = false;
}

SlotList& LruPolicy::QueueOf(std::uint32_t slot) {
  return nodes_[slot].block_class == BlockClass::kState ? state_queue_
                                                        : cache_queue_;
}

std::unique_ptr<Policy> MakeLruPolicy(const LruOptions& options) {
  return std::make_unique<LruPolicy>(options);
}

}  // namespace agentmem::tiering
