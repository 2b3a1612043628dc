// Who waits for room, and what one who waits, or one tenant, can take from the
// others.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "memd/tenant.h"
#include "tests/unit/memd/tenant_bench.h"
#include "tiering/policies/lru_policy.h"

namespace agentmem {
namespace {

constexpr auto kCache = BlockClass::kCache;
constexpr auto kState = BlockClass::kState;

void PinAt(TestClient* client, int place, SlotIndex slot) {
  client->file().header().thread_table_mask.store(~0ULL);
  client->file().thread_tables()[place / 128].pins[place % 128].store(
      slot.value() + 1ULL);
}

// Fills the pool with blocks of `bytes` and pins one in each `stride` bytes of
// it. How many pins.
int FillAndPin(TenantBench* bench, TestClient* client, std::uint32_t bytes,
               std::uint64_t stride) {
  const std::uint64_t blocks = (16 << 20) / bytes + 6;
  for (std::uint64_t i = 0; i < blocks; ++i) {
    bench->PostPut(client, TestKey(i), std::string(bytes, 'f'), kCache,
                   Ack::kVisible);
    while (client->Reap()) {
    }
    if (i % 32 == 0) bench->Settle(client);
  }
  bench->Settle(client);
  bench->Advance(2 * kSecondNs);  // offers come back
  int pins = 0;
  std::set<std::uint64_t> places;
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const auto found = bench->reader().Find(TestKey(i));
    if (found.kind != EntryKind::kResident) continue;
    const std::uint64_t offset =
        bench->reader().slot(found.slot).LoadPlace().data_offset();
    if (places.insert(offset / stride).second) {
      PinAt(client, pins++, found.slot);
    }
  }
  return pins;
}

// A pool of which every page is pinned; the number of pins.
int PinEverything(TenantBench* bench, TestClient* client) {
  int pins = 0;
  while (bench->PostPut(client, TestKey(static_cast<std::uint64_t>(pins)),
                        std::string(32 << 10, 'h'), kCache, Ack::kVisible)) {
    const Key key = TestKey(static_cast<std::uint64_t>(pins));
    PinAt(client, pins++, bench->reader().Find(key).slot);
    while (client->Reap()) {
    }
  }
  bench->Settle(client);
  bench->Advance(2 * kSecondNs);  // its own request for more is refused
  return pins;
}

TEST(TenantRoomTest, OnePinInEachExtentKeepsNoOtherSizeOut) {
  TenantBench bench;
  auto client = bench.Attach();
  ASSERT_EQ(FillAndPin(&bench, client.get(), 96 << 10, kExtentBytes), 4);
  std::uint64_t key = 1000;
  for (const std::uint32_t bytes :
       {128u << 10, 1u << 20, 512u, 2u << 20, 48u << 10, 1u << 20}) {
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(bench.PostPut(client.get(), TestKey(key++),
                                std::string(bytes, 'y'), kCache, Ack::kVisible))
          << bytes;
      client->Reap();
    }
    EXPECT_EQ(bench.tenant->CheckInvariants(), "");
  }
  EXPECT_EQ(bench.tenant->Snapshot(bench.now).puts_failed, 0u);
}

TEST(TenantRoomTest, WhoCannotBeServedHoldsUpNobodyElse) {
  TenantBench bench;
  auto client = bench.Attach();
  auto other = bench.Attach();
  ASSERT_EQ(FillAndPin(&bench, client.get(), 96 << 10, kExtentBytes), 4);
  EXPECT_FALSE(bench.PostPut(client.get(), TestKey(1000),
                             std::string(4 << 20, 'l'), kCache, Ack::kVisible));
  EXPECT_TRUE(bench.PostPut(other.get(), TestKey(1001), std::string(4096, 's'),
                            kCache, Ack::kVisible));
  // The first one is served as soon as it can be.
  client->file().thread_tables()[0].pins[2].store(0);
  bench.Advance(kMillisecondNs);
  EXPECT_TRUE(bench.PostPut(client.get(), TestKey(1000),
                            std::string(4 << 20, 'l'), kCache, Ack::kVisible));
  EXPECT_EQ(bench.tenant->CheckInvariants(), "");
}

TEST(TenantRoomTest, NoRequestForRoomFailsWhileSlotsBecomeFree) {
  TenantBench bench;
  auto client = bench.Attach();
  ASSERT_EQ(FillAndPin(&bench, client.get(), 96 << 10, kExtentBytes), 4);
  EXPECT_FALSE(bench.PostPut(client.get(), TestKey(1000),
                             std::string(4 << 20, 'l'), kCache, Ack::kVisible));
  // Others' puts make slots free; nothing else goes on.
  auto other = bench.Attach();
  for (std::uint64_t i = 0; i < 60; ++i) {
    for (std::uint64_t j = 0; j < 4; ++j) {
      ASSERT_TRUE(bench.PostPut(other.get(), TestKey(2000 + 4 * i + j),
                                std::string(1 << 20, 's'), kCache,
                                Ack::kVisible));
      other->Reap();
    }
    bench.Settle(other.get());  // so no write is on its way either
    ASSERT_FALSE(bench.tenant->store_busy());
    bench.Advance(100 * kMillisecondNs);
    ASSERT_FALSE(client->Reap().has_value()) << i;
  }
  bench.Settle(other.get());
  bench.Advance(kSecondNs / 2);
  bench.Advance(kSecondNs);
  const auto refused = client->Reap();
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->code, Code::kResourceExhausted);
  EXPECT_EQ(refused->reason, Reason::kPoolFull);
}

TEST(TenantRoomTest, ASmallSizeWithoutRoomKeepsNoneFromALargerOne) {
  TenantBench bench;
  auto hoarder = bench.Attach();
  auto small = bench.Attach();
  auto large = bench.Attach();
  // One of the two slots of each page stays: no page can be cut anew, and half
  // of the slots of 16 KiB can go.
  ASSERT_GT(FillAndPin(&bench, hoarder.get(), 16 << 10, 32 << 10), 500);
  for (int i = 0; i < 20; ++i) {
    bench.PostWant(small.get(), 8 << 10);
    while (small->TakeGrant(8 << 10).has_value()) {
    }
  }
  bench.PostWant(large.get(), 16 << 10);
  const auto answer = large->Reap();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->code, Code::kOk);
  EXPECT_EQ(bench.tenant->CheckInvariants(), "");
}

TEST(TenantRoomTest, WhatWasOfferedIsThereForAWhileWhoeverElseWaits) {
  TenantBench bench;
  auto hoarder = bench.Attach();
  auto waiter = bench.Attach();
  auto client = bench.Attach();
  ASSERT_EQ(FillAndPin(&bench, hoarder.get(), 96 << 10, kExtentBytes), 4);
  // A pin in each extent: none has room for 4 MiB.
  bench.PostWant(waiter.get(), 4 << 20);
  bench.PostWant(client.get(), 1 << 20);
  for (int i = 0; i < 4; ++i) bench.Advance(2 * kMillisecondNs);
  EXPECT_FALSE(waiter->Reap().has_value());
  ASSERT_EQ(client->Reap()->code, Code::kOk);
  EXPECT_TRUE(client->TakeGrant(1 << 20).has_value());
}

TEST(TenantRoomTest, FetchesThatWereGivenUpLeaveNothingBehind) {
  TenantBench bench;
  auto hoarder = bench.Attach();
  auto client = bench.Attach();
  ASSERT_EQ(PinEverything(&bench, hoarder.get()), 512);
  auto smaller = bench.Attach();
  bench.PostWant(smaller.get(), 512, bench.now + 4 * kMillisecondNs);
  for (std::uint64_t i = 0; i < 100; ++i) {
    StoredBlock stored;
    stored.key = TestKey(100'000 + i);
    stored.length = 2048;
    stored.block_class = kCache;
    bench.tenant->AddStored(stored);
    bench.PostFetch(client.get(), stored.key, bench.now + kMillisecondNs);
  }
  EXPECT_TRUE(bench.tenant->restless());
  bench.Advance(2 * kMillisecondNs);
  int answers = 0;
  while (const auto answer = client->Reap()) {
    EXPECT_EQ(answer->code, Code::kDeadlineExceeded);
    ++answers;
  }
  EXPECT_EQ(answers, 100);
  bench.Advance(4 * kMillisecondNs);
  EXPECT_FALSE(bench.tenant->restless());
}

TEST(TenantRoomTest, AFetchIsAnsweredWhenItsBlockIsPutThoughOthersWait) {
  TenantBench bench;
  auto hoarder = bench.Attach();
  auto client = bench.Attach();
  bench.PostWant(client.get(), 32 << 10);
  const auto grant = client->TakeGrant(32 << 10);
  ASSERT_TRUE(grant.has_value());
  client->Reap();
  ASSERT_EQ(PinEverything(&bench, hoarder.get()), 511);
  StoredBlock stored;
  stored.key = TestKey(9000);
  stored.length = 32 << 10;
  stored.block_class = kCache;
  bench.tenant->AddStored(stored);
  auto other = bench.Attach();
  bench.PostWant(hoarder.get(), 32 << 10);  // of its size, and before it
  bench.PostFetch(other.get(), stored.key);
  ASSERT_FALSE(other->Reap().has_value());
  SubmissionEntry put = {};
  put.op = Op::kPublish;
  put.grant = *grant;
  put.sequence = GrantSequenceOf(client->file().grants()[*grant].state.load());
  put.key = stored.key;
  put.length = 32 << 10;
  put.block_class = kState;
  put.ack = Ack::kVisible;
  put.deadline_ns = kNoDeadline;
  client->Post(put);
  bench.Drain(client.get());
  const auto answer = other->Reap();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->code, Code::kOk);
}

TEST(TenantRoomTest, NoRequestForRoomFailsWhileALoadWaitsForTheStoresQueue) {
  TenantBench bench;
  auto hoarder = bench.Attach();
  auto client = bench.Attach();
  bench.PostWant(client.get(), 32 << 10);
  SubmissionEntry abandon = {};
  abandon.op = Op::kAbandon;
  abandon.grant = *client->TakeGrant(32 << 10);
  abandon.sequence =
      GrantSequenceOf(client->file().grants()[abandon.grant].state.load());
  client->Reap();
  ASSERT_EQ(PinEverything(&bench, hoarder.get()), 511);
  StoredBlock stored;
  stored.key = TestKey(9000);
  stored.length = 32 << 10;
  stored.block_class = kCache;
  bench.tenant->AddStored(stored);
  bench.store.queue_max = 0;  // others' work fills it
  client->Post(abandon);
  bench.PostFetch(client.get(), stored.key);  // has the last page now
  auto other = bench.Attach();
  bench.PostWant(other.get(), 512);
  for (int i = 0; i < 5; ++i) bench.Advance(kSecondNs);
  EXPECT_FALSE(other->Reap().has_value());
}

TEST(TenantRoomTest, AFailedStateWriteIsTriedAgainWhenNobodyIsConnected) {
  TenantBench bench;
  auto client = bench.Attach();
  bench.store.fail_puts = Code::kResourceExhausted;
  bench.PostPut(client.get(), TestKey(1), "state", kState, Ack::kVisible);
  bench.store.FinishAll();
  bench.PollStore();
  bench.tenant->RemoveClient(client->id(), bench.now);
  EXPECT_TRUE(bench.tenant->restless());
  // At the end once more, whatever the time.
  bench.store.fail_puts = Code::kOk;
  bench.tenant->BeginDrain();
  EXPECT_FALSE(bench.tenant->Drained());
  bench.Advance(kMillisecondNs);
  bench.store.FinishAll();
  bench.PollStore();
  EXPECT_TRUE(bench.tenant->Drained());
  EXPECT_EQ(bench.tenant->dirty_bytes(), 0u);
  EXPECT_TRUE(bench.store.blocks.contains({7, TestKey(1)}));
}

TEST(TenantRoomTest, OneTenantsWritesDoNotKeepAnothersReadsFromTheStore) {
  TenantBench bench;
  bench.store.queue_max = 64;  // less than a tenant's share
  auto writer = bench.Attach();
  auto reader = bench.AttachToSecondTenant();
  bench.store.blocks[{8, TestKey(5)}] = "12345";
  StoredBlock stored;
  stored.key = TestKey(5);
  stored.length = 5;
  stored.block_class = kCache;
  bench.second_tenant->AddStored(stored);
  std::uint64_t key = 1000;
  const auto keep_writing = [&] {
    for (int i = 0; i < 200; ++i) {
      bench.PostPut(writer.get(), TestKey(key++), std::string(512, 'w'), kCache,
                    Ack::kDurable);
      while (writer->Reap()) {
      }
    }
  };
  keep_writing();
  ASSERT_EQ(bench.store.pending(), 64u);
  SubmissionEntry fetch = {};
  fetch.op = Op::kFetch;
  fetch.key = TestKey(5);
  fetch.deadline_ns = kNoDeadline;
  reader->Post(fetch);
  int rounds = 0;
  for (; rounds < 20 && !reader->Reap().has_value(); ++rounds) {
    keep_writing();
    bench.DrainSecondTenant(reader.get());
    for (int i = 0; i < 16; ++i) bench.store.FinishOne();
    bench.PollStore();
  }
  EXPECT_LT(rounds, 10);
}

// Calls a hook where a client may pin what is about to be evicted: after the
// look at the pins, before the block is unpublished.
class HookedPolicy final : public tiering::Policy {
 public:
  explicit HookedPolicy(std::function<void()>* hook) : hook_(hook) {
    tiering::LruOptions options;
    options.slots =
        static_cast<std::uint32_t>(TenantBench::SmallOptions().slots);
    options.budget_bytes = TenantBench::SmallOptions().dram_bytes;
    lru_ = tiering::MakeLruPolicy(options);
  }

  const char* name() const override { return "hooked"; }
  void Inserted(const tiering::BlockInfo& block, tiering::InsertCause cause,
                TimeNs now) override {
    lru_->Inserted(block, cause, now);
  }
  void Accessed(SlotIndex slot, TimeNs now) override {
    lru_->Accessed(slot, now);
  }
  void Removed(SlotIndex slot, TimeNs now) override {
    lru_->Removed(slot, now);
  }
  void StoredBelow(SlotIndex slot, TimeNs now) override {
    lru_->StoredBelow(slot, now);
  }
  tiering::HintAnswer Hinted(const tiering::PhaseHint& hint,
                             TimeNs now) override {
    return lru_->Hinted(hint, now);
  }
  void Decide(TimeNs now, std::size_t count_max,
              std::vector<tiering::Decision>* decisions) override {
    lru_->Decide(now, count_max, decisions);
  }
  void Coldest(
      TimeNs now,
      const std::function<tiering::Verdict(SlotIndex)>& offer) override {
    (*hook_)();
    lru_->Coldest(now, offer);
  }

 private:
  std::function<void()>* const hook_;
  std::unique_ptr<tiering::Policy> lru_;
};

TEST(TenantRoomTest, WhoPinnedABlockInTimeMayGoOnToHoldIt) {
  std::function<void()> hook = [] {};
  TenantBench bench(TenantBench::SmallOptions(),
                    std::make_unique<HookedPolicy>(&hook));
  Tenant* const tenant = bench.tenant;
  auto client = bench.Attach();
  auto other = bench.Attach();
  const std::string bytes(1 << 20, 'p');
  bench.PostPut(client.get(), TestKey(1), bytes, kCache, Ack::kVisible);
  client->Reap();
  const SlotIndex slot = bench.reader().Find(TestKey(1)).slot;
  const std::uint64_t offset =
      bench.reader().slot(slot).LoadPlace().data_offset();
  const std::uint64_t generation = bench.reader().slot(slot).generation.load();
  hook = [&] { client->Pin(3, slot); };
  const auto churn = [&] {
    for (std::uint64_t i = 0; i < 60; ++i) {
      bench.PostPut(other.get(), TestKey(100 + i), std::string(1 << 20, 'z'),
                    kCache, Ack::kVisible);
      bench.Settle(other.get());
      while (other->Reap()) {
      }
    }
  };
  churn();
  ASSERT_NE(bench.reader().Find(TestKey(1)).kind, EntryKind::kResident);
  SubmissionEntry hold = {};
  hold.op = Op::kHold;
  hold.slot = slot.value();
  hold.sequence = generation;
  client->Post(hold);
  bench.Drain(client.get());
  ASSERT_EQ(client->Reap()->code, Code::kOk);
  // Now the hold alone keeps the bytes, until it ends.
  hook = [] {};
  client->Unpin(3);
  bench.Advance(kMillisecondNs);
  churn();
  EXPECT_EQ(bench.BytesAt(offset, bytes.size()), bytes);
  EXPECT_EQ(tenant->CheckInvariants(), "");
  hold.op = Op::kRelease;
  client->Post(hold);
  bench.Drain(client.get());
  EXPECT_EQ(tenant->Snapshot(bench.now).held_bytes, 0u);
  bench.Advance(kMillisecondNs);
  EXPECT_EQ(tenant->Snapshot(bench.now).limbo_bytes, 0u);
  // Too late for a hold: the slot has been given back.
  hold.op = Op::kHold;
  client->Post(hold);
  bench.Drain(client.get());
  EXPECT_EQ(client->Reap()->reason, Reason::kStaleSlot);
}

TEST(TenantRoomTest, WhoCannotBeServedCausesFewSearches) {
  int searches = 0;
  std::function<void()> hook = [&] { ++searches; };
  TenantBench bench(TenantBench::SmallOptions(),
                    std::make_unique<HookedPolicy>(&hook));
  auto waiter = bench.Attach();
  auto other = bench.Attach();
  ASSERT_EQ(FillAndPin(&bench, waiter.get(), 96 << 10, kExtentBytes), 4);
  bench.PostWant(waiter.get(), 4 << 20);
  // Each hold that ends may have made room; no time passes.
  searches = 0;
  for (std::uint64_t i = 0; i < 200; ++i) {
    bench.PostFetch(other.get(), TestKey(100));
    const auto held = other->Reap();
    ASSERT_TRUE(held.has_value() && held->code == Code::kOk);
    bench.PostRelease(other.get(), *held);
  }
  EXPECT_EQ(searches, 0);
  // It is not forgotten: in time it is looked for again.
  bench.Advance(kMillisecondNs);
  EXPECT_GT(searches, 0);
}

// A state block that was written down lazily and then pushed out by pins: to
// make it durable, it has to come back first.
class DurableLoadTest : public ::testing::Test {
 protected:
  DurableLoadTest() : client_(bench_.Attach()), asker_(bench_.Attach()) {
    bench_.PostPut(asker_.get(), kAbsent, std::string(1 << 20, 'a'), kState,
                   Ack::kVisible);
    bench_.Settle(asker_.get());
    asker_->Reap();
    bench_.Advance(2 * kSecondNs);  // what else it was offered comes back
    pins_ = PinEverything(&bench_, client_.get());
    while (client_->Reap()) {
    }
    EXPECT_NE(bench_.reader().Find(kAbsent).kind, EntryKind::kResident);
    EXPECT_EQ(bench_.store.durable_puts, 0u);
  }

  std::uint64_t PostMakeDurable(TimeNs deadline = kNoDeadline) {
    SubmissionEntry entry = {};
    entry.op = Op::kMakeDurable;
    entry.key = kAbsent;
    entry.deadline_ns = deadline;
    const std::uint64_t op = asker_->Post(entry);
    bench_.Settle(asker_.get());  // nothing is on its way any more
    return op;
  }
  void UnpinAll() {
    for (int i = 0; i < pins_; ++i) {
      client_->file().thread_tables()[i / 128].pins[i % 128].store(0);
    }
    bench_.Advance(kMillisecondNs);
  }
  // The one answer that there is.
  Code Answer(std::uint64_t op) {
    const auto answer = asker_->Reap();
    if (!answer.has_value()) return Code::kUnknown;
    EXPECT_EQ(answer->op_id, op);
    EXPECT_FALSE(asker_->Reap().has_value());
    return answer->code;
  }

  const Key kAbsent = TestKey(1U << 20);
  TenantBench bench_;
  std::unique_ptr<TestClient> client_;
  std::unique_ptr<TestClient> asker_;
  int pins_ = 0;
};

TEST_F(DurableLoadTest, ItsDeadlineIsKeptWhileThereIsNoRoom) {
  const std::uint64_t op = PostMakeDurable(bench_.now + kSecondNs / 2);
  bench_.Advance(kSecondNs / 4);
  EXPECT_FALSE(asker_->Reap().has_value());
  bench_.Advance(kSecondNs / 4 + kMillisecondNs);
  EXPECT_EQ(Answer(op), Code::kDeadlineExceeded);
  EXPECT_EQ(bench_.tenant->CheckInvariants(), "");
}

TEST_F(DurableLoadTest,
       WithoutOneItIsRefusedWhenNoRoomComesAndCanBeAskedAgain) {
  const std::uint64_t op = PostMakeDurable();
  bench_.Advance(kSecondNs / 2);
  EXPECT_FALSE(asker_->Reap().has_value());
  bench_.Advance(kSecondNs);
  EXPECT_EQ(Answer(op), Code::kResourceExhausted);
  EXPECT_EQ(bench_.tenant->CheckInvariants(), "");

  UnpinAll();
  const std::uint64_t again = PostMakeDurable();
  bench_.Settle(asker_.get());
  EXPECT_EQ(Answer(again), Code::kOk);
  EXPECT_EQ(bench_.store.durable_puts, 1u);
  EXPECT_EQ(bench_.tenant->CheckInvariants(), "");
}

TEST_F(DurableLoadTest, WhoFetchesItMeanwhileIsServedByTheSameRead) {
  const std::uint64_t op = PostMakeDurable();
  bench_.PostFetch(client_.get(), kAbsent);
  UnpinAll();
  bench_.Settle(asker_.get());
  EXPECT_EQ(Answer(op), Code::kOk);
  const auto held = client_->Reap();
  ASSERT_TRUE(held.has_value());
  EXPECT_EQ(held->code, Code::kOk);
  EXPECT_TRUE(bench_.BytesIn(SlotIndex(held->slot)) ==
              std::string(1 << 20, 'a'));
  EXPECT_EQ(bench_.store.durable_puts, 1u);
  EXPECT_EQ(bench_.tenant->CheckInvariants(), "");
}

TEST_F(DurableLoadTest, WhoDisconnectsMeanwhileIsForgotten) {
  PostMakeDurable();
  bench_.tenant->RemoveClient(asker_->id(), bench_.now);
  UnpinAll();
  bench_.Settle(client_.get());
  bench_.Advance(2 * kSecondNs);
  EXPECT_EQ(bench_.tenant->CheckInvariants(), "");
}

}  // namespace
}  // namespace agentmem
