// What becomes of a node whose messages do not arrive any more.
#include <rdma/fi_errno.h>

#include "tests/unit/transport/fabric_faults.h"
#include "tests/unit/transport/fabric_fixture.h"

namespace agentmem {
namespace {

using QueueEnd = FabricFaults::QueueEnd;

// What says that a queue has come to its end.
constexpr QueueEnd kQueueEnds[] = {
    {-FI_EOVERRUN},
    {-FI_EAVAIL, 1, FI_EOVERRUN},
    {-FI_EAVAIL, -FI_EIO},
};

class FabricInboxTest : public FabricTest {
 protected:
  void SetUp() override {
    a_ = AddNode();
    b_ = AddNode();
    link_ = ConnectAndUse(b_, *a_);
    old_address_ = a_->transport->address();
  }
  void SendOne(std::uint64_t ticket) {
    ASSERT_TRUE(
        b_->transport->Send(link_, std::string("m"), ticket, b_->Deadline()));
    const std::size_t before = a_->messages.size();
    ASSERT_TRUE(Until([&] { return a_->messages.size() > before; }));
  }
  // Its peers reach it again, at another address.
  void ExpectOpenedAnew() {
    EXPECT_EQ(a_->transport->failure(), "");
    EXPECT_NE(a_->transport->address(), old_address_);
    // The memory that they know is the same.
    b_->done.clear();
    link_ = ConnectAndUse(b_, *a_);
    for (std::uint64_t ticket = 1000; ticket < 1200; ++ticket) SendOne(ticket);
    ConnectAndUse(a_, *b_);
  }

  FabricFaultsScope scope_;
  std::size_t inbox_ = 0;  // a's, of Faults().queues
  FabricTestNode* a_ = nullptr;
  FabricTestNode* b_ = nullptr;
  LinkId link_;
  std::string old_address_;
};

TEST_F(FabricInboxTest, BuffersThatAreNotTakenBackAreToldAndTriedOnceASecond) {
  const LinkId link = ConnectAndUse(a_, *b_);
  std::uint64_t opened = 0;  // queues, of other inboxes
  Faults().answer = [&](FabricCall call) -> ssize_t {
    opened += call == FabricCall::kWaitedQueue;
    return call == FabricCall::kReceive ? -FI_EINVAL : 0;
  };
  EXPECT_EQ(a_->transport->failure(), "");
  SendOne(1);
  for (int i = 0; i < 10; ++i) a_->Poll();
  EXPECT_GE(opened, 1u);
  EXPECT_LE(opened, 3u) << "in no 3 s";
  const std::string& failure = a_->transport->failure();
  EXPECT_NE(failure.find("restart memd"), std::string::npos) << failure;
  EXPECT_EQ(a_->transport->Warnings(), std::vector<std::string>{failure});
  EXPECT_TRUE(Until([&] { return a_->transport->ReadyToWait(); }))
      << "a core would burn";
  // Its links go on.
  EXPECT_EQ(ReadOne(a_, link, b_->memory.remote), Code::kOk);
  EXPECT_EQ(a_->transport->address(), old_address_);
  Faults().answer = nullptr;
  a_->ahead += kSecondNs;
  EXPECT_EQ(ReadOne(a_, link, b_->memory.remote), Code::kOk);
  ExpectOpenedAnew();
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

TEST_F(FabricInboxTest, ErrorsThatTakeBuffersAwayOpenAnotherBeforeAllAreGone) {
  Faults().stray_errors = 8;
  for (int i = 0; i < 100; ++i) a_->Poll();
  EXPECT_EQ(a_->transport->address(), old_address_);
  Faults().stray_errors = 40;
  for (int i = 0; i < 100; ++i) a_->Poll();
  EXPECT_EQ(a_->transport->counters().completions_unknown, 48u);
  ExpectOpenedAnew();
}

TEST_F(FabricInboxTest, AQueueThatCannotBeReadOpensAnotherAndNoLinkEnds) {
  const LinkId link = ConnectAndUse(a_, *b_);
  for (const QueueEnd& end : kQueueEnds) {
    Faults().ended[Faults().queues[inbox_]] = end;
    inbox_ = Faults().queues.size();
    a_->ahead += kSecondNs;
    a_->Poll();
    a_->Poll();
    ASSERT_EQ(Faults().queues.size(), inbox_ + 1);
    ExpectOpenedAnew();
    old_address_ = a_->transport->address();
  }
  EXPECT_EQ(ReadOne(a_, link, b_->memory.remote), Code::kOk);
  EXPECT_EQ(a_->transport->counters().links_lost, 0u);
}

// An error of the queue below RxM's is one of RxM's for each time that it is
// looked at.
TEST_F(FabricInboxTest, AQueueThatTellsOfNothingButErrorsOpensAnother) {
  Faults().ended[Faults().queues[inbox_]] = {-FI_EAVAIL, 1, FI_EIO};
  for (int i = 0; i < 200; ++i) a_->Poll();
  ExpectOpenedAnew();
}

TEST_F(FabricInboxTest, ALinkWhoseQueueCannotBeReadIsLostAlone) {
  std::vector<QueueEnd> ends(std::begin(kQueueEnds), std::end(kQueueEnds));
  ends.push_back({-FI_EAVAIL, 1, FI_EIO});
  const LinkId other = ConnectAndUse(a_, *b_);
  for (std::uint64_t i = 0; i < ends.size(); ++i) {
    const std::size_t queue = Faults().queues.size();
    const LinkId link = ConnectAndUse(a_, *b_);
    ASSERT_TRUE(
        a_->transport->Read(a_->Make(link, b_->memory.remote, 0, 4096, 0, i)));
    Faults().ended[Faults().queues[queue]] = ends[i];
    for (int j = 0; j < 200; ++j) a_->Poll();
    EXPECT_EQ(a_->lost.count(link), 1u) << "the end " << i;
    EXPECT_EQ(a_->done[i], Code::kUnavailable);
    EXPECT_EQ(ReadOne(a_, other, b_->memory.remote), Code::kOk);
    a_->transport->Close(link);
  }
  EXPECT_EQ(a_->transport->counters().links_lost, ends.size());
  EXPECT_EQ(a_->transport->address(), old_address_);
}

}  // namespace
}  // namespace agentmem
