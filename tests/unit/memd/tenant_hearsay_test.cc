// What a tenant knows of blocks that only other nodes have: not for ever, and
// nothing is lost by it.
#include <gtest/gtest.h>

#include "tests/unit/memd/tenant_bench.h"

namespace agentmem {
namespace {

constexpr auto kCache = BlockClass::kCache;
constexpr auto kState = BlockClass::kState;
constexpr std::uint64_t kKnownMax = 64;
constexpr std::uint32_t kMiB = 1 << 20;

// `store` is another node's disk. What is put there is found by the pool, as
// PoolNode finds it.
class TenantHearsayTest : public testing::Test {
 protected:
  void Start(bool store_elsewhere = true) {
    TenantOptions options = TenantBench::SmallOptions();
    options.index_entries = kKnownMax;
    options.store_elsewhere = store_elsewhere;
    bench_ = std::make_unique<TenantBench>(options);
    bench_->JoinCluster();
    bench_->pool.nodes = 0;  // nobody lends memory
    client_ = bench_->Attach();
  }
  void TearDown() override { EXPECT_EQ(bench_->tenant->CheckInvariants(), ""); }

  // 128 KiB: 128 of them fill DRAM.
  std::string BytesOf(std::uint64_t n) {
    return std::string(128 << 10, static_cast<char>('a' + n % 26));
  }
  void Put(std::uint64_t n, BlockClass block_class, Ack ack = Ack::kDurable) {
    ASSERT_TRUE(bench_->PostPut(client_.get(), TestKey(n), BytesOf(n),
                                block_class, ack));
    EXPECT_EQ(Last().code, Code::kOk);
  }
  // Other blocks take all of DRAM for a while.
  void FillDram() {
    for (std::uint64_t i = 0; i < 40; ++i) {
      bench_->PostPut(client_.get(), TestKey(1'000'000 + ++filled_),
                      std::string(kMiB, 'x'), kCache, Ack::kVisible);
      Last();
    }
    for (auto it = bench_->store.blocks.begin();
         it != bench_->store.blocks.end();) {
      it = it->second.size() == kMiB ? bench_->store.blocks.erase(it)
                                     : std::next(it);
    }
  }
  // They left DRAM for the store, as they were put.
  void PutAndLeave(std::uint64_t first, std::uint64_t count,
                   BlockClass block_class) {
    for (std::uint64_t n = first; n < first + count; ++n) Put(n, block_class);
    FillDram();
  }
  CompletionEntry Last() {
    bench_->Settle(client_.get());
    CompletionEntry last = {};
    last.code = Code::kUnknown;
    while (const auto entry = client_->Reap()) last = *entry;
    return last;
  }
  Code Fetch(std::uint64_t n) {
    bench_->PostFetch(client_.get(), TestKey(n));
    const CompletionEntry last = Last();
    if (last.code == Code::kOk) {
      EXPECT_EQ(bench_->BytesIn(SlotIndex(last.slot)), BytesOf(n));
      bench_->PostRelease(client_.get(), last);
    }
    return last.code;
  }
  Code MakeDurable(std::uint64_t n) {
    SubmissionEntry entry = {};
    entry.op = Op::kMakeDurable;
    entry.key = TestKey(n);
    entry.deadline_ns = kNoDeadline;
    client_->Post(entry);
    return Last().code;
  }
  // The other node finds on its disk what it is asked for.
  void ServeFinds() {
    for (const auto& [name, bytes] : bench_->store.blocks) {
      bench_->pool.blocks[name.second] = {bytes, bench_->store.classes[name],
                                          1};
    }
  }
  bool Knows(std::uint64_t n) {
    return bench_->tenant->ShowBlock(TestKey(n)).ok();
  }
  std::uint64_t Known(std::uint64_t first, std::uint64_t count) {
    std::uint64_t known = 0;
    for (std::uint64_t n = first; n < first + count; ++n) known += Knows(n);
    return known;
  }
  TierSnapshot Stored() { return bench_->tenant->Snapshot(bench_->now).store; }

  std::unique_ptr<TenantBench> bench_;
  std::unique_ptr<TestClient> client_;
  std::uint64_t filled_ = 0;
};

TEST_F(TenantHearsayTest, WhatAnotherDiskDroppedDoesNotStayInTheBooksForEver) {
  Start();
  for (std::uint64_t round = 0; round < 10; ++round) {
    PutAndLeave(round * 50, 50, kCache);
    bench_->store.blocks.clear();  // for the serving node's budget
  }
  EXPECT_LE(Known(0, 500), kKnownMax);
  EXPECT_LE(Stored().blocks, kKnownMax + bench_->tenant->options().slots / 64);
  EXPECT_FALSE(Knows(0));
}

TEST_F(TenantHearsayTest, AStateBlockThatWasForgottenIsFoundAndReadAsBefore) {
  Start();
  PutAndLeave(0, 200, kState);
  ASSERT_FALSE(Knows(0));
  ServeFinds();
  for (std::uint64_t n = 0; n < 200; ++n) EXPECT_EQ(Fetch(n), Code::kOk) << n;
  EXPECT_LE(Stored().used_bytes, 200 * BytesOf(199).size());
}

// A cache block that nobody answers for is a miss; this one was acknowledged.
TEST_F(TenantHearsayTest, WhatWasForgottenIsAskedForAsStateOnceStateWas) {
  Start();
  PutAndLeave(0, 100, kCache);
  ASSERT_FALSE(Knows(0));
  bench_->PostFetch(client_.get(), TestKey(0));
  ASSERT_EQ(bench_->pool.pending(), 1u);
  EXPECT_EQ(bench_->pool.next().block_class, kCache);
  Last();
  PutAndLeave(100, 100, kState);
  ASSERT_FALSE(Knows(100));
  bench_->PostFetch(client_.get(), TestKey(100));
  ASSERT_EQ(bench_->pool.pending(), 1u);
  EXPECT_EQ(bench_->pool.next().block_class, kState);
  Last();
}

TEST_F(TenantHearsayTest, ACorruptBlockThatWasForgottenIsDataLossAndNoMiss) {
  Start();
  PutAndLeave(0, 100, kState);
  ASSERT_FALSE(Knows(0));
  bench_->pool.lost[TestKey(0)] = kState;
  bench_->pool.lost[TestKey(1)] = kCache;
  EXPECT_EQ(Fetch(0), Code::kDataLoss);
  EXPECT_EQ(Fetch(1), Code::kNotFound);
}

TEST_F(TenantHearsayTest, AForgottenBlockIsMadeDurableIfAnybodyHasIt) {
  Start();
  PutAndLeave(0, 100, kState);
  ASSERT_FALSE(Knows(0));
  EXPECT_EQ(MakeDurable(0), Code::kNotFound) << "nobody has it";
  ServeFinds();
  const std::uint64_t before = bench_->store.durable_puts;
  EXPECT_EQ(MakeDurable(0), Code::kOk);
  EXPECT_EQ(bench_->store.durable_puts, before + 1);
  bench_->pool.fail_gets = Code::kUnavailable;
  EXPECT_EQ(MakeDurable(5), Code::kUnavailable);
}

TEST_F(TenantHearsayTest, WhatIsDroppedAfterItWasForgottenIsDroppedThere) {
  Start();
  PutAndLeave(0, 100, kState);
  ASSERT_FALSE(Knows(0));
  ClientIdentity identity;
  identity.id = ClientId(99);
  identity.is_port = true;
  TestClient port(ClientId(99));
  bench_->tenant->AddClient(identity, port.base(), bench_->now);
  SubmissionEntry drop = {};
  drop.op = Op::kDrop;
  drop.key = TestKey(0);
  port.Post(drop);
  bench_->Settle(&port);
  EXPECT_FALSE(bench_->store.blocks.contains({7, TestKey(0)}));
}

// Only this node can say that two others have it.
TEST_F(TenantHearsayTest, StateThatOnlyOtherNodesMemoryHasIsNotForgotten) {
  Start();
  bench_->pool.nodes = 2;
  bench_->store.fail_puts = Code::kUnavailable;
  for (std::uint64_t n = 0; n < 100; ++n) Put(n, kState, Ack::kReplicated);
  FillDram();
  EXPECT_EQ(Known(0, 100), 100u);
  bench_->pool.fail_gets = Code::kNotFound;
  EXPECT_EQ(Fetch(0), Code::kDataLoss) << "not: there never was such a block";
}

TEST_F(TenantHearsayTest, WhatThisNodesOwnDiskHasIsNotForgotten) {
  Start(/*store_elsewhere=*/false);
  PutAndLeave(0, 200, kState);
  EXPECT_EQ(Known(0, 200), 200u);
}

TEST_F(TenantHearsayTest, WhatWasOnlyFoundElsewhereIsForgottenToo) {
  Start(/*store_elsewhere=*/false);
  for (std::uint64_t n = 0; n < 200; ++n) {
    bench_->pool.blocks[TestKey(n)] = {BytesOf(n), kCache, 1};
    EXPECT_EQ(Fetch(n), Code::kOk);
  }
  FillDram();
  for (std::uint64_t n = 200; n < 400; ++n) {
    bench_->pool.blocks[TestKey(n)] = {BytesOf(n), kCache, 1};
    EXPECT_EQ(Fetch(n), Code::kOk);
  }
  FillDram();
  EXPECT_LE(Known(0, 400), kKnownMax);
}

// (The index in clients' memory says no more than the books.)
TEST_F(TenantHearsayTest, TheIndexForgetsWhatTheBooksForget) {
  Start();
  PutAndLeave(0, 200, kCache);
  for (std::uint64_t n = 0; n < 200; ++n) {
    if (Knows(n)) continue;
    EXPECT_EQ(bench_->reader().Find(TestKey(n)).kind, EntryKind::kEmpty) << n;
  }
}

}  // namespace
}  // namespace agentmem
