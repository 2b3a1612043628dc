// Blocks go into other nodes' memory and come back, whatever happened to those
// nodes meanwhile; on a network that is quiet but for what a test does to it.
#include "memd/pool/pool_node.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "memd/pool/pool_timing.h"
#include "tests/unit/pool/pool_cluster.h"

namespace agentmem {
namespace {

class PoolNodeTest : public ::testing::Test {
 protected:
  void TearDown() override {
    if (cluster_ == nullptr) return;
    EXPECT_EQ(cluster_->CheckInvariants(), "");
    for (const auto& [name, run] : cluster_->runs()) {
      EXPECT_EQ(run->node->Snapshot(cluster_->now()).queued, 0u) << name;
    }
  }
  void Make(const std::vector<std::string>& names,
            std::uint64_t export_bytes = 8 << 20,
            const SimOptions& options = Roomy()) {
    cluster_ = std::make_unique<PoolCluster>(options);
    cluster_->StartAll(names, export_bytes);
    for (const std::string& name : names) {
      ASSERT_EQ(Node(name).places(), export_bytes == 0 ? 0 : names.size());
    }
  }
  static SimOptions Roomy() {
    SimOptions options;
    options.message_bytes_max = kPoolMessageBytesMax;
    return options;
  }
  PoolNode& Node(const std::string& name) { return *cluster_->at(name).node; }
  ExportPool& Exports(const std::string& name) {
    return *cluster_->at(name).exports;
  }
  PoolSnapshot Snapshot(const std::string& name) {
    return Node(name).Snapshot(cluster_->now());
  }
  static Key KeyOf(std::uint32_t number) { return {number, {number, 5, 6}}; }
  PoolOp OpOf(PoolOp::Kind kind, std::uint32_t number, std::uint32_t length,
              BlockClass block_class = BlockClass::kCache) {
    PoolOp op;
    op.kind = kind;
    op.tenant = 3;
    op.key = KeyOf(number);
    op.length = length;
    op.block_class = block_class;
    op.copies = block_class == BlockClass::kState ? 2 : 1;
    return op;
  }
  Code Put(const std::string& name, std::uint32_t number, std::uint32_t length,
           BlockClass block_class = BlockClass::kCache,
           std::uint64_t salt = 77) {
    FillBlock(cluster_->at(name).memory.get(), length, KeyOf(number), salt);
    return cluster_
        ->Do(name, OpOf(PoolOp::Kind::kPut, number, length, block_class))
        .code;
  }
  // Whatever comes as OK has the right bytes.
  Code Get(const std::string& name, std::uint32_t number, std::uint32_t length,
           BlockClass block_class = BlockClass::kCache,
           std::uint64_t salt = 77) {
    char* const bytes = cluster_->at(name).memory.get();
    std::fill(bytes, bytes + length, 'e');
    const PoolCompletion got = cluster_->Do(
        name, OpOf(PoolOp::Kind::kGet, number, length, block_class));
    if (got.code == Code::kOk) {
      EXPECT_EQ(SaltOf(bytes, length, KeyOf(number)), salt) << "wrong bytes";
    }
    return got.code;
  }
  Code Drop(const std::string& name, std::uint32_t number) {
    return cluster_->Do(name, OpOf(PoolOp::Kind::kDrop, number, 0)).code;
  }
  // On how many nodes does it lie?
  std::size_t CopiesOf(std::uint32_t number) {
    std::size_t copies = 0;
    for (const auto& [name, run] : cluster_->runs()) {
      copies += Holds(name, number);
    }
    return copies;
  }
  bool Holds(const std::string& name, std::uint32_t number) {
    return cluster_->at(name).exports != nullptr &&
           Exports(name).Find({3, KeyOf(number)}) != nullptr;
  }
  // The first one from `number` on that lies on these nodes alone.
  std::uint32_t PutStateOn(const std::string& writer, const std::string& x,
                           const std::string& y, std::uint32_t number = 0) {
    for (;; ++number) {
      EXPECT_EQ(Put(writer, number, 4096, BlockClass::kState), Code::kOk);
      if (Holds(x, number) && Holds(y, number)) return number;
    }
  }

  std::unique_ptr<PoolCluster> cluster_;
};

TEST_F(PoolNodeTest, ABlockComesBackFromWhereverItLies) {
  for (const std::vector<std::string>& names :
       {std::vector<std::string>{"a"}, {"a", "b"}, {"a", "b", "c"}}) {
    Make(names);
    std::uint32_t number = 0;
    for (const std::uint32_t length :
         {8U, 4096U, 524'288U, 524'289U, 600'001U, 4U << 20}) {
      ++number;
      for (std::uint32_t i = number * 100; i < number * 100 + 4; ++i) {
        ASSERT_EQ(Put("a", i, length), Code::kOk);
        for (const std::string& name : names) {
          if (length < (4 << 20)) {
            ASSERT_EQ(Get(name, i, length), Code::kOk) << name << " " << length;
          }
        }
        ASSERT_EQ(Get("a", i, length), Code::kOk) << length;
      }
    }
  }
}

TEST_F(PoolNodeTest, ANodeThatLendsNothingUsesOthers) {
  Make({"a", "b"});
  cluster_->Start("guest", 0);
  cluster_->IntroduceAll();
  cluster_->RunFor(5 * kMillisecondNs);
  EXPECT_EQ(Node("guest").places(), 2u);
  EXPECT_EQ(Node("a").places(), 2u);
  EXPECT_EQ(Put("guest", 1, 4096, BlockClass::kState), Code::kOk);
  EXPECT_EQ(Get("guest", 1, 4096), Code::kOk);
  EXPECT_EQ(CopiesOf(1), 2u);
}

TEST_F(PoolNodeTest, NobodyLendsAndEveryOperationSaysSo) {
  Make({"a", "b"}, 0);
  EXPECT_FALSE(Node("a").usable());
  EXPECT_EQ(Put("a", 1, 4096), Code::kUnavailable);
  EXPECT_EQ(Get("a", 1, 4096), Code::kNotFound);
  EXPECT_EQ(Drop("a", 1), Code::kOk);
}

TEST_F(PoolNodeTest, CacheHasOneCopyAndStateTwoAndADropLeavesNone) {
  Make({"a", "b", "c"});
  for (std::uint32_t i = 0; i < 20; ++i) {
    ASSERT_EQ(Put("a", i, 4096), Code::kOk);
    EXPECT_EQ(CopiesOf(i), 1u);
    ASSERT_EQ(Put("b", i, 4096, BlockClass::kState), Code::kOk);
    EXPECT_EQ(CopiesOf(i), 2u);
    ASSERT_EQ(Drop("c", i), Code::kOk);
    EXPECT_EQ(CopiesOf(i), 0u);
    EXPECT_EQ(Get("c", i, 4096), Code::kNotFound);
  }
}

TEST_F(PoolNodeTest, StateOnOneNodeAloneIsUnavailableAndYetFound) {
  Make({"a"});
  EXPECT_EQ(Put("a", 1, 4096, BlockClass::kState), Code::kUnavailable);
  EXPECT_EQ(Get("a", 1, 4096), Code::kOk);
}

TEST_F(PoolNodeTest, AFindTellsLengthAndClass) {
  Make({"a", "b"});
  for (std::uint32_t i = 0; i < 8; ++i) {
    ASSERT_EQ(Put("a", i, 5000, BlockClass::kState), Code::kOk);
    for (const char* name : {"a", "b"}) {
      const auto found = cluster_->Do(name, OpOf(PoolOp::Kind::kFind, i, 0));
      EXPECT_EQ(found.code, Code::kOk);
      EXPECT_EQ(found.length, 5000u);
      EXPECT_EQ(found.block_class, BlockClass::kState);
    }
  }
  EXPECT_EQ(cluster_->Do("a", OpOf(PoolOp::Kind::kFind, 99, 0)).code,
            Code::kNotFound);
}

TEST_F(PoolNodeTest, OfAnotherLengthIsNotTheBlock) {
  Make({"a", "b"});
  for (std::uint32_t i = 0; i < 8; ++i) {
    ASSERT_EQ(Put("a", i, 5000), Code::kOk);
    EXPECT_EQ(Get("b", i, 4999), Code::kNotFound);
    EXPECT_EQ(Get("a", i, 5001), Code::kNotFound);
  }
  EXPECT_EQ(cluster_->Do("a", OpOf(PoolOp::Kind::kGet, 1, 0)).code,
            Code::kInvalidArgument);
  EXPECT_EQ(
      cluster_->Do("a", OpOf(PoolOp::Kind::kPut, 1, kMaxBlockBytes + 1)).code,
      Code::kInvalidArgument);
}

TEST_F(PoolNodeTest, WhereABlockWasIsReadWithoutAsking) {
  Make({"a", "b"}, 0);
  cluster_->Start("c", 8 << 20);
  cluster_->IntroduceAll();
  cluster_->RunFor(5 * kMillisecondNs);
  ASSERT_EQ(Put("a", 1, 4096), Code::kOk);
  std::uint64_t before = cluster_->network().counters().operations;
  ASSERT_EQ(Get("a", 1, 4096), Code::kOk);
  EXPECT_EQ(cluster_->network().counters().operations - before, 1u);
  before = cluster_->network().counters().operations;
  ASSERT_EQ(Get("b", 1, 4096), Code::kOk);
  EXPECT_EQ(cluster_->network().counters().operations - before, 3u)
      << "ask, answer, read";
}

TEST_F(PoolNodeTest, AStaleHintIsLookedUpAnewAndNeverGivesOtherBytes) {
  Make({"a", "b"}, 0);
  cluster_->Start("c", 4 << 20);
  cluster_->IntroduceAll();
  cluster_->RunFor(5 * kMillisecondNs);
  ASSERT_EQ(Put("a", 1, 1 << 20), Code::kOk);
  ASSERT_EQ(Get("b", 1, 1 << 20), Code::kOk);
  for (std::uint32_t i = 10; i < 18; ++i) {
    ASSERT_EQ(Put("a", i, 1 << 20), Code::kOk);
  }
  EXPECT_FALSE(Holds("c", 1));
  EXPECT_EQ(Get("b", 1, 1 << 20), Code::kNotFound);
  EXPECT_EQ(Snapshot("b").stale, 1u);
  EXPECT_EQ(Snapshot("b").corrupt, 0u);
  // Another life of the block, computed anew.
  ASSERT_EQ(Put("a", 1, 1 << 20, BlockClass::kCache, 88), Code::kOk);
  EXPECT_EQ(Get("b", 1, 1 << 20, BlockClass::kCache, 88), Code::kOk);
  ASSERT_EQ(Drop("a", 1), Code::kOk);
  ASSERT_EQ(Put("a", 1, 1 << 20, BlockClass::kCache, 99), Code::kOk);
  EXPECT_EQ(Get("b", 1, 1 << 20, BlockClass::kCache, 99), Code::kOk);
}

TEST_F(PoolNodeTest, ACopyWithWrongBytesIsPassedOverForTheOther) {
  Make({"a", "b", "c"});
  const std::uint32_t number = PutStateOn("a", "b", "c");
  const auto spoil = [&](const std::string& name) {
    const auto* const block = Exports(name).Find({3, KeyOf(number)});
    Exports(name).At(block->offset)[100] ^= 1;
  };
  spoil("b");
  EXPECT_EQ(Get("a", number, 4096), Code::kOk);
  spoil("c");
  EXPECT_EQ(Get("a", number, 4096), Code::kDataLoss);
  EXPECT_EQ(Get("b", number, 4096), Code::kDataLoss);
  EXPECT_GE(Snapshot("a").corrupt, 2u);
}

TEST_F(PoolNodeTest, AnotherRunOfAPeerHasNothingOfTheOneBefore) {
  Make({"a", "b"}, 0);
  cluster_->Start("c", 4 << 20);
  cluster_->IntroduceAll();
  cluster_->RunFor(5 * kMillisecondNs);
  ASSERT_EQ(Put("a", 1, 4096), Code::kOk);
  cluster_->Kill("c");
  cluster_->Start("c", 4 << 20);
  cluster_->IntroduceAll();
  cluster_->RunFor(5 * kMillisecondNs);
  EXPECT_EQ(Get("a", 1, 4096), Code::kNotFound);
  EXPECT_EQ(Put("a", 1, 4096, BlockClass::kCache, 78), Code::kOk);
  EXPECT_EQ(Get("b", 1, 4096, BlockClass::kCache, 78), Code::kOk);
}

TEST_F(PoolNodeTest, ADeathCostsAReadMilliseconds) {
  for (const bool power_off : {false, true}) {
    Make({"a", "b", "c"});
    const std::uint32_t number = PutStateOn("a", "b", "c");
    // The hint leads to one of the two: kill that one.
    const auto read_from = [&](const std::string& name) {
      for (const auto& peer : Snapshot("a").peers) {
        if (peer.node == name) return peer.bytes_read;
      }
      return std::uint64_t{0};
    };
    ASSERT_EQ(Get("a", number, 4096), Code::kOk);
    const std::string first = read_from("b") != 0 ? "b" : "c";
    power_off ? cluster_->PowerOff(first) : cluster_->Kill(first);
    const TimeNs start = cluster_->now();
    EXPECT_EQ(Get("a", number, 4096), Code::kOk);
    EXPECT_LT(cluster_->now() - start, 50 * kMillisecondNs) << power_off;
  }
}

TEST_F(PoolNodeTest, FullOfStateIsResourceExhausted) {
  Make({"a", "b"}, 4 << 20);
  for (std::uint32_t i = 0; i < 4; ++i) {
    ASSERT_EQ(Put("a", i, 1 << 20, BlockClass::kState), Code::kOk);
  }
  EXPECT_EQ(Put("a", 9, 1 << 20, BlockClass::kState), Code::kResourceExhausted);
  EXPECT_EQ(Put("b", 10, 1 << 20), Code::kResourceExhausted);
  for (std::uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(Get("b", i, 1 << 20), Code::kOk);
  }
}

TEST_F(PoolNodeTest, AnOwnerIsToldWhatHadToLeave) {
  Make({"a"}, 0);
  cluster_->Start("c", 4 << 20);
  cluster_->IntroduceAll();
  cluster_->RunFor(5 * kMillisecondNs);
  for (std::uint32_t i = 0; i < 6; ++i) {
    ASSERT_EQ(Put("a", i, 1 << 20), Code::kOk);
  }
  cluster_->RunFor(20 * kMillisecondNs);
  const auto revoked = Node("a").TakeRevoked();
  ASSERT_EQ(revoked.size(), 2u);
  EXPECT_EQ(revoked[0].key, KeyOf(0));
  EXPECT_EQ(revoked[1].key, KeyOf(1));
  EXPECT_EQ(Get("a", 0, 1 << 20), Code::kNotFound);
  EXPECT_EQ(Snapshot("a").stale, 0u) << "the hint went with it";
}

TEST_F(PoolNodeTest, AQueueThatIsFullTakesMoreAfterACompletion) {
  SimOptions options;  // small messages, too
  Make({"a", "b"}, 8 << 20, options);
  PoolOp op = OpOf(PoolOp::Kind::kGet, 0, 512);
  op.memory = cluster_->at("a").memory_id;
  op.bytes = cluster_->at("a").memory.get();
  std::size_t taken = 0;
  for (; taken < 2 * PoolNode::kOpsMax; ++taken) {
    op.key = KeyOf(static_cast<std::uint32_t>(taken));
    op.ticket = taken;
    if (!Node("a").Submit(op)) break;
  }
  EXPECT_EQ(taken, PoolNode::kOpsMax);
  cluster_->RunFor(kSecondNs);
  EXPECT_EQ(cluster_->at("a").done.size(), PoolNode::kOpsMax);
  EXPECT_TRUE(Node("a").Submit(op));
  cluster_->RunFor(kSecondNs);
}

TEST_F(PoolNodeTest, WhatIsUnderWayToAPeerIsBounded) {
  Make({"a"}, 0);
  cluster_->Start("c", 64 << 20);
  cluster_->IntroduceAll();
  cluster_->RunFor(5 * kMillisecondNs);
  for (std::uint32_t i = 0; i < 12; ++i) {
    PoolOp op = OpOf(PoolOp::Kind::kPut, i, 4 << 20);
    op.memory = cluster_->at("a").memory_id;
    op.bytes = cluster_->at("a").memory.get();
    ASSERT_TRUE(Node("a").Submit(op));
  }
  std::uint64_t most = 0;
  cluster_->RunFor(kSecondNs, [&] {
    most = std::max(most, Snapshot("a").peers[0].in_flight);
    return cluster_->at("a").done.size() == 12;
  });
  EXPECT_EQ(most, kMovingBytesMax / PieceDigest::kPieceBytes);
  ASSERT_EQ(cluster_->at("a").done.size(), 12u);
  for (const auto& one : cluster_->at("a").done) {
    EXPECT_EQ(one.code, Code::kOk);
  }
}

TEST_F(PoolNodeTest, ManyPiecesAndALinkThatBreaksEndEveryOperation) {
  for (int round = 1; round <= 40; ++round) {
    SimOptions options = Roomy();
    options.seed = static_cast<std::uint64_t>(round);
    options.transfers_in_flight = 20;
    options.bandwidth_bytes_per_s = 2'000'000'000;
    Make({"a"}, 0, options);
    cluster_->Start("c", 64 << 20);
    cluster_->IntroduceAll();
    cluster_->RunFor(5 * kMillisecondNs);
    for (std::uint32_t i = 0; i < 4; ++i) {
      PoolOp op = OpOf(PoolOp::Kind::kPut, i, 4 << 20);
      op.memory = cluster_->at("a").memory_id;
      op.bytes = cluster_->at("a").memory.get();
      ASSERT_TRUE(Node("a").Submit(op));
    }
    cluster_->RunFor(round * 200 * kMicrosecondNs);
    cluster_->Kill("c");
    cluster_->RunFor(kPoolOpNs + kSecondNs,
                     [&] { return cluster_->at("a").done.size() == 4; });
    EXPECT_EQ(cluster_->at("a").done.size(), 4u) << "round " << round;
    EXPECT_EQ(cluster_->CheckInvariants(), "");
  }
}

TEST_F(PoolNodeTest, TwoNodesPutTheSameKeyAtOnceAndBothSucceed) {
  Make({"a", "b", "c", "d"});
  for (std::uint32_t i = 0; i < 20; ++i) {
    for (const char* name : {"a", "b", "c"}) {
      PoolOp op = OpOf(PoolOp::Kind::kPut, i, 4096, BlockClass::kState);
      op.memory = cluster_->at(name).memory_id;
      op.bytes = cluster_->at(name).memory.get();
      FillBlock(op.bytes, 4096, KeyOf(i), 77);
      ASSERT_TRUE(Node(name).Submit(op));
    }
    cluster_->RunFor(10 * kMillisecondNs);
    for (const char* name : {"a", "b", "c"}) {
      ASSERT_EQ(cluster_->at(name).done.size(), 1u);
      EXPECT_EQ(cluster_->at(name).done[0].code, Code::kOk);
      cluster_->at(name).done.clear();
    }
    EXPECT_EQ(CopiesOf(i), 2u);
    EXPECT_EQ(Get("d", i, 4096), Code::kOk);
  }
  for (const char* name : {"a", "b", "c", "d"}) {
    EXPECT_EQ(Exports(name).reservations(), 0u);
  }
}

TEST_F(PoolNodeTest, AnOperationEndsByItsDeadlineThoughNobodyAnswers) {
  Make({"a", "b", "c"});
  const std::uint32_t number = PutStateOn("a", "b", "c");
  cluster_->network().Partition({"a"});
  const TimeNs start = cluster_->now();
  PoolOp op = OpOf(PoolOp::Kind::kGet, number, 4096, BlockClass::kState);
  op.deadline = start + 20 * kMillisecondNs;
  EXPECT_EQ(cluster_->Do("a", op).code, Code::kUnavailable);
  EXPECT_LE(cluster_->now() - start,
            20 * kMillisecondNs + kMoveNsMin + 2 * PoolCluster::kTick);
}

TEST_F(PoolNodeTest, StateOnNodesThatAreAwayIsUnavailableNotLost) {
  Make({"a", "b", "c"});
  const std::uint32_t number = PutStateOn("a", "b", "c");
  cluster_->network().Partition({"a"});
  cluster_->RunFor(2 * kSecondNs);
  EXPECT_EQ(Node("a").places(), 1u);
  EXPECT_EQ(Get("a", number, 4096, BlockClass::kState), Code::kUnavailable);
  EXPECT_EQ(Get("a", number, 4096), Code::kNotFound) << "cache: a miss";
  cluster_->network().HealAll();
  cluster_->RunFor(2 * kSecondNs);
  EXPECT_EQ(Get("a", number, 4096, BlockClass::kState), Code::kOk);
}

TEST_F(PoolNodeTest, APeerThatWeDoNotReachIsDownThoughItReachesUs) {
  Make({"a", "b", "c"});
  cluster_->network().CutOneWay("a", "b");
  cluster_->RunFor(kSecondNs);
  EXPECT_EQ(Node("a").places(), 2u);
  cluster_->network().HealAll();
  cluster_->RunFor(2 * kSecondNs);
  EXPECT_EQ(Node("a").places(), 3u);
  EXPECT_EQ(Node("b").places(), 3u);
}

TEST_F(PoolNodeTest, ANodeThatWasAwayItselfBlamesNobody) {
  Make({"a", "b"});
  std::vector<PoolCompletion> out(8);
  cluster_->network().RunFor(3 * kSecondNs);  // nobody polls
  Node("a").Tick(cluster_->now());
  EXPECT_EQ(Node("a").places(), 2u);
  cluster_->RunFor(kSecondNs);
  EXPECT_EQ(Snapshot("a").peers[0].losses, 0u);
}

TEST_F(PoolNodeTest, IdleThenBusyIsNotAStall) {
  Make({"a", "b", "c"});
  const std::uint32_t number = PutStateOn("a", "b", "c");
  cluster_->network().RunFor(90 * kMillisecondNs);
  PoolOp op = OpOf(PoolOp::Kind::kGet, number, 4096);
  op.memory = cluster_->at("a").memory_id;
  op.bytes = cluster_->at("a").memory.get();
  ASSERT_TRUE(Node("a").Submit(op));
  cluster_->RunFor(20 * kMillisecondNs);
  ASSERT_EQ(cluster_->at("a").done.size(), 1u);
  for (const auto& peer : Snapshot("a").peers) EXPECT_EQ(peer.losses, 0u);
}

TEST_F(PoolNodeTest, AfterADeathStateHasTwoCopiesAgainAndACacheBlockMoves) {
  Make({"a", "b", "c", "d"});
  for (std::uint32_t i = 0; i < 200; ++i) {
    ASSERT_EQ(Put("a", i, 4096, BlockClass::kState), Code::kOk);
  }
  cluster_->Kill("b");
  cluster_->RunFor(5 * kSecondNs);
  for (std::uint32_t i = 0; i < 200; ++i) ASSERT_EQ(CopiesOf(i), 2u) << i;
  std::uint64_t repaired = 0;
  for (const char* name : {"a", "c", "d"}) {
    EXPECT_TRUE(Node(name).whole());
    repaired += Snapshot(name).repaired;
  }
  EXPECT_GT(repaired, 60u);
  EXPECT_LT(repaired, 140u) << "only what was lost";
}

TEST_F(PoolNodeTest, ANodeThatJoinsGetsItsShareAndNothingElseMoves) {
  Make({"a", "b", "c"}, 32 << 20);
  for (std::uint32_t i = 0; i < 400; ++i) {
    ASSERT_EQ(Put("a", i, 4096), Code::kOk);
  }
  cluster_->Start("d", 32 << 20);
  cluster_->IntroduceAll();
  cluster_->RunFor(5 * kSecondNs);
  std::uint64_t moved = 0;
  for (const char* name : {"a", "b", "c"}) moved += Snapshot(name).moved;
  EXPECT_EQ(moved, Exports("d").blocks());
  EXPECT_GT(moved, 60u);
  EXPECT_LT(moved, 140u);
  for (std::uint32_t i = 0; i < 400; ++i) {
    ASSERT_EQ(CopiesOf(i), 1u);
    ASSERT_EQ(Get("a", i, 4096), Code::kOk);
  }
}

TEST_F(PoolNodeTest, RepairWritesNoMoreThanItsBandwidth) {
  cluster_ = std::make_unique<PoolCluster>(Roomy());
  cluster_->repair_bytes_per_second = 16 << 20;
  cluster_->StartAll({"a", "b"}, 64 << 20);
  for (std::uint32_t i = 0; i < 48; ++i) {
    ASSERT_EQ(Put("a", i, 1 << 20, BlockClass::kState), Code::kOk);
  }
  cluster_->Kill("b");
  cluster_->Start("b", 64 << 20);
  cluster_->IntroduceAll();
  const TimeNs start = cluster_->now();
  cluster_->RunFor(10 * kSecondNs, [&] { return Exports("b").blocks() == 48; });
  EXPECT_EQ(Exports("b").blocks(), 48u);
  // 48 MiB at 16 MiB/s after a second's settling, but for what lay by.
  EXPECT_GE(cluster_->now() - start, 3 * kSecondNs);
  EXPECT_LE(cluster_->now() - start, 5 * kSecondNs);
  cluster_->RunFor(kSecondNs);
}

TEST_F(PoolNodeTest, RepairThatFoundNoRoomComesAgain) {
  Make({"a", "b"}, 8 << 20);
  for (std::uint32_t i = 0; i < 6; ++i) {
    ASSERT_EQ(Put("a", i, 1 << 20, BlockClass::kState), Code::kOk);
  }
  cluster_->Kill("b");
  cluster_->Start("b", 4 << 20);  // too little for all of it
  cluster_->IntroduceAll();
  cluster_->RunFor(4 * kSecondNs);
  EXPECT_EQ(Exports("b").blocks(), 4u);
  EXPECT_FALSE(Node("a").whole());
  for (std::uint32_t i = 0; i < 6; ++i) {
    if (Holds("b", i) && Exports("b").blocks() > 2) Drop("a", i);
  }
  cluster_->RunFor(kRepairAgainNsMax);
  EXPECT_EQ(Exports("b").blocks(), Exports("a").blocks());
  EXPECT_TRUE(Node("a").whole());
}

TEST_F(PoolNodeTest, ADropThatRacesWithRepairIsNotUndone) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    SimOptions options = Roomy();
    options.seed = seed;
    Make({"a", "b", "c", "d"}, 8 << 20, options);
    for (std::uint32_t i = 0; i < 60; ++i) {
      ASSERT_EQ(Put("a", i, 4096, BlockClass::kState), Code::kOk);
    }
    cluster_->Kill("b");
    // Repair begins a second later; it takes milliseconds.
    cluster_->RunFor(kRepairSettleNs);
    for (std::uint32_t i = 0; i < 60; ++i) {
      PoolOp op = OpOf(PoolOp::Kind::kDrop, i, 0);
      ASSERT_TRUE(Node("c").Submit(op));
      cluster_->RunFor(20 * kMicrosecondNs);
    }
    cluster_->RunFor(5 * kSecondNs);
    ASSERT_EQ(cluster_->at("c").done.size(), 60u);
    for (std::uint32_t i = 0; i < 60; ++i) {
      ASSERT_EQ(CopiesOf(i), 0u) << "block " << i << " seed " << seed;
    }
    if (HasFailure()) return;
  }
}

TEST_F(PoolNodeTest, ABlockFromANodeThatSeesOtherNodesGoesWhereItBelongs) {
  Make({"a", "b", "c", "d"});
  cluster_->RunFor(5 * kSecondNs);
  cluster_->network().Cut("a", "d");
  cluster_->RunFor(2 * kSecondNs);
  ASSERT_EQ(Node("a").places(), 3u);
  ASSERT_EQ(Node("b").places(), 4u);
  for (std::uint32_t i = 0; i < 60; ++i) {
    ASSERT_EQ(Put("a", i, 4096, BlockClass::kState), Code::kOk);
    EXPECT_FALSE(Holds("d", i));
  }
  cluster_->network().HealAll();
  cluster_->RunFor(8 * kSecondNs);
  std::size_t there = 0;
  for (std::uint32_t i = 0; i < 60; ++i) {
    ASSERT_EQ(CopiesOf(i), 2u);
    there += Holds("d", i);
  }
  EXPECT_GT(there, 15u);
}

}  // namespace
}  // namespace agentmem
