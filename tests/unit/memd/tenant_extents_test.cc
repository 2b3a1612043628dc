// Extents that clients hold for devices, and ports that empty extents.
#include <gtest/gtest.h>

#include <set>

#include "memd/tenant.h"
#include "tests/unit/memd/tenant_bench.h"

namespace agentmem {
namespace {

constexpr auto kCache = BlockClass::kCache;
constexpr auto kState = BlockClass::kState;
constexpr std::uint32_t kMiB = 1 << 20;
constexpr std::uint64_t kExtents = 4;  // of the bench's tenant

class TenantExtentsTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(bench_.tenant->CheckInvariants(), ""); }

  static Code CodeOf(const std::optional<CompletionEntry>& entry) {
    return entry.has_value() ? entry->code : Code::kUnknown;
  }

  void PostExtents(TestClient* client, Op op, std::uint64_t offset,
                   std::uint32_t count) {
    SubmissionEntry entry = {};
    entry.op = op;
    entry.sequence = offset;
    entry.slot = count;
    client->Post(entry);
    bench_.Drain(client);
  }
  Code Hold(TestClient* client, std::uint64_t first, std::uint32_t count = 1) {
    PostExtents(client, Op::kHoldExtents, first * kExtentBytes, count);
    do {
      last_ = client->Reap();
    } while (last_.has_value() && last_->kind != CompletionKind::kOp);
    return CodeOf(last_);
  }
  void Release(TestClient* client, std::uint64_t first,
               std::uint32_t count = 1) {
    PostExtents(client, Op::kReleaseExtents, first * kExtentBytes, count);
  }
  void AnswerRetire(TestClient* client, std::uint64_t token) {
    PostExtents(client, Op::kExtentReleased, token, 0);
  }

  // The port asks for one extent to empty; it waits if there is none.
  void Want(DurationNs patience = 100 * kMillisecondNs) {
    SubmissionEntry want = {};
    want.op = Op::kWantGrants;
    want.flags = kWantToEmpty;
    want.length = kExtentBytes;
    want.slot = 1;
    want.deadline_ns = bench_.now + patience;
    port_->Post(want);
    bench_.Drain(port_.get());
  }
  // Which extent the port was granted; takes it.
  std::optional<std::uint64_t> Granted() {
    const auto grant = port_->TakeGrant(kExtentBytes);
    if (!grant.has_value()) return std::nullopt;
    port_->Reap();
    grant_ = *grant;
    return port_->file().grants()[*grant].data_offset / kExtentBytes;
  }
  std::optional<std::uint64_t> WantOne() {
    Want();
    return Granted();
  }
  void GiveBack() {
    SubmissionEntry abandon = {};
    abandon.op = Op::kAbandon;
    abandon.flags = kAbandonEmptied;
    abandon.grant = grant_;
    abandon.sequence =
        GrantSequenceOf(port_->file().grants()[grant_].state.load());
    port_->Post(abandon);
    bench_.Drain(port_.get());
  }

  struct Retire {
    std::uint64_t extent;
    std::uint64_t token;
  };
  std::optional<Retire> ReapRetire(TestClient* client) {
    const auto entry = client->Reap();
    if (!entry.has_value()) return std::nullopt;
    EXPECT_EQ(entry->kind, CompletionKind::kExtentRetire);
    EXPECT_EQ(entry->detail[1], kExtentBytes);
    return Retire{entry->detail[0] / kExtentBytes, entry->detail[2]};
  }
  void Put(TestClient* client, std::uint64_t key, BlockClass block_class,
           std::uint32_t bytes = kMiB) {
    ASSERT_TRUE(bench_.PostPut(client, TestKey(key), std::string(bytes, 'x'),
                               block_class, Ack::kVisible));
    ASSERT_EQ(CodeOf(client->Reap()), Code::kOk);
  }

  // Each millisecond passes, and the store is done with all that it was given.
  void Pass(int ms) {
    for (int i = 0; i < ms; ++i) {
      bench_.Advance(kMillisecondNs);
      bench_.Settle(client_.get());
    }
  }
  // A block short of all of the memory; nothing of it is on its way, and no
  // offer stands.
  void Fill() {
    for (std::uint64_t i = 0; i < 15; ++i) Put(client_.get(), i, kCache);
    bench_.Advance(2 * kSecondNs);
    Pass(1);
    ASSERT_EQ(Resident(), 15u);
  }
  std::uint64_t Resident() const {
    std::uint64_t count = 0;
    for (std::uint64_t i = 0; i < 16; ++i) {
      count += bench_.reader().Find(TestKey(i)).kind == EntryKind::kResident;
    }
    return count;
  }

  TenantBench bench_;
  std::unique_ptr<TestClient> port_ = bench_.Attach(/*is_port=*/true);
  std::unique_ptr<TestClient> client_ = bench_.Attach();
  std::optional<CompletionEntry> last_;
  std::uint32_t grant_ = 0;
};

TEST_F(TenantExtentsTest, APortGetsExtentsThatNobodyHolds) {
  ASSERT_EQ(Hold(client_.get(), 0, 3), Code::kOk);
  EXPECT_EQ(WantOne(), 3u);
  EXPECT_FALSE(client_->Reap().has_value());
}

TEST_F(TenantExtentsTest, BlocksOfAnExtentThatNobodyHoldsLeaveBeforeAHeldOne) {
  Fill();  // the coldest are in what is held
  ASSERT_EQ(Hold(client_.get(), 0, 3), Code::kOk);
  EXPECT_EQ(WantOne(), 3u);
  EXPECT_FALSE(client_->Reap().has_value());
  EXPECT_EQ(Resident(), 12u);
}

TEST_F(TenantExtentsTest, AHeldExtentIsAskedForOnceAndGrantedAfterTheAnswer) {
  ASSERT_EQ(Hold(client_.get(), 0, kExtents), Code::kOk);
  EXPECT_FALSE(WantOne().has_value());
  const auto retire = ReapRetire(client_.get());
  ASSERT_TRUE(retire.has_value());
  for (int i = 0; i < 10; ++i) bench_.Advance(kMillisecondNs);
  EXPECT_FALSE(Granted().has_value());
  EXPECT_FALSE(client_->Reap().has_value());  // once
  AnswerRetire(client_.get(), retire->token);
  EXPECT_EQ(Granted(), retire->extent);
}

TEST_F(TenantExtentsTest, AnUnknownTokenEndsNoHold) {
  ASSERT_EQ(Hold(client_.get(), 0, kExtents), Code::kOk);
  EXPECT_FALSE(WantOne().has_value());
  const auto retire = ReapRetire(client_.get());
  ASSERT_TRUE(retire.has_value());
  AnswerRetire(client_.get(), retire->token + 1);
  auto other = bench_.Attach();
  AnswerRetire(other.get(), retire->token);
  bench_.Advance(kMillisecondNs);
  EXPECT_FALSE(Granted().has_value());
}

TEST_F(TenantExtentsTest, AnExtentIsGrantedWhenItsHolderIsDead) {
  ASSERT_EQ(Hold(client_.get(), 0, kExtents), Code::kOk);
  EXPECT_FALSE(WantOne().has_value());
  bench_.tenant->RemoveClient(client_->id(), bench_.now);
  EXPECT_TRUE(Granted().has_value());
}

// A forked child may keep the dead process's device at work.
TEST_F(TenantExtentsTest,
       WhatADeadHoldersDeviceMayWriteToIsNobodyElsesForAWhile) {
  for (const bool holds : {true, false}) {
    auto writer = bench_.Attach();
    if (holds) {
      ASSERT_EQ(Hold(writer.get(), 1), Code::kOk);
    }
    bench_.PostWant(writer.get(), kMiB);
    const auto grant = writer->TakeGrant(kMiB);
    ASSERT_TRUE(grant.has_value());
    const std::uint64_t offset = writer->file().grants()[*grant].data_offset;
    bench_.tenant->RemoveClient(writer->id(), bench_.now);
    EXPECT_EQ(bench_.tenant->CheckInvariants(), "");
    // All the room there is.
    const auto takes_it = [&] {
      std::set<std::uint64_t> taken;
      auto taker = bench_.Attach();
      for (int i = 0; i < 16; ++i) {
        bench_.PostWant(taker.get(), kMiB, bench_.now);
        if (const auto one = taker->TakeGrant(kMiB); one.has_value()) {
          taken.insert(taker->file().grants()[*one].data_offset);
        }
      }
      bench_.tenant->RemoveClient(taker->id(), bench_.now);
      return taken.contains(offset);
    };
    EXPECT_EQ(takes_it(), !holds);
    if (!holds) continue;
    bench_.Advance(ExtentHolds::kOutlivedNs - kMillisecondNs);
    EXPECT_FALSE(takes_it());
    bench_.Advance(kMillisecondNs);
    EXPECT_TRUE(takes_it());
    EXPECT_EQ(bench_.tenant->Snapshot(bench_.now).granted_bytes, 0u);
  }
}

// An eighth of DRAM, here 2 MiB; and what was offered and not taken is free.
TEST_F(TenantExtentsTest, WhatTheDeadKeepHasABound) {
  for (int dead = 1; dead <= 4; ++dead) {
    auto writer = bench_.Attach();
    ASSERT_EQ(Hold(writer.get(), 1), Code::kOk);
    bench_.PostWant(writer.get(), kMiB);
    ASSERT_TRUE(writer->TakeGrant(kMiB).has_value());
    bench_.PostWant(writer.get(), kMiB);  // it dies before it takes this one
    bench_.tenant->RemoveClient(writer->id(), bench_.now);
    EXPECT_EQ(bench_.tenant->CheckInvariants(), "");
    EXPECT_EQ(bench_.tenant->Snapshot(bench_.now).granted_bytes,
              std::min(dead, 2) * std::uint64_t{kMiB});
  }
  // Room that is certain to come is waited for.
  std::vector<std::unique_ptr<TestClient>> others;
  do {
    others.push_back(bench_.Attach());
    bench_.PostWant(others.back().get(), kMiB, bench_.now);
    bench_.Advance(kMillisecondNs);
  } while (others.back()->TakeGrant(kMiB).has_value());
  auto waiter = bench_.Attach();
  bench_.PostWant(waiter.get(), kMiB, bench_.now + 30 * kSecondNs);
  for (int i = 0; i < 3000; ++i) bench_.Advance(kMillisecondNs);
  EXPECT_FALSE(waiter->Reap().has_value());
  bench_.Advance(ExtentHolds::kOutlivedNs);
  EXPECT_EQ(CodeOf(waiter->Reap()), Code::kOk);
}

TEST_F(TenantExtentsTest, AClosedSocketEndsNoHold) {
  ASSERT_EQ(Hold(client_.get(), 0, kExtents), Code::kOk);
  bench_.tenant->clients().at(client_->id())->socket_closed = true;
  EXPECT_FALSE(WantOne().has_value());
  for (int i = 0; i < 50; ++i) bench_.Advance(kMillisecondNs);
  EXPECT_FALSE(Granted().has_value());
}

TEST_F(TenantExtentsTest, TwoHoldersHaveBothToAnswer) {
  auto second = bench_.Attach();
  ASSERT_EQ(Hold(client_.get(), 0, kExtents), Code::kOk);
  ASSERT_EQ(Hold(second.get(), 0, kExtents), Code::kOk);
  EXPECT_FALSE(WantOne().has_value());
  const auto first_retire = ReapRetire(client_.get());
  const auto second_retire = ReapRetire(second.get());
  ASSERT_TRUE(first_retire.has_value() && second_retire.has_value());
  EXPECT_EQ(first_retire->extent, second_retire->extent);
  EXPECT_NE(first_retire->token, second_retire->token);
  AnswerRetire(client_.get(), first_retire->token);
  bench_.Advance(kMillisecondNs);
  EXPECT_FALSE(Granted().has_value());
  AnswerRetire(second.get(), second_retire->token);
  EXPECT_EQ(Granted(), first_retire->extent);
}

TEST_F(TenantExtentsTest, HoldingTwiceIsOnce) {
  ASSERT_EQ(Hold(client_.get(), 0, kExtents), Code::kOk);
  ASSERT_EQ(Hold(client_.get(), 2), Code::kOk);
  Release(client_.get(), 2);
  EXPECT_EQ(WantOne(), 2u);
}

TEST_F(TenantExtentsTest, AReleaseThatCrossesARetireIsAnAnswer) {
  ASSERT_EQ(Hold(client_.get(), 0, kExtents), Code::kOk);
  EXPECT_FALSE(WantOne().has_value());
  Release(client_.get(), 0, kExtents);
  const auto granted = Granted();
  ASSERT_TRUE(granted.has_value());
  const auto retire = ReapRetire(client_.get());
  ASSERT_TRUE(retire.has_value());
  GiveBack();
  // The late answer does not end the hold that came after.
  bench_.Advance(2 * kSecondNs);
  ASSERT_EQ(Hold(client_.get(), 0, kExtents), Code::kOk);
  AnswerRetire(client_.get(), retire->token);
  EXPECT_FALSE(WantOne().has_value());
}

TEST_F(TenantExtentsTest, ALentExtentIsNotHeldUntilItIsBack) {
  const auto lent = WantOne();
  ASSERT_TRUE(lent.has_value());
  EXPECT_EQ(Hold(client_.get(), *lent), Code::kFailedPrecondition);
  EXPECT_EQ(last_->reason, Reason::kExtentLent);
  EXPECT_EQ(last_->detail[0], *lent * kExtentBytes);
  GiveBack();
  EXPECT_EQ(Hold(client_.get(), *lent), Code::kOk);
}

TEST_F(TenantExtentsTest, AnOfferThatThePortDidNotTakeYetIsNotHeld) {
  auto other = bench_.Attach();
  ASSERT_EQ(Hold(other.get(), 0), Code::kOk);
  Want();
  EXPECT_EQ(Hold(client_.get(), 0, kExtents), Code::kFailedPrecondition);
  EXPECT_EQ(last_->detail[0], kExtentBytes);
  // Nor is any of the others: all or none.
  Release(other.get(), 0);
  bench_.Advance(2 * kSecondNs);  // the offer is taken back
  for (std::uint64_t i = 0; i < kExtents; ++i) {
    Want();
    EXPECT_TRUE(Granted().has_value()) << i;
  }
}

TEST_F(TenantExtentsTest, WhatWasAskedForIsNotHeldAgain) {
  ASSERT_EQ(Hold(client_.get(), 0, kExtents), Code::kOk);
  EXPECT_FALSE(WantOne().has_value());
  const auto retire = ReapRetire(client_.get());
  ASSERT_TRUE(retire.has_value());
  auto other = bench_.Attach();
  // The wish lasts for a second; its own question until it has answered.
  EXPECT_EQ(Hold(client_.get(), retire->extent), Code::kFailedPrecondition);
  EXPECT_EQ(Hold(other.get(), retire->extent), Code::kFailedPrecondition);
  bench_.Advance(2 * kSecondNs);
  EXPECT_EQ(Hold(client_.get(), retire->extent), Code::kFailedPrecondition);
  EXPECT_EQ(Hold(other.get(), retire->extent), Code::kOk);
}

TEST_F(TenantExtentsTest, ExtentsThatAreNotOfTheDataAreRefused) {
  const std::uint64_t end = kExtents * kExtentBytes;
  const struct {
    std::uint64_t offset;
    std::uint32_t count;
    std::size_t field;
  } kBad[] = {
      {4096, 1, offsetof(SubmissionEntry, sequence)},
      {end, 1, offsetof(SubmissionEntry, sequence)},
      {~0ULL - kExtentBytes + 1, 1, offsetof(SubmissionEntry, sequence)},
      {0, 0, offsetof(SubmissionEntry, slot)},
      {0, kExtents + 1, offsetof(SubmissionEntry, slot)},
      {end - kExtentBytes, 2, offsetof(SubmissionEntry, slot)},
      {kExtentBytes, 0xffffffff, offsetof(SubmissionEntry, slot)},
  };
  for (const auto& bad : kBad) {
    PostExtents(client_.get(), Op::kHoldExtents, bad.offset, bad.count);
    const auto answer = client_->Reap();
    EXPECT_EQ(CodeOf(answer), Code::kInvalidArgument) << bad.offset;
    EXPECT_EQ(answer->reason, Reason::kBadField);
    EXPECT_EQ(answer->detail[0], bad.field) << bad.offset << " " << bad.count;
    PostExtents(client_.get(), Op::kReleaseExtents, bad.offset, bad.count);
  }
}

TEST_F(TenantExtentsTest, PutsGoOnInHeldExtents) {
  ASSERT_EQ(Hold(client_.get(), 0, kExtents), Code::kOk);
  for (std::uint64_t i = 0; i < 40; ++i) Put(client_.get(), i, kCache);
  bench_.Settle(client_.get());
  Put(client_.get(), 100, kCache, kExtentBytes);
  EXPECT_EQ(bench_.reader().Find(TestKey(100)).kind, EntryKind::kResident);
}

TEST_F(TenantExtentsTest, AHolderThatNeverAnswersHoldsUpNoPut) {
  ASSERT_EQ(Hold(client_.get(), 0, kExtents), Code::kOk);
  EXPECT_FALSE(WantOne().has_value());
  auto other = bench_.Attach();
  for (std::uint64_t i = 0; i < 40; ++i) {
    Put(other.get(), i, kCache, i % 2 == 0 ? kMiB : kExtentBytes);
    Pass(1);
  }
  EXPECT_FALSE(Granted().has_value());
}

TEST_F(TenantExtentsTest, AHolderThatNeverAnswersEndsTheWaitAtItsDeadline) {
  ASSERT_EQ(Hold(client_.get(), 0, kExtents), Code::kOk);
  Want(50 * kMillisecondNs);
  for (int i = 0; i < 60; ++i) bench_.Advance(kMillisecondNs);
  const auto answer = port_->Reap();
  EXPECT_EQ(CodeOf(answer), Code::kResourceExhausted);
}

TEST_F(TenantExtentsTest, WhileOneHolderIsSilentAnotherIsAsked) {
  auto second = bench_.Attach();
  ASSERT_EQ(Hold(client_.get(), 0, 2), Code::kOk);
  ASSERT_EQ(Hold(second.get(), 2, 2), Code::kOk);
  Want();
  // Whoever is asked first is silent; in the end each was asked for each.
  for (int i = 0; i < 90; ++i) bench_.Advance(kMillisecondNs);
  std::set<std::uint64_t> asked;
  std::optional<Retire> of_second;
  while (const auto retire = ReapRetire(client_.get())) {
    EXPECT_TRUE(asked.insert(retire->extent).second);
  }
  while (const auto retire = ReapRetire(second.get())) {
    EXPECT_TRUE(asked.insert(retire->extent).second);
    of_second = retire;
  }
  EXPECT_EQ(asked.size(), kExtents);
  ASSERT_TRUE(of_second.has_value());
  AnswerRetire(second.get(), of_second->token);
  EXPECT_EQ(Granted(), of_second->extent);
}

TEST_F(TenantExtentsTest, AHeldExtentsBlocksLeaveOnlyAfterTheAnswer) {
  Fill();
  ASSERT_EQ(Hold(client_.get(), 0, kExtents), Code::kOk);
  EXPECT_FALSE(WantOne().has_value());
  EXPECT_EQ(Resident(), 15u);
  const auto retire = ReapRetire(client_.get());
  ASSERT_TRUE(retire.has_value());
  EXPECT_EQ(retire->extent, 0u);  // the coldest
  AnswerRetire(client_.get(), retire->token);
  Pass(10);
  EXPECT_EQ(Granted(), 0u);
  EXPECT_EQ(Resident(), 11u);
}

TEST_F(TenantExtentsTest, AnExtentThatCannotBeEmptiedIsNotAskedFor) {
  // State that is not below, in all of them.
  for (std::uint64_t i = 0; i < 16; ++i) {
    Put(client_.get(), i, kState, kMiB);
  }
  ASSERT_EQ(Hold(client_.get(), 0, kExtents), Code::kOk);
  EXPECT_FALSE(WantOne().has_value());
  bench_.Advance(kMillisecondNs);
  EXPECT_FALSE(client_->Reap().has_value());
}

TEST_F(TenantExtentsTest, AClientThatReadsNothingIsNotAsked) {
  ASSERT_EQ(Hold(client_.get(), 0, kExtents), Code::kOk);
  // Half a ring of answers stands unread.
  for (std::uint32_t i = 0; i < kCompletionEntries / 2; ++i) {
    bench_.PostFetch(client_.get(), TestKey(i));
  }
  EXPECT_FALSE(WantOne().has_value());
  for (std::uint32_t i = 0; i < kCompletionEntries / 2; ++i) {
    EXPECT_EQ(client_->Reap()->kind, CompletionKind::kOp);
  }
  EXPECT_FALSE(client_->Reap().has_value());
  bench_.Advance(30 * kMillisecondNs);
  EXPECT_TRUE(ReapRetire(client_.get()).has_value());
}

TEST_F(TenantExtentsTest, WhoTouchesMemoryIsToldOfWhatIsLentBeforeAPortHasIt) {
  std::set<std::uint32_t> lent;
  bench_.tenant->TellOfLent([&](std::uint32_t extent, bool is_lent) {
    if (is_lent) {
      EXPECT_FALSE(Granted().has_value()) << "it could be emptied already";
      EXPECT_TRUE(lent.insert(extent).second);
    } else {
      EXPECT_EQ(lent.erase(extent), 1u);
    }
  });
  const auto extent = WantOne();
  ASSERT_TRUE(extent.has_value());
  EXPECT_EQ(lent, std::set<std::uint32_t>{static_cast<std::uint32_t>(*extent)});
  Put(client_.get(), 1, kCache);
  EXPECT_EQ(lent.size(), 1u) << "blocks are not lent";
  GiveBack();
  EXPECT_TRUE(lent.empty());
}

TEST_F(TenantExtentsTest, OnlyPortsEmptyExtents) {
  ASSERT_EQ(Hold(client_.get(), 0, kExtents), Code::kOk);
  SubmissionEntry want = {};
  want.op = Op::kWantGrants;
  want.flags = kWantToEmpty;
  want.length = 4096;  // a port's would be a whole extent
  want.deadline_ns = kNoDeadline;
  client_->Post(want);
  bench_.Drain(client_.get());
  EXPECT_EQ(CodeOf(client_->Reap()), Code::kOk);
  EXPECT_TRUE(client_->TakeGrant(4096).has_value());
}

}  // namespace
}  // namespace agentmem
