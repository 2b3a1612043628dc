#include "memd/cluster/etcd_membership.h"

#include <gtest/gtest.h>

#include "base/status.h"
#include "memd/cluster/cluster_keys.h"
#include "tests/unit/cluster/etcd_process.h"
#include "tests/unit/cluster/member_log.h"

namespace agentmem {
namespace {

MemberInfo Node(const std::string& name, std::uint64_t instance) {
  return {name, name + ":7000", instance, "rack1", 64};
}

class EtcdMembershipTest : public EtcdTest {
 protected:
  std::unique_ptr<EtcdMembership> Make(EtcdMembershipOptions options = {}) {
    options.cluster = "test";
    return EtcdMembership::Make(client_.get(), options).value();
  }
  std::unique_ptr<EtcdMembership> Join(const std::string& name,
                                       std::uint64_t instance, MemberLog* log) {
    auto membership = Make();
    const absl::Status status =
        membership->Start(Node(name, instance), log->callback());
    EXPECT_TRUE(status.ok()) << status.ToString();
    return membership;
  }
  void RemoveKey(const std::string& key) {
    EtcdTxn txn;
    txn.then = {{EtcdOp::Kind::kDelete, key}};
    ASSERT_TRUE(client().Txn(txn, Patience()).ok());
  }
  void Compact() {
    const auto now = client().Range({"none"}, Patience());
    ASSERT_TRUE(client().Compact(now->revision, Patience()).ok());
  }
};

// Each list's epoch is above that of the one before, unless it is the same.
void ExpectGrowingEpochs(const std::vector<MemberList>& lists) {
  for (std::size_t i = 1; i < lists.size(); ++i) {
    EXPECT_GE(lists[i].epoch, lists[i - 1].epoch);
    if (lists[i].epoch == lists[i - 1].epoch) {
      EXPECT_EQ(NamesOf(lists[i]), NamesOf(lists[i - 1]));
    }
  }
}

TEST_F(EtcdMembershipTest, NodesComeAndGoAndAllSeeTheSameListsAndEpochs) {
  MemberLog log_a, log_b;
  const auto a = Join("a", 11, &log_a);
  ASSERT_TRUE(log_a.WaitForNames("a"));
  const MemberList alone = log_a.last();
  EXPECT_GT(alone.epoch, ClusterEpoch());
  auto b = Join("b", 22, &log_b);
  ASSERT_TRUE(log_a.WaitForNames("a b"));
  ASSERT_TRUE(log_b.WaitForNames("a b"));
  EXPECT_GT(log_a.last().epoch, alone.epoch);
  EXPECT_EQ(log_a.last().epoch, log_b.last().epoch);
  const MemberInfo seen = log_a.last().members[1];
  EXPECT_EQ(seen.peer_address, "b:7000");
  EXPECT_EQ(seen.instance, 22u);
  EXPECT_EQ(seen.rack, "rack1");
  EXPECT_EQ(seen.weight, 64u);
  const TimeNs left = MonotonicNowNs();
  b.reset();  // says goodbye: at once, no lease has to pass
  ASSERT_TRUE(log_a.WaitForNames("a"));
  EXPECT_LT(MonotonicNowNs() - left, kSecondNs * 9 / 10);
  ExpectGrowingEpochs(log_a.lists());
}

TEST_F(EtcdMembershipTest, ASecondLiveNodeOfTheSameNameIsRefusedAndBothNamed) {
  MemberLog log;
  const auto a = Join("a", 11, &log);
  MemberLog unused;
  const absl::Status status = Make()->Start(Node("a", 12), unused.callback());
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  const std::string message = StatusMessage(status);
  EXPECT_NE(message.find("\"a\""), std::string::npos) << message;
  EXPECT_NE(message.find("instance 11"), std::string::npos) << message;
  EXPECT_NE(message.find("instance 12"), std::string::npos) << message;
  EXPECT_TRUE(unused.lists().empty());
  EXPECT_EQ(log.last().members.at(0).instance, 11u);
}

TEST_F(EtcdMembershipTest, ANodeThatDiedWithoutAWordIsGoneWithItsLease) {
  MemberLog log;
  const auto a = Join("a", 11, &log);
  // "b" as a node that was killed leaves it: a key, and nobody who beats.
  const auto lease = client().GrantLease(1, Patience());
  ASSERT_TRUE(lease.ok());
  EtcdTxn txn;
  txn.then = {{EtcdOp::Kind::kPut, NodesPrefix("test") + "b",
               client()
                   .Range({NodesPrefix("test") + "a"}, Patience())
                   ->values.at(0)
                   .value,
               lease->id}};
  ASSERT_TRUE(client().Txn(txn, Patience()).ok());
  ASSERT_TRUE(log.WaitForNames("a b"));
  // Its next run, of another instance, waits for that and then comes in.
  MemberLog log_b;
  const auto b = Join("b", 23, &log_b);
  ASSERT_TRUE(log.WaitFor([](const auto& lists) {
    return NamesOf(lists.back()) == "a b" &&
           lists.back().members[1].instance == 23;
  }));
  bool gone = false;
  for (const MemberList& list : log.lists()) {
    gone |= list.epoch > ClusterEpoch() && NamesOf(list) == "a";
  }
  EXPECT_TRUE(gone);
}

TEST_F(EtcdMembershipTest, AKeyThatWasRemovedIsPutBack) {
  std::atomic<int> lost = 0, held = 0;
  WakeEvent told;
  EtcdMembershipOptions options;
  options.on_held = [&](bool now) {
    ++(now ? held : lost);
    told.Signal();
  };
  MemberLog log;
  const auto a = Make(options);
  ASSERT_TRUE(a->Start(Node("a", 11), log.callback()).ok());
  ASSERT_TRUE(log.WaitForNames("a"));
  const ClusterEpoch before = log.last().epoch;
  RemoveKey(NodesPrefix("test") + "a");
  ASSERT_TRUE(log.WaitFor([&](const auto& lists) {
    return NamesOf(lists.back()) == "a" && lists.back().epoch > before;
  }));
  const TimeNs deadline = Patience();
  while (held < 2 && told.Wait(deadline)) {
  }
  EXPECT_EQ(held, 2);
  EXPECT_EQ(lost, 1);
  ExpectGrowingEpochs(log.lists());
}

TEST_F(EtcdMembershipTest, WhileEtcdIsGoneTheLastListStaysAndThenAllHeals) {
  MemberLog log_a, log_b;
  const auto a = Join("a", 11, &log_a);
  auto b = Join("b", 22, &log_b);
  ASSERT_TRUE(log_a.WaitForNames("a b"));
  ASSERT_TRUE(log_b.WaitForNames("a b"));
  etcd_->Kill();
  ASSERT_TRUE(log_a.WaitForNames("a b", /*reachable=*/false));
  ASSERT_TRUE(log_b.WaitForNames("a b", false));
  etcd_->Start();
  ASSERT_TRUE(log_a.WaitForNames("a b", true));
  ASSERT_TRUE(log_b.WaitForNames("a b", true));
  b.reset();
  ASSERT_TRUE(log_a.WaitForNames("a"));
  for (const MemberList& list : log_a.lists()) {
    EXPECT_TRUE(NamesOf(list).starts_with("a")) << NamesOf(list);
  }
  ExpectGrowingEpochs(log_a.lists());
}

TEST_F(EtcdMembershipTest, NobodyIsMissedBecauseEtcdStoodStill) {
  std::atomic<int> lost = 0;
  WakeEvent told;
  EtcdMembershipOptions options;
  options.on_held = [&](bool now) {
    lost += now ? 0 : 1;
    told.Signal();
  };
  MemberLog log_a, log_b;
  const auto a = Make(options);
  ASSERT_TRUE(a->Start(Node("a", 11), log_a.callback()).ok());
  const auto b = Join("b", 22, &log_b);
  ASSERT_TRUE(log_a.WaitForNames("a b"));
  ASSERT_TRUE(log_b.WaitForNames("a b"));
  const std::size_t before = log_a.lists().size();
  etcd_->Stop();
  ASSERT_TRUE(log_a.WaitForNames("a b", false));
  // Until the lease has run out by the node's own clock: it says so itself.
  const TimeNs deadline = Patience();
  while (lost == 0 && told.Wait(deadline)) {
  }
  EXPECT_EQ(lost, 1);
  etcd_->Continue();
  ASSERT_TRUE(log_a.WaitForNames("a b", true));
  ASSERT_TRUE(log_b.WaitForNames("a b", true));
  // And a node that comes now is seen by both, in the same list.
  MemberLog log_c;
  const auto c = Join("c", 33, &log_c);
  ASSERT_TRUE(log_a.WaitForNames("a b c"));
  ASSERT_TRUE(log_b.WaitForNames("a b c"));
  const auto lists = log_a.lists();
  for (std::size_t i = before; i < lists.size(); ++i) {
    EXPECT_TRUE(NamesOf(lists[i]).starts_with("a b")) << NamesOf(lists[i]);
  }
  ExpectGrowingEpochs(lists);
}

TEST_F(EtcdMembershipTest, ANodeThatDiedWhileEtcdWasGoneIsMissedSoonAfter) {
  MemberLog log_a, log_b;
  const auto a = Join("a", 11, &log_a);
  auto b = Join("b", 22, &log_b);
  ASSERT_TRUE(log_a.WaitForNames("a b"));
  etcd_->Kill();
  b.reset();  // cannot say goodbye
  ASSERT_TRUE(log_a.WaitForNames("a b", false));
  etcd_->Start();
  ASSERT_TRUE(log_a.WaitForNames("a", true));
}

TEST_F(EtcdMembershipTest, ANodeThatStartsWithoutEtcdIsAloneUntilItComes) {
  etcd_->Kill();
  MemberLog log;
  const auto a = Join("a", 11, &log);
  ASSERT_TRUE(log.WaitForNames("a", false));
  EXPECT_EQ(log.last().epoch, ClusterEpoch());
  etcd_->Start();
  ASSERT_TRUE(log.WaitForNames("a", true));
  EXPECT_GT(log.last().epoch, ClusterEpoch());
}

TEST_F(EtcdMembershipTest, ChangesWhoseHistoryIsCompactedAreFoundAnyway) {
  MemberLog log_a, log_b, log_c;
  const auto a = Join("a", 11, &log_a);
  auto b = Join("b", 22, &log_b);
  ASSERT_TRUE(log_a.WaitForNames("a b"));
  const ClusterEpoch before = log_a.last().epoch;
  // The nodes last saw a revision that is no longer there when their streams
  // break.
  for (int i = 0; i < 5; ++i) {
    EtcdTxn txn;
    txn.then = {{EtcdOp::Kind::kPut, "other", std::to_string(i)}};
    ASSERT_TRUE(client().Txn(txn, Patience()).ok());
  }
  Compact();
  etcd_->Kill();
  etcd_->Start();
  b.reset();
  const auto c = Join("c", 33, &log_c);
  ASSERT_TRUE(log_a.WaitForNames("a c"));
  EXPECT_GT(log_a.last().epoch, before);
  ExpectGrowingEpochs(log_a.lists());
}

TEST_F(EtcdMembershipTest, WhenEtcdLostItsDataTheEpochGrowsOn) {
  MemberLog log;
  const auto a = Join("a", 11, &log);
  for (int i = 0; i < 20; ++i) RemoveKey("none");
  ASSERT_TRUE(log.WaitForNames("a"));
  MemberLog log_b;
  auto b = Join("b", 22, &log_b);
  ASSERT_TRUE(log.WaitForNames("a b"));
  b.reset();
  ASSERT_TRUE(log.WaitForNames("a"));
  const ClusterEpoch before = log.last().epoch;
  etcd_->Kill();
  etcd_->RemoveData();
  etcd_->Start();
  ASSERT_TRUE(log.WaitFor([&](const auto& lists) {
    return lists.back().reachable && lists.back().epoch > before;
  }));
  b = Join("b", 22, &log_b);
  ASSERT_TRUE(log.WaitForNames("a b"));
  ExpectGrowingEpochs(log.lists());
}

TEST_F(EtcdMembershipTest, OptionsOutOfRangeAreRefused) {
  constexpr auto kRefused = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(
      EtcdMembership::Make(client_.get(), {.cluster = "a/b"}).status().code(),
      kRefused);
  EXPECT_EQ(EtcdMembership::Make(client_.get(), {.cluster = "a", .lease_s = 0})
                .status()
                .code(),
            kRefused);
  MemberLog log;
  EXPECT_EQ(Make()->Start(Node("a/b", 1), log.callback()).code(), kRefused);
  EXPECT_EQ(Make()->Start(Node("a", 0), log.callback()).code(), kRefused);
}

}  // namespace
}  // namespace agentmem
