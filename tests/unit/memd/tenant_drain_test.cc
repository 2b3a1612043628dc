// A tenant whose memd is told to stop: what memory alone has is written down.
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/unit/memd/tenant_bench.h"

namespace agentmem {
namespace {

constexpr auto kState = BlockClass::kState;
constexpr std::uint32_t kLength = 5000;

class TenantDrainTest : public testing::Test {
 protected:
  void Start(std::uint64_t store_quota = 0) {
    TenantOptions options = TenantBench::SmallOptions();
    options.store_quota_bytes = store_quota;
    bench_ = std::make_unique<TenantBench>(options);
    bench_->JoinCluster();
    client_ = bench_->Attach();
  }
  void TearDown() override { EXPECT_EQ(Own().CheckInvariants(), ""); }
  Tenant& Own() { return *bench_->tenant; }
  void Put(std::uint64_t n, BlockClass block_class, Ack ack) {
    ASSERT_TRUE(bench_->PostPut(client_.get(), TestKey(n),
                                std::string(kLength, 'p'), block_class, ack));
    bench_->Settle(client_.get());
  }
  // In two nodes' memory, and by the store's failure there alone.
  void PutIntoMemoryAlone(std::uint64_t n) {
    bench_->store.fail_puts = Code::kUnavailable;
    Put(n, kState, Ack::kReplicated);
    bench_->store.fail_puts = Code::kOk;
    ASSERT_EQ(Own().dirty_bytes(), 0u);
    ASSERT_FALSE(IsStored(n));
  }
  // Others wait for their turn.
  void PutCacheUntilSomeIsWritten() {
    for (std::uint64_t n = 1; n <= 2000; ++n) {  // 10 of 16 MiB
      ASSERT_TRUE(bench_->PostPut(client_.get(), TestKey(n),
                                  std::string(kLength, 'c'), BlockClass::kCache,
                                  Ack::kVisible));
      client_->Reap();
    }
    Own().AfterCompletions(bench_->now);
  }
  bool IsStored(std::uint64_t n) {
    return bench_->store.blocks.contains({7, TestKey(n)});
  }
  DrainReport Drain() {
    Own().BeginDrain();
    bench_->Settle(client_.get());
    EXPECT_TRUE(Own().Drained());
    return Report();
  }
  DrainReport Report() {
    DrainReport report;
    Own().ReportDrain(&report);
    return report;
  }

  std::unique_ptr<TenantBench> bench_;
  std::unique_ptr<TestClient> client_;
};

TEST_F(TenantDrainTest, WithNothingToWriteItHasEndedAtOnce) {
  Start();
  Put(1, kState, Ack::kDurable);
  Put(2, BlockClass::kCache, Ack::kReplicated);
  Own().BeginDrain();
  EXPECT_TRUE(Own().Drained());
  EXPECT_TRUE(Report().whole());
  EXPECT_EQ(Report().own_written.blocks, 0u);
}

TEST_F(TenantDrainTest, StateThatOthersHaveInMemoryIsWrittenDown) {
  Start();
  PutIntoMemoryAlone(1);
  Own().BeginDrain();
  EXPECT_FALSE(Own().Drained());
  const DrainReport report = Drain();
  EXPECT_TRUE(IsStored(1));
  EXPECT_TRUE(report.whole());
  EXPECT_EQ(report.own_written.blocks, 1u);
  EXPECT_EQ(report.own_written.bytes, kLength);
}

TEST_F(TenantDrainTest, SoIsStateThatWasOnlyReadFromThem) {
  Start();
  bench_->pool.blocks[TestKey(1)] = {std::string(kLength, 'q'), kState, 2};
  bench_->PostFetch(client_.get(), TestKey(1));
  bench_->Settle(client_.get());
  ASSERT_FALSE(IsStored(1));
  EXPECT_EQ(Drain().own_written.blocks, 1u);
  EXPECT_TRUE(IsStored(1));
}

TEST_F(TenantDrainTest, WhatTheStoreDoesNotTakeIsToldAndNotWaitedFor) {
  Start();
  PutIntoMemoryAlone(1);
  Put(2, kState, Ack::kReplicated);
  bench_->store.fail_puts = Code::kResourceExhausted;
  const DrainReport report = Drain();
  EXPECT_FALSE(report.whole());
  EXPECT_EQ(report.own_left.at("no room in the store").blocks, 1u);
  EXPECT_NE(report.Text().find("not 1 (5000 bytes) of this node's: no room"),
            std::string::npos)
      << report.Text();
}

TEST_F(TenantDrainTest, WhatTheDiskHasNotDoneInTimeIsToldSo) {
  Start();
  PutIntoMemoryAlone(1);
  Own().BeginDrain();
  Own().PumpStore(bench_->now);
  EXPECT_FALSE(Own().Drained());
  EXPECT_EQ(Report().own_left.at(DrainReport::kTimeRanOut).bytes, kLength);
  bench_->Settle(client_.get());
}

// Of which there may be gigabytes, while state waits behind it.
TEST_F(TenantDrainTest, CacheIsNotWrittenDownAndHoldsNothingUp) {
  Start();
  PutCacheUntilSomeIsWritten();
  ASSERT_NE(bench_->pool.pending(), 0u);
  Own().BeginDrain();
  for (int turn = 0; turn < 10; ++turn) {
    bench_->FinishPoolOne();
    Own().AfterCompletions(bench_->now);
  }
  EXPECT_TRUE(Own().Drained());
  EXPECT_TRUE(Report().whole());
  bench_->Settle(client_.get());
}

// In two nodes' memory, while its bytes are on their way to the disk as cache:
// that copy may be dropped there.
TEST_F(TenantDrainTest, WhatBecameStateOnItsWayDownIsWaitedFor) {
  Start();
  bench_->pool.nodes = 0;
  PutCacheUntilSomeIsWritten();
  const StoreOp op = bench_->store.next();
  bench_->store.Forget();  // it takes its time
  bench_->Settle(client_.get());
  bench_->pool.nodes = 2;
  bench_->now += kSecondNs;
  ASSERT_TRUE(bench_->PostPut(client_.get(), op.key, std::string(kLength, 'c'),
                              kState, Ack::kReplicated));
  bench_->Settle(client_.get());
  ASSERT_EQ(Own().dirty_bytes(), 0u);
  Own().BeginDrain();
  Own().AfterCompletions(bench_->now);
  EXPECT_FALSE(Own().Drained());
  ASSERT_EQ(bench_->store.Submit({&op, 1}), 1u);
  bench_->Settle(client_.get());
  EXPECT_TRUE(Own().Drained());
  EXPECT_EQ((bench_->store.classes[{7, op.key}]), kState);
}

TEST_F(TenantDrainTest, WhatWasReadFromOthersMeanwhileIsNotLate) {
  Start();
  Own().BeginDrain();
  bench_->pool.blocks[TestKey(1)] = {std::string(kLength, 'q'), kState, 2};
  bench_->PostFetch(client_.get(), TestKey(1));
  bench_->Settle(client_.get());
  EXPECT_TRUE(Report().whole()) << Report().Text();
}

// As much of it as there is cache to give way for.
TEST_F(TenantDrainTest, TheQuotaHoldsWhereSomeCacheGivesWay) {
  Start(4 * kLength);
  for (std::uint64_t n = 1; n <= 4; ++n) PutIntoMemoryAlone(n);
  Put(5, BlockClass::kCache, Ack::kDurable);
  Put(6, kState, Ack::kDurable);
  Own().BeginDrain();
  bench_->Settle(client_.get());  // written
  bench_->Settle(client_.get());  // and what gave way deleted
  EXPECT_TRUE(Own().Drained());
  const DrainReport report = Report();
  EXPECT_EQ(report.own_written.blocks, 3u);
  EXPECT_EQ(report.own_left.at(TextOfRefusal(StoreRefusal::kQuota)).blocks, 1u);
}

TEST_F(TenantDrainTest, TheQuotaOfTheStoreHolds) {
  Start(3 * kLength);
  for (std::uint64_t n = 1; n <= 3; ++n) PutIntoMemoryAlone(n);
  Put(4, kState, Ack::kDurable);
  const DrainReport report = Drain();
  EXPECT_EQ(report.own_written.blocks, 2u);
  EXPECT_EQ(report.own_left.at(TextOfRefusal(StoreRefusal::kQuota)).blocks, 1u);
  EXPECT_EQ(Own().stored_bytes(), 3u * kLength);
}

}  // namespace
}  // namespace agentmem
