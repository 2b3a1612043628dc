// Blocks go into other nodes' memory and come back, whatever happened to those
// nodes meanwhile; on a network that is quiet but for what a test does to it.
#include "memd/pool/pool_node.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "memd/pool/pool_timing.h"
#include "tests/unit/pool/pool_node_fixture.h"

namespace agentmem {
namespace {

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
  for (std::uint32_t i = 0; i < 3; ++i) {
    ASSERT_EQ(Put("a", i, 1 << 20, BlockClass::kState), Code::kOk);
  }
  EXPECT_EQ(Put("a", 9, 1 << 20, BlockClass::kState), Code::kResourceExhausted);
  EXPECT_EQ(Put("b", 10, 1 << 20), Code::kOk) << "what is left is for cache";
  EXPECT_EQ(Put("b", 11, 2 << 20), Code::kResourceExhausted);
  for (std::uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(Get("b", i, 1 << 20), Code::kOk);
  }
}

TEST_F(PoolNodeTest, WhoLacksRoomAndWhoseMemoryIsFullBothKnow) {
  Make({"a", "b", "c"}, 4 << 20);
  const auto lacks = [this](const std::string& name) {
    const PoolNode::Shortage lack = Node(name).TakeShortage();
    return std::make_pair(lack.here, lack.elsewhere);
  };
  const auto neither = std::make_pair(false, false);
  ASSERT_EQ(Put("a", 0, 1 << 20, BlockClass::kState), Code::kOk);
  for (const char* name : {"a", "b", "c"}) EXPECT_EQ(lacks(name), neither);
  // b and c have the block; a has none of its places.
  std::uint32_t number = 0;
  while (Put("a", ++number, 1 << 20, BlockClass::kState) == Code::kOk) {
  }
  const bool here = lacks("a").first;
  const bool there = lacks("b").first || lacks("c").first;
  EXPECT_TRUE(here || there);
  // A peer that is nearly full says so, to all.
  for (; number < 200; ++number) {
    Put("a", number, 128 << 10, BlockClass::kState);
  }
  for (const char* name : {"a", "b", "c"}) lacks(name);
  cluster_->RunFor(2 * kPingNs);
  for (const char* name : {"a", "b", "c"}) {
    EXPECT_EQ(lacks(name), std::make_pair(false, true)) << name;
  }
  for (std::uint32_t dropped = 0; dropped < number; ++dropped) {
    Drop("b", dropped);
  }
  cluster_->RunFor(2 * kPingNs);
  for (const char* name : {"a", "b", "c"}) lacks(name);
  cluster_->RunFor(2 * kPingNs);
  for (const char* name : {"a", "b", "c"}) EXPECT_EQ(lacks(name), neither);
}

TEST_F(PoolNodeTest, AWriterKnowsThatAnotherNodeHadNoRoom) {
  Make({"a", "b"}, 4 << 20);
  for (std::uint32_t i = 0; i < 3; ++i) {
    ASSERT_EQ(Put("a", i, 1 << 20, BlockClass::kState), Code::kOk);
  }
  Node("a").TakeShortage();
  Node("b").TakeShortage();
  ASSERT_EQ(Put("a", 9, 1 << 20, BlockClass::kState), Code::kResourceExhausted);
  EXPECT_TRUE(Node("a").TakeShortage().elsewhere);
  EXPECT_TRUE(Node("b").TakeShortage().here);
  EXPECT_EQ(Node("b").Snapshot(cluster_->now()).export_refused, 1u);
  ASSERT_EQ(Put("a", 11, 2 << 20), Code::kResourceExhausted);
  EXPECT_FALSE(Node("b").TakeShortage().here) << "cache is worth no collection";
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
  EXPECT_EQ(most, kMovingBytesMax / (4 << 20));
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

TEST_F(PoolNodeTest, APutUnderWhichANodeFallsSilentIsMadeOnTheOthers) {
  Make({"a", "b", "c"});
  // Its requests have gone out, and no answer comes.
  for (std::uint32_t i = 0; i < 20; ++i) {
    PoolOp op = OpOf(PoolOp::Kind::kPut, i, 4096, BlockClass::kState);
    op.deadline = cluster_->now() + 2 * kSecondNs;
    FillBlock(cluster_->at("a").memory.get() + i * 4096, 4096, KeyOf(i), 77);
    op.bytes = cluster_->at("a").memory.get() + i * 4096;
    cluster_->Submit("a", op);
  }
  cluster_->network().CutOneWay("c", "a");
  cluster_->RunFor(2 * kSecondNs);
  ASSERT_EQ(cluster_->at("a").done.size(), 20u);
  for (const PoolCompletion& put : cluster_->at("a").done) {
    EXPECT_EQ(put.code, Code::kOk);
    EXPECT_EQ(put.copies, 2u);
  }
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

TEST_F(PoolNodeTest, StateIsNotMissingWhileANodeGoesAwayThatWasNotAskedYet) {
  Make({"a", "b", "c"});
  // c is asked first, b last.
  PoolOp get = OpOf(PoolOp::Kind::kGet, PutStateOn("a", "a", "c"), 4096,
                    BlockClass::kState);
  get.key.name[0] ^= 1;  // of that group
  std::vector<PoolCompletion>& done = cluster_->at("a").done;
  cluster_->network().Slow("c", 50);  // b is gone before c has answered
  cluster_->Submit("a", get);
  cluster_->RunFor(kSecondNs, [] { return true; });  // it has begun
  ASSERT_TRUE(done.empty());
  cluster_->Kill("b");
  ASSERT_TRUE(cluster_->RunFor(kSecondNs, [&] { return !done.empty(); }));
  EXPECT_EQ(done[0].code, Code::kUnavailable);
  done.clear();
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

}  // namespace
}  // namespace agentmem
