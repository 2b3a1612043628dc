#include "memd/agents/hbm_ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "memd/handshake.h"

namespace agentmem {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kMiB = 1 << 20;
constexpr TenantId kOne(1);
constexpr TenantId kTwo(2);
constexpr DurationNs kLeave = 500 * kMillisecondNs;

HbmDevice DeviceOf(std::uint64_t bytes, const std::string& id = "GPU-1") {
  HbmDevice device = {};
  SetField("a device", device.name, sizeof(device.name));
  SetField(id, device.id, sizeof(device.id));
  device.memory_bytes = bytes;
  return device;
}

HbmUse UseOf(const std::string& agent, std::uint64_t blocks,
             std::uint64_t answers = 0) {
  HbmUse use = {};
  SetField(agent, use.agent, sizeof(use.agent));
  use.bytes = blocks * kMiB;
  use.blocks = blocks;
  use.answers = answers;
  return use;
}

class HbmLedgerTest : public ::testing::Test {
 protected:
  HbmLedgerTest() { UseRules({.leave_ns = kLeave}); }

  void UseRules(const HbmRules& rules, std::uint64_t quota_of_two = 0) {
    ledger_.emplace(rules, &clock_);
    ledger_->AddTenant(kOne, 0);
    ledger_->AddTenant(kTwo, quota_of_two);
  }

  HbmLedger::Holder HolderOf(TenantId tenant, std::uint64_t token) {
    HbmLedger::Holder holder;
    holder.token = token;
    holder.tenant = tenant;
    holder.client_name = "engine " + std::to_string(token);
    holder.pid = static_cast<std::int32_t>(100 + token);
    holder.word = {board_, static_cast<std::uint32_t>(token)};
    return holder;
  }
  std::uint64_t Open(TenantId tenant, std::uint64_t token,
                     std::uint64_t wanted_mib, std::uint64_t device_mib = 100,
                     const std::string& id = "GPU-1") {
    const auto budget =
        ledger_->Open(HolderOf(tenant, token), DeviceOf(device_mib * kMiB, id),
                      wanted_mib * kMiB);
    EXPECT_TRUE(budget.ok()) << budget.status();
    return budget.value_or(0) / kMiB;
  }
  absl::StatusOr<HbmLedger::Answer> TryReport(std::uint64_t token,
                                              const std::vector<HbmUse>& uses,
                                              std::uint64_t wanted_mib = 100,
                                              TenantId tenant = kOne) {
    HbmLedger::Report report;
    report.wanted_bytes = wanted_mib * kMiB;
    report.uses = uses;
    return ledger_->Take(tenant, token, report);
  }
  HbmLedger::Answer Report(std::uint64_t token,
                           const std::vector<HbmUse>& uses = {},
                           std::uint64_t wanted_mib = 100,
                           TenantId tenant = kOne) {
    auto answer = TryReport(token, uses, wanted_mib, tenant);
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? *std::move(answer) : HbmLedger::Answer();
  }
  std::uint64_t BudgetOf(std::uint64_t token, TenantId tenant = kOne) {
    for (const HbmEntry& entry : List(tenant)) {
      if (entry.agent[0] == 0 &&
          entry.pid == static_cast<std::int32_t>(100 + token)) {
        return entry.budget_bytes / kMiB;
      }
    }
    ADD_FAILURE() << "session " << token << " has no device open";
    return 0;
  }
  std::vector<HbmEntry> List(TenantId tenant = kOne) {
    bool more = false;
    HbmLedger::Place place;
    return ledger_->List(tenant, 0, 10000, &place, &more);
  }
  HbmEntry EntryOf(const std::string& agent) {
    for (const HbmEntry& entry : List()) {
      if (agent == entry.agent) return entry;
    }
    ADD_FAILURE() << agent << " is not listed";
    return {};
  }
  // How often a session was woken since it was asked last.
  int Moves(std::uint64_t token) {
    auto* const words = reinterpret_cast<std::uint32_t*>(board_->base());
    return static_cast<int>(std::exchange(words[token], 0));
  }

  ManualClock clock_{100 * kSecondNs};
  std::shared_ptr<SharedMemory> board_ =
      std::make_shared<SharedMemory>(*SharedMemory::Create(
          "board", kBoardBytes, SharedMemory::Access::kClientsWrite));
  std::optional<HbmLedger> ledger_;
};

TEST_F(HbmLedgerTest, ADeviceIsDividedAndWhoseShareChangesIsWoken) {
  EXPECT_EQ(Open(kOne, 1, 80), 80u);
  EXPECT_EQ(Moves(1), 0);
  EXPECT_EQ(Open(kOne, 2, 80), 50u);
  EXPECT_EQ(Moves(1), 1);
  EXPECT_EQ(Moves(2), 0);  // it is answered
  EXPECT_EQ(BudgetOf(1), 50u);
  // Less is wanted: there is more for the other.
  EXPECT_EQ(Report(2, {}, 30).budget_bytes, 30 * kMiB);
  EXPECT_EQ(Moves(1), 1);
  EXPECT_EQ(BudgetOf(1), 70u);
  // The same again moves nobody.
  EXPECT_EQ(Report(2, {}, 30).budget_bytes, 30 * kMiB);
  EXPECT_EQ(Report(1, {}, 80).budget_bytes, 70 * kMiB);
  EXPECT_EQ(Moves(1) + Moves(2), 0);
  EXPECT_EQ(Report(2, {}, 80).budget_bytes, 50 * kMiB);
  EXPECT_TRUE(ledger_->Close(kOne, 1));
  EXPECT_FALSE(ledger_->Close(kOne, 1));
  EXPECT_EQ(Moves(2), 1);
  EXPECT_EQ(BudgetOf(2), 80u);
  // No more than the device has is wanted.
  EXPECT_EQ(Open(kOne, 1, 2000), 50u);
  EXPECT_EQ(List()[0].wanted_bytes, 100 * kMiB);
  Report(1, {}, 3000);
  EXPECT_EQ(List()[0].wanted_bytes, 100 * kMiB);
}

TEST_F(HbmLedgerTest, AnotherDeviceIsDividedByItself) {
  Open(kOne, 1, 80);
  EXPECT_EQ(Open(kOne, 2, 80, 100, "GPU-2"), 80u);
  EXPECT_EQ(Moves(1), 0);
  EXPECT_EQ(Open(kOne, 3, 80, 100, "GPU-2"), 50u);
  // Opened anew, on the other device: what it had is gone.
  Report(2, {UseOf("a", 1)}, 80);
  Moves(2);
  EXPECT_EQ(Open(kOne, 2, 80), 50u);
  EXPECT_EQ(Moves(1), 1);
  EXPECT_EQ(Moves(2), 0);
  EXPECT_EQ(Moves(3), 1);
  EXPECT_EQ(BudgetOf(3), 80u);
  EXPECT_EQ(List().size(), 3u);
}

TEST_F(HbmLedgerTest, ATenantOfManyProcessesTakesNoMoreThanItsPart) {
  EXPECT_EQ(Open(kOne, 1, 100), 100u);
  for (std::uint64_t token = 10; token < 20; ++token) Open(kTwo, token, 100);
  EXPECT_EQ(BudgetOf(1), 50u);
  EXPECT_EQ(BudgetOf(10, kTwo), 5u);
  // Nor with a device that it makes larger, or smaller.
  Open(kTwo, 30, 1'000'000, 1'000'000);
  EXPECT_EQ(BudgetOf(1), 50u);
  Open(kTwo, 31, 1, 1);
  EXPECT_EQ(BudgetOf(1), 50u);
  EXPECT_EQ(BudgetOf(10, kTwo), 0u);
}

TEST_F(HbmLedgerTest, TheConfigurationBoundsDeviceAndTenant) {
  UseRules({.device_bytes = 60 * kMiB}, 10 * kMiB);
  EXPECT_EQ(Open(kOne, 1, 100), 60u);
  EXPECT_EQ(Open(kTwo, 2, 100), 10u);
  EXPECT_EQ(BudgetOf(1), 50u);
}

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

TEST_F(HbmLedgerTest, ItEndsWithTheSession) {
  Open(kOne, 1, 100);
  Report(1, {UseOf("a", 1)});
  ledger_->SetPhase(kOne, "a", AgentPhase::kHumanWait, 0);
  EXPECT_TRUE(ledger_->Close(kOne, 1));
  EXPECT_TRUE(List().empty());
  EXPECT_EQ(TryReport(1, {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  Open(kOne, 1, 100);
  EXPECT_TRUE(Report(1).wishes.empty());
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

TEST_F(HbmLedgerTest, AnAgentWithoutBlocksThatNobodyAskedOfIsForgotten) {
  Open(kOne, 1, 100);
  Report(1, {UseOf("a", 1), UseOf("b", 0)});
  EXPECT_EQ(List().size(), 2u);
  Report(1, {UseOf("a", 0)});
  EXPECT_EQ(List().size(), 1u);
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

TEST_F(HbmLedgerTest, WhatIsWantedMayChangeOnlySoOften) {
  Open(kOne, 1, 100);
  const auto open = [&](std::uint64_t token) {
    return ledger_->Open(HolderOf(kTwo, token), DeviceOf(100 * kMiB), 0)
        .status();
  };
  for (std::uint64_t i = 0; i < HbmLedger::kChangesAtOnce; ++i) {
    ASSERT_TRUE(open(100 + i).ok()) << i;
  }
  const absl::Status refused = open(2);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("20 times a second"));
  // It is its own affair.
  Open(kOne, 3, 10);
  clock_.Advance(HbmLedger::kChangeNs);
  EXPECT_EQ(Open(kTwo, 2, 20), 20u);
  EXPECT_EQ(Report(2, {}, 90, kTwo).budget_bytes, 20 * kMiB);
  clock_.Advance(HbmLedger::kChangeNs);
  EXPECT_EQ(Report(2, {}, 90, kTwo).budget_bytes, 50 * kMiB);
}

// Or the others' blocks would go and come with it.
TEST_F(HbmLedgerTest, ATenantGivesBackAndTakesAgainOnlySoOften) {
  Open(kOne, 1, 100);
  Open(kTwo, 2, 100);
  Moves(1);
  int falls = 0;
  const auto flap = [&] {
    (void)TryReport(2, {}, 0, kTwo);
    (void)TryReport(2, {}, 100, kTwo);
    // One that ends, and is there again; or is opened over what it was.
    ledger_->Close(kTwo, 2);
    (void)ledger_->Open(HolderOf(kTwo, 2), DeviceOf(100 * kMiB), 100 * kMiB);
    (void)ledger_->Open(HolderOf(kTwo, 2), DeviceOf(100 * kMiB), 100 * kMiB);
    falls += Moves(1);
  };
  for (int i = 0; i < 200; ++i) flap();
  EXPECT_GE(falls, HbmLedger::kTurnsAtOnce);
  EXPECT_LE(falls, 4 * HbmLedger::kTurnsAtOnce);
  falls = 0;
  for (int i = 0; i < 200; ++i) flap();
  EXPECT_EQ(falls, 0);
  EXPECT_EQ(BudgetOf(1), 100u);
  const absl::Status refused =
      ledger_->Open(HolderOf(kTwo, 2), DeviceOf(kMiB), kMiB).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("try again in 2 s"));
  // Nobody else waits for that; and it may again, once.
  Open(kOne, 3, 10);
  EXPECT_TRUE(ledger_->Close(kOne, 3));
  clock_.Advance(HbmLedger::kTurnNs);
  EXPECT_EQ(Open(kTwo, 2, 20), 20u);
  Report(2, {}, 10, kTwo);
  EXPECT_EQ(Report(2, {}, 100, kTwo).budget_bytes, 10 * kMiB);
  clock_.Advance(HbmLedger::kTurnNs);
  EXPECT_EQ(Report(2, {}, 100, kTwo).budget_bytes, 50 * kMiB);
}

TEST_F(HbmLedgerTest, ToWantMoreAndMoreIsNoTurn) {
  for (std::uint64_t i = 0; i < 2 * HbmLedger::kTurnsAtOnce; ++i) {
    Open(kOne, 10 + i, 1, 1000);
  }
  for (std::uint64_t i = 0; i < 2 * HbmLedger::kTurnsAtOnce; ++i) {
    ledger_->Close(kOne, 10 + i);
  }
  for (std::uint64_t i = 0; i < 2 * HbmLedger::kTurnsAtOnce; ++i) {
    Open(kOne, 10 + i, 1, 1000);
  }
}

TEST_F(HbmLedgerTest, AgentsThatLeftAreForgottenFirst) {
  UseRules({.process_agents_max = 8});
  Open(kOne, 1, 100);
  std::vector<HbmUse> uses;
  for (std::size_t i = 0; i < 8; ++i) {
    uses.push_back(UseOf("a" + std::to_string(i), 1));
  }
  Report(1, uses);
  const absl::Status full = TryReport(1, {UseOf("b", 1)}).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()), HasSubstr("8 agents"));
  // Who is there already goes on.
  Report(1, {UseOf("a0", 2), UseOf("a1", 2)});
  ledger_->Empty(kOne, "a0", AgentPhase::kIdle);
  ledger_->Empty(kOne, "a1", AgentPhase::kIdle);
  auto wishes = Report(1).wishes;
  ASSERT_EQ(wishes.size(), 2u);
  Report(1, {UseOf("a0", 0, wishes[0].number)});
  Report(1, {UseOf("a1", 0, wishes[1].number)});
  // The first that left comes back in the report that it makes room for.
  Report(1, {UseOf("b", 1), UseOf("a0", 1)});
  EXPECT_EQ(List().size(), 9u);
  EXPECT_FALSE(TryReport(1, {UseOf("c", 1)}).ok());
}

TEST_F(HbmLedgerTest, AReportMakesRoomForItself) {
  UseRules({.process_agents_max = 3});
  Open(kOne, 1, 100);
  Report(1, {UseOf("a", 1), UseOf("b", 1), UseOf("c", 1)});
  // Whatever comes first in it, and however often one is named.
  Report(1, {UseOf("d", 1), UseOf("e", 1), UseOf("a", 0), UseOf("b", 0)});
  EXPECT_EQ(List().size(), 4u);
  const auto refused = [&](const std::vector<HbmUse>& uses) {
    return TryReport(1, uses).status().code() ==
           absl::StatusCode::kResourceExhausted;
  };
  EXPECT_TRUE(
      refused({UseOf("f", 1), UseOf("g", 1), UseOf("c", 0), UseOf("c", 0)}));
  EXPECT_TRUE(refused({UseOf("f", 1), UseOf("c", 0), UseOf("c", 1)}));
  EXPECT_TRUE(refused({UseOf("f", 1), UseOf("unknown", 0)}));
  // One that memd waits for is not gone before it answers.
  ledger_->Empty(kOne, "c", AgentPhase::kIdle);
  const HbmWish wish = Report(1).wishes.at(0);
  EXPECT_TRUE(refused({UseOf("f", 1), UseOf("c", 0)}));
  Report(1, {UseOf("f", 1), UseOf("c", 0, wish.number)});
  EXPECT_EQ(List().size(), 4u);
  EXPECT_EQ(EntryOf("f").bytes, kMiB);
  EXPECT_TRUE(Report(1).wishes.empty());
}

TEST_F(HbmLedgerTest, ATenantHasSoManyAgentsInAllItsProcesses) {
  UseRules({.tenant_agents_max = 3});
  Open(kOne, 1, 10);
  Open(kOne, 2, 10);
  Open(kTwo, 3, 10);
  Report(1, {UseOf("a", 1), UseOf("b", 1)});
  Report(2, {UseOf("a", 1)});
  EXPECT_FALSE(TryReport(2, {UseOf("b", 1)}).ok());
  Report(3, {UseOf("a", 1), UseOf("b", 1)}, 10, kTwo);
  ledger_->Close(kOne, 1);
  Report(2, {UseOf("b", 1), UseOf("c", 1)});
  EXPECT_FALSE(TryReport(2, {UseOf("d", 1)}).ok());
  Report(2, {UseOf("b", 0)});
  Report(2, {UseOf("d", 1)});
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

TEST_F(HbmLedgerTest, WhatCannotBeIsRefusedAndChangesNothing) {
  const auto refused = [&](HbmDevice device) {
    return ledger_->Open(HolderOf(kOne, 1), device, 1).status();
  };
  HbmDevice device = DeviceOf(kMiB);
  std::memset(device.id, 'x', sizeof(device.id));
  EXPECT_THAT(std::string(refused(device).message()),
              HasSubstr("a device's id: 1 to 63 bytes"));
  device = DeviceOf(kMiB);
  device.name[3] = '\n';
  EXPECT_THAT(std::string(refused(device).message()),
              HasSubstr("a device's name"));
  for (const std::uint64_t bytes :
       {std::uint64_t{0}, HbmLedger::kDeviceBytesMax + 1}) {
    EXPECT_THAT(std::string(refused(DeviceOf(bytes)).message()),
                HasSubstr("of " + std::to_string(bytes) + " bytes"));
  }
  device = DeviceOf(kMiB);
  device.reserved = 1;
  EXPECT_EQ(refused(device).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(List().empty());

  Open(kOne, 1, 100);
  std::vector<HbmUse> bad(6, UseOf("a", 1));
  std::memset(bad[0].agent, 'x', sizeof(bad[0].agent));
  bad[1].bytes = 101 * kMiB;
  bad[2].bytes = 0;
  bad[3].blocks = bad[3].bytes + 1;
  bad[4].answers = 1;
  bad[5].blocks = 0;
  for (const HbmUse& use : bad) {
    const absl::Status status = TryReport(1, {UseOf("good", 1), use}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("agent"));
  }
  HbmLedger::Report report;
  report.allocated_bytes = 101 * kMiB;
  EXPECT_FALSE(ledger_->Take(kOne, 1, report).ok());
  EXPECT_EQ(List().size(), 1u);
}

}  // namespace
}  // namespace agentmem
