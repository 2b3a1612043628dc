// What a link does when libfabric does not take what is posted.
#include <rdma/fi_errno.h>

#include "tests/unit/transport/fabric_faults.h"
#include "tests/unit/transport/fabric_fixture.h"

namespace agentmem {
namespace {

class FabricRefusalsTest : public FabricTest {
 protected:
  void SetUp() override {
    a_ = AddNode();
    b_ = AddNode();
    link_ = ConnectAndUse(a_, *b_);
    a_->done.clear();
  }
  Transfer Make(std::uint64_t ticket) {
    return a_->Make(link_, b_->memory.remote, 0, 4096, 0, ticket);
  }
  void Refuse(FabricCall refused, ssize_t answer) {
    Faults().answer = [refused, answer](FabricCall call) -> ssize_t {
      return call == refused ? answer : 0;
    };
  }

  FabricFaultsScope scope_;
  FabricTestNode* a_ = nullptr;
  FabricTestNode* b_ = nullptr;
  LinkId link_;
};

TEST_F(FabricRefusalsTest, ALinkThatCannotPostIsLostAtOnce) {
  a_->deadline_in = kNoDeadline / 2;
  Refuse(FabricCall::kRead, -FI_EINVAL);
  ASSERT_TRUE(a_->transport->Read(Make(1)));
  EXPECT_FALSE(a_->transport->ReadyToWait()) << "it would sleep over it";
  a_->Poll();
  EXPECT_EQ(a_->done[1], Code::kUnavailable);
  EXPECT_EQ(a_->lost.count(link_), 1u);
}

TEST_F(FabricRefusalsTest, AMessageThatWasRefusedWaitsForTheWritesBeforeIt) {
  if (TestPlace().provider != "tcp") {
    GTEST_SKIP() << "its NIC answers for a peer that is not polled";
  }
  ASSERT_TRUE(a_->transport->Write(Make(1)));
  int refusals = 1;
  Faults().taken.clear();
  Faults().answer = [&](FabricCall call) -> ssize_t {
    return call == FabricCall::kSend && refusals-- > 0 ? -FI_EAGAIN : 0;
  };
  ASSERT_TRUE(a_->transport->Send(link_, std::string("m"), 2, a_->Deadline()));
  for (int i = 0; i < 300; ++i) a_->Poll();
  // It may be another connection by now, and the write may fail yet.
  EXPECT_EQ(Faults().taken[FabricCall::kSend], 0u);
  ASSERT_TRUE(Until([&] { return a_->done.size() == 2; }));
  EXPECT_EQ(a_->done[1], Code::kOk);
  EXPECT_EQ(a_->done[2], Code::kOk);
  ASSERT_TRUE(Until([&] { return b_->messages.size() == 1; }));
}

TEST_F(FabricRefusalsTest, NoMessageFollowsAWriteThatFailed) {
  Transfer wrong = Make(1);
  wrong.remote_key ^= 0x10;
  ASSERT_TRUE(a_->transport->Write(wrong));
  int refusals = 1;
  Faults().taken.clear();
  Faults().answer = [&](FabricCall call) -> ssize_t {
    return call == FabricCall::kSend && refusals-- > 0 ? -FI_EAGAIN : 0;
  };
  ASSERT_TRUE(a_->transport->Send(link_, std::string("m"), 2, a_->Deadline()));
  ASSERT_TRUE(Until([&] { return a_->lost.count(link_) == 1; }));
  EXPECT_EQ(a_->done[1], Code::kUnavailable);
  EXPECT_EQ(a_->done[2], Code::kUnavailable);
  EXPECT_EQ(Faults().taken[FabricCall::kSend], 0u);
  for (int i = 0; i < 100; ++i) b_->Poll();
  EXPECT_TRUE(b_->messages.empty());
}

}  // namespace
}  // namespace agentmem
