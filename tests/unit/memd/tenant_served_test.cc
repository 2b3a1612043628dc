// A tenant whose store keeps blocks of nodes without a disk, too.
#include <gtest/gtest.h>

#include "tests/unit/memd/tenant_bench.h"

namespace agentmem {
namespace {

constexpr auto kCache = BlockClass::kCache;
constexpr auto kState = BlockClass::kState;

class TenantServedTest : public testing::Test {
 protected:
  void Start(std::uint64_t quota = 0) {
    TenantOptions options = TenantBench::SmallOptions();
    options.serves = true;
    options.store_quota_bytes = quota;
    bench_ = std::make_unique<TenantBench>(options);
    client_ = bench_->Attach();
  }
  void TearDown() override { EXPECT_EQ(Own().CheckInvariants(), ""); }
  Tenant& Own() { return *bench_->tenant; }

  ServedBlock BlockOf(std::uint64_t n, std::uint32_t length,
                      BlockClass block_class = kState, bool durable = true) {
    return {0, TestKey(n), block_class, durable, length};
  }
  // As Node does: the bytes go into the store, and the tenant is told.
  Code Keep(const ServedBlock& block, Code written = Code::kOk) {
    const StoreVerdict verdict = Own().Admit(block);
    if (verdict.code != Code::kOk) return verdict.code;
    Begin(block);
    Own().EndServed(block, written, bench_->now);
    return written;
  }
  void Begin(const ServedBlock& block) {
    Own().BeginServed(block);
    const FakeStore::Name name = {7, block.key};
    bench_->store.blocks[name] = std::string(block.length, 'p');
    bench_->store.classes[name] = block.block_class;
  }
  TierSnapshot Stored() { return Own().Snapshot(bench_->now).store; }
  void Put(std::uint64_t n, std::uint32_t length, BlockClass block_class,
           Ack ack) {
    ASSERT_TRUE(bench_->PostPut(client_.get(), TestKey(n),
                                std::string(length, 'o'), block_class, ack));
  }
  // The first byte of what a fetch gives; 0: it failed, with code_.
  char Fetch(std::uint64_t n) {
    while (client_->Reap().has_value()) {
    }
    bench_->PostFetch(client_.get(), TestKey(n));
    bench_->Settle(client_.get());
    CompletionEntry last = {};
    last.code = Code::kUnknown;
    while (const auto entry = client_->Reap()) last = *entry;
    code_ = last.code;
    if (code_ != Code::kOk) return 0;
    const char first = bench_->BytesIn(SlotIndex(last.slot))[0];
    bench_->PostRelease(client_.get(), last);
    return first;
  }

  std::unique_ptr<TenantBench> bench_;
  std::unique_ptr<TestClient> client_;
  Code code_ = Code::kOk;
};

// Its delete reaches the store after the write: nothing of it is there.
TEST_F(TenantServedTest, WhatIsDroppedWhileItIsWrittenIsNotAcknowledged) {
  Start();
  const ServedBlock block = BlockOf(1, 4000);
  Begin(block);
  Own().EraseServed(block.key, BlockClass::kState);
  EXPECT_EQ(Own().EndServed(block, Code::kOk, bench_->now), Code::kUnavailable);
  EXPECT_EQ(Stored().blocks, 0u);
  EXPECT_EQ(Keep(block), Code::kOk);
  EXPECT_EQ(Stored().blocks, 1u);
}

// A node that had it as cache does not know who made it state since.
TEST_F(TenantServedTest, StateIsNotErasedByWhoHadItAsCache) {
  Start();
  ASSERT_EQ(Keep(BlockOf(1, 4000, BlockClass::kCache)), Code::kOk);
  ASSERT_EQ(Keep(BlockOf(1, 4000, BlockClass::kState)), Code::kOk);
  EXPECT_FALSE(Own().EraseServed(TestKey(1), BlockClass::kCache));
  EXPECT_EQ(Stored().blocks, 1u);
  EXPECT_TRUE(Own().EraseServed(TestKey(1), BlockClass::kState));
  EXPECT_EQ(Stored().blocks, 0u);
}

TEST_F(TenantServedTest, APeersBlockIsThisTenantsAsItsOwn) {
  Start();
  EXPECT_EQ(Keep(BlockOf(1, 5000)), Code::kOk);
  EXPECT_EQ(Stored().blocks, 1u);
  EXPECT_EQ(Stored().used_bytes, 5000u);
  EXPECT_EQ(bench_->reader().Find(TestKey(1)).kind, EntryKind::kInStore);
  StoredBlocks::Found found;
  ASSERT_TRUE(Own().FindStored(TestKey(1), &found));
  EXPECT_EQ(found.length, 5000u);
  EXPECT_EQ(found.block_class, kState);
  EXPECT_EQ(Fetch(1), 'p');
}

TEST_F(TenantServedTest, WhatIsThereAsSafelyIsNotTakenAgain) {
  Start();
  EXPECT_EQ(Keep(BlockOf(1, 5000, kState, /*durable=*/false)), Code::kOk);
  EXPECT_EQ(Keep(BlockOf(1, 5000, kState, false)), Code::kAlreadyExists);
  EXPECT_EQ(Keep(BlockOf(1, 5000, kCache, false)), Code::kAlreadyExists);
  EXPECT_EQ(Keep(BlockOf(1, 5000)), Code::kOk) << "it was not synced";
  EXPECT_EQ(Keep(BlockOf(1, 5000)), Code::kAlreadyExists);
  EXPECT_EQ(Keep(BlockOf(2, 5000, kCache)), Code::kOk);
  EXPECT_EQ(Keep(BlockOf(2, 5000, kState)), Code::kOk) << "it may be dropped";
  EXPECT_EQ(Keep(BlockOf(2, 5000, kState)), Code::kAlreadyExists);
  EXPECT_EQ(Stored().blocks, 2u);
  EXPECT_EQ(Stored().used_bytes, 10000u);
}

TEST_F(TenantServedTest, AWriteThatFailedChangesNothing) {
  Start();
  EXPECT_EQ(Keep(BlockOf(1, 5000), Code::kResourceExhausted),
            Code::kResourceExhausted);
  EXPECT_EQ(Stored().blocks, 0u);
  EXPECT_EQ(Own().stored_bytes(), 0u);
  EXPECT_EQ(bench_->reader().Find(TestKey(1)).kind, EntryKind::kEmpty);
}

TEST_F(TenantServedTest, OtherBytesUnderAStatesNameAreRefused) {
  Start();
  EXPECT_EQ(Keep(BlockOf(1, 5000)), Code::kOk);
  EXPECT_EQ(Keep(BlockOf(1, 6000)), Code::kAborted);
  // Cache is computed anew, perhaps with another length; not under a reader.
  EXPECT_EQ(Keep(BlockOf(2, 5000, kCache)), Code::kOk);
  EXPECT_EQ(Keep(BlockOf(2, 6000, kCache)), Code::kOk);
  EXPECT_EQ(Stored().used_bytes, 11000u);
  EXPECT_EQ(Fetch(2), 'p');
  EXPECT_EQ(Keep(BlockOf(2, 7000, kCache)), Code::kAborted);
}

TEST_F(TenantServedTest, ItsQuotaHoldsForPeersAndCacheGivesWay) {
  Start(/*quota=*/20'000);
  EXPECT_EQ(Keep(BlockOf(1, 8000, kCache)), Code::kOk);
  EXPECT_EQ(Keep(BlockOf(2, 8000)), Code::kOk);
  EXPECT_EQ(Keep(BlockOf(3, 8000)), Code::kOk);
  EXPECT_EQ(bench_->reader().Find(TestKey(1)).kind, EntryKind::kEmpty);
  const StoreVerdict verdict = Own().Admit(BlockOf(4, 8000));
  EXPECT_EQ(verdict.code, Code::kResourceExhausted);
  EXPECT_EQ(verdict.refusal, StoreRefusal::kQuota);
  EXPECT_EQ(verdict.limit_bytes, 20'000u);
  EXPECT_EQ(verdict.used_bytes, 16'000u);
  // What is on its way counts.
  EXPECT_EQ(Own().Admit(BlockOf(5, 4000)).code, Code::kOk);
  Begin(BlockOf(5, 4000));
  EXPECT_EQ(Own().Admit(BlockOf(6, 4000)).code, Code::kResourceExhausted);
  Own().EndServed(BlockOf(5, 4000), Code::kOk, bench_->now);
}

TEST_F(TenantServedTest, ABlockThatThisNodePutsMeanwhileKeepsItsOwnBytes) {
  Start();
  // The same length: both are the block, and it is below now.
  ServedBlock same = BlockOf(1, 5000);
  Begin(same);
  Put(1, 5000, kState, Ack::kVisible);
  bench_->store.fail_puts = Code::kUnavailable;
  bench_->Settle(client_.get());
  EXPECT_EQ(Own().dirty_bytes(), 5000u);
  Own().EndServed(same, Code::kOk, bench_->now);
  EXPECT_EQ(Own().dirty_bytes(), 0u);
  bench_->store.fail_puts = Code::kOk;
  // Another one: this node's goes into the store again, over it.
  ServedBlock other = BlockOf(2, 6000, kCache);
  Begin(other);
  Put(2, 5000, kState, Ack::kVisible);
  bench_->Settle(client_.get());
  Begin(other);
  Own().EndServed(other, Code::kOk, bench_->now);
  Own().EndServed(other, Code::kOk, bench_->now);
  bench_->Settle(client_.get());
  EXPECT_EQ(bench_->store.blocks.at({7, TestKey(2)}), std::string(5000, 'o'));
  EXPECT_EQ(bench_->store.classes.at({7, TestKey(2)}), kState);
  EXPECT_EQ(Own().dirty_bytes(), 0u);
}

TEST_F(TenantServedTest, APeersDurableCopyAnswersWhoWaitsForOne) {
  Start();
  bench_->store.queue_max = 0;  // the disk is slow
  Put(1, 5000, kState, Ack::kDurable);
  while (client_->Reap().has_value()) {
  }
  const ServedBlock block = BlockOf(1, 5000);
  Begin(block);
  Own().EndServed(block, Code::kOk, bench_->now);
  const auto answer = client_->Reap();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->code, Code::kOk);
  bench_->store.queue_max = 1024;
  bench_->Settle(client_.get());
}

TEST_F(TenantServedTest, ACorruptCopyIsToldAndTakenAnew) {
  Start();
  EXPECT_EQ(Keep(BlockOf(1, 5000)), Code::kOk);
  Own().OnCorrupt(TestKey(1));
  StoredBlocks::Found found;
  ASSERT_TRUE(Own().FindStored(TestKey(1), &found));
  EXPECT_TRUE(found.corrupt);
  EXPECT_EQ(Keep(BlockOf(1, 5000)), Code::kOk);
  ASSERT_TRUE(Own().FindStored(TestKey(1), &found));
  EXPECT_FALSE(found.corrupt);
  EXPECT_EQ(Keep(BlockOf(2, 5000, kCache)), Code::kOk);
  Own().OnCorrupt(TestKey(2));
  EXPECT_FALSE(Own().FindStored(TestKey(2), &found)) << "a miss";
}

TEST_F(TenantServedTest, WhatAPeerErasesIsGoneKnownOrNot) {
  Start();
  EXPECT_EQ(Keep(BlockOf(1, 5000)), Code::kOk);
  Begin(BlockOf(2, 5000));
  Own().EndServed(BlockOf(2, 5000), Code::kUnavailable, bench_->now);
  Own().EraseServed(TestKey(1), BlockClass::kState);
  Own().EraseServed(TestKey(2), BlockClass::kState);
  bench_->Settle(client_.get());
  EXPECT_TRUE(bench_->store.blocks.empty());
  EXPECT_EQ(Stored().blocks, 0u);
  EXPECT_EQ(Fetch(1), 0);
  EXPECT_EQ(code_, Code::kNotFound);
}

// Until it takes nothing at all any more (PoolNode::DrainLent).
TEST_F(TenantServedTest, ADrainingNodeTakesWhatPeersHaveToWriteDownToo) {
  Start();
  Own().BeginDrain();
  EXPECT_EQ(Keep(BlockOf(1, 5000)), Code::kOk);
  EXPECT_EQ(Stored().blocks, 1u);
}

TEST_F(TenantServedTest, AFailureOfAnotherNodesStoreNamesTheNode) {
  Start();
  Put(1, 5000, kState, Ack::kDurable);
  while (client_->Reap().has_value()) {
  }
  StoreCompletion completion;
  completion.ticket = bench_->store.next().ticket;
  completion.code = Code::kResourceExhausted;
  std::memcpy(completion.node.data(), "store-1", 7);
  bench_->store.Forget();
  Own().OnStoreCompletion(completion, bench_->now);
  const auto answer = client_->Reap();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->code, Code::kResourceExhausted);
  EXPECT_EQ(answer->reason, Reason::kRemoteStore);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(answer->detail), 7),
            "store-1");
  bench_->Settle(client_.get());
}

}  // namespace
}  // namespace agentmem
