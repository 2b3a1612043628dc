// A tenant that is asked which tier has a block, of its own or of other nodes.
#include <gtest/gtest.h>

#include "tests/unit/memd/tenant_bench.h"

namespace agentmem {
namespace {

constexpr auto kCache = BlockClass::kCache;
constexpr auto kState = BlockClass::kState;
constexpr std::uint32_t kMiB = 1 << 20;

class TenantTierTest : public testing::Test {
 protected:
  void Start(bool in_cluster = true) {
    bench_ = std::make_unique<TenantBench>();
    if (in_cluster) bench_->JoinCluster();
    client_ = bench_->Attach();
  }
  void TearDown() override { EXPECT_EQ(bench_->tenant->CheckInvariants(), ""); }
  void Ask(TestClient* client, std::uint64_t n, TimeNs deadline = kNoDeadline) {
    SubmissionEntry entry = {};
    entry.op = Op::kFindTier;
    entry.key = TestKey(n);
    entry.deadline_ns = deadline;
    client->Post(entry);
    bench_->Drain(client);
  }
  CompletionEntry Answer() {
    CompletionEntry none = {};
    none.code = Code::kUnknown;
    return client_->Reap().value_or(none);
  }
  CompletionEntry TierOf(std::uint64_t n) {
    Ask(client_.get(), n);
    bench_->Settle(client_.get());
    return Answer();
  }
  void Put(std::uint64_t n, const std::string& bytes) {
    ASSERT_TRUE(bench_->PostPut(client_.get(), TestKey(n), bytes, kCache,
                                Ack::kVisible));
    bench_->Settle(client_.get());
    while (client_->Reap()) {
    }
  }
  TenantSnapshot Snapshot() { return bench_->tenant->Snapshot(bench_->now); }

  std::unique_ptr<TenantBench> bench_;
  std::unique_ptr<TestClient> client_;
};

std::uint8_t Number(Tier tier) { return static_cast<std::uint8_t>(tier); }

TEST_F(TenantTierTest, WhatOthersHaveIsNamedAndNotBrought) {
  Start();
  for (const auto block_class : {kCache, kState}) {
    const std::uint64_t n = block_class == kCache ? 5 : 6;
    bench_->pool.blocks[TestKey(n)] = {"from afar", block_class, 1};
    Ask(client_.get(), n);
    ASSERT_EQ(bench_->pool.pending(), 1u);
    EXPECT_EQ(bench_->pool.next().kind, PoolOp::Kind::kFind);
    bench_->FinishPoolOne();
    EXPECT_EQ(bench_->pool.pending(), 0u) << "a read of its bytes";
    const CompletionEntry answer = Answer();
    EXPECT_EQ(answer.code, Code::kOk);
    EXPECT_EQ(answer.tier, Number(Tier::kPool));
    EXPECT_EQ(answer.length, 9u);
  }
  EXPECT_EQ(Snapshot().slots_used, 0u);
}

TEST_F(TenantTierTest, WhatWasNamedIsInTheIndexAndReadAsAnyOther) {
  Start();
  bench_->pool.blocks[TestKey(5)] = {"from afar", kState, 2};
  ASSERT_EQ(TierOf(5).code, Code::kOk);
  EXPECT_EQ(bench_->reader().Find(TestKey(5)).kind, EntryKind::kInPool);
  // It is not asked for again.
  Ask(client_.get(), 5);
  EXPECT_EQ(bench_->pool.pending(), 0u);
  EXPECT_EQ(Answer().tier, Number(Tier::kPool));
  bench_->PostFetch(client_.get(), TestKey(5));
  bench_->Settle(client_.get());
  const CompletionEntry got = Answer();
  ASSERT_EQ(got.code, Code::kOk);
  EXPECT_EQ(bench_->BytesIn(SlotIndex(got.slot)), "from afar");
  bench_->PostRelease(client_.get(), got);
}

TEST_F(TenantTierTest, WhatNobodyHasIsNotFoundAndNoMissOfARead) {
  Start();
  EXPECT_EQ(TierOf(5).code, Code::kNotFound);
  EXPECT_EQ(Snapshot().misses, 0u);
  EXPECT_EQ(bench_->reader().Find(TestKey(5)).kind, EntryKind::kEmpty);
  // Nor is that remembered: another node puts it now.
  bench_->pool.blocks[TestKey(5)] = {"just now", kCache, 1};
  EXPECT_EQ(TierOf(5).code, Code::kOk);
}

TEST_F(TenantTierTest, WhileNobodyAnswersItIsUnavailable) {
  Start();
  bench_->pool.fail_gets = Code::kUnavailable;
  const CompletionEntry answer = TierOf(5);
  EXPECT_EQ(answer.code, Code::kUnavailable);
  EXPECT_EQ(answer.reason, Reason::kPoolFailed);
}

TEST_F(TenantTierTest, WhatThisNodeHasIsSaidWithoutAskingOthers) {
  Start();
  Put(1, std::string(kMiB, 'a'));
  Ask(client_.get(), 1);
  EXPECT_EQ(Answer().tier, Number(Tier::kDram));
  bench_->pool.nodes = 0;  // what leaves goes to the store
  for (std::uint64_t i = 0; i < 40; ++i) Put(1000 + i, std::string(kMiB, 'x'));
  ASSERT_EQ(bench_->reader().Find(TestKey(1)).kind, EntryKind::kInStore);
  Ask(client_.get(), 1);
  EXPECT_EQ(Answer().tier, Number(Tier::kStore));
  EXPECT_EQ(bench_->pool.pending(), 0u);
}

TEST_F(TenantTierTest, ANodeByItselfAnswersFromItsBooks) {
  Start(/*in_cluster=*/false);
  EXPECT_FALSE(bench_->tenant->in_cluster());
  EXPECT_EQ(TierOf(5).code, Code::kNotFound);
}

TEST_F(TenantTierTest, AReadThatJoinsTheSameFindBringsTheBlock) {
  Start();
  bench_->pool.blocks[TestKey(5)] = {"both", kCache, 1};
  Ask(client_.get(), 5);
  bench_->PostFetch(client_.get(), TestKey(5));
  EXPECT_EQ(bench_->pool.pending(), 1u) << "one find for both";
  bench_->Settle(client_.get());
  EXPECT_EQ(Answer().tier, Number(Tier::kPool));
  const CompletionEntry got = Answer();
  ASSERT_EQ(got.code, Code::kOk);
  EXPECT_EQ(bench_->BytesIn(SlotIndex(got.slot)), "both");
  bench_->PostRelease(client_.get(), got);
}

TEST_F(TenantTierTest, APrefetchThatJoinsTheSameFindBringsTheBlock) {
  Start();
  bench_->pool.blocks[TestKey(5)] = {"ahead", kCache, 1};
  Ask(client_.get(), 5);
  SubmissionEntry prefetch = {};
  prefetch.op = Op::kPrefetch;
  prefetch.key = TestKey(5);
  prefetch.deadline_ns = kNoDeadline;
  client_->Post(prefetch);
  bench_->Settle(client_.get());
  EXPECT_EQ(bench_->reader().Find(TestKey(5)).kind, EntryKind::kResident);
}

TEST_F(TenantTierTest, WhoAsksWaitsUntilTheDeadlineAlone) {
  Start();
  Ask(client_.get(), 5, bench_->now + kMillisecondNs);
  EXPECT_EQ(Answer().code, Code::kUnknown);
  bench_->Advance(2 * kMillisecondNs);
  EXPECT_EQ(Answer().code, Code::kDeadlineExceeded);
  // What comes later is known from then on.
  bench_->pool.blocks[TestKey(5)] = {"late", kCache, 1};
  bench_->FinishPoolOne();
  EXPECT_EQ(Answer().code, Code::kUnknown);
  EXPECT_EQ(bench_->reader().Find(TestKey(5)).kind, EntryKind::kInPool);
}

TEST_F(TenantTierTest, OthersAreNotAskedForWhomNobodyWaitsAnyMore) {
  Start();
  bench_->pool.queue_max = 0;
  Ask(client_.get(), 5, bench_->now + kMillisecondNs);
  Ask(client_.get(), 6);
  bench_->Advance(2 * kMillisecondNs);
  EXPECT_EQ(Answer().code, Code::kDeadlineExceeded);
  bench_->pool.queue_max = 1024;
  bench_->Advance(kMillisecondNs);
  ASSERT_EQ(bench_->pool.pending(), 1u);
  EXPECT_EQ(bench_->pool.next().key, TestKey(6));
  bench_->FinishPoolOne();
}

TEST_F(TenantTierTest, ClientsCannotMakeItAskWithoutBound) {
  Start();
  bench_->pool.queue_max = 0;  // others are slow
  std::size_t refused = 0;
  std::vector<std::unique_ptr<TestClient>> clients;
  for (std::uint64_t i = 0; i < 4; ++i) {
    clients.push_back(bench_->Attach());
    for (std::uint64_t n = 0; n < 1500; ++n) {
      Ask(clients.back().get(), i * 10'000 + n);
      while (const auto entry = clients.back()->Reap()) {
        EXPECT_EQ(entry->code, Code::kUnavailable);
        ++refused;
      }
    }
  }
  EXPECT_EQ(refused, 4 * 1500u - 4096u);
}

}  // namespace
}  // namespace agentmem
