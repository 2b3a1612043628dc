// HbmLedger: what is wished for, and what an operator sees.
#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/memd/agents/hbm_ledger_harness.h"

namespace agentmem {
namespace {

TEST_F(HbmLedgerTest, APhaseEmptiesAndReasoningBringsBack) {
  Open(kOne, 1, 100);
  Report(1, {UseOf("a", 3), UseOf("b", 2)});
  EXPECT_TRUE(ledger_->SetPhase(kOne, "a", AgentPhase::kHumanWait, 0));
  EXPECT_EQ(Moves(1), 1);
  const TimeNs said = clock_.Now();
  auto wishes = Report(1).wishes;
  ASSERT_EQ(wishes.size(), 1u);
  const HbmWish empty = wishes[0];
  EXPECT_STREQ(empty.agent, "a");
  EXPECT_EQ(empty.kind, HbmWishKind::kEmpty);
  EXPECT_EQ(empty.phase, AgentPhase::kHumanWait);
  EXPECT_EQ(empty.deadline_ns, said + kLeave);
  // It is repeated, as it was, and not asked for twice.
  clock_.Advance(20 * kMillisecondNs);
  EXPECT_TRUE(ledger_->SetPhase(kOne, "a", AgentPhase::kIdle, 0));
  EXPECT_EQ(Moves(1), 0);
  wishes = Report(1, {UseOf("a", 1)}).wishes;
  ASSERT_EQ(wishes.size(), 1u);
  EXPECT_EQ(std::memcmp(&wishes[0], &empty, sizeof(empty)), 0);
  EXPECT_EQ(EntryOf("a").wish_open, 1);
  EXPECT_EQ(EntryOf("a").wish_ns, 0u);
  EXPECT_TRUE(Report(1, {UseOf("a", 0, empty.number)}).wishes.empty());
  HbmEntry entry = EntryOf("a");
  EXPECT_EQ(entry.bytes + entry.blocks, 0u);
  EXPECT_EQ(entry.wish_open + entry.wish_late, 0);
  EXPECT_EQ(entry.wish_ns, 20u * kMillisecondNs);
  EXPECT_EQ(entry.phase, AgentPhase::kHumanWait);
  // It was in time, and there is nothing to empty any more.
  clock_.Advance(kSecondNs);
  EXPECT_EQ(EntryOf("a").wish_late, 0);
  EXPECT_TRUE(ledger_->SetPhase(kOne, "a", AgentPhase::kIdle, 0));
  EXPECT_EQ(Moves(1), 0);
  EXPECT_TRUE(Report(1).wishes.empty());

  EXPECT_TRUE(ledger_->SetPhase(kOne, "a", AgentPhase::kReasoning, 0));
  EXPECT_EQ(Moves(1), 1);
  EXPECT_TRUE(ledger_->SetPhase(kOne, "b", AgentPhase::kReasoning, 0));
  wishes = Report(1).wishes;  // b never left
  ASSERT_EQ(wishes.size(), 1u);
  EXPECT_EQ(wishes[0].kind, HbmWishKind::kBringBack);
  EXPECT_EQ(wishes[0].phase, AgentPhase::kReasoning);
  EXPECT_EQ(wishes[0].deadline_ns, kNoDeadline);
  EXPECT_GT(wishes[0].number, empty.number);
  EXPECT_TRUE(Report(1, {UseOf("a", 3, wishes[0].number)}).wishes.empty());
  EXPECT_EQ(EntryOf("a").wish, HbmWishKind::kBringBack);
  EXPECT_EQ(EntryOf("a").bytes, 3 * kMiB);
  EXPECT_TRUE(ledger_->SetPhase(kOne, "a", AgentPhase::kReasoning, 0));
  EXPECT_TRUE(Report(1).wishes.empty());
}

TEST_F(HbmLedgerTest, ALaterWishTakesThePlaceOfAnEarlierOne) {
  Open(kOne, 1, 100);
  Report(1, {UseOf("a", 3)});
  ledger_->SetPhase(kOne, "a", AgentPhase::kHumanWait, 0);
  const HbmWish first = Report(1).wishes.at(0);
  ledger_->SetPhase(kOne, "a", AgentPhase::kReasoning, 0);
  // The answer to the first comes when there is another already.
  auto wishes = Report(1, {UseOf("a", 0, first.number)}).wishes;
  ASSERT_EQ(wishes.size(), 1u);
  EXPECT_EQ(wishes[0].kind, HbmWishKind::kBringBack);
  ledger_->SetPhase(kOne, "a", AgentPhase::kDone, 0);
  wishes = Report(1).wishes;
  ASSERT_EQ(wishes.size(), 1u);
  EXPECT_EQ(wishes[0].kind, HbmWishKind::kEmpty);
}

TEST_F(HbmLedgerTest, WhoDoesNotLeaveInTimeIsLate) {
  Open(kOne, 1, 100);
  Report(1, {UseOf("a", 3)});
  ledger_->SetPhase(kOne, "a", AgentPhase::kHumanWait, 0);
  clock_.Advance(kLeave);
  EXPECT_EQ(EntryOf("a").wish_late, 0);
  clock_.Advance(1);
  EXPECT_EQ(EntryOf("a").wish_late, 1);
  const HbmWish wish = Report(1).wishes.at(0);
  Report(1, {UseOf("a", 0, wish.number)});
  clock_.Advance(kSecondNs);
  EXPECT_EQ(EntryOf("a").wish_open, 0);
  EXPECT_EQ(EntryOf("a").wish_late, 1);
  EXPECT_EQ(EntryOf("a").wish_ns, static_cast<std::uint64_t>(kLeave + 1));
}

TEST_F(HbmLedgerTest, BlocksThatWereOnTheirWayLeaveToo) {
  Open(kOne, 1, 100);
  EXPECT_FALSE(ledger_->SetPhase(kOne, "a", AgentPhase::kHumanWait, 0));
  EXPECT_EQ(Report(1, {UseOf("a", 1)}).wishes.size(), 1u);
  // Answered, but with blocks that came meanwhile.
  const std::uint64_t number = Report(1).wishes.at(0).number;
  const auto wishes = Report(1, {UseOf("a", 2, number)}).wishes;
  ASSERT_EQ(wishes.size(), 1u);
  EXPECT_GT(wishes[0].number, number);
  // A new writer says nothing of what it does.
  ledger_->ForgetPhase(kOne, "a");
  EXPECT_TRUE(Report(1, {UseOf("a", 0, wishes[0].number)}).wishes.empty());
  EXPECT_TRUE(Report(1, {UseOf("a", 1)}).wishes.empty());
  // Nor does one of another tenant, or who resumes it.
  ledger_->SetPhase(kTwo, "a", AgentPhase::kHumanWait, 0);
  EXPECT_TRUE(Report(1, {UseOf("a", 2)}).wishes.empty());
  ledger_->SetPhase(kOne, "b", AgentPhase::kHumanWait, 0);
  ledger_->BringBack(kOne, "b", AgentPhase::kReasoning);
  EXPECT_TRUE(Report(1, {UseOf("b", 1)}).wishes.empty());
  ledger_->SetPhase(kOne, "b", AgentPhase::kHumanWait, 0);
  ledger_->SetPhase(kOne, "b", AgentPhase::kTool, 0);
  EXPECT_EQ(Report(1, {UseOf("b", 1)}).wishes.size(), 1u);  // not taken back
}

TEST_F(HbmLedgerTest, AnAgentLeavesAllProcessesThatHaveIt) {
  Open(kOne, 1, 50);
  Open(kOne, 2, 50);
  Open(kTwo, 3, 50);
  for (const std::uint64_t token : {1, 2}) {
    Report(token, {UseOf("a", 1), UseOf("b", 1)});
  }
  Report(3, {UseOf("a", 1)}, 100, kTwo);
  for (const std::uint64_t token : {1, 2, 3}) Moves(token);
  ledger_->Empty(kOne, "a", AgentPhase::kIdle);
  EXPECT_EQ(Moves(1), 1);
  EXPECT_EQ(Moves(2), 1);
  EXPECT_EQ(Moves(3), 0);
  ledger_->BringBack(kOne, "a", AgentPhase::kReasoning);
  EXPECT_EQ(Moves(1), 1);
  ledger_->BringBack(kOne, "b", AgentPhase::kReasoning);  // it never left
  EXPECT_EQ(Moves(1), 0);
  EXPECT_EQ(Report(1).wishes.size(), 1u);
  EXPECT_EQ(Report(1).wishes.at(0).kind, HbmWishKind::kBringBack);
  EXPECT_EQ(Report(2).wishes.at(0).kind, HbmWishKind::kBringBack);
  EXPECT_TRUE(Report(3, {}, 100, kTwo).wishes.empty());
}

TEST_F(HbmLedgerTest, MoreWishesThanFitComeOneAfterTheOther) {
  Open(kOne, 1, 100);
  std::vector<HbmUse> uses;
  for (std::size_t i = 0; i < kHbmWishesMax + 5; ++i) {
    uses.push_back(UseOf("a" + std::to_string(i), 1));
  }
  Report(1, uses);
  for (const HbmUse& use : uses) ledger_->Empty(kOne, use.agent, {});
  auto wishes = Report(1).wishes;
  ASSERT_EQ(wishes.size(), kHbmWishesMax);
  EXPECT_STREQ(wishes[0].agent, "a0");
  std::vector<HbmUse> answers;
  for (const HbmWish& wish : wishes) {
    answers.push_back(UseOf(wish.agent, 0, wish.number));
  }
  wishes = Report(1, answers).wishes;
  ASSERT_EQ(wishes.size(), 5u);
  EXPECT_STREQ(wishes[0].agent, uses[kHbmWishesMax].agent);
}

TEST_F(HbmLedgerTest, OldWishesDoNotKeepNewOnesFromBeingTold) {
  Open(kOne, 1, 100);
  std::vector<HbmUse> uses;
  for (std::size_t i = 0; i < kHbmWishesMax + 50; ++i) {
    uses.push_back(UseOf("a" + std::to_string(i), 1));
  }
  Report(1, uses);
  for (const HbmUse& use : uses) ledger_->Empty(kOne, use.agent, {});
  Moves(1);
  ASSERT_EQ(Report(1).wishes.size(), kHbmWishesMax);
  EXPECT_EQ(Moves(1), 1);  // there are more
  auto wishes = Report(1).wishes;
  ASSERT_EQ(wishes.size(), kHbmWishesMax);
  EXPECT_STREQ(wishes[0].agent, uses[kHbmWishesMax].agent);
  EXPECT_EQ(Moves(1), 0);
  Report(1, {UseOf("new", 1)});
  ledger_->Empty(kOne, "new", {});
  EXPECT_STREQ(Report(1).wishes.at(0).agent, "new");
  // None is told twice in an answer; and each comes again, at its turn.
  std::set<std::string> told;
  for (int answers = 0; answers < 2; ++answers) {
    wishes = Report(1).wishes;
    std::set<std::string> of_answer;
    for (const HbmWish& wish : wishes) of_answer.insert(wish.agent);
    EXPECT_EQ(of_answer.size(), kHbmWishesMax);
    told.merge(of_answer);
  }
  EXPECT_EQ(told.size(), uses.size() + 1);
}

TEST_F(HbmLedgerTest, APhaseIsKnownOfAnAgentWhoseProcessComesLater) {
  EXPECT_FALSE(ledger_->SetPhase(kOne, "a", AgentPhase::kHumanWait, 0));
  EXPECT_FALSE(ledger_->SetPhase(kOne, "b", AgentPhase::kHumanWait, 0));
  EXPECT_FALSE(ledger_->SetPhase(kOne, "b", AgentPhase::kReasoning, 0));
  // Also of one that lost its connection.
  for (int times = 0; times < 2; ++times) {
    Open(kOne, 1, 100);
    const auto wishes = Report(1, {UseOf("a", 1), UseOf("b", 1)}).wishes;
    ASSERT_EQ(wishes.size(), 1u);
    EXPECT_STREQ(wishes[0].agent, "a");
    EXPECT_EQ(wishes[0].kind, HbmWishKind::kEmpty);
    EXPECT_TRUE(ledger_->Close(kOne, 1));
  }
}

TEST_F(HbmLedgerTest, OfWhomItHearsFirstItSaysThatNoPhaseIsKnown) {
  Open(kOne, 1, 100);
  ledger_->SetPhase(kOne, "b", AgentPhase::kHumanWait, 0);
  using Names = std::vector<std::string>;
  EXPECT_EQ(Report(1, {UseOf("a", 1), UseOf("b", 1), UseOf("c", 0)}).unheard,
            (Names{"a"}));
  EXPECT_EQ(Report(1, {UseOf("a", 2)}).unheard, Names()) << "it is known now";
  ASSERT_TRUE(Report(1, {UseOf("a", 0)}).wishes.size() == 1) << "of b";
  EXPECT_EQ(Report(1, {UseOf("a", 1)}).unheard, (Names{"a"}));
  Open(kOne, 2, 100);
  EXPECT_EQ(Report(2, {UseOf("a", 1)}).unheard, (Names{"a"}));
}

TEST_F(HbmLedgerTest, TheListGoesOnWhereAPageEnded) {
  Open(kOne, 1, 20);
  Report(1, {UseOf("b", 1), UseOf("a", 2)});
  Open(kOne, 2, 20);
  Open(kOne, 3, 20);
  Report(3, {UseOf("c", 3)});
  const auto all = List();
  ASSERT_EQ(all.size(), 6u);
  EXPECT_STREQ(all[0].agent, "");
  EXPECT_EQ(all[0].bytes, 3 * kMiB);
  EXPECT_EQ(all[0].blocks, 3u);
  EXPECT_STREQ(all[0].client_name, "engine 1");
  EXPECT_STREQ(all[0].device, "a device");
  EXPECT_STREQ(all[1].agent, "a");
  EXPECT_STREQ(all[2].agent, "b");
  EXPECT_EQ(all[5].pid, 103);
  for (std::size_t page = 1; page <= 7; ++page) {
    std::vector<HbmEntry> joined;
    bool more = true;
    HbmLedger::Place place;
    while (more) {
      const auto entries =
          ledger_->List(kOne, joined.size(), page, &place, &more);
      ASSERT_EQ(more, joined.size() + entries.size() < all.size());
      joined.insert(joined.end(), entries.begin(), entries.end());
    }
    ASSERT_EQ(joined.size(), all.size());
    EXPECT_EQ(
        std::memcmp(joined.data(), all.data(), all.size() * sizeof(HbmEntry)),
        0);
  }
  EXPECT_TRUE(List(kTwo).empty());
}

TEST_F(HbmLedgerTest, TheListGoesOnAtItsPlaceWhateverCameAndWent) {
  Open(kOne, 1, 20);
  Report(1, {UseOf("b", 1), UseOf("d", 1)});
  Open(kOne, 3, 20);
  Report(3, {UseOf("a", 1)});
  HbmLedger::Place place;
  bool more = false;
  const auto next = [&](std::uint64_t skip) {
    const auto entries = ledger_->List(kOne, skip, 1, &place, &more);
    return entries.empty() ? std::string("none")
                           : std::to_string(entries[0].pid) + entries[0].agent;
  };
  EXPECT_EQ(next(0), "101");
  EXPECT_EQ(next(1), "101b");
  // Before it: nothing is left out, or said twice.
  Report(1, {UseOf("a", 1), UseOf("b", 0)});
  EXPECT_EQ(next(2), "101d");
  ledger_->Close(kOne, 1);
  EXPECT_EQ(next(3), "103");
  EXPECT_EQ(next(4), "103a");
  EXPECT_FALSE(more);
  // Elsewhere it is counted.
  EXPECT_EQ(next(1), "103a");
  EXPECT_EQ(next(0), "103");
  EXPECT_TRUE(more);
  EXPECT_EQ(next(2), "none");
  EXPECT_FALSE(more);
  EXPECT_EQ(next(99), "none");
  // Also beyond what is counted at once.
  std::vector<HbmUse> uses;
  for (std::size_t i = 0; i < 3 * HbmLedger::kListSteps; ++i) {
    uses.push_back(UseOf("c" + std::to_string(i), 1));
  }
  Report(3, uses);
  const auto all = List();
  ASSERT_EQ(all.size(), uses.size() + 2);
  for (const std::size_t skip :
       {HbmLedger::kListSteps - 1, HbmLedger::kListSteps,
        2 * HbmLedger::kListSteps + 1}) {
    EXPECT_EQ(next(skip), "103" + std::string(all[skip].agent));
  }
}

TEST_F(HbmLedgerTest, OfMorePhasesThanSoManySomeAreForgotten) {
  UseRules({.process_agents_max = 2});
  for (const char* agent : {"b", "c", "d"}) {
    ledger_->SetPhase(kOne, agent, AgentPhase::kIdle, 0);
  }
  std::size_t asked = 0;
  for (const char* agent : {"b", "c", "d"}) {
    Open(kOne, 2, 10);
    asked += Report(2, {UseOf(agent, 1)}).wishes.size();
  }
  EXPECT_EQ(asked, 2u);
}

}  // namespace
}  // namespace agentmem
