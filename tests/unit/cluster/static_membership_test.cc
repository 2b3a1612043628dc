#include "memd/cluster/static_membership.h"

#include <gtest/gtest.h>

#include "base/status.h"
#include "memd/cluster/member_record.h"
#include "tests/unit/cluster/member_log.h"

namespace agentmem {
namespace {

constexpr auto kRefused = absl::StatusCode::kInvalidArgument;

MemberInfo Node(const std::string& name, const std::string& address) {
  return {name, address, 0, "", 0};
}

TEST(StaticMembershipTest, TheListIsToldOnceByNameWithThisNodesOwnWords) {
  StaticMembership membership({Node("c", "h:3"), Node("a", "h:1")});
  MemberLog log;
  MemberInfo self = Node("a", "h:9");
  self.instance = 7;
  ASSERT_TRUE(membership.Start(self, log.callback()).ok());
  ASSERT_EQ(log.lists().size(), 1u);
  const MemberList list = log.last();
  EXPECT_EQ(NamesOf(list), "a c");
  EXPECT_EQ(list.epoch, ClusterEpoch());
  EXPECT_TRUE(list.reachable);
  EXPECT_EQ(list.members[0].peer_address, "h:9");
  EXPECT_EQ(list.members[0].instance, 7u);
  EXPECT_EQ(membership.Start(self, log.callback()).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(StaticMembershipTest, ANodeThatTheListDoesNotNameIsInItToo) {
  StaticMembership membership({Node("b", "h:2")});
  MemberLog log;
  ASSERT_TRUE(membership.Start(Node("a", "h:1"), log.callback()).ok());
  EXPECT_EQ(NamesOf(log.last()), "a b");
}

TEST(StaticMembershipTest, ListsThatCannotBeAreRefused) {
  MemberLog log;
  const MemberInfo self = Node("a", "h:1");
  const std::vector<std::vector<MemberInfo>> wrong = {
      {Node("b", "h:2"), Node("b", "h:3")},  // one name
      {Node("b", "h:2"), Node("c", "h:2")},  // one address
      {Node("b", "h:1")},                    // this node's address
      {Node("", "h:2")},
      {Node("b/c", "h:2")},
      {Node("b", "")}};
  for (const auto& list : wrong) {
    const absl::Status status =
        StaticMembership(list).Start(self, log.callback());
    EXPECT_EQ(status.code(), kRefused) << status.ToString();
  }
  EXPECT_TRUE(log.lists().empty());
}

TEST(MemberRecordTest, WhatWasWrittenIsReadAndNothingElse) {
  const MemberInfo node = {"a", "host:7", 0x1122334455667788u, "r", 1ull << 40};
  const std::string record = EncodeMember(node);
  const auto read = DecodeMember("a", record);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->instance, node.instance);
  EXPECT_EQ(read->weight, node.weight);
  EXPECT_EQ(read->peer_address, node.peer_address);
  EXPECT_EQ(read->rack, node.rack);
  for (std::size_t length = 0; length < record.size(); ++length) {
    EXPECT_FALSE(DecodeMember("a", record.substr(0, length)).ok()) << length;
  }
  EXPECT_FALSE(DecodeMember("a", record + "x").ok());
  std::string newer = record;
  newer[4] = 2;
  const std::string message = StatusMessage(DecodeMember("a", newer).status());
  EXPECT_NE(message.find("format 2"), std::string::npos) << message;
  EXPECT_NE(message.find("format 1"), std::string::npos) << message;
}

}  // namespace
}  // namespace agentmem
