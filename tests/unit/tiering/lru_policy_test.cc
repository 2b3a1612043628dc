#include "tiering/policies/lru_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <list>
#include <random>
#include <set>
#include <vector>

namespace agentmem::tiering {
namespace {

BlockInfo Block(std::uint32_t slot, std::uint32_t bytes = 1,
                BlockClass block_class = BlockClass::kCache,
                bool below = false) {
  BlockInfo block;
  block.slot = SlotIndex(slot);
  block.key = Key::FromWords(slot, 0);
  block.block_class = block_class;
  block.bytes = bytes;
  block.below = below;
  return block;
}

std::vector<std::uint32_t> AllOffered(Policy* policy,
                                      Verdict verdict = Verdict::kSkip) {
  std::vector<std::uint32_t> offered;
  policy->Coldest(0, [&](SlotIndex slot) {
    offered.push_back(slot.value());
    return verdict;
  });
  return offered;
}

std::vector<std::uint32_t> Decided(Policy* policy, std::size_t max = 1000) {
  std::vector<Decision> decisions;
  policy->Decide(0, max, &decisions);
  std::vector<std::uint32_t> slots;
  for (const Decision& decision : decisions) {
    EXPECT_EQ(decision.kind, Decision::Kind::kWriteThrough);
    slots.push_back(decision.slot.value());
  }
  return slots;
}

using Slots = std::vector<std::uint32_t>;

TEST(LruPolicyTest, OffersTheLeastRecentlyUsedFirst) {
  LruPolicy policy({.slots = 8, .budget_bytes = 8});
  for (std::uint32_t slot : {3, 1, 4, 5}) {
    policy.Inserted(Block(slot), InsertCause::kPut, 0);
  }
  policy.Accessed(SlotIndex(1), 0);
  EXPECT_EQ(AllOffered(&policy), (Slots{3, 4, 5, 1}));
  policy.Removed(SlotIndex(4), 0);
  EXPECT_EQ(AllOffered(&policy), (Slots{3, 5, 1}));
}

TEST(LruPolicyTest, OffersNothingWhenEmptyAndTheOnlyBlockOnce) {
  LruPolicy policy({.slots = 1, .budget_bytes = 1});
  EXPECT_EQ(AllOffered(&policy), Slots{});
  policy.Inserted(Block(0), InsertCause::kPut, 0);
  EXPECT_EQ(AllOffered(&policy), Slots{0});
}

TEST(LruPolicyTest, StopsAtTheFirstStop) {
  LruPolicy policy({.slots = 8, .budget_bytes = 4, .cold_share = 1});
  policy.Inserted(Block(0), InsertCause::kPut, 0);
  policy.Inserted(Block(1, 1, BlockClass::kCache, true), InsertCause::kPut, 0);
  policy.Inserted(Block(2), InsertCause::kPut, 0);
  EXPECT_EQ(AllOffered(&policy, Verdict::kStop), Slots{1});
}

TEST(LruPolicyTest, TakenBlocksAreNotOfferedAgainAfterRemoved) {
  LruPolicy policy({.slots = 4, .budget_bytes = 4});
  for (std::uint32_t slot = 0; slot < 4; ++slot) {
    policy.Inserted(Block(slot), InsertCause::kPut, 0);
  }
  EXPECT_EQ(AllOffered(&policy, Verdict::kTake), (Slots{0, 1, 2, 3}));
  policy.Removed(SlotIndex(0), 0);
  policy.Removed(SlotIndex(1), 0);
  EXPECT_EQ(AllOffered(&policy), (Slots{2, 3}));
}

TEST(LruPolicyTest, CleanColdBlocksAreOfferedBeforeDirtyColderOnes) {
  // Hot holds 6 of 8: slots 2 to 7. Cold: 0, 1.
  LruPolicy policy({.slots = 8, .budget_bytes = 8, .cold_share = 0.25});
  for (std::uint32_t slot = 0; slot < 8; ++slot) {
    policy.Inserted(Block(slot), InsertCause::kPut, 0);
  }
  policy.StoredBelow(SlotIndex(1), 0);
  policy.StoredBelow(SlotIndex(5), 0);  // clean, but hot: keeps its place
  EXPECT_EQ(AllOffered(&policy), (Slots{1, 0, 2, 3, 4, 5, 6, 7}));
}

TEST(LruPolicyTest, LooksAheadForCleanBlocksNoFurtherThan64) {
  LruPolicy policy({.slots = 200, .budget_bytes = 200, .cold_share = 1});
  for (std::uint32_t slot = 0; slot < 200; ++slot) {
    const bool below = slot == 63 || slot == 64;
    policy.Inserted(Block(slot, 1, BlockClass::kCache, below),
                    InsertCause::kPut, 0);
  }
  Slots expected = {63};
  for (std::uint32_t slot = 0; slot < 200; ++slot) {
    if (slot != 63) expected.push_back(slot);
  }
  EXPECT_EQ(AllOffered(&policy), expected);
}

TEST(LruPolicyTest, AgeingDecidesWriteThroughOnceInAStay) {
  LruPolicy policy({.slots = 8, .budget_bytes = 4, .cold_share = 0.5});
  for (std::uint32_t slot = 0; slot < 3; ++slot) {
    policy.Inserted(Block(slot), InsertCause::kPut, 0);
  }
  EXPECT_EQ(policy.hot_bytes(), 2u);
  EXPECT_EQ(policy.cold_bytes(), 1u);
  EXPECT_EQ(Decided(&policy), Slots{0});
  policy.Accessed(SlotIndex(0), 0);  // 1 ages
  policy.Accessed(SlotIndex(2), 0);
  policy.Accessed(SlotIndex(1), 0);  // 0 ages again
  EXPECT_EQ(Decided(&policy), Slots{}) << "1 was called back, 0 was decided";
  policy.Removed(SlotIndex(0), 0);
  policy.Inserted(Block(0), InsertCause::kPromoted, 0);  // 2 ages
  policy.Inserted(Block(3), InsertCause::kPut, 0);       // 1 ages
  policy.Inserted(Block(4), InsertCause::kPut, 0);       // 0, in a new stay
  EXPECT_EQ(Decided(&policy), (Slots{2, 1, 0}));
}

TEST(LruPolicyTest, NothingAgesWhileTheTierHasRoom) {
  LruPolicy policy({.slots = 8, .budget_bytes = 800, .cold_share = 0.25});
  for (std::uint32_t slot = 0; slot < 6; ++slot) {
    policy.Inserted(Block(slot, 100), InsertCause::kPut, 0);
  }
  EXPECT_EQ(policy.cold_bytes(), 0u);
  EXPECT_EQ(Decided(&policy), Slots{});
}

TEST(LruPolicyTest, StateIsWrittenThroughWhenInsertedAndBeforeCache) {
  LruPolicy policy({.slots = 8, .budget_bytes = 4, .cold_share = 1});
  policy.Inserted(Block(0), InsertCause::kPut, 0);
  policy.Inserted(Block(1, 1, BlockClass::kState), InsertCause::kPut, 0);
  policy.Inserted(Block(2, 1, BlockClass::kState, true), InsertCause::kPromoted,
                  0);
  policy.Accessed(SlotIndex(1), 0);  // does not call a state decision back
  EXPECT_EQ(Decided(&policy, 1), Slots{1});
  EXPECT_EQ(Decided(&policy), Slots{0});
  EXPECT_EQ(Decided(&policy), Slots{});
}

TEST(LruPolicyTest, WhatIsBelowOrGoneIsNotWrittenThrough) {
  LruPolicy policy({.slots = 8, .budget_bytes = 4, .cold_share = 1});
  for (std::uint32_t slot = 0; slot < 3; ++slot) {
    policy.Inserted(Block(slot, 1, BlockClass::kState), InsertCause::kPut, 0);
  }
  policy.StoredBelow(SlotIndex(0), 0);
  policy.Removed(SlotIndex(1), 0);
  EXPECT_EQ(Decided(&policy), Slots{2});
}

TEST(LruPolicyTest, HintsAreDeferred) {
  LruPolicy policy({.slots = 1, .budget_bytes = 1});
  EXPECT_EQ(policy.Hinted({.agent = 1, .phase = Phase::kDone}, 0),
            HintAnswer::kDeferred);
}

TEST(LruPolicyDeathTest, BrokenPreconditionsAreChecked) {
  LruPolicy policy({.slots = 2, .budget_bytes = 2});
  EXPECT_DEATH(policy.Accessed(SlotIndex(0), 0), "invariant broken");
  EXPECT_DEATH(policy.Removed(SlotIndex(2), 0), "invariant broken");
  policy.Inserted(Block(0), InsertCause::kPut, 0);
  EXPECT_DEATH(policy.Inserted(Block(0), InsertCause::kPut, 0),
               "invariant broken");
  EXPECT_DEATH(policy.Coldest(0,
                              [&](SlotIndex slot) {
                                policy.Removed(slot, 0);
                                return Verdict::kTake;
                              }),
               "invariant broken");
}

// The same policy written for clarity: one list, everything found by search.
class ReferenceModel {
 public:
  struct Entry {
    std::uint32_t slot;
    std::uint32_t bytes;
    BlockClass block_class;
    bool below;
    bool cold = false;
    bool decided = false;
  };

  explicit ReferenceModel(std::uint64_t hot_bytes_max)
      : hot_bytes_max_(hot_bytes_max) {}

  void Insert(const BlockInfo& block) {
    entries_.push_front(
        {block.slot.value(), block.bytes, block.block_class, block.below});
    if (block.block_class == BlockClass::kState) Want(entries_.front());
    Age();
  }
  void Access(std::uint32_t slot) {
    const auto entry = Find(slot);
    if (entry == entries_.begin() && !entry->cold) return;
    if (entry->block_class == BlockClass::kCache) cache_wanted_.remove(slot);
    entry->cold = false;
    entries_.splice(entries_.begin(), entries_, entry);
    Age();
  }
  void Remove(std::uint32_t slot) {
    Unwant(slot);
    entries_.erase(Find(slot));
  }
  void Store(std::uint32_t slot) {
    Unwant(slot);
    Find(slot)->below = true;
  }
  Slots Decide(std::size_t max) {
    Slots slots;
    for (std::list<std::uint32_t>* wanted : {&state_wanted_, &cache_wanted_}) {
      while (!wanted->empty() && slots.size() < max) {
        slots.push_back(wanted->front());
        Find(wanted->front())->decided = true;
        wanted->pop_front();
      }
    }
    return slots;
  }
  Slots Coldest() const {
    Slots clean;
    Slots others;
    int position = 0;
    for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) {
      const bool first = position++ < 64 && entry->cold && entry->below;
      (first ? clean : others).push_back(entry->slot);
    }
    clean.insert(clean.end(), others.begin(), others.end());
    return clean;
  }
  std::uint64_t Bytes(bool cold) const {
    std::uint64_t bytes = 0;
    for (const Entry& entry : entries_) {
      if (entry.cold == cold) bytes += entry.bytes;
    }
    return bytes;
  }

 private:
  std::list<Entry>::iterator Find(std::uint32_t slot) {
    return std::find_if(entries_.begin(), entries_.end(),
                        [slot](const Entry& e) { return e.slot == slot; });
  }
  void Age() {
    while (Bytes(false) > hot_bytes_max_) {
      const auto hot = std::find_if(entries_.rbegin(), entries_.rend(),
                                    [](const Entry& e) { return !e.cold; });
      hot->cold = true;
      Want(*hot);
    }
  }
  void Want(const Entry& entry) {
    std::list<std::uint32_t>& wanted =
        entry.block_class == BlockClass::kState ? state_wanted_ : cache_wanted_;
    const bool queued =
        std::count(wanted.begin(), wanted.end(), entry.slot) != 0;
    if (!entry.below && !entry.decided && !queued) wanted.push_back(entry.slot);
  }
  void Unwant(std::uint32_t slot) {
    state_wanted_.remove(slot);
    cache_wanted_.remove(slot);
  }

  const std::uint64_t hot_bytes_max_;
  std::list<Entry> entries_;  // the most recently used first
  std::list<std::uint32_t> state_wanted_;
  std::list<std::uint32_t> cache_wanted_;
};

class LruPolicyRandomTest : public ::testing::TestWithParam<double> {};

TEST_P(LruPolicyRandomTest, DoesWhatTheReferenceModelDoes) {
  constexpr std::uint32_t kSlots = 160;
  constexpr std::uint64_t kBudget = 400;
  const double cold_share = GetParam();
  for (std::uint32_t seed = 1; seed <= 5; ++seed) {
    LruPolicy policy(
        {.slots = kSlots, .budget_bytes = kBudget, .cold_share = cold_share});
    ReferenceModel model(
        static_cast<std::uint64_t>(kBudget * (1 - cold_share)));
    std::mt19937 random(seed);
    std::set<std::uint32_t> inserted;
    std::uint64_t inserted_bytes = 0;
    std::vector<std::uint32_t> bytes_of(kSlots);
    for (int step = 0; step < 6000; ++step) {
      const std::uint32_t slot = random() % kSlots;
      const std::uint32_t action = random() % 16;
      if (inserted.count(slot) == 0) {
        if (action >= 6) continue;
        const BlockInfo block =
            Block(slot, 1 + random() % 9,
                  action < 2 ? BlockClass::kState : BlockClass::kCache,
                  random() % 4 == 0);
        policy.Inserted(block, InsertCause::kPut, step);
        model.Insert(block);
        inserted.insert(slot);
        bytes_of[slot] = block.bytes;
        inserted_bytes += block.bytes;
      } else if (action < 9) {
        policy.Accessed(SlotIndex(slot), step);
        model.Access(slot);
      } else if (action < 12) {
        policy.Removed(SlotIndex(slot), step);
        model.Remove(slot);
        inserted.erase(slot);
        inserted_bytes -= bytes_of[slot];
      } else if (action < 14) {
        policy.StoredBelow(SlotIndex(slot), step);
        model.Store(slot);
      } else {
        const std::size_t max = random() % 6;
        ASSERT_EQ(Decided(&policy, max), model.Decide(max)) << step;
      }
      ASSERT_EQ(policy.hot_bytes() + policy.cold_bytes(), inserted_bytes);
      ASSERT_EQ(policy.cold_bytes(), model.Bytes(true)) << step;
      if (step % 16 == 0) {
        ASSERT_EQ(AllOffered(&policy), model.Coldest()) << step;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(ColdShares, LruPolicyRandomTest,
                         ::testing::Values(0.0, 0.25, 1.0));

}  // namespace
}  // namespace agentmem::tiering
