// Collection on several nodes over one store of refs: what one of them does at
// any point of another's round takes no block from a version, nor out of a
// hand; and what nobody needs is gone from everywhere in the end.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "base/status.h"
#include "tests/unit/memd/agents/cluster_world.h"

namespace agentmem {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr Retention kNewest = {RetentionKind::kLast, 1};

class CollectorSharedSeeds : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(CollectorSharedSeeds, NothingThatIsNeededGoesAndAllElseDoes) {
  ClusterWorld world(GetParam(), 2 + GetParam() % 2);
  world.refs.before_commit = [&world] { world.ActElsewhere(); };
  for (int round = 0; round < 60; ++round) {
    for (int i = 0; i < 25; ++i) world.Act();
    if (HasFailure()) return;
    WorldNode& node = world.node(world.Roll(2));
    if (!node.up || node.away) continue;
    world.between = [&world] {
      if (world.Roll(4) != 0) return;
      for (std::uint32_t acts = 1 + world.Roll(12); acts > 0; --acts) {
        world.Act();
      }
    };
    if (world.Roll(3) == 0) node.book->NoteGarbageLent();
    world.Collect(&node, world.Roll(3) == 0);
    world.between = nullptr;
    // The others look now and then.
    for (const auto& other : world.nodes) {
      if (other->up && !other->away) world.Collect(other.get());
    }
    world.CheckAll();
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
  EXPECT_GT(world.dropped, 100u);
  // In peace, all that is left is needed.
  world.refs.before_commit = nullptr;
  world.refs.Deliver();
  for (const auto& node : world.nodes) {
    node->deaf = false;
    if (!node->up) world.Start(node.get());
    if (node->away) world.Return(node.get());
  }
  for (const auto& node : world.nodes) {
    node->readers.clear();
    while (!node->writers.empty()) {
      world.Close(node.get(), node->writers.begin()->first);
    }
  }
  world.CollectAll();
  const std::set<Key> needed = world.CheckAll();
  world.CheckNothingElse(needed);
  // An agent that is gone is remembered for those that were forked from it; and
  // a node's use of one for what is on its disk.
  std::set<std::uint64_t> of_blocks;
  for (const Key& key : needed) of_blocks.insert(LineageOf(key));
  const auto view = world.node(0).book->View();
  ASSERT_TRUE(view.ok());
  for (const KnownAgent& agent : view->agents) {
    if (!agent.name.empty()) continue;
    bool origin = of_blocks.contains(agent.lineage);
    for (const KnownAgent& other : view->agents) {
      origin |= other.origin == agent.lineage;
    }
    EXPECT_TRUE(origin) << agent.lineage << " is not forgotten";
  }
  for (const AgentsView::Use& use : view->uses) {
    EXPECT_EQ(use.use.state, UseState::kLeft) << use.node;
    EXPECT_TRUE(of_blocks.contains(use.lineage)) << use.node;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, CollectorSharedSeeds,
                         ::testing::Range<std::uint32_t>(1, 61));

class CollectorSharedTest : public ::testing::Test {
 protected:
  CollectorSharedTest()
      : world_(7, 2), a_(&world_.node(0)), b_(&world_.node(1)) {}

  void Commits(WorldNode* node, const std::string& name, int count) {
    for (int i = 0; i < count; ++i) ASSERT_TRUE(world_.Commit(node, name)) << i;
  }
  // `name` has one version, and more that were given up, all of A's making.
  void MakeWithGarbage(const std::string& name, int versions = 6) {
    ASSERT_TRUE(world_.Open(a_, name));
    Commits(a_, name, versions);
    world_.Close(a_, name);
  }
  std::set<Key> BlocksOf(const VersionLink& link) {
    std::set<Key> keys = {link.key};
    for (const auto& [page, key] : world_.content.at(link.key)) {
      keys.insert(key);
    }
    return keys;
  }
  void ExpectGone(const VersionLink& link) {
    EXPECT_FALSE(world_.IsAnywhere(link.key)) << link.number;
  }

  ClusterWorld world_;
  WorldNode* const a_;
  WorldNode* const b_;
};

// The four ways in which one node's collector took what another one needed.

TEST_F(CollectorSharedTest, AForkOnAnotherNodeBetweenListingAndDropIsSeen) {
  for (const bool late : {false, true}) {
    const std::string x = late ? "x" : "y";
    MakeWithGarbage(x);
    // Given up as soon as the fork is there.
    const auto fork_and_trim = [&] {
      ASSERT_TRUE(world_.Fork(b_, x, x + "-child"));
      ASSERT_TRUE(world_.Open(b_, x));
      ASSERT_TRUE(world_.Retain(b_, x, kNewest));
      Commits(b_, x, 3);
      world_.Close(b_, x);
    };
    (late ? world_.at_drop : world_.at_list) = fork_and_trim;
    // So that there is something to drop.
    ASSERT_TRUE(world_.Retain(a_, x, {RetentionKind::kLast, 3}));
    ASSERT_TRUE(world_.Open(a_, x));
    Commits(a_, x, 1);
    world_.Close(a_, x);
    world_.Collect(a_, true);
    EXPECT_FALSE(world_.at_drop || world_.at_list) << "it came to that";
    EXPECT_GT(world_.dropped, 0u);
    world_.CheckAll();
  }
}

TEST_F(CollectorSharedTest, AForkOfAVersionThatIsGivenUpMeanwhileIsRefused) {
  MakeWithGarbage("x");
  // Between its look at the version and the fork, the version goes.
  world_.between = [this] {
    world_.once = true;
    ASSERT_TRUE(world_.Open(a_, "x"));
    ASSERT_TRUE(world_.Retain(a_, "x", kNewest));
    Commits(a_, "x", 3);
    world_.Close(a_, "x");
  };
  EXPECT_FALSE(world_.Fork(b_, "x", "child", true));
  EXPECT_EQ(world_.Record("child").lineage, 0u);
  world_.CollectAll();
  world_.CheckNothingElse(world_.CheckAll());
}

// Between its look at the origin and its change, the origin gives up what it
// is to begin with, and that is collected.
TEST_F(CollectorSharedTest, AForkThatIsOvertakenByATrimBeginsWithTheNewest) {
  MakeWithGarbage("x", 1);
  const VersionLink old = world_.Head("x");
  bool done = false;
  world_.refs.before_commit = [&] {
    if (std::exchange(done, true)) return;
    ASSERT_TRUE(world_.Open(a_, "x"));
    ASSERT_TRUE(world_.Retain(a_, "x", kNewest));
    Commits(a_, "x", 2);
    world_.Close(a_, "x");
    world_.Collect(a_, true);
    ExpectGone(old);
  };
  ASSERT_TRUE(world_.Fork(b_, "x", "child"));
  EXPECT_EQ(world_.Head("child"), world_.Head("x"));
  world_.CheckAll();
  // And one that was deleted, and made anew, is not the one that was forked.
  done = false;
  world_.refs.before_commit = [&] {
    if (std::exchange(done, true)) return;
    ASSERT_TRUE(world_.Delete(a_, "x"));
    ASSERT_TRUE(world_.Open(a_, "x"));
    Commits(a_, "x", 1);
    world_.Close(a_, "x");
  };
  ASSERT_TRUE(world_.Fork(b_, "x", "other"));
  EXPECT_EQ(world_.Record("other").origin->lineage, world_.Record("x").lineage);
  world_.CheckAll();
}

// Of the same name, and as often changed: it is another one all the same.
TEST_F(CollectorSharedTest, AForkOfANameThatIsMadeAgainMeanwhileIsOfTheNewOne) {
  MakeWithGarbage("x", 1);
  MakeWithGarbage("y", 1);
  ASSERT_TRUE(world_.Fork(a_, "x", "child"));
  const std::uint64_t old = world_.Record("child").lineage;
  bool done = false;
  world_.refs.before_commit = [&] {
    if (std::exchange(done, true)) return;
    ASSERT_TRUE(world_.Delete(a_, "child"));
    ASSERT_TRUE(world_.Fork(a_, "y", "child"));
  };
  ASSERT_TRUE(world_.Fork(b_, "child", "grandchild"));
  ASSERT_NE(world_.Record("child").lineage, old);
  EXPECT_EQ(world_.Record("grandchild").origin->lineage,
            world_.Record("child").lineage);
  world_.CheckAll();
}

// A use that is made from a record which is not the newest any more would keep
// what has gone, and not what has come.
TEST_F(CollectorSharedTest, AnOpeningThatIsOvertakenByATrimReadsTheNewest) {
  MakeWithGarbage("x", 1);
  const VersionLink old = world_.Head("x");
  bool done = false;
  world_.refs.before_commit = [&] {
    if (std::exchange(done, true)) return;
    ASSERT_TRUE(world_.Open(a_, "x"));
    ASSERT_TRUE(world_.Retain(a_, "x", kNewest));
    Commits(a_, "x", 2);
    world_.Close(a_, "x");
    world_.Collect(a_, true);
    ExpectGone(old);
  };
  ASSERT_TRUE(world_.Read(b_, "x"));
  EXPECT_EQ(b_->readers[0].link, world_.Head("x"));
  world_.CheckAll();
}

TEST_F(CollectorSharedTest, ACommitOnANodeThatTookOverIsKept) {
  ASSERT_TRUE(world_.Open(a_, "x"));
  ASSERT_TRUE(world_.Retain(a_, "x", kNewest));
  Commits(a_, "x", 4);
  world_.at_list = [this] {
    ASSERT_TRUE(world_.Open(b_, "x", /*take_over=*/true));
    Commits(b_, "x", 2);
    ASSERT_TRUE(world_.BeginCommit(b_, "x"));
  };
  world_.Collect(a_, true);
  EXPECT_GT(world_.dropped, 0u);
  world_.CheckAll();
  world_.Collect(a_, true);
  world_.CheckAll();
  ASSERT_TRUE(world_.FinishCommit(b_, "x"));
  world_.CheckAll();
}

// What it puts into A's memory is in its hand until a record leads there.
TEST_F(CollectorSharedTest, WhatAnotherNodeHasInItsHandStays) {
  ASSERT_TRUE(world_.Open(b_, "x"));
  Commits(b_, "x", 2);
  ASSERT_TRUE(world_.BeginCommit(b_, "x"));
  ASSERT_TRUE(world_.Commit(b_, "x") || world_.FinishCommit(b_, "x"));
  ASSERT_TRUE(world_.BeginCommit(b_, "x", /*durable=*/false));
  ASSERT_TRUE(world_.FinishCommit(b_, "x"));
  ASSERT_TRUE(world_.BeginCommit(b_, "x"));
  world_.Collect(a_, true);
  world_.CheckAll();
  EXPECT_EQ(world_.dropped, 0u);
  // Given up, it goes; also what lies with others.
  world_.GiveUp(b_, "x");
  world_.Close(b_, "x");
  world_.CollectAll();
  EXPECT_GT(world_.dropped, 0u);
  world_.CheckNothingElse(world_.CheckAll());
}

TEST_F(CollectorSharedTest, WhatAnotherNodeGivesUpLeavesThisNodesDisk) {
  MakeWithGarbage("x");
  const VersionLink first = world_.Head("x");
  while (world_.Collect(a_).families != 0) {
  }
  ASSERT_TRUE(world_.Open(b_, "x"));
  ASSERT_TRUE(world_.Retain(b_, "x", kNewest));
  Commits(b_, "x", 2);
  world_.Collect(b_, true);
  EXPECT_TRUE(a_->blocks.disk.contains(first.key));
  // A was not told: it sees that less is kept.
  world_.Collect(a_);
  ExpectGone(first);
  world_.CheckAll();
  const std::uint64_t dropped = world_.dropped;
  EXPECT_EQ(world_.Collect(a_).families, 0u) << "nothing is new";
  EXPECT_EQ(world_.dropped, dropped);
}

TEST_F(CollectorSharedTest, ATrimOnAnotherNodeDuringARoundTakesNothingAway) {
  MakeWithGarbage("x");
  ASSERT_TRUE(world_.Fork(a_, "x", "child"));
  for (const auto point : {&ClusterWorld::at_list, &ClusterWorld::at_drop}) {
    ASSERT_TRUE(world_.Retain(a_, "x", {RetentionKind::kLast, 2}));
    ASSERT_TRUE(world_.Open(a_, "x"));
    Commits(a_, "x", 2);
    world_.Close(a_, "x");
    world_.*point = [this] {
      ASSERT_TRUE(world_.Read(b_, "x"));
      ASSERT_TRUE(world_.Open(b_, "x"));
      ASSERT_TRUE(world_.Retain(b_, "x", kNewest));
      Commits(b_, "x", 1);
      world_.Close(b_, "x");
    };
    world_.Collect(a_, true);
    world_.CheckAll();
    world_.Collect(b_, true);
    world_.CheckAll();
  }
  b_->readers.clear();
  world_.CollectAll();
  world_.CheckNothingElse(world_.CheckAll());
}

TEST_F(CollectorSharedTest, AnAgentThatIsDeletedAndMadeAgainElsewhereIsWhole) {
  for (const auto point : {&ClusterWorld::at_list, &ClusterWorld::at_drop}) {
    ASSERT_TRUE(world_.Open(a_, "x"));
    ASSERT_TRUE(world_.Retain(a_, "x", kNewest));
    Commits(a_, "x", 3);
    world_.Close(a_, "x");
    const VersionLink old = world_.Head("x");
    world_.*point = [this] {
      ASSERT_TRUE(world_.Delete(b_, "x"));
      ASSERT_TRUE(world_.Open(b_, "x"));
      Commits(b_, "x", 3);
      world_.Close(b_, "x");
    };
    world_.Collect(a_, true);
    world_.CheckAll();
    world_.CollectAll();
    ExpectGone(old);
    const std::set<Key> needed = world_.CheckAll();
    EXPECT_FALSE(needed.empty());
    world_.CheckNothingElse(needed);
    EXPECT_EQ(world_.refs.List("gone/").value().size(), 0u);
    ASSERT_TRUE(world_.Delete(a_, "x"));
  }
}

// A dead node: what it had in its hand is garbage when it is back, or has been
// away for long; what its records lead to is not.
TEST_F(CollectorSharedTest, ANodeThatDiesAndComesBackLosesOnlyItsHand) {
  ASSERT_TRUE(world_.Open(b_, "x"));
  Commits(b_, "x", 3);
  ASSERT_TRUE(world_.BeginCommit(b_, "x"));
  const Key in_hand = b_->in_flight.at("x").link.key;
  world_.Kill(b_);
  world_.Collect(a_, true);
  EXPECT_TRUE(a_->blocks.lent.contains(in_hand)) << "it may come back";
  world_.Start(b_);
  world_.Collect(b_, true);
  EXPECT_FALSE(world_.IsAnywhere(in_hand));
  world_.CollectAll();
  world_.CheckNothingElse(world_.CheckAll());
  ASSERT_TRUE(world_.Open(b_, "x"));
  Commits(b_, "x", 1);
  world_.CheckAll();
}

TEST_F(CollectorSharedTest, WhoIsAwayForLongIsToldThatItLostWhatItUsed) {
  ASSERT_TRUE(world_.Open(b_, "x"));
  Commits(b_, "x", 3);
  ASSERT_TRUE(world_.BeginCommit(b_, "x", /*durable=*/false));
  ASSERT_TRUE(world_.FinishCommit(b_, "x"));
  ASSERT_TRUE(world_.BeginCommit(b_, "x"));
  const Key in_hand = b_->in_flight.at("x").link.key;
  world_.Leave(b_);
  world_.Collect(a_, true);
  world_.now_ns += 30 * kSecond;
  world_.Collect(a_, true);
  EXPECT_TRUE(a_->blocks.lent.contains(in_hand)) << "not yet";
  world_.now_ns += 31 * kSecond;
  // (Some of x is on B's disk alone: A cannot walk it.)
  world_.Collect(a_, true);
  world_.Collect(a_, true);
  EXPECT_FALSE(a_->blocks.lent.contains(in_hand));
  b_->away = false;
  EXPECT_FALSE(world_.FinishCommit(b_, "x")) << "its blocks are gone";
  const WorldWriter writer = b_->writers.at("x");
  EXPECT_EQ(b_->book->CheckWriter(writer.state.get(), writer.token).code(),
            absl::StatusCode::kAborted);
  b_->writers.clear();
  world_.CheckAll();
  ASSERT_TRUE(world_.Open(b_, "x"));
  EXPECT_EQ(world_.Head("x").number, 3u) << "what was visible only is lost";
  Commits(b_, "x", 1);
  world_.CollectAll();
  world_.CheckAll();
}

// A change on its way in etcd, of which nobody knows any more.
TEST_F(CollectorSharedTest, ACommitWhoseAnswerWasLostIsMadeOrNotButNotHalf) {
  for (const bool killed : {false, true}) {
    SCOPED_TRACE(killed);
    ASSERT_TRUE(world_.Open(b_, "x"));
    Commits(b_, "x", 2);
    const std::uint64_t before = world_.Head("x").number;
    ASSERT_TRUE(world_.BeginCommit(b_, "x"));
    const Key key = b_->in_flight.at("x").link.key;
    world_.refs.delayed = "agent/";
    ASSERT_FALSE(world_.FinishCommit(b_, "x"));
    // While it may come, its blocks stay.
    world_.Collect(a_, true);
    EXPECT_TRUE(a_->blocks.lent.contains(key));
    if (killed) {
      world_.Kill(b_);
      world_.Start(b_);
    } else {
      b_->writers.clear();  // the session's end; nothing is settled
    }
    world_.CollectAll();
    EXPECT_FALSE(world_.IsAnywhere(key)) << "nobody has it";
    EXPECT_FALSE(world_.refs.Deliver()) << "and it cannot come any more";
    EXPECT_EQ(world_.Head("x").number, before);
    world_.CheckAll();
    ASSERT_TRUE(world_.Open(b_, "x"));
    Commits(b_, "x", 1);
    world_.Close(b_, "x");
  }
}

TEST_F(CollectorSharedTest, ACommitWhoseAnswerWasLostAndWhichIsMadeIsKept) {
  ASSERT_TRUE(world_.Open(b_, "x"));
  Commits(b_, "x", 2);
  ASSERT_TRUE(world_.BeginCommit(b_, "x"));
  world_.refs.delayed = "agent/";
  ASSERT_FALSE(world_.FinishCommit(b_, "x"));
  b_->writers.clear();
  // Its own round, too: as long as it is not sure, it takes nothing.
  Collector collector(
      b_->book.get(), &b_->blocks, [] { return true; }, &b_->memory);
  b_->book->NoteGarbageEverywhere();
  ASSERT_TRUE(collector.Run(world_.now_ns).ok());
  ASSERT_TRUE(world_.refs.Deliver());
  EXPECT_EQ(world_.Head("x").number, 3u);
  world_.CheckAll();
  world_.CollectAll();
  world_.CheckNothingElse(world_.CheckAll());
}

TEST_F(CollectorSharedTest, AVersionThatIsOpenElsewhereStaysUntilItIsClosed) {
  MakeWithGarbage("x", 1);
  const VersionLink first = world_.Head("x");
  ASSERT_TRUE(world_.Read(b_, "x"));
  ASSERT_EQ(b_->readers[0].link, first);
  ASSERT_TRUE(world_.Open(a_, "x"));
  ASSERT_TRUE(world_.Retain(a_, "x", kNewest));
  Commits(a_, "x", 5);
  const VersionLink middle = world_.Head("x");
  Commits(a_, "x", 1);
  world_.Collect(a_, true);
  world_.CheckAll();
  // What is not open goes when B has told which it has.
  world_.now_ns += 10 * kSecond;
  world_.Collect(b_, true);
  world_.Collect(a_, true);
  ExpectGone(middle);
  EXPECT_TRUE(world_.IsAnywhere(first.key));
  world_.CheckAll();
  // Also when the agent is gone.
  ASSERT_TRUE(world_.Delete(a_, "x"));
  world_.Collect(a_, true);
  world_.CheckAll();
  world_.now_ns += 10 * kSecond;
  world_.Collect(b_, true);
  world_.Collect(a_, true);
  world_.CheckAll();
  EXPECT_TRUE(world_.IsAnywhere(first.key));
  b_->readers.clear();
  world_.CollectAll();
  EXPECT_EQ(world_.BlocksEverywhere(), 0u);
  EXPECT_TRUE(world_.refs.List("gone/").value().empty());
  EXPECT_TRUE(world_.refs.List("use/").value().empty());
}

TEST_F(CollectorSharedTest, ADropThatANodeDidNotHearIsMadeUpFor) {
  MakeWithGarbage("x");
  const VersionLink old = world_.Head("x");
  world_.Collect(b_, true);
  b_->deaf = true;
  ASSERT_TRUE(world_.Delete(a_, "x"));
  for (int i = 0; i < 3; ++i) world_.Collect(a_);
  EXPECT_FALSE(a_->blocks.disk.contains(old.key));
  EXPECT_EQ(world_.refs.List("gone/").value().size(), 1u) << "so that B learns";
  world_.now_ns += 61 * kSecond;
  world_.Collect(a_);
  EXPECT_TRUE(world_.refs.List("gone/").value().empty());
  // It was seen here once, and is forgotten by all: it is nobody's.
  ASSERT_TRUE(b_->blocks.lent.contains(old.key));
  world_.Collect(b_, true);
  EXPECT_EQ(world_.BlocksEverywhere(), 0u);
  world_.Collect(b_, true);
  EXPECT_TRUE(b_->memory.known.empty());
}

TEST_F(CollectorSharedTest, ATrimThatANodeDidNotHearOfIsMadeUpFor) {
  MakeWithGarbage("x");
  const VersionLink old = world_.Head("x");
  b_->deaf = true;
  ASSERT_TRUE(world_.Open(a_, "x"));
  ASSERT_TRUE(world_.Retain(a_, "x", kNewest));
  Commits(a_, "x", 1);
  world_.Collect(a_);
  ASSERT_TRUE(b_->blocks.lent.contains(old.key));
  world_.Collect(b_, true);
  ExpectGone(old);
  world_.CheckAll();
}

TEST_F(CollectorSharedTest, LentMemoryThatIsFullIsLookedAtWhereLessIsKept) {
  MakeWithGarbage("x");
  MakeWithGarbage("y");
  const VersionLink old = world_.Head("x");
  world_.Collect(a_);  // its uses end
  world_.Collect(a_);
  world_.Collect(b_, true);
  b_->deaf = true;
  ASSERT_TRUE(world_.Open(a_, "x"));
  ASSERT_TRUE(world_.Retain(a_, "x", kNewest));
  Commits(a_, "x", 1);
  world_.Close(a_, "x");
  world_.Collect(a_);
  // A round that is not about lent memory sees that less is kept, and takes
  // nothing there: the next one that is must not think that all was seen.
  world_.Collect(b_);
  ASSERT_TRUE(b_->blocks.lent.contains(old.key));
  b_->book->NoteGarbageLent();
  EXPECT_TRUE(b_->book->HasGarbage());
  EXPECT_EQ(world_.Collect(b_).families, 1u) << "of y nothing has changed";
  ExpectGone(old);
  EXPECT_FALSE(b_->book->HasGarbage());
  world_.CheckAll();
  b_->book->NoteGarbageLent();
  EXPECT_EQ(world_.Collect(b_).families, 0u);
}

TEST_F(CollectorSharedTest, ADeletedAgentIsNotForgottenWhileADiskHasItsBlocks) {
  MakeWithGarbage("x");
  const VersionLink old = world_.Head("x");
  world_.Tend(a_);
  ASSERT_TRUE(world_.Open(b_, "x"));
  Commits(b_, "x", 1);
  world_.Close(b_, "x");
  world_.Kill(a_);
  ASSERT_TRUE(world_.Delete(b_, "x"));
  for (int i = 0; i < 4; ++i) {
    world_.now_ns += 61 * kSecond;
    world_.Collect(b_, true);
  }
  EXPECT_EQ(world_.refs.List("gone/").value().size(), 1u);
  EXPECT_TRUE(a_->blocks.disk.contains(old.key));
  world_.Start(a_);
  for (int i = 0; i < 4; ++i) world_.Collect(a_, true);
  world_.CollectAll();
  EXPECT_EQ(world_.BlocksEverywhere(), 0u);
  EXPECT_TRUE(world_.refs.List("gone/").value().empty());
}

TEST(LineageUseTest, AUseOfAnotherVersionIsRefusedAndBothAreNamed) {
  LineageUse use;
  use.state = UseState::kOpen;
  use.instance = 0xfedcba9876543210;
  use.AddFence(3);
  use.AddFence(5);
  use.regions = {{1, 7}, {2, 0}};
  use.versions = {{9, MakeRegionKey(1, 2, 3), 4096}};
  std::string value = EncodeLineageUse(use);
  EXPECT_EQ(*DecodeLineageUse("r", value), use);
  for (std::size_t n = 0; n < value.size(); ++n) {
    EXPECT_FALSE(DecodeLineageUse("r", value.substr(0, n)).ok()) << n;
  }
  EXPECT_FALSE(DecodeLineageUse("r", value + "x").ok());
  value[4] = 9;
  const auto refused = DecodeLineageUse("r", value);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(StatusMessage(refused.status()).find("version 9"),
            std::string::npos);
  EXPECT_NE(StatusMessage(refused.status()).find("knows 1"), std::string::npos);
}

TEST(LineageUseTest, ItCoversTheFencesFromTheFirstToTheLastAndNoOther) {
  LineageUse use;
  use.state = UseState::kOpen;
  EXPECT_FALSE(use.CoversFence(0));
  use.AddFence(3);
  use.AddFence(5);
  EXPECT_FALSE(use.CoversFence(2));
  for (const std::uint64_t fence : {3, 4, 5}) {
    EXPECT_TRUE(use.CoversFence(fence));
  }
  EXPECT_FALSE(use.CoversFence(6));
  // Names have 24 bits of it.
  use.first_fence = kRegionFenceMax;
  use.last_fence = kRegionFenceMax + 2;
  EXPECT_TRUE(use.CoversFence(kRegionFenceMax));
  EXPECT_TRUE(use.CoversFence(1));
  EXPECT_FALSE(use.CoversFence(2));
  use.state = UseState::kLeft;
  EXPECT_FALSE(use.CoversFence(1));
}

}  // namespace
}  // namespace agentmem
