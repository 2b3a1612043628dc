// Waiting costs nothing, and a flood no memory.
#include <poll.h>

#include "tests/unit/transport/fabric_fixture.h"

namespace agentmem {
namespace {

class FabricWaitingTest : public FabricTest {
 protected:
  void SetUp() override {
    a_ = AddNode();
    b_ = AddNode();
    ASSERT_GE(a_->transport->wait_fd(), 0);
    link_ = ConnectAndUse(a_, *b_);
    back_ = ConnectAndUse(b_, *a_);
  }
  // Waits as a reactor does; false: nothing came in `timeout_ms`.
  static bool WaitOnce(FabricTestNode* node, int timeout_ms) {
    pollfd waited = {node->transport->wait_fd(), POLLIN, 0};
    return ::poll(&waited, 1, timeout_ms) > 0;
  }
  // Polls until there is nothing left to do but wait.
  void Settle(FabricTestNode* node) {
    ASSERT_TRUE(Until([&] {
      return !node->Poll() && node->transport->ReadyToWait() &&
             !WaitOnce(node, 0);
    }));
  }

  FabricTestNode* a_ = nullptr;
  FabricTestNode* b_ = nullptr;
  LinkId link_;
  LinkId back_;
};

TEST_F(FabricWaitingTest, AnIdleNodeSleeps) {
  Settle(a_);
  Settle(b_);
  const std::uint64_t before = a_->polls;
  const TimeNs end = MonotonicNowNs() + 300 * kMillisecondNs;
  while (MonotonicNowNs() < end) {
    if (a_->transport->ReadyToWait()) WaitOnce(a_, 100);
    a_->Poll();
  }
  EXPECT_LE(a_->polls - before, 20u);
}

// A queue that endpoints share keeps a pointer to one that was closed.
TEST_F(FabricWaitingTest, ALinkThatWasClosedIsNotWaitedFor) {
  for (int i = 0; i < 4; ++i) {
    a_->transport->Close(link_);
    link_ = ConnectAndUse(a_, *b_);
    Settle(a_);
    EXPECT_TRUE(a_->transport->ReadyToWait());
  }
  a_->transport->Close(link_);
  Settle(a_);
  EXPECT_TRUE(a_->transport->ReadyToWait());
}

TEST_F(FabricWaitingTest, AMessageWakes) {
  for (int i = 0; i < 20; ++i) {
    Settle(a_);
    a_->messages.clear();
    ASSERT_TRUE(b_->transport->Send(back_, std::string("wake"),
                                    static_cast<std::uint64_t>(i),
                                    b_->Deadline()));
    b_->Poll();
    ASSERT_TRUE(a_->transport->ReadyToWait() ? WaitOnce(a_, 5000) : true) << i;
    while (a_->messages.empty()) {
      a_->Poll();
      if (a_->messages.empty() && a_->transport->ReadyToWait()) {
        ASSERT_TRUE(WaitOnce(a_, 5000)) << i;
      }
    }
    ASSERT_TRUE(Until([&] { return b_->done.size() > std::size_t(i); }));
  }
}

TEST_F(FabricWaitingTest, AReadIsFinishedByWaitingAlone) {
  // Both nodes wait; a poll() on both descriptors is all that moves them.
  Settle(a_);
  Settle(b_);
  for (std::uint64_t i = 0; i < 50; ++i) {
    ASSERT_TRUE(a_->transport->Read(
        a_->Make(link_, b_->memory.remote, 0, 300'000, 4096, i)));
    while (a_->done.count(i) == 0) {
      pollfd waited[] = {{a_->transport->wait_fd(), POLLIN, 0},
                         {b_->transport->wait_fd(), POLLIN, 0}};
      const bool ready =
          a_->transport->ReadyToWait() && b_->transport->ReadyToWait();
      const int came = ready ? ::poll(waited, 2, 5000) : 1;
      ASSERT_GT(came, 0) << i;
      a_->Poll();
      b_->Poll();
    }
    EXPECT_EQ(a_->done[i], Code::kOk);
  }
}

TEST_F(FabricWaitingTest, AFloodOfMessagesStarvesNoLink) {
  const std::string message(64, 'm');
  std::uint64_t sent = 0;
  const auto flood = [&] {
    while (b_->transport->Send(back_, message, sent, kNoDeadline)) ++sent;
    b_->Poll(64);
  };
  for (int i = 0; i < 200; ++i) flood();
  constexpr std::uint64_t kTicket = 1;
  ASSERT_TRUE(a_->transport->Read(
      a_->Make(link_, b_->memory.remote, 0, 4096, 0, kTicket)));
  // It takes one event a Poll, of which there are always more.
  int polls = 0;
  for (; polls < 5000 && a_->done.count(kTicket) == 0; ++polls) {
    flood();
    a_->Poll(1);
  }
  EXPECT_EQ(a_->done.count(kTicket), 1u) << "after " << polls << " polls";
  EXPECT_GT(a_->messages.size(), 0u);
}

TEST_F(FabricWaitingTest, AFloodWaitsAtItsSenderAndNothingIsLost) {
  const std::string filler(a_->transport->limits().message_bytes_max - 8, 'f');
  std::uint64_t sent = 0;
  const auto send = [&] {
    std::string message = filler + std::to_string(10'000'000 + sent);
    if (!b_->transport->Send(back_, message, sent, kNoDeadline)) return false;
    ++sent;
    return true;
  };
  // The receiver does nothing: the sender is stopped by what is in flight.
  const std::uint64_t kMany = 20'000;
  int idle = 0;
  while (idle < 2000 && sent < kMany) {
    idle = send() ? 0 : idle + 1;
    b_->Poll();
  }
  EXPECT_LT(sent, kMany) << "somebody buffers without a limit";
  // One event a Poll: the slowest reader there is.
  const std::uint64_t total = sent;
  const TimeNs end = MonotonicNowNs() + TestPlace().patience;
  while (a_->messages.size() < total && MonotonicNowNs() < end) {
    a_->Poll(1);
    b_->Poll();
  }
  ASSERT_EQ(a_->messages.size(), total);
  for (std::uint64_t i = 0; i < total; ++i) {
    ASSERT_EQ(a_->messages[i], filler + std::to_string(10'000'000 + i));
  }
}

}  // namespace
}  // namespace agentmem
