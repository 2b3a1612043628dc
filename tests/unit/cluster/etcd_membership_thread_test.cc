#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "memd/cluster/etcd_membership.h"
#include "tests/unit/cluster/etcd_process.h"
#include "tests/unit/cluster/member_log.h"

namespace agentmem {
namespace {

class EtcdMembershipThreadTest : public EtcdTest {
 protected:
  std::unique_ptr<EtcdMembership> Join(const std::string& name,
                                       std::uint64_t instance, MemberLog* log) {
    auto node = EtcdMembership::Make(client_.get(), {.cluster = "test"});
    const absl::Status status = (*node)->Start(
        {name, name + ":7000", instance, "", 1}, log->callback());
    EXPECT_TRUE(status.ok()) << status.ToString();
    return std::move(*node);
  }
};

// Expect: the one that stays sees every list whole, and at last itself alone;
// nodes that go in the middle of anything neither hang nor stay in the list.
TEST_F(EtcdMembershipThreadTest, NodesThatComeAndGoAtOnceAreAllCounted) {
  constexpr int kNodes = 3;
  constexpr int kRuns = 8;
  MemberLog log;
  const auto stays = Join("a", 1, &log);
  std::vector<std::thread> threads;
  for (int i = 0; i < kNodes; ++i) {
    threads.emplace_back([this, i] {
      for (int run = 1; run <= kRuns; ++run) {
        MemberLog mine;
        const auto node = Join("n" + std::to_string(i), 100 + run, &mine);
        // Some go before their first list.
        if (run % 2 == 0) {
          EXPECT_TRUE(mine.WaitFor([](const auto&) { return true; }));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(log.WaitForNames("a"));
  const auto lists = log.lists();
  for (std::size_t i = 1; i < lists.size(); ++i) {
    EXPECT_GE(lists[i].epoch, lists[i - 1].epoch);
    EXPECT_EQ(lists[i].members.at(0).node, "a");
  }
}

TEST_F(EtcdMembershipThreadTest, ANodeLeavesAnEtcdThatStandsStillInGoodTime) {
  MemberLog log;
  auto node = Join("a", 1, &log);
  ASSERT_TRUE(log.WaitForNames("a"));
  etcd_->Stop();
  const TimeNs start = MonotonicNowNs();
  node.reset();
  // The beat, the goodbye, and nothing else is waited for.
  EXPECT_LT(MonotonicNowNs() - start, 5 * kSecondNs);
  etcd_->Continue();
}

}  // namespace
}  // namespace agentmem
