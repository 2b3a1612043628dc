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

}  // namespace
}  // namespace agentmem
