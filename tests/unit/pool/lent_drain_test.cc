// A node that ends writes down what it lends memory for.
#include "memd/pool/lent_drain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "memd/pool/pool_timing.h"
#include "tests/unit/pool/hand_disk.h"
#include "tests/unit/pool/pool_cluster.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kTenant = HandDisk::kTenant;
constexpr std::uint64_t kLent = 48 << 20;
constexpr std::uint32_t kLength = 70'000;
constexpr BlockClass kState = BlockClass::kState;

// "a" puts into the memory of "b", which has a disk and ends.
class LentDrainTest : public ::testing::Test {
 protected:
  void Make(bool sealed = false, const std::vector<std::string>& more = {}) {
    cluster_.StartAll({"a"}, 0);
    std::vector<std::string> lenders = more;
    lenders.push_back("b");
    for (const std::string& name : lenders) cluster_.Start(name, kLent);
    if (sealed) {
      cluster_.Seal("a", 1);
      cluster_.Seal("b", 1);
    }
    cluster_.IntroduceAll();
    cluster_.RunFor(kSecondNs);
    ASSERT_EQ(cluster_.at("a").node->places(), lenders.size());
  }
  void TearDown() override {
    drain_.reset();
    EXPECT_EQ(cluster_.CheckInvariants(), "");
  }
  static Key KeyOf(std::uint32_t number) { return {number, {number, 1, 2}}; }
  Code Put(std::uint32_t number, std::uint32_t length = kLength,
           BlockClass block_class = kState, std::uint64_t tenant = kTenant) {
    PoolRun& a = cluster_.at("a");
    FillBlock(a.memory.get(), length, KeyOf(number), 5);
    PoolOp op;
    op.kind = PoolOp::Kind::kPut;
    op.block_class = block_class;
    op.tenant = tenant;
    op.key = KeyOf(number);
    op.memory = a.memory_id;
    op.bytes = a.memory.get();
    op.length = length;
    return cluster_.Do("a", op).code;
  }
  PoolNode* b() { return cluster_.at("b").node.get(); }
  void Begin() { drain_ = b()->DrainLent(&disk_); }
  void FinishOne(Code code = Code::kOk,
                 StoreRefusal refusal = StoreRefusal::kNone) {
    const HandDisk::Job job = disk_.jobs.front();
    disk_.jobs.pop_front();
    if (code == Code::kOk) {
      disk_.blocks[job.block.key].assign(job.from, job.block.length);
    }
    EXPECT_TRUE(drain_->OnStored(job.generation, {code, refusal, 0, 0}));
  }
  // To its end; how many writes there were.
  int Drain() {
    int writes = 0;
    while (!drain_->Pump()) {
      for (; !disk_.jobs.empty(); ++writes) FinishOne();
    }
    return writes;
  }
  bool IsOnDisk(std::uint32_t number, std::uint32_t length = kLength) {
    const auto found = disk_.blocks.find(KeyOf(number));
    return found != disk_.blocks.end() && found->second.size() == length &&
           SaltOf(found->second.data(), length, KeyOf(number)) == 5;
  }

  void ExpectNoWrongBytes() {
    ASSERT_EQ(Put(1), Code::kOk);
    ExportPool& exports = *cluster_.at("b").exports;
    exports.At(exports.Find({kTenant, KeyOf(1)})->offset)[9] ^= 1;
    Begin();
    EXPECT_EQ(Drain(), 0);
    EXPECT_EQ(drain_->refused().at(StoreRefusal::kWrongBytes).blocks, 1u);
  }

  PoolCluster cluster_;
  HandDisk disk_;
  std::unique_ptr<LentDrain> drain_;
};

TEST_F(LentDrainTest, StateIsWrittenDownOnceAndCacheIsNot) {
  Make();
  for (std::uint32_t i = 1; i <= 20; ++i) ASSERT_EQ(Put(i), Code::kOk);
  ASSERT_EQ(Put(50, kLength, BlockClass::kCache), Code::kOk);
  disk_.blocks[KeyOf(3)] = std::string(kLength, 's');
  Begin();
  EXPECT_EQ(drain_->CountLeft().blocks, 19u);
  EXPECT_EQ(Drain(), 19);
  for (std::uint32_t i = 1; i <= 20; ++i) EXPECT_EQ(IsOnDisk(i), i != 3);
  EXPECT_FALSE(disk_.blocks.contains(KeyOf(50)));
  EXPECT_EQ(drain_->written().blocks, 19u);
  EXPECT_EQ(drain_->written().bytes, std::uint64_t{19} * kLength);
  EXPECT_EQ(drain_->CountLeft().blocks, 0u);
  EXPECT_TRUE(drain_->refused().empty());
}

TEST_F(LentDrainTest, NothingToWriteEndsAtOnce) {
  Make();
  Begin();
  EXPECT_TRUE(drain_->Pump());
}

TEST_F(LentDrainTest, WhatIsSealedThereIsInTheClearOnTheDisk) {
  Make(/*sealed=*/true);
  ASSERT_EQ(Put(1), Code::kOk);
  Begin();
  EXPECT_EQ(Drain(), 1);
  EXPECT_TRUE(IsOnDisk(1));
}

TEST_F(LentDrainTest, BytesThatSomebodyChangedAreNotWritten) {
  Make();
  ExpectNoWrongBytes();
}

TEST_F(LentDrainTest, SealedBytesThatSomebodyChangedAreNotWritten) {
  Make(/*sealed=*/true);
  ExpectNoWrongBytes();
}

TEST_F(LentDrainTest, WhatTheStoreRefusesIsToldWithTheReasonAndTriedOnce) {
  Make();
  ASSERT_EQ(Put(1, kLength, kState, /*tenant=*/8), Code::kOk);
  ASSERT_EQ(Put(2), Code::kOk);
  Begin();
  EXPECT_FALSE(drain_->Pump());
  ASSERT_EQ(disk_.jobs.size(), 1u);
  FinishOne(Code::kResourceExhausted, StoreRefusal::kDiskFull);
  EXPECT_TRUE(drain_->Pump());
  EXPECT_EQ(drain_->refused().at(StoreRefusal::kNoTenant).blocks, 1u);
  EXPECT_EQ(drain_->refused().at(StoreRefusal::kDiskFull).bytes, kLength);
  EXPECT_EQ(drain_->CountLeft().blocks, 0u) << "they are told already";
}

TEST_F(LentDrainTest, AFullQueueOfTheStoreIsAskedAgain) {
  Make();
  ASSERT_EQ(Put(1), Code::kOk);
  ASSERT_EQ(Put(2), Code::kOk);
  Begin();
  disk_.full = true;
  EXPECT_FALSE(drain_->Pump());
  EXPECT_TRUE(disk_.jobs.empty());
  disk_.full = false;
  EXPECT_EQ(Drain(), 2);
  EXPECT_TRUE(IsOnDisk(1) && IsOnDisk(2));
}

TEST_F(LentDrainTest, NoMoreThanItsBoundIsBeingWritten) {
  Make();
  constexpr std::uint32_t kLarge = 4 << 20;
  constexpr std::uint32_t kAtOnce = LentDrain::kBytesMax / kLarge;
  for (std::uint32_t i = 1; i <= kAtOnce + 2; ++i) {
    ASSERT_EQ(Put(i, kLarge), Code::kOk);
  }
  Begin();
  EXPECT_FALSE(drain_->Pump());
  EXPECT_EQ(disk_.jobs.size(), kAtOnce);
  EXPECT_EQ(Drain(), static_cast<int>(kAtOnce + 2));
  EXPECT_TRUE(IsOnDisk(kAtOnce + 2, kLarge));
}

// Its place is another block's by the time that the disk reads.
TEST_F(LentDrainTest, ABlockThatIsDroppedWhileItIsWrittenIsWrittenWhole) {
  Make();
  ASSERT_EQ(Put(1), Code::kOk);
  Begin();
  EXPECT_FALSE(drain_->Pump());
  ASSERT_EQ(disk_.jobs.size(), 1u);
  ExportPool& exports = *cluster_.at("b").exports;
  const std::uint64_t place = exports.Find({kTenant, KeyOf(1)})->offset;
  exports.Drop({kTenant, KeyOf(1)}, cluster_.now());
  std::fill_n(exports.At(place), kLength, 'x');
  FinishOne();
  EXPECT_TRUE(IsOnDisk(1));
  EXPECT_TRUE(drain_->Pump());
}

TEST_F(LentDrainTest, WhatComesWhileItWritesIsWrittenToo) {
  Make();
  ASSERT_EQ(Put(1), Code::kOk);
  Begin();
  EXPECT_FALSE(drain_->Pump());
  ASSERT_EQ(Put(2), Code::kOk);
  FinishOne();
  EXPECT_FALSE(drain_->Pump());
  EXPECT_EQ(Drain(), 1);
  EXPECT_TRUE(IsOnDisk(1) && IsOnDisk(2));
}

TEST_F(LentDrainTest, WhatNeverEndsComingIsCutOffAndGoesElsewhere) {
  Make(false, {"c"});
  ExportPool& exports = *cluster_.at("b").exports;
  std::uint32_t number = 0;
  // Others may be at home at "c".
  const auto put_at_b = [&] {
    for (const std::uint64_t before = exports.blocks();
         exports.blocks() == before;) {
      ASSERT_EQ(Put(++number), Code::kOk);
    }
  };
  put_at_b();
  Begin();
  int walks = 0;
  for (; !drain_->Pump(); ++walks) {
    ASSERT_LE(walks, LentDrain::kOpenWalks);
    while (!disk_.jobs.empty()) FinishOne();
    if (walks < LentDrain::kOpenWalks) put_at_b();
  }
  EXPECT_EQ(walks, LentDrain::kOpenWalks + 1) << "the last one came in time";
  const std::uint64_t there = exports.blocks();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Put(++number), Code::kOk);
  EXPECT_EQ(exports.blocks(), there);
  EXPECT_EQ(drain_->written().blocks, there);
  // Who does not answer is passed over.
  EXPECT_EQ(cluster_.at("a").node->places(), 1u);
}

}  // namespace
}  // namespace agentmem
