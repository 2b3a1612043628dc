// Blocks that are sealed before they leave for another node's memory.
#include <gtest/gtest.h>

#include <cstring>

#include "memd/pool/sealing.h"
#include "tests/unit/pool/pool_cluster.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kTenant = 7;
constexpr std::uint64_t kLent = 16 << 20;
constexpr std::uint32_t kLength = 700'000;

class PoolNodeSealedTest : public ::testing::Test {
 protected:
  void SetUp() override { cluster_.StartAll({"a", "b"}, 0); }
  void TearDown() override { EXPECT_EQ(cluster_.CheckInvariants(), ""); }
  // A node that lends.
  void Lender() {
    cluster_.Start("c", kLent);
    cluster_.IntroduceAll();
    cluster_.RunFor(kSecondNs);
    ASSERT_EQ(cluster_.at("a").node->places(), 1u);
  }
  PoolCompletion Do(const std::string& name, PoolOp::Kind kind) {
    PoolOp op;
    op.kind = kind;
    op.block_class = BlockClass::kState;
    op.tenant = kTenant;
    op.key = kKey;
    op.memory = cluster_.at(name).memory_id;
    op.bytes = cluster_.at(name).memory.get();
    op.length = kLength;
    return cluster_.Do(name, op);
  }
  void Put() {
    FillBlock(cluster_.at("a").memory.get(), kLength, kKey, 5);
    ASSERT_EQ(Do("a", PoolOp::Kind::kPut).code, Code::kOk);
  }
  std::uint64_t Salt(const std::string& name) {
    return SaltOf(cluster_.at(name).memory.get(), kLength, kKey);
  }

  // Of what "a" has put.
  void ExpectCiphertextAtLender() {
    const std::string lent(cluster_.at("c").lent.get(), kLent);
    const std::string plain(cluster_.at("a").memory.get(), 64);
    EXPECT_EQ(lent.find(plain), std::string::npos);
  }

  static constexpr Key kKey = {3, {1, 4, 1}};
  PoolCluster cluster_;
};

TEST_F(PoolNodeSealedTest, WhatLiesElsewhereIsCiphertextAndComesBackWhole) {
  cluster_.Seal("a", 1);
  cluster_.Seal("b", 1);
  Lender();
  Put();
  ExpectCiphertextAtLender();
  ASSERT_EQ(Do("b", PoolOp::Kind::kGet).code, Code::kOk);
  EXPECT_EQ(Salt("b"), 5u);
}

TEST_F(PoolNodeSealedTest, AFlippedBitIsDataLossAndNeverBytes) {
  cluster_.Seal("a", 1);
  Lender();
  Put();
  const ExportPool::Block* const block =
      cluster_.at("c").exports->Find({kTenant, kKey});
  ASSERT_NE(block, nullptr);
  *cluster_.at("c").exports->At(block->offset + kLength / 2) ^= 1;
  EXPECT_EQ(Do("a", PoolOp::Kind::kGet).code, Code::kDataLoss);
  EXPECT_EQ(Salt("a"), 0u);
}

TEST_F(PoolNodeSealedTest, WithoutTheKeyNothingIsRead) {
  cluster_.Seal("a", 1);
  cluster_.Seal("b", 2);  // of the same id
  Lender();
  Put();
  EXPECT_EQ(Do("b", PoolOp::Kind::kGet).code, Code::kDataLoss);
}

TEST_F(PoolNodeSealedTest, WhoSealsTakesNothingInTheClear) {
  Lender();
  Put();
  EXPECT_EQ(Do("b", PoolOp::Kind::kGet).code, Code::kOk);
  cluster_.Seal("b", 1);
  EXPECT_EQ(Do("b", PoolOp::Kind::kGet).code, Code::kDataLoss);
}

TEST_F(PoolNodeSealedTest, MorePutsThanBuffersWaitForThem) {
  cluster_.Seal("a", 1);
  Lender();
  FillBlock(cluster_.at("a").memory.get(), kLength, kKey, 5);
  for (std::uint32_t n = 0; n < 3 * Sealing::kBuffers; ++n) {
    PoolOp op;
    op.kind = PoolOp::Kind::kPut;
    op.tenant = kTenant;
    op.key = {n, {n, n, n}};
    op.memory = cluster_.at("a").memory_id;
    op.bytes = cluster_.at("a").memory.get();
    op.length = 300'000;
    op.ticket = n;
    ASSERT_TRUE(cluster_.at("a").node->Submit(op));
  }
  cluster_.RunFor(2 * kSecondNs);
  ASSERT_EQ(cluster_.at("a").done.size(), 3 * Sealing::kBuffers);
  for (const PoolCompletion& done : cluster_.at("a").done) {
    EXPECT_EQ(done.code, Code::kOk);
  }
  ExpectCiphertextAtLender();
}

}  // namespace
}  // namespace agentmem
