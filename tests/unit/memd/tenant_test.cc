#include "memd/tenant.h"

#include <gtest/gtest.h>

#include "tests/unit/memd/tenant_bench.h"

namespace agentmem {
namespace {

constexpr auto kCache = BlockClass::kCache;
constexpr auto kState = BlockClass::kState;
constexpr std::uint32_t kMiB = 1 << 20;

void ExpectWhole(const TenantBench& bench) {
  EXPECT_EQ(bench.tenant->CheckInvariants(), "");
}

Code CodeOf(const std::optional<CompletionEntry>& entry) {
  return entry.has_value() ? entry->code : Code::kUnknown;
}

TEST(TenantTest, APublishedBlockIsInTheIndexWithItsBytes) {
  TenantBench bench;
  auto client = bench.Attach();
  ASSERT_TRUE(
      bench.PostPut(client.get(), TestKey(1), "hello", kCache, Ack::kVisible));
  EXPECT_EQ(CodeOf(client->Reap()), Code::kOk);
  const auto found = bench.reader().Find(TestKey(1));
  ASSERT_EQ(found.kind, EntryKind::kResident);
  EXPECT_EQ(found.block_class, kCache);
  EXPECT_EQ(bench.BytesIn(found.slot), "hello");
  EXPECT_EQ(bench.reader().Find(TestKey(2)).kind, EntryKind::kEmpty);
  ExpectWhole(bench);
}

TEST(TenantTest, TheFirstBytesOfAKeyStay) {
  TenantBench bench;
  auto client = bench.Attach();
  bench.PostPut(client.get(), TestKey(1), "first", kCache, Ack::kVisible);
  client->Reap();
  bench.PostPut(client.get(), TestKey(1), "other", kCache, Ack::kVisible);
  EXPECT_EQ(CodeOf(client->Reap()), Code::kOk);
  EXPECT_EQ(bench.BytesIn(bench.reader().Find(TestKey(1)).slot), "first");
  ExpectWhole(bench);
}

TEST(TenantTest, ADurablePutCompletesOnlyAfterADurableWrite) {
  TenantBench bench;
  auto client = bench.Attach();
  bench.PostPut(client.get(), TestKey(1), "kept", kState, Ack::kDurable);
  EXPECT_FALSE(client->Reap().has_value());
  EXPECT_EQ(bench.reader().Find(TestKey(1)).kind, EntryKind::kResident);
  bench.Settle(client.get());
  EXPECT_EQ(CodeOf(client->Reap()), Code::kOk);
  EXPECT_EQ(bench.store.durable_puts, 1u);
  EXPECT_EQ((bench.store.blocks[{7, TestKey(1)}]), "kept");
}

TEST(TenantTest, ADurablePutOfABlockBeingWrittenLazilyIsWrittenAgainDurably) {
  TenantBench bench;
  auto client = bench.Attach();
  bench.PostPut(client.get(), TestKey(1), "kept", kState, Ack::kVisible);
  EXPECT_EQ(CodeOf(client->Reap()), Code::kOk);
  ASSERT_EQ(bench.store.pending(), 1u);
  EXPECT_FALSE(bench.store.next().durable);
  bench.PostPut(client.get(), TestKey(1), "kept", kState, Ack::kDurable);
  EXPECT_FALSE(client->Reap().has_value());
  bench.Settle(client.get());
  EXPECT_EQ(CodeOf(client->Reap()), Code::kOk);
  EXPECT_EQ(bench.store.durable_puts, 1u);
}

TEST(TenantTest, AFailedDurableWriteIsAnsweredAndTriedAgain) {
  TenantBench bench;
  auto client = bench.Attach();
  bench.store.fail_puts = Code::kResourceExhausted;
  bench.PostPut(client.get(), TestKey(1), "kept", kState, Ack::kDurable);
  bench.Settle(client.get());
  const auto failed = client->Reap();
  EXPECT_EQ(CodeOf(failed), Code::kResourceExhausted);
  EXPECT_EQ(failed->reason, Reason::kStoreFailed);
  bench.store.fail_puts = Code::kOk;
  bench.Advance(2 * kSecondNs);
  bench.Settle(client.get());
  EXPECT_TRUE(bench.store.blocks.count({7, TestKey(1)}));
}

TEST(TenantTest, PutsNeverFailWhileSomethingIsEvictable) {
  TenantBench bench;
  auto client = bench.Attach();
  const std::string bytes(kMiB, 'x');
  for (std::uint64_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(
        bench.PostPut(client.get(), TestKey(i), bytes, kCache, Ack::kVisible))
        << i;
    ASSERT_EQ(CodeOf(client->Reap()), Code::kOk);
  }
  ExpectWhole(bench);
  EXPECT_EQ(bench.tenant->Snapshot(bench.now).puts_failed, 0u);
  EXPECT_EQ(bench.reader().Find(TestKey(99)).kind, EntryKind::kResident);
}

TEST(TenantTest, MemoryMovesBetweenSizeClasses) {
  TenantBench bench;
  auto client = bench.Attach();
  for (const std::uint32_t bytes : {4096u, 1u << 20, 512u, 4u << 20, 65536u}) {
    for (std::uint64_t i = 0; i < (32u << 20) / bytes; ++i) {
      ASSERT_TRUE(bench.PostPut(client.get(), TestKey(i * 31 + bytes),
                                std::string(bytes, 'y'), kCache, Ack::kVisible))
          << bytes << " " << i;
      client->Reap();
    }
    ExpectWhole(bench);
  }
}

TEST(TenantTest, AStateBlockIsNeverDroppedBeforeItIsBelow) {
  TenantBench bench;
  auto client = bench.Attach();
  const std::string bytes(kMiB, 's');
  std::uint64_t put = 0;
  while (
      bench.PostPut(client.get(), TestKey(put), bytes, kState, Ack::kVisible)) {
    client->Reap();
    ASSERT_LT(++put, 100u);
  }
  // Nothing was written yet: all of them must still be here.
  for (std::uint64_t i = 0; i < put; ++i) {
    EXPECT_EQ(bench.reader().Find(TestKey(i)).kind, EntryKind::kResident) << i;
  }
  // The put that waits gets its room as soon as one is below.
  EXPECT_FALSE(client->Reap().has_value());
  bench.Settle(client.get());
  bench.Advance(kMillisecondNs);
  EXPECT_EQ(CodeOf(client->Reap()), Code::kOk);
  EXPECT_TRUE(client->TakeGrant(kMiB).has_value());
  ExpectWhole(bench);
}

TEST(TenantTest, AnEvictedStateBlockComesBackFromTheStore) {
  TenantBench bench;
  auto client = bench.Attach();
  bench.PostPut(client.get(), TestKey(1), "remember", kState, Ack::kVisible);
  bench.Settle(client.get());
  bench.Advance(2 * kSecondNs);  // the grant given ahead in its extent goes
  for (std::uint64_t i = 0; i < 40; ++i) {
    bench.PostPut(client.get(), TestKey(100 + i), std::string(kMiB, 'z'),
                  kCache, Ack::kVisible);
    bench.Settle(client.get());
  }
  while (client->Reap()) {
  }
  ASSERT_EQ(bench.reader().Find(TestKey(1)).kind, EntryKind::kInStore);
  const std::uint64_t op = bench.PostFetch(client.get(), TestKey(1));
  bench.Settle(client.get());
  const auto fetched = client->Reap();
  ASSERT_EQ(CodeOf(fetched), Code::kOk);
  EXPECT_EQ(fetched->op_id, op);
  EXPECT_EQ(fetched->tier, static_cast<std::uint8_t>(Tier::kStore));
  EXPECT_EQ(bench.BytesIn(SlotIndex(fetched->slot)), "remember");
  bench.PostRelease(client.get(), *fetched);
  ExpectWhole(bench);
}

TEST(TenantTest, ACorruptStateBlockIsDataLossAndACorruptCacheBlockAMiss) {
  TenantBench bench;
  auto client = bench.Attach();
  for (const BlockClass block_class : {kState, kCache}) {
    StoredBlock stored;
    stored.key = TestKey(static_cast<std::uint64_t>(block_class));
    stored.block_class = block_class;
    stored.length = 5;
    bench.tenant->AddStored(stored);
    bench.store.blocks[{7, stored.key}] = "brokenlength";
  }
  bench.PostFetch(client.get(), TestKey(2));
  bench.Settle(client.get());
  EXPECT_EQ(CodeOf(client->Reap()), Code::kDataLoss);
  bench.PostFetch(client.get(), TestKey(2));
  bench.Settle(client.get());
  EXPECT_EQ(CodeOf(client->Reap()), Code::kDataLoss);
  bench.PostFetch(client.get(), TestKey(1));
  bench.Settle(client.get());
  EXPECT_EQ(CodeOf(client->Reap()), Code::kNotFound);
  EXPECT_EQ(bench.tenant->Snapshot(bench.now).corrupt_blocks, 3u);
  ExpectWhole(bench);
}

TEST(TenantTest, APinnedBlockIsNotReusedAndItsPinnerIsCharged) {
  TenantBench bench;
  auto client = bench.Attach();
  bench.PostPut(client.get(), TestKey(1), std::string(kMiB, 'p'), kCache,
                Ack::kVisible);
  client->Reap();
  const auto found = bench.reader().Find(TestKey(1));
  client->Pin(3, found.slot);
  for (std::uint64_t i = 0; i < 60; ++i) {
    bench.PostPut(client.get(), TestKey(100 + i), std::string(kMiB, 'z'),
                  kCache, Ack::kVisible);
    client->Reap();
  }
  EXPECT_EQ(bench.BytesIn(found.slot), std::string(kMiB, 'p'));
  client->Unpin(3);
  bench.Advance(kMillisecondNs);
  ExpectWhole(bench);
}

TEST(TenantTest, WhenEverythingIsPinnedAPutIsRefusedNamingTheOwner) {
  TenantBench bench;
  auto hoarder = bench.Attach();
  auto client = bench.Attach();
  int pinned = 0;
  while (bench.PostPut(client.get(),
                       TestKey(static_cast<std::uint64_t>(pinned)),
                       std::string(kMiB, 'h'), kCache, Ack::kVisible)) {
    client->Reap();
    hoarder->Pin(
        pinned,
        bench.reader().Find(TestKey(static_cast<std::uint64_t>(pinned))).slot);
    ASSERT_LT(++pinned, 20);
  }
  EXPECT_EQ(pinned, 16);
  bench.Settle(client.get());  // no write is under way that could make room
  bench.Advance(2 * kSecondNs);
  const auto refused = client->Reap();
  ASSERT_EQ(CodeOf(refused), Code::kResourceExhausted);
  EXPECT_EQ(refused->reason, Reason::kPoolFull);
  EXPECT_EQ(refused->detail[0], 16u << 20);
  EXPECT_GE(refused->detail[1], 15u << 20);
  EXPECT_EQ(refused->detail[2], 1001u);
  ExpectWhole(bench);
}

TEST(TenantTest, HoldsKeepABlockAndStandUnderAQuota) {
  TenantBench bench;
  auto client = bench.Attach();
  std::vector<CompletionEntry> held;
  for (std::uint64_t i = 0; i < 9; ++i) {
    bench.PostPut(client.get(), TestKey(i), std::string(kMiB, 'h'), kCache,
                  Ack::kVisible);
    client->Reap();
    bench.PostFetch(client.get(), TestKey(i));
    held.push_back(*client->Reap());
  }
  EXPECT_EQ(held[7].code, Code::kOk);
  EXPECT_EQ(held[8].code, Code::kResourceExhausted);
  EXPECT_EQ(held[8].reason, Reason::kHoldQuota);
  EXPECT_EQ(held[8].detail[0], 8u << 20);
  bench.PostRelease(client.get(), held[0]);
  bench.PostFetch(client.get(), TestKey(8));
  EXPECT_EQ(CodeOf(client->Reap()), Code::kOk);
  ExpectWhole(bench);
}

TEST(TenantTest, ADeadClientGivesEverythingBack) {
  TenantBench bench;
  auto client = bench.Attach();
  auto other = bench.Attach();
  bench.PostPut(client.get(), TestKey(1), std::string(kMiB, 'a'), kCache,
                Ack::kVisible);
  client->Reap();
  bench.PostFetch(client.get(), TestKey(1));  // a hold
  client->Pin(0, bench.reader().Find(TestKey(1)).slot);
  SubmissionEntry want = {};
  want.op = Op::kWantGrants;
  want.length = kMiB;
  want.slot = 4;
  want.deadline_ns = kNoDeadline;
  client->Post(want);
  bench.Drain(client.get());
  ASSERT_TRUE(client->TakeGrant(kMiB));  // half-written when it dies
  bench.PostFetch(client.get(), TestKey(77));
  EXPECT_GT(bench.tenant->Snapshot(bench.now).granted_bytes, 0u);

  bench.tenant->RemoveClient(client->id(), bench.now);
  const TenantSnapshot after = bench.tenant->Snapshot(bench.now);
  EXPECT_EQ(after.granted_bytes, 0u);
  EXPECT_EQ(after.held_bytes, 0u);
  EXPECT_EQ(after.pinned_bytes, 0u);
  EXPECT_EQ(after.limbo_bytes, 0u);
  EXPECT_EQ(after.dram.blocks, 1u);
  ExpectWhole(bench);
}

TEST(TenantTest, AClientThatDiesWhileItsBlockLoadsDisturbsNobody) {
  TenantBench bench;
  auto client = bench.Attach();
  auto other = bench.Attach();
  StoredBlock stored;
  stored.key = TestKey(1);
  stored.block_class = kState;
  stored.length = 5;
  bench.tenant->AddStored(stored);
  bench.store.blocks[{7, TestKey(1)}] = "12345";
  bench.PostFetch(client.get(), TestKey(1));
  bench.PostFetch(other.get(), TestKey(1));
  bench.tenant->RemoveClient(client->id(), bench.now);
  bench.Settle(other.get());
  EXPECT_EQ(CodeOf(other->Reap()), Code::kOk);
  ExpectWhole(bench);
}

TEST(TenantTest, AClientThatHasAnUnusedGrantIsAnsweredAtOnce) {
  TenantBench bench;
  auto client = bench.Attach();
  // As many small grants as there are entries: no more can be offered.
  SubmissionEntry want = {};
  want.op = Op::kWantGrants;
  want.length = 512;
  want.slot = 32;
  want.deadline_ns = kNoDeadline;
  for (std::uint32_t i = 0; i < kGrantEntries / 32; ++i) client->Post(want);
  bench.Drain(client.get());
  while (client->Reap()) {
  }
  const std::uint64_t op = client->Post(want);
  bench.Drain(client.get());
  const auto answer = client->Reap();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->op_id, op);
  EXPECT_EQ(answer->code, Code::kOk);
}

TEST(TenantTest, IdleGrantsComeBackAfterASecond) {
  TenantBench bench;
  auto client = bench.Attach();
  bench.PostPut(client.get(), TestKey(1), "x", kCache, Ack::kVisible);
  EXPECT_GT(bench.tenant->Snapshot(bench.now).granted_bytes, 0u);
  bench.Advance(2 * kSecondNs);
  EXPECT_EQ(bench.tenant->Snapshot(bench.now).granted_bytes, 0u);
  ExpectWhole(bench);
}

TEST(TenantTest, AFetchPastItsDeadlineIsAnswered) {
  TenantBench bench;
  auto client = bench.Attach();
  StoredBlock stored;
  stored.key = TestKey(1);
  stored.length = 5;
  bench.tenant->AddStored(stored);
  bench.PostFetch(client.get(), TestKey(1), bench.now + kMillisecondNs);
  bench.Advance(2 * kMillisecondNs);
  const auto late = client->Reap();
  EXPECT_EQ(CodeOf(late), Code::kDeadlineExceeded);
}

TEST(TenantTest, AccessNotesKeepABlockFromEviction) {
  TenantBench bench;
  auto client = bench.Attach();
  const std::string bytes(kMiB, 'n');
  bench.PostPut(client.get(), TestKey(0), bytes, kCache, Ack::kVisible);
  client->Reap();
  for (std::uint64_t i = 1; i < 64; ++i) {
    const auto found = bench.reader().Find(TestKey(0));
    ASSERT_EQ(found.kind, EntryKind::kResident) << i;
    client->Note(found.slot, found.generation);
    bench.PostPut(client.get(), TestKey(i), bytes, kCache, Ack::kVisible);
    bench.Settle(client.get());
    client->Reap();
  }
  EXPECT_EQ(bench.reader().Find(TestKey(1)).kind, EntryKind::kInStore);
  EXPECT_EQ(bench.tenant->Snapshot(bench.now).dram.hits, 63u);
}

TEST(TenantTest, HitsOfAThreadThatGaveItsTableBackAreCounted) {
  TenantBench bench;
  auto client = bench.Attach();
  bench.PostPut(client.get(), TestKey(0), "hit", BlockClass::kCache,
                Ack::kVisible);
  const auto found = bench.reader().Find(TestKey(0));
  client->Note(found.slot, found.generation);
  client->file().header().thread_table_mask.store(0);
  bench.tenant->RemoveClient(client->id(), bench.now);
  EXPECT_EQ(bench.tenant->Snapshot(bench.now).dram.hits, 1u);
}

TEST(TenantTest, TheStoreQuotaDropsTheOldestCacheBlocks) {
  TenantOptions options = TenantBench::SmallOptions();
  options.store_quota_bytes = 20 << 20;
  TenantBench bench(options);
  auto client = bench.Attach();
  for (std::uint64_t i = 0; i < 60; ++i) {
    bench.PostPut(client.get(), TestKey(i), std::string(kMiB, 'q'), kCache,
                  Ack::kDurable);
    bench.Settle(client.get());
    EXPECT_EQ(CodeOf(client->Reap()), Code::kOk) << i;
  }
  EXPECT_LE(bench.store.blocks.size(), 21u);
  EXPECT_TRUE(bench.store.blocks.count({7, TestKey(59)}));
  EXPECT_FALSE(bench.store.blocks.count({7, TestKey(0)}));
  ExpectWhole(bench);
}

TEST(TenantTest, DrainingRefusesNewPutsAndWritesWhatIsDirty) {
  TenantBench bench;
  auto client = bench.Attach();
  bench.PostPut(client.get(), TestKey(1), "dirty", kState, Ack::kVisible);
  client->Reap();
  bench.tenant->BeginDrain();
  EXPECT_FALSE(bench.tenant->Drained());
  bench.PostPut(client.get(), TestKey(2), "late", kState, Ack::kVisible);
  const auto late = client->Reap();
  EXPECT_EQ(CodeOf(late), Code::kUnavailable);
  EXPECT_EQ(late->reason, Reason::kShutdown);
  bench.Settle(client.get());
  EXPECT_TRUE(bench.tenant->Drained());
  EXPECT_EQ(bench.store.blocks.size(), 1u);
}

}  // namespace
}  // namespace agentmem
