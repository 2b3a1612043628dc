#include "memd/service/member_changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace agentmem {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

MemberList List(const std::vector<std::string>& nodes) {
  MemberList list;
  for (const std::string& node : nodes) {
    list.members.push_back({node, node + ":7474", 1, "", 0});
  }
  return list;
}

class MemberChangesTest : public testing::Test {
 protected:
  // All lines, one after another.
  std::string Take(const MemberList& list) {
    std::string text;
    for (const MemberChanges::Line& line : changes_.Take(list, now_)) {
      text += line.text + "\n";
    }
    return text;
  }

  MemberChanges changes_{"n1"};
  TimeNs now_ = 100 * kSecondNs;
};

TEST_F(MemberChangesTest, TheFirstListIsNamedAndTheSameOneSaysNothing) {
  EXPECT_THAT(Take(List({"n1", "n2"})), HasSubstr("n1, n2"));
  EXPECT_EQ(Take(List({"n1", "n2"})), "");
  EXPECT_THAT(changes_.left(), IsEmpty());
}

TEST_F(MemberChangesTest, WhoLeavesIsRememberedUntilItIsBack) {
  Take(List({"n1", "n2"}));
  EXPECT_THAT(Take(List({"n1"})), HasSubstr("node n2 left the cluster"));
  ASSERT_EQ(changes_.left().size(), 1u);
  EXPECT_EQ(changes_.left()[0].node, "n2");
  EXPECT_EQ(changes_.left()[0].left_at, now_);
  EXPECT_THAT(Take(List({"n1", "n2"})),
              HasSubstr("node n2 joined the cluster, at n2:7474\n"));
  EXPECT_THAT(changes_.left(), IsEmpty());
}

TEST_F(MemberChangesTest, AnotherRunIsSaidThoughItsLeaseNeverEnded) {
  Take(List({"n1", "n2"}));
  MemberList again = List({"n1", "n2"});
  again.members[1].instance = 2;
  EXPECT_THAT(Take(again), HasSubstr("another run"));
}

TEST_F(MemberChangesTest, ThisNodesOwnLeaseIsNotItsBusiness) {
  Take(List({"n1", "n2"}));
  EXPECT_EQ(Take(List({"n2"})), "");
  EXPECT_THAT(changes_.left(), IsEmpty());
}

TEST_F(MemberChangesTest, TheLossAndTheReturnOfEtcdAreSaidOnce) {
  MemberList list = List({"n1"});
  Take(list);
  list.reachable = false;
  EXPECT_THAT(Take(list), HasSubstr("etcd does not answer"));
  EXPECT_EQ(Take(list), "");
  now_ += 7 * kSecondNs;
  list.reachable = true;
  EXPECT_THAT(Take(list), AllOf(HasSubstr("again"), HasSubstr("7 s")));
  EXPECT_EQ(Take(list), "");
}

TEST_F(MemberChangesTest, OnlySoManyAreRemembered) {
  std::vector<std::string> all = {"n1"};
  for (int i = 0; i < 20; ++i) all.push_back("x" + std::to_string(i));
  EXPECT_THAT(Take(List(all)), HasSubstr("and 5 more"));
  Take(List({"n1"}));
  EXPECT_EQ(changes_.left().size(), MemberChanges::kLeftMax);
}

}  // namespace
}  // namespace agentmem
