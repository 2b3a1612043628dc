// What a node says of `state` that it knows nothing of: a node without a disk,
// of what it put before it was started again; any, of what others have put.
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/pool/hand_disk.h"
#include "tests/unit/pool/pool_cluster.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kTenant = HandDisk::kTenant;
constexpr std::uint64_t kLent = 16 << 20;
constexpr Key kKey = {1, {1, 1, 2}};

// "d" has no disk, "s" serves its own and lends little, "m" lends memory.
class PoolNodeForgottenTest : public ::testing::Test {
 protected:
  void SetUp() override {
    PoolRun& s = cluster_.Start("s", kLent);
    s.node->UseStore(&disk_);
    s.node->ServeStore(&disk_);
    s.store_bytes = 1 << 30;
    cluster_.Start("m", kLent);
    StartDiskless();
    cluster_.RunFor(kSecondNs);
  }
  void TearDown() override { EXPECT_EQ(cluster_.CheckInvariants(), ""); }
  void StartDiskless() {
    cluster_.Start("d", 0).node->UseRemoteStore({});
    cluster_.IntroduceAll();
  }
  // As a client asks: it may be of either class.
  Code Find(const std::string& asker = "d") {
    PoolOp find;
    find.kind = PoolOp::Kind::kFind;
    find.tenant = kTenant;
    find.key = kKey;
    return cluster_.Do(asker, find).code;
  }
  // "m" alone has it: the other copy is gone with its node.
  void PutIntoMemory() {
    PoolOp put;
    put.kind = PoolOp::Kind::kPut;
    put.block_class = BlockClass::kState;
    put.copies = 2;
    put.tenant = kTenant;
    put.key = kKey;
    put.memory = cluster_.at("d").memory_id;
    put.bytes = cluster_.at("d").memory.get();
    put.length = 5000;
    ASSERT_EQ(cluster_.Do("d", put).code, Code::kOk);
    LoseTheOtherCopy();
  }
  void LoseTheOtherCopy() {
    ExportPool& lent = *cluster_.at("s").exports;
    const ExportPool::Block* const copy = lent.Find({kTenant, kKey});
    ASSERT_NE(copy, nullptr);
    lent.Leave(copy->name, copy->generation);
  }

  PoolCluster cluster_;
  HandDisk disk_;
};

TEST_F(PoolNodeForgottenTest, StateOfAPeerThatIsAwayIsNoMiss) {
  PutIntoMemory();
  cluster_.Kill("d");
  StartDiskless();
  cluster_.RunFor(10 * kSecondNs);
  LoseTheOtherCopy();  // which repair has made anew
  cluster_.Stop("m");
  cluster_.RunFor(2 * kSecondNs);
  EXPECT_EQ(Find(), Code::kUnavailable);
  cluster_.Continue("m");
  cluster_.RunFor(5 * kSecondNs);
  EXPECT_EQ(Find(), Code::kOk);
}

TEST_F(PoolNodeForgottenTest, NorWhileAMemberWasNotMetYet) {
  PutIntoMemory();
  cluster_.Kill("d");
  cluster_.Stop("m");
  StartDiskless();
  cluster_.RunFor(10 * kSecondNs);
  EXPECT_EQ(Find(), Code::kUnavailable);
}

TEST_F(PoolNodeForgottenTest, WhatNobodyHasIsAMissOnceItsPeerIsNoMember) {
  EXPECT_EQ(Find(), Code::kNotFound);
  cluster_.Kill("m");
  cluster_.RunFor(10 * kSecondNs);
  EXPECT_EQ(Find(), Code::kUnavailable);
  cluster_.at("d").node->RemovePeer("m", cluster_.now());
  EXPECT_EQ(Find(), Code::kNotFound);
}

// Its link was given up, for a disk that was slow, perhaps.
TEST_F(PoolNodeForgottenTest, NorOnANodeWithADiskWhileAPeerIsAwayForAMoment) {
  PutIntoMemory();
  cluster_.Stop("m");
  cluster_.RunFor(kSecondNs);
  EXPECT_EQ(Find("s"), Code::kUnavailable);
  cluster_.Continue("m");
  cluster_.RunFor(kSecondNs);
  EXPECT_EQ(Find("s"), Code::kOk);
  cluster_.Kill("m");
  cluster_.RunFor(10 * kSecondNs);
  LoseTheOtherCopy();  // which repair has made anew
  EXPECT_EQ(Find("s"), Code::kNotFound) << "it will hardly be back";
}

// Its memd answers every Hello, and nothing that goes over the fabric.
TEST_F(PoolNodeForgottenTest, AMomentDoesNotBeginAnewWithEachHello) {
  cluster_.Stop("m");
  for (int i = 0; i < 20; ++i) {
    cluster_.IntroduceAll();
    cluster_.RunFor(kSecondNs);
  }
  cluster_.IntroduceAll();
  EXPECT_EQ(Find("s"), Code::kNotFound);
}

}  // namespace
}  // namespace agentmem
