// A tenant whose blocks may be in other nodes' memory.
#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <set>

#include "memd/pool/pool_timing.h"
#include "tests/unit/memd/tenant_bench.h"

namespace agentmem {
namespace {

constexpr auto kCache = BlockClass::kCache;
constexpr auto kState = BlockClass::kState;
constexpr std::uint32_t kMiB = 1 << 20;

class TenantPoolTest : public testing::Test {
 protected:
  void Start(bool durable_in_pool = false) {
    TenantOptions options = TenantBench::SmallOptions();
    options.durable_in_pool = durable_in_pool;
    bench_ = std::make_unique<TenantBench>(options);
    bench_->JoinCluster();
    client_ = bench_->Attach();
  }
  void TearDown() override { EXPECT_EQ(bench_->tenant->CheckInvariants(), ""); }
  void Put(std::uint64_t n, const std::string& bytes, BlockClass block_class,
           Ack ack) {
    ASSERT_TRUE(
        bench_->PostPut(client_.get(), TestKey(n), bytes, block_class, ack));
  }
  // Other blocks take all of DRAM.
  void FillWithOthers() {
    for (std::uint64_t i = 0; i < 40; ++i) {
      Put(1000 + i, std::string(kMiB, 'x'), kCache, Ack::kVisible);
      bench_->Settle(client_.get());
      client_->Reap();
    }
  }
  // What a fetch is answered; its bytes in bytes_.
  CompletionEntry Fetch(std::uint64_t n) {
    bench_->PostFetch(client_.get(), TestKey(n));
    bench_->Settle(client_.get());
    CompletionEntry last = {};
    last.code = Code::kUnknown;
    while (const auto entry = client_->Reap()) last = *entry;
    if (last.code == Code::kOk) {
      bytes_ = bench_->BytesIn(SlotIndex(last.slot));
      bench_->PostRelease(client_.get(), last);
    }
    return last;
  }
  Code Answer() {
    const auto entry = client_->Reap();
    return entry.has_value() ? entry->code : Code::kUnknown;
  }

  std::unique_ptr<TenantBench> bench_;
  std::unique_ptr<TestClient> client_;
  std::string bytes_;
};

TEST_F(TenantPoolTest, ACacheBlockLeavesForThePoolAndComesBackWhole) {
  Start();
  const std::string bytes(kMiB, 'a');
  Put(1, bytes, kCache, Ack::kVisible);
  bench_->Settle(client_.get());
  client_->Reap();
  FillWithOthers();
  ASSERT_EQ(bench_->reader().Find(TestKey(1)).kind, EntryKind::kInPool);
  EXPECT_TRUE(bench_->store.blocks.empty()) << "the pool is nearer";
  const CompletionEntry got = Fetch(1);
  EXPECT_EQ(got.code, Code::kOk);
  EXPECT_EQ(got.tier, static_cast<std::uint8_t>(Tier::kPool));
  EXPECT_EQ(bytes_, bytes);
  EXPECT_EQ(bench_->tenant->Snapshot(bench_->now).pool.hits, 1u);
}

TEST_F(TenantPoolTest, ABlockThatThisNodeNeverSawIsFoundElsewhere) {
  Start();
  bench_->pool.blocks[TestKey(5)] = {"from afar", kState, 2};
  EXPECT_EQ(Fetch(5).code, Code::kOk);
  EXPECT_EQ(bytes_, "from afar");
  EXPECT_EQ(Fetch(6).code, Code::kNotFound);
  bench_->pool.fail_gets = Code::kUnavailable;
  const CompletionEntry away = Fetch(7);
  EXPECT_EQ(away.code, Code::kUnavailable);
  EXPECT_EQ(away.reason, Reason::kPoolFailed);
}

TEST_F(TenantPoolTest, ManyAskersOfAnUnknownBlockShareOneLookUp) {
  Start();
  bench_->pool.blocks[TestKey(5)] = {"once", kCache, 1};
  bench_->PostFetch(client_.get(), TestKey(5));
  bench_->PostFetch(client_.get(), TestKey(5));
  EXPECT_EQ(bench_->pool.pending(), 1u);
  bench_->Settle(client_.get());
  for (int i = 0; i < 2; ++i) {
    const auto entry = client_->Reap();
    ASSERT_TRUE(entry.has_value());
    EXPECT_EQ(entry->code, Code::kOk);
    bench_->PostRelease(client_.get(), *entry);
  }
}

TEST_F(TenantPoolTest, ReplicatedIsAnsweredWhenTheCopiesAreMade) {
  Start();
  Put(1, "twice", kState, Ack::kReplicated);
  EXPECT_EQ(Answer(), Code::kUnknown);
  while (bench_->FinishPoolOne()) {
  }
  EXPECT_EQ(Answer(), Code::kOk);
  EXPECT_EQ(bench_->pool.blocks[TestKey(1)].copies, 2);
}

TEST_F(TenantPoolTest, ReplicatedIsRefusedWithoutAnotherNode) {
  Start();
  bench_->pool.nodes = 0;
  Put(1, "alone", kState, Ack::kReplicated);
  EXPECT_EQ(Answer(), Code::kFailedPrecondition);
  bench_->pool.nodes = 2;
  bench_->pool.fail_puts = Code::kUnavailable;
  Put(2, "unheard", kState, Ack::kReplicated);
  bench_->Settle(client_.get());
  EXPECT_EQ(Answer(), Code::kUnavailable);
}

TEST_F(TenantPoolTest, APutThatFindsOtherNodesFullSaysSo) {
  Start();
  bench_->pool.fail_puts = Code::kResourceExhausted;
  Put(1, "too many", kState, Ack::kReplicated);
  int tries = 0;
  std::optional<CompletionEntry> answer;
  const TimeNs asked = bench_->now;
  while (!(answer = client_->Reap()).has_value()) {
    ASSERT_LE(bench_->now - asked, kPutPatienceNs);
    tries += bench_->FinishPoolOne();
    EXPECT_EQ(bench_->pool.pending(), 0u);
    bench_->Advance(10 * kMillisecondNs);
  }
  // As long as a collection may take, and no oftener than that helps.
  EXPECT_GE(bench_->now - asked, kPutPatienceNs / 2);
  EXPECT_LE(tries, kPutPatienceNs / kRoomAgainNs + 1);
  EXPECT_EQ(answer->code, Code::kUnavailable);
  EXPECT_EQ(answer->reason, Reason::kNoReplica);
  EXPECT_EQ(answer->detail[0],
            static_cast<std::uint64_t>(Code::kResourceExhausted));
  const TenantSnapshot snapshot = bench_->tenant->Snapshot(bench_->now);
  EXPECT_EQ(snapshot.puts_failed, 1u);
  EXPECT_EQ(snapshot.puts_failed_replica, 1u);
  EXPECT_TRUE(bench_->tenant->copy_record()->IsFailing(bench_->now));
  EXPECT_FALSE(bench_->tenant->store_record()->IsFailing(bench_->now));
}

TEST_F(TenantPoolTest, AStoreThatFailsIsCountedAsTheStore) {
  Start();
  bench_->store.fail_puts = Code::kResourceExhausted;
  Put(1, "no space", kState, Ack::kDurable);
  bench_->Settle(client_.get());
  EXPECT_EQ(Answer(), Code::kResourceExhausted);
  const TenantSnapshot snapshot = bench_->tenant->Snapshot(bench_->now);
  EXPECT_EQ(snapshot.puts_failed, 1u);
  EXPECT_EQ(snapshot.puts_failed_store, 1u);
  EXPECT_EQ(snapshot.puts_failed_replica, 0u);
  ASSERT_TRUE(bench_->tenant->store_record()->IsFailing(bench_->now));
  EXPECT_EQ(bench_->tenant->store_record()->code(), Code::kResourceExhausted);
}

TEST_F(TenantPoolTest, APutWaitsForTheRoomThatACollectionMakes) {
  for (const bool durable : {false, true}) {
    Start(durable);
    bench_->pool.fail_puts = Code::kResourceExhausted;
    Put(1, "soon", kState, durable ? Ack::kDurable : Ack::kReplicated);
    bench_->Settle(client_.get());
    bench_->Advance(kRoomAgainNs);
    bench_->Settle(client_.get());
    EXPECT_EQ(Answer(), Code::kUnknown);
    bench_->pool.fail_puts = Code::kOk;
    bench_->Advance(kRoomAgainNs);
    bench_->Settle(client_.get());
    EXPECT_EQ(Answer(), Code::kOk);
    EXPECT_EQ(bench_->pool.blocks[TestKey(1)].copies, 2);
    EXPECT_EQ(bench_->tenant->CheckInvariants(), "");
    // The next one has patience of its own.
    bench_->Advance(2 * kPutPatienceNs);
    bench_->pool.fail_puts = Code::kResourceExhausted;
    Put(2, "later", kState, Ack::kReplicated);
    bench_->Settle(client_.get());
    EXPECT_EQ(Answer(), Code::kUnknown);
  }
}

TEST_F(TenantPoolTest, NobodyWaitsForRoomBeyondHisDeadline) {
  Start();
  bench_->pool.fail_puts = Code::kResourceExhausted;
  Put(1, "patient", kState, Ack::kReplicated);
  const TimeNs soon = bench_->now + kRoomAgainNs;
  ASSERT_TRUE(bench_->PostPut(client_.get(), TestKey(1), "patient", kState,
                              Ack::kReplicated, soon));
  bench_->Settle(client_.get());
  const auto hasty = client_->Reap();
  ASSERT_TRUE(hasty.has_value());
  EXPECT_EQ(hasty->reason, Reason::kNoReplica);
  EXPECT_EQ(Answer(), Code::kUnknown);
  bench_->pool.fail_puts = Code::kOk;
  bench_->Advance(kRoomAgainNs);
  bench_->Settle(client_.get());
  EXPECT_EQ(Answer(), Code::kOk);
}

TEST_F(TenantPoolTest, DurableInAClusterNeedsTheDiskAndTheCopies) {
  Start(/*durable_in_pool=*/true);
  Put(1, "kept", kState, Ack::kDurable);
  bench_->store.FinishAll();
  bench_->PollStore();
  EXPECT_EQ(Answer(), Code::kUnknown) << "only on this node's disk";
  while (bench_->FinishPoolOne()) {
  }
  EXPECT_EQ(Answer(), Code::kOk);
  Put(2, "kept", kState, Ack::kDurable);
  while (bench_->FinishPoolOne()) {
  }
  EXPECT_EQ(Answer(), Code::kUnknown) << "not on a disk";
  bench_->store.FinishAll();
  bench_->PollStore();
  EXPECT_EQ(Answer(), Code::kOk);
}

TEST_F(TenantPoolTest, DurableInAClusterFailsWhenNobodyTakesACopy) {
  Start(/*durable_in_pool=*/true);
  bench_->pool.fail_puts = Code::kUnavailable;
  Put(1, "kept", kState, Ack::kDurable);
  bench_->Settle(client_.get());
  EXPECT_EQ(Answer(), Code::kUnavailable);
}

TEST_F(TenantPoolTest, AStateBlockInTwoNodesMemoryMayLeave) {
  Start();
  bench_->store.fail_puts = Code::kResourceExhausted;
  Put(1, std::string(kMiB, 's'), kState, Ack::kReplicated);
  bench_->Settle(client_.get());
  EXPECT_EQ(Answer(), Code::kOk);
  EXPECT_EQ(bench_->tenant->dirty_bytes(), 0u);
  FillWithOthers();
  EXPECT_EQ(bench_->reader().Find(TestKey(1)).kind, EntryKind::kInPool);
  EXPECT_EQ(Fetch(1).code, Code::kOk);
  EXPECT_EQ(bytes_, std::string(kMiB, 's'));
}

TEST_F(TenantPoolTest, AStateBlockOfOneCopyStaysUntilItIsBelow) {
  Start();
  bench_->pool.nodes = 1;
  bench_->store.fail_puts = Code::kResourceExhausted;
  Put(1, std::string(kMiB, 's'), kState, Ack::kReplicated);
  bench_->Settle(client_.get());
  EXPECT_EQ(Answer(), Code::kOk);
  FillWithOthers();
  EXPECT_EQ(bench_->reader().Find(TestKey(1)).kind, EntryKind::kResident);
}

TEST_F(TenantPoolTest, ALostCopyIsReadFromTheStoreInstead) {
  Start(/*durable_in_pool=*/true);
  Put(1, std::string(kMiB, 's'), kState, Ack::kDurable);
  bench_->Settle(client_.get());
  EXPECT_EQ(Answer(), Code::kOk);
  FillWithOthers();
  bench_->pool.blocks.erase(TestKey(1));
  const CompletionEntry got = Fetch(1);
  EXPECT_EQ(got.code, Code::kOk);
  EXPECT_EQ(bytes_, std::string(kMiB, 's'));
  EXPECT_EQ(got.tier, static_cast<std::uint8_t>(Tier::kStore));
}

TEST_F(TenantPoolTest, ALostCacheCopyIsAMissAndForgotten) {
  Start();
  Put(1, std::string(kMiB, 'c'), kCache, Ack::kVisible);
  bench_->Settle(client_.get());
  client_->Reap();
  FillWithOthers();
  ASSERT_EQ(bench_->reader().Find(TestKey(1)).kind, EntryKind::kInPool);
  bench_->pool.blocks.erase(TestKey(1));
  EXPECT_EQ(Fetch(1).code, Code::kNotFound);
  EXPECT_EQ(bench_->reader().Find(TestKey(1)).kind, EntryKind::kEmpty);
}

TEST_F(TenantPoolTest, ARevokedCopyIsNotCountedOn) {
  Start();
  Put(1, std::string(kMiB, 'c'), kCache, Ack::kVisible);
  bench_->Settle(client_.get());
  client_->Reap();
  FillWithOthers();
  ASSERT_EQ(bench_->reader().Find(TestKey(1)).kind, EntryKind::kInPool);
  bench_->tenant->OnRevoked(TestKey(1));
  EXPECT_EQ(bench_->reader().Find(TestKey(1)).kind, EntryKind::kEmpty);
  EXPECT_EQ(bench_->tenant->Snapshot(bench_->now).pool.evictions, 1u);
}

TEST_F(TenantPoolTest, APoolThatIsFullLeavesTheCacheToTheStore) {
  Start();
  bench_->pool.fail_puts = Code::kResourceExhausted;
  Put(1, std::string(kMiB, 'c'), kCache, Ack::kVisible);
  bench_->Settle(client_.get());
  client_->Reap();
  FillWithOthers();
  EXPECT_TRUE(bench_->store.blocks.count({7, TestKey(1)}));
  EXPECT_EQ(Fetch(1).code, Code::kOk);
}

TEST_F(TenantPoolTest, ACopyOfACacheBlockDoesNotCountForTheStateThatItBecame) {
  Start();
  bench_->store.fail_puts = Code::kResourceExhausted;
  const std::string bytes(kMiB, 'u');
  Put(1, bytes, kCache, Ack::kReplicated);
  bench_->Settle(client_.get());
  EXPECT_EQ(Answer(), Code::kOk);
  Put(1, bytes, kState, Ack::kVisible);
  EXPECT_EQ(Answer(), Code::kOk);
  EXPECT_EQ(bench_->tenant->dirty_bytes(), kMiB);
  FillWithOthers();
  EXPECT_EQ(bench_->reader().Find(TestKey(1)).kind, EntryKind::kResident);
}

TEST_F(TenantPoolTest, ThisNodesOwnExtentsAreNoOtherNode) {
  Start(/*durable_in_pool=*/true);
  bench_->pool.lends = true;
  bench_->pool.nodes = 0;
  Put(1, "alone", kState, Ack::kDurable);
  bench_->Settle(client_.get());
  EXPECT_EQ(Answer(), Code::kUnavailable) << "its one copy is here";
  // A cache block has one copy, and may have it here: then two are made.
  bench_->pool.nodes = 1;
  Put(2, "shared", kCache, Ack::kDurable);
  bench_->Settle(client_.get());
  EXPECT_EQ(Answer(), Code::kOk);
  EXPECT_EQ(bench_->pool.blocks[TestKey(2)].copies, 2);
}

TEST_F(TenantPoolTest, ACopyMadeHereBeforeDoesNotMakeABlockReplicated) {
  Start();
  bench_->pool.lends = true;
  Put(1, std::string(kMiB, 'c'), kCache, Ack::kVisible);
  bench_->Settle(client_.get());
  client_->Reap();
  FillWithOthers();
  ASSERT_EQ(bench_->reader().Find(TestKey(1)).kind, EntryKind::kInPool);
  ASSERT_EQ(bench_->pool.blocks[TestKey(1)].copies, 1);
  Put(1, std::string(kMiB, 'c'), kCache, Ack::kReplicated);
  EXPECT_EQ(Answer(), Code::kUnknown);
  bench_->Settle(client_.get());
  EXPECT_EQ(Answer(), Code::kOk);
  EXPECT_EQ(bench_->pool.blocks[TestKey(1)].copies, 2);
}

TEST_F(TenantPoolTest, WhatOneOnlyHeardOfIsWrittenBeforeItIsAcknowledged) {
  Start();
  bench_->pool.blocks[TestKey(1)] = {"of another", kState, 2};
  ASSERT_EQ(Fetch(1).code, Code::kOk);
  bench_->pool.blocks.clear();
  Put(1, "of another", kState, Ack::kReplicated);
  bench_->Settle(client_.get());
  EXPECT_EQ(Answer(), Code::kOk);
  EXPECT_EQ(bench_->pool.blocks[TestKey(1)].copies, 2);
}

TEST_F(TenantPoolTest, ADurableWaiterOutlivesTheCopyThatItFound) {
  Start(/*durable_in_pool=*/true);
  Put(1, "once", kCache, Ack::kReplicated);
  bench_->Settle(client_.get());
  EXPECT_EQ(Answer(), Code::kOk);
  SubmissionEntry durable = {};
  durable.op = Op::kMakeDurable;
  durable.key = TestKey(1);
  durable.deadline_ns = kNoDeadline;
  client_->Post(durable);
  bench_->Drain(client_.get());
  bench_->tenant->OnRevoked(TestKey(1));
  bench_->Settle(client_.get());
  EXPECT_EQ(Answer(), Code::kOk);
}

TEST_F(TenantPoolTest, ABlockRevokedUnderALoadIsLookedForAgain) {
  Start();
  Put(1, std::string(kMiB, 'c'), kCache, Ack::kVisible);
  bench_->Settle(client_.get());
  client_->Reap();
  FillWithOthers();
  ASSERT_EQ(bench_->reader().Find(TestKey(1)).kind, EntryKind::kInPool);
  bench_->pool.queue_max = 0;
  bench_->PostFetch(client_.get(), TestKey(1));
  bench_->tenant->OnRevoked(TestKey(1));
  bench_->pool.queue_max = 1024;
  bench_->Settle(client_.get());
  bench_->Advance(kSecondNs);
  bench_->Settle(client_.get());
  while (const auto entry = client_->Reap()) {
    if (entry->code == Code::kOk) bench_->PostRelease(client_.get(), *entry);
  }
  bench_->pool.blocks[TestKey(1)] = {"elsewhere now", kCache, 1};
  EXPECT_EQ(Fetch(1).code, Code::kOk);
}

// Blocks come and go between three tiers, any of which fails at times.
class TenantPoolRandomTest : public testing::TestWithParam<std::uint64_t> {};

TEST_P(TenantPoolRandomTest, BooksAndBytesAgree) {
  std::mt19937_64 random(GetParam());
  TenantOptions options = TenantBench::SmallOptions();
  options.durable_in_pool = random() % 2 == 0;
  TenantBench bench(options);
  bench.JoinCluster();
  auto client = bench.Attach();
  const auto bytes_of = [](std::uint64_t n) {
    std::string bytes(1 + (n * 7919) % 900'000,
                      static_cast<char>('a' + n % 26));
    bytes[0] = static_cast<char>(n);
    return bytes;
  };
  std::set<std::uint64_t> unanswered;
  const auto reap = [&] {
    while (const auto entry = client->Reap()) {
      unanswered.erase(entry->op_id);
      if (entry->code != Code::kOk || entry->length == 0) continue;
      const Slot& slot = bench.reader().slot(SlotIndex(entry->slot));
      std::uint64_t which = 0;
      while (!(TestKey(which) ==
               Key::FromWords(slot.key_low.load(), slot.key_high.load()))) {
        ASSERT_LT(++which, 80u);
      }
      ASSERT_EQ(bench.BytesIn(SlotIndex(entry->slot)), bytes_of(which));
      bench.PostRelease(client.get(), *entry);
    }
  };
  for (int step = 0; step < 1500; ++step) {
    const std::uint64_t n = random() % 80;
    switch (random() % 9) {
      case 0:
      case 1:
      case 2:
        bench.refused.reset();
        if (const auto op = bench.PostPut(client.get(), TestKey(n), bytes_of(n),
                                          n % 3 == 0 ? kState : kCache,
                                          Ack(1 + random() % 3))) {
          unanswered.insert(*op);
        }
        if (bench.refused) unanswered.erase(bench.refused->op_id);
        break;
      case 3:
      case 4:
        unanswered.insert(bench.PostFetch(client.get(), TestKey(n)));
        break;
      case 5:
        bench.store.FinishOne();
        bench.PollStore();
        break;
      case 6:
        bench.FinishPoolOne();
        break;
      case 7:
        bench.Advance(static_cast<DurationNs>(random() % kSecondNs));
        if (random() % 8 == 0) bench.tenant->OnRevoked(TestKey(n));
        if (random() % 8 == 0) bench.pool.blocks.erase(TestKey(n | 1));
        break;
      case 8: {
        const Code codes[] = {Code::kOk, Code::kOk, Code::kUnavailable,
                              Code::kResourceExhausted};
        bench.pool.fail_puts = codes[random() % 4];
        bench.pool.fail_gets =
            random() % 4 == 0 ? Code::kUnavailable : Code::kOk;
        bench.pool.nodes = random() % 4;
        bench.pool.lends = random() % 2 == 0;
        bench.store.fail_puts =
            random() % 4 == 0 ? Code::kResourceExhausted : Code::kOk;
        break;
      }
    }
    reap();
    ASSERT_EQ(bench.tenant->CheckInvariants(), "") << "step " << step;
  }
  bench.pool.fail_gets = Code::kOk;
  bench.pool.fail_puts = Code::kOk;
  bench.store.fail_puts = Code::kOk;
  bench.pool.nodes = 2;
  for (int i = 0; i < 10; ++i) {
    bench.Settle(client.get());
    reap();
    bench.Advance(kSecondNs);
  }
  EXPECT_TRUE(unanswered.empty())
      << *unanswered.begin() << " of " << unanswered.size();
  EXPECT_EQ(bench.tenant->CheckInvariants(), "");
}

INSTANTIATE_TEST_SUITE_P(Seeds, TenantPoolRandomTest,
                         testing::Range<std::uint64_t>(1, 9));

}  // namespace
}  // namespace agentmem
