// What becomes of a node whose messages do not arrive any more.
#include <rdma/fi_errno.h>

#include "tests/unit/transport/fabric_faults.h"
#include "tests/unit/transport/fabric_fixture.h"

namespace agentmem {
namespace {

class FabricInboxTest : public FabricTest {
 protected:
  void SetUp() override {
    a_ = AddNode();
    b_ = AddNode();
    link_ = ConnectAndUse(b_, *a_);
  }
  void SendOne(std::uint64_t ticket) {
    ASSERT_TRUE(
        b_->transport->Send(link_, std::string("m"), ticket, b_->Deadline()));
    const std::size_t before = a_->messages.size();
    ASSERT_TRUE(Until([&] { return a_->messages.size() > before; }));
  }
  void ExpectRestartIsAsked() {
    const std::string& failure = a_->transport->failure();
    EXPECT_NE(failure.find("restart memd"), std::string::npos) << failure;
    // Its links go on.
    ConnectAndUse(a_, *b_);
  }

  FabricFaultsScope scope_;
  FabricTestNode* a_ = nullptr;
  FabricTestNode* b_ = nullptr;
  LinkId link_;
};

TEST_F(FabricInboxTest, BuffersThatAreNotTakenBackAreToldAndNotTriedForEver) {
  std::uint64_t tried = 0;
  Faults().answer = [&](FabricCall call) -> ssize_t {
    if (call != FabricCall::kReceive) return 0;
    ++tried;
    return -FI_EINVAL;
  };
  EXPECT_EQ(a_->transport->failure(), "");
  SendOne(1);
  for (int i = 0; i < 10; ++i) a_->Poll();
  EXPECT_GT(tried, 0u);
  EXPECT_TRUE(Until([&] { return a_->transport->ReadyToWait(); }))
      << "a core would burn";
  Faults().answer = nullptr;
  ExpectRestartIsAsked();
}

TEST_F(FabricInboxTest, BuffersThatAreRefusedForAWhileAreNoFailure) {
  Faults().answer = [&](FabricCall call) -> ssize_t {
    return call == FabricCall::kReceive ? -FI_EAGAIN : 0;
  };
  SendOne(1);
  for (int i = 0; i < 10; ++i) a_->Poll();
  EXPECT_TRUE(Until([&] { return a_->transport->ReadyToWait(); }));
  Faults().answer = nullptr;
  for (std::uint64_t ticket = 2; ticket < 200; ++ticket) SendOne(ticket);
  EXPECT_EQ(a_->transport->failure(), "");
}

TEST_F(FabricInboxTest, ErrorsThatTakeBuffersAwayAreToldBeforeAllAreGone) {
  Faults().stray_errors = 8;
  for (int i = 0; i < 100; ++i) a_->Poll();
  EXPECT_EQ(a_->transport->failure(), "");
  Faults().stray_errors = 40;
  for (int i = 0; i < 100; ++i) a_->Poll();
  EXPECT_EQ(a_->transport->counters().completions_unknown, 48u);
  ExpectRestartIsAsked();
}

}  // namespace
}  // namespace agentmem
