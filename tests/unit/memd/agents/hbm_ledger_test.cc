#include "memd/agents/hbm_ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/unit/memd/agents/hbm_ledger_harness.h"

namespace agentmem {
namespace {

using ::testing::HasSubstr;

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

TEST_F(HbmLedgerTest, AnAgentWithoutBlocksThatNobodyAskedOfIsForgotten) {
  Open(kOne, 1, 100);
  Report(1, {UseOf("a", 1), UseOf("b", 0)});
  EXPECT_EQ(List().size(), 2u);
  Report(1, {UseOf("a", 0)});
  EXPECT_EQ(List().size(), 1u);
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

class HbmHitsTest : public HbmLedgerTest {
 protected:
  // The report's code.
  absl::StatusCode Say(std::uint64_t token, std::uint64_t blocks,
                       std::uint64_t bytes, TenantId tenant = kOne) {
    HbmLedger::Report report;
    report.hits = {blocks, bytes};
    return ledger_->Take(tenant, token, report).status().code();
  }
  std::uint64_t Blocks(TenantId tenant = kOne) {
    return ledger_->Snapshot(tenant).value_or(TierSnapshot()).hits;
  }
  std::uint64_t Bytes(TenantId tenant = kOne) {
    return ledger_->Snapshot(tenant).value_or(TierSnapshot()).hit_bytes;
  }

  static constexpr absl::StatusCode kFine = absl::StatusCode::kOk;
  // What a process may have found in its first second.
  static constexpr std::uint64_t kMost = HbmLedger::kHitsEachSecond;
  static constexpr std::uint64_t kMostBytes = HbmLedger::kHitBytesEachSecond;
};

TEST_F(HbmHitsTest, TheTierIsWhatTheProcessesSay) {
  EXPECT_FALSE(ledger_->Snapshot(kOne).has_value());
  Open(kOne, 1, 80);
  Open(kOne, 2, 80);
  Report(1, {UseOf("a", 3)});
  HbmLedger::Report more;
  const std::vector<HbmUse> uses = {UseOf("a", 1), UseOf("b", 1)};
  more.uses = uses;
  more.allocated_bytes = 30 * kMiB;
  ASSERT_TRUE(ledger_->Take(kOne, 2, more).ok());
  const TierSnapshot tier = ledger_->Snapshot(kOne).value_or(TierSnapshot());
  EXPECT_EQ(tier.tier, Tier::kHbm);
  EXPECT_EQ(tier.budget_bytes, 100 * kMiB);
  EXPECT_EQ(tier.used_bytes, 30 * kMiB);
  EXPECT_EQ(tier.blocks, 5u);
  EXPECT_FALSE(ledger_->Snapshot(kTwo).has_value());
  EXPECT_FALSE(ledger_->Snapshot(TenantId(77)).has_value());
}

TEST_F(HbmHitsTest, TheyAreAddedUpAndOutliveTheirProcess) {
  Open(kOne, 1, 100);
  Open(kOne, 2, 100);
  EXPECT_EQ(Say(1, 5, 5 * kMiB), kFine);
  EXPECT_EQ(Say(2, 1, kMiB), kFine);
  EXPECT_EQ(Say(1, 7, 7 * kMiB), kFine);
  EXPECT_EQ(Say(1, 7, 7 * kMiB), kFine);  // a report that comes twice
  EXPECT_EQ(Blocks(), 8u);
  EXPECT_EQ(Bytes(), 8 * kMiB);
  EXPECT_EQ(List()[0].hits, 7u);
  EXPECT_EQ(List()[0].hit_bytes, 7 * kMiB);
  EXPECT_EQ(List()[1].hits, 1u);
  EXPECT_TRUE(ledger_->Close(kOne, 1, {9, 9 * kMiB}));
  EXPECT_FALSE(ledger_->Close(kOne, 1, {50, 50 * kMiB}));
  EXPECT_TRUE(ledger_->Close(kOne, 2));  // as it is when its connection ends
  const TierSnapshot tier = ledger_->Snapshot(kOne).value_or(TierSnapshot());
  EXPECT_EQ(tier.hits, 10u);
  EXPECT_EQ(tier.hit_bytes, 10 * kMiB);
  EXPECT_EQ(tier.budget_bytes + tier.used_bytes + tier.blocks, 0u);
  // Since Open, so from 0; also in the place of what was open there.
  Open(kOne, 1, 100);
  EXPECT_EQ(Say(1, 2, 2 * kMiB), kFine);
  Open(kOne, 1, 100);
  EXPECT_EQ(Say(1, 2, 2 * kMiB), kFine);
  EXPECT_EQ(Blocks(), 14u);
  EXPECT_EQ(Bytes(), 14 * kMiB);
}

TEST_F(HbmHitsTest, WhoDoesNotCountIsHeardInAllElse) {
  Open(kOne, 1, 100);
  Report(1, {UseOf("a", 3)});
  EXPECT_EQ(Blocks() + Bytes(), 0u);
  EXPECT_EQ(EntryOf("a").blocks, 3u);
  EXPECT_EQ(Say(1, 4, 4 * kMiB), kFine);
  Report(1, {UseOf("a", 4)});  // says 0: not less than before
  EXPECT_EQ(Say(1, 3, 3 * kMiB), kFine);
  EXPECT_EQ(Blocks(), 4u);
  EXPECT_EQ(Bytes(), 4 * kMiB);
  EXPECT_EQ(EntryOf("a").blocks, 4u);
}

TEST_F(HbmHitsTest, MoreThanCanBeIsLeftOutAndRefusesNothing) {
  Open(kOne, 1, 100);
  Open(kTwo, 2, 100);
  EXPECT_EQ(Say(2, 6, 6 * kMiB, kTwo), kFine);
  EXPECT_EQ(Say(1, 2, UINT64_MAX), kFine);
  EXPECT_EQ(Blocks(), 2u);
  EXPECT_EQ(Bytes(), 2 * std::uint64_t{kMaxBlockBytes});
  EXPECT_EQ(Say(1, UINT64_MAX, UINT64_MAX), kFine);
  EXPECT_EQ(Blocks(), kMost);
  EXPECT_EQ(Bytes(), kMostBytes);
  EXPECT_EQ(Say(1, UINT64_MAX, UINT64_MAX), kFine);
  EXPECT_EQ(Blocks(), kMost) << "no time has gone by";
  clock_.Advance(2 * kSecondNs);
  EXPECT_TRUE(ledger_->Close(kOne, 1, {UINT64_MAX, UINT64_MAX}));
  EXPECT_EQ(Blocks(), 3 * kMost);
  EXPECT_EQ(Bytes(), 3 * kMostBytes);
  EXPECT_EQ(Blocks(kTwo), 6u);
  EXPECT_EQ(Bytes(kTwo), 6 * kMiB);
}

TEST_F(HbmHitsTest, SumsEndAndDoNotStartAnew) {
  constexpr DurationNs kForever = INT64_MAX / 2;
  Open(kOne, 1, 100);
  Open(kOne, 2, 100);
  clock_.Advance(kForever);
  EXPECT_EQ(Say(1, UINT64_MAX, UINT64_MAX), kFine);
  EXPECT_EQ(Bytes(), UINT64_MAX);
  EXPECT_EQ(Say(2, UINT64_MAX, UINT64_MAX), kFine);
  EXPECT_EQ(Bytes(), UINT64_MAX);
  EXPECT_EQ(Blocks(), 2 * kMost * (kForever / kSecondNs + 1));
}

}  // namespace
}  // namespace agentmem
