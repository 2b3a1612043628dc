// Each fault of the simulated network does what it says, and all of it follows
// from the seed.
#include "memd/transport/sim_network.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/unit/transport/transport_contract.h"

namespace agentmem {
namespace {

using Codes = std::vector<Code>;

class SimNetworkTest : public ::testing::Test {
 protected:
  void Start(const SimOptions& options = {}) {
    network_ = std::make_unique<SimNetwork>(options, &clock_);
    a_.Start(network_->Add("a"));
    b_.Start(network_->Add("b"));
    link_ = a_.Connect(b_);
    Settle();
  }
  void TearDown() override {
    a_.transport = nullptr;
    b_.transport = nullptr;
  }
  // Nothing is left to happen, and everything is given out.
  void Settle() {
    while (network_->Step()) Poll();
    while (!a_.transport->ReadyToWait()) Poll();
    while (b_.transport && !b_.transport->ReadyToWait()) Poll();
  }
  void Poll() {
    a_.Poll(clock_.Now());
    if (b_.transport) b_.Poll(clock_.Now());
  }
  void Read(std::uint64_t ticket, std::uint64_t offset, std::uint64_t length,
            TimeNs deadline = kNoDeadline) {
    Transfer transfer = a_.Between(link_, b_, ticket, offset, length);
    transfer.deadline = deadline;
    ASSERT_TRUE(a_.transport->Read(transfer));
  }
  void Write(std::uint64_t ticket, std::uint64_t offset, std::uint64_t length,
             TimeNs deadline = kNoDeadline) {
    Transfer transfer = a_.Between(link_, b_, ticket, offset, length);
    transfer.deadline = deadline;
    ASSERT_TRUE(a_.transport->Write(transfer));
  }
  void Send(std::uint64_t ticket, const std::string& text) {
    ASSERT_TRUE(a_.transport->Send(link_, text, ticket, kNoDeadline));
  }
  std::size_t CountShared(char c) const {
    return static_cast<std::size_t>(
        std::count(b_.shared.begin(), b_.shared.end(), c));
  }

  ManualClock clock_;
  std::unique_ptr<SimNetwork> network_;
  ContractNode a_, b_;
  LinkId link_;
  int copies_ = 0;
  char pending_fill_ = 0;
};

TEST_F(SimNetworkTest, AReadTakesTwoLatenciesAndNoLongerWhenAllIsQuiet) {
  Start();
  for (std::uint64_t i = 0; i < 50; ++i) {
    const TimeNs start = clock_.Now();
    Read(i, 0, 64);
    while (!a_.done.contains(i)) {
      ASSERT_TRUE(network_->Step());
      Poll();
    }
    EXPECT_GE(clock_.Now() - start, 4 * kMicrosecondNs);
    EXPECT_LE(clock_.Now() - start, 20 * kMicrosecondNs);
  }
}

TEST_F(SimNetworkTest, ABandwidthHoldsWhatOneNodeSendsBack) {
  SimOptions options;
  options.bandwidth_bytes_per_s = 1'000'000'000;
  Start(options);
  const TimeNs start = clock_.Now();
  for (std::uint64_t i = 0; i < 10; ++i) Write(i, 0, 100'000);
  Settle();
  EXPECT_GE(clock_.Now() - start, kMillisecondNs);
  EXPECT_LE(clock_.Now() - start, kMillisecondNs + 20 * kMicrosecondNs);
  for (std::uint64_t i = 10; i < 20; ++i) Read(i, 0, 100'000);
  const TimeNs second = clock_.Now();
  Settle();
  EXPECT_GE(clock_.Now() - second, kMillisecondNs);
}

TEST_F(SimNetworkTest, ASlowNodeTakesItsFactor) {
  Start();
  network_->Slow("b", 100);
  const TimeNs start = clock_.Now();
  Read(1, 0, 64);
  Settle();
  EXPECT_GE(clock_.Now() - start, 400 * kMicrosecondNs);
  EXPECT_EQ(a_.done[1], Codes{Code::kOk});
}

TEST_F(SimNetworkTest, TimeStandsStillUntilItIsMoved) {
  Start();
  Read(1, 0, 64);
  Poll();
  EXPECT_TRUE(a_.done.empty());
  EXPECT_TRUE(network_->next_event_at().has_value());
  network_->RunFor(kMicrosecondNs);
  Poll();
  EXPECT_TRUE(a_.done.empty());
  const TimeNs before = clock_.Now();
  network_->RunFor(kMillisecondNs);
  EXPECT_EQ(clock_.Now(), before + kMillisecondNs);
  Poll();
  EXPECT_EQ(a_.done[1], Codes{Code::kOk});
  EXPECT_FALSE(network_->Step());
}

TEST_F(SimNetworkTest, LostPacketsDelayAndAreSentAgain) {
  Start();
  network_->options()->loss_rate = 0.3;
  const TimeNs start = clock_.Now();
  for (std::uint64_t i = 0; i < 60; ++i) Read(i, 0, 64);
  Settle();
  EXPECT_GT(network_->counters().retransmits, 10u);
  EXPECT_GE(clock_.Now() - start, network_->options()->retransmit_delay);
  for (const auto& [ticket, codes] : a_.done) {
    EXPECT_EQ(codes, Codes{Code::kOk}) << ticket;
  }
  EXPECT_TRUE(a_.lost.empty());
}

TEST_F(SimNetworkTest, ACutBeyondTheRetransmitsLosesTheLinkAndAShortOneNot) {
  Start();
  network_->Cut("a", "b");
  Read(1, 0, 64);
  network_->RunFor(3 * kMillisecondNs);
  Poll();
  EXPECT_TRUE(a_.done.empty());
  network_->Heal("a", "b");
  Settle();
  EXPECT_EQ(a_.done[1], Codes{Code::kOk});

  network_->Partition({"a"});
  Read(2, 0, 64);
  Settle();
  EXPECT_EQ(a_.done[2], Codes{Code::kUnavailable});
  EXPECT_EQ(a_.lost, std::vector<LinkId>{link_});
  EXPECT_EQ(a_.done_after_lost, 0u);

  network_->HealAll();
  link_ = a_.Connect(b_);
  Read(3, 0, 64);
  Settle();
  EXPECT_EQ(a_.done[3], Codes{Code::kOk});
}

TEST_F(SimNetworkTest, AWriteWhoseAnswerIsCutIsDoneAndSaysThatItFailed) {
  Start();
  network_->CutOneWay("b", "a");
  Write(1, 0, 64);
  Settle();
  EXPECT_EQ(a_.done[1], Codes{Code::kUnavailable});
  EXPECT_EQ(CountShared('o'), 64u);
}

TEST_F(SimNetworkTest, ADeadlineTakesTheLinkAndAllThatIsOnIt) {
  Start();
  network_->Cut("a", "b");
  Read(1, 0, 64, clock_.Now() + 2 * kMillisecondNs);
  Write(2, 0, 64);
  network_->RunFor(2 * kMillisecondNs - 1);
  Poll();
  EXPECT_TRUE(a_.done.empty());
  network_->RunFor(11 * kMicrosecondNs);
  Poll();
  EXPECT_EQ(a_.done[1], Codes{Code::kUnavailable});
  EXPECT_EQ(a_.done[2], Codes{Code::kUnavailable});
  EXPECT_EQ(a_.lost, std::vector<LinkId>{link_});
}

TEST_F(SimNetworkTest, AnOperationWithinItsDeadlineKeepsItsLink) {
  Start();
  Read(1, 0, 64, clock_.Now() + kMillisecondNs);
  Settle();
  EXPECT_EQ(a_.done[1], Codes{Code::kOk});
  EXPECT_TRUE(a_.lost.empty());
}

TEST_F(SimNetworkTest, MessagesOvertakeOneAnotherUnlessTheyAreToldNotTo) {
  for (const bool in_order : {false, true}) {
    TearDown();
    a_ = ContractNode();
    b_ = ContractNode();
    SimOptions options;
    options.reorder_rate = 0.5;
    options.loss_rate = 0.1;
    options.messages_in_order = in_order;
    Start(options);
    std::vector<std::string> sent;
    for (std::uint64_t i = 0; i < 30; ++i) {
      sent.push_back(std::to_string(i));
      Send(i, sent.back());
    }
    Settle();
    ASSERT_EQ(b_.messages.size(), sent.size());
    EXPECT_EQ(b_.messages == sent, in_order);
    std::sort(sent.begin(), sent.end());
    std::sort(b_.messages.begin(), b_.messages.end());
    EXPECT_EQ(b_.messages, sent);
  }
}

TEST_F(SimNetworkTest, ACompletionErrorLosesTheLinkAndBringsNoMessage) {
  SimOptions options;
  options.completion_error_rate = 1;
  Start(options);
  Send(1, "never");
  Write(2, 0, 1000);
  Settle();
  EXPECT_EQ(a_.done[1], Codes{Code::kUnavailable});
  EXPECT_EQ(a_.done[2], Codes{Code::kUnavailable});
  EXPECT_TRUE(b_.messages.empty());
  EXPECT_LT(CountShared('o'), 1001u);
  EXPECT_EQ(network_->counters().completion_errors, 1u);
  EXPECT_EQ(network_->counters().links_lost, 1u);
}

TEST_F(SimNetworkTest, ALostCompletionMakesADuplicateOfWhoeverSendsAgain) {
  SimOptions options;
  options.completion_lost_rate = 1;
  Start(options);
  Send(1, "twice");
  Settle();
  EXPECT_EQ(a_.done[1], Codes{Code::kUnavailable});
  network_->options()->completion_lost_rate = 0;
  link_ = a_.Connect(b_);
  Send(2, "twice");
  Settle();
  EXPECT_EQ(a_.done[2], Codes{Code::kOk});
  EXPECT_EQ(b_.messages, (std::vector<std::string>{"twice", "twice"}));
}

TEST_F(SimNetworkTest, ATornWriteIsSeenInHalfBeforeItCompletes) {
  SimOptions options;
  options.torn_rate = 1;
  Start(options);
  std::size_t seen_in_half = 0;
  for (std::uint64_t i = 0; i < 20; ++i) {
    std::fill(b_.shared.begin(), b_.shared.end(), 's');
    Write(i, 0, 4096);
    while (!a_.done.contains(i)) {
      const std::size_t there = CountShared('o');
      if (there != 0 && there != 4096) ++seen_in_half;
      ASSERT_TRUE(network_->Step());
      Poll();
    }
    EXPECT_EQ(CountShared('o'), 4096u);
  }
  EXPECT_GE(seen_in_half, 20u);
  EXPECT_EQ(network_->counters().torn, 20u);
}

TEST_F(SimNetworkTest, ATornReadMixesWhatWasThereAtTwoTimes) {
  SimOptions options;
  options.torn_rate = 1;
  Start(options);
  // The peer's memory changes whenever a piece of it has been copied.
  network_->Observe([this](const SimTrace& trace) {
    if (trace.kind != SimTrace::Kind::kCopy) return;
    pending_fill_ = static_cast<char>('A' + copies_++);
  });
  Read(1, 0, 4096);
  while (network_->Step()) {
    if (pending_fill_ != 0) {
      std::fill(b_.shared.begin(), b_.shared.end(), pending_fill_);
      pending_fill_ = 0;
    }
  }
  Poll();
  EXPECT_EQ(a_.done[1], Codes{Code::kOk});
  const auto old = std::count(a_.own.begin(), a_.own.end(), 's');
  const auto changed = std::count(a_.own.begin(), a_.own.end(), 'A');
  EXPECT_GT(old, 0);
  EXPECT_GT(changed, 0);
  EXPECT_EQ(old + changed, 4096);
}

TEST_F(SimNetworkTest, AReadIsOfTheBytesAfterItWasPosted) {
  Start();
  Read(1, 0, 64);
  std::fill(b_.shared.begin(), b_.shared.end(), 'n');
  Settle();
  EXPECT_EQ(std::string(a_.own.data(), 64), std::string(64, 'n'));
}

TEST_F(SimNetworkTest, AWriteMayArriveAfterItFailedAndWithTheBytesOfThen) {
  SimOptions options;
  options.late_write_rate = 1;
  Start(options);
  Write(1, 0, 64);
  a_.transport->Close(link_);
  // It fails before its request is anywhere: that one is cut off.
  network_->Cut("a", "b");
  while (!a_.done.contains(1)) {
    ASSERT_TRUE(network_->Step());
    Poll();
  }
  EXPECT_EQ(a_.done[1], Codes{Code::kUnavailable});
  EXPECT_EQ(CountShared('o'), 0u);
  std::fill(a_.own.begin(), a_.own.end(), 'x');
  network_->HealAll();
  Settle();
  EXPECT_EQ(CountShared('o'), 64u);
  EXPECT_EQ(CountShared('x'), 0u);
  EXPECT_EQ(network_->counters().late_writes, 1u);
}

TEST_F(SimNetworkTest, AKilledNodeIsNoticedAtOnceAndItsMemoryIsLeftAlone) {
  Start();
  Write(1, 0, 64);
  network_->Kill("b");
  const TimeNs start = clock_.Now();
  Settle();
  EXPECT_LE(clock_.Now() - start, 30 * kMicrosecondNs);
  EXPECT_EQ(a_.done[1], Codes{Code::kUnavailable});
  EXPECT_EQ(a_.lost, std::vector<LinkId>{link_});
  EXPECT_EQ(CountShared('o'), 0u);
}

TEST_F(SimNetworkTest, AnIdleLinkToAKilledNodeIsLost) {
  Start();
  network_->Kill("b");
  Settle();
  EXPECT_EQ(a_.lost, std::vector<LinkId>{link_});
}

TEST_F(SimNetworkTest, AMachineWithoutPowerIsNoticedByWhoeverSpeaksToIt) {
  Start();
  network_->PowerOff("b");
  Settle();
  EXPECT_TRUE(a_.lost.empty());
  const TimeNs start = clock_.Now();
  Read(1, 0, 64);
  Settle();
  EXPECT_EQ(a_.done[1], Codes{Code::kUnavailable});
  EXPECT_EQ(a_.lost, std::vector<LinkId>{link_});
  EXPECT_GE(clock_.Now() - start, 7 * kMillisecondNs);
}

TEST_F(SimNetworkTest, AKilledNodeDoesNothingAnyMore) {
  Start();
  Read(1, 0, 64);
  network_->Kill("a");
  EXPECT_FALSE(a_.transport->Read(a_.Between(link_, b_, 2, 0, 64)));
  while (network_->Step()) Poll();
  EXPECT_TRUE(a_.done.empty());
  EXPECT_EQ(a_.own, std::vector<char>(ContractNode::kBytes, 'o'));
}

TEST_F(SimNetworkTest, ARestartedNodeHasAnotherAddressAndTheOldOneIsDead) {
  Start();
  const std::string before = b_.transport->address();
  network_->Kill("b");
  Settle();
  ContractNode again;
  again.Start(network_->Add("b"));
  EXPECT_NE(again.transport->address(), before);

  const auto stale = a_.transport->Connect(before);
  ASSERT_TRUE(stale.ok());
  Settle();
  EXPECT_EQ(a_.lost.back(), *stale);

  link_ = a_.Connect(again);
  const Transfer read = a_.Between(link_, again, 9, 0, 64);
  ASSERT_TRUE(a_.transport->Read(read));
  Settle();
  EXPECT_EQ(a_.done[9], Codes{Code::kOk});
}

TEST_F(SimNetworkTest, MemoryThatPeersMayOnlyReadIsNotWritten) {
  Start();
  std::vector<char> exported(64, 'e');
  const auto memory = b_.transport->Register(exported, RemoteAccess::kRead);
  ASSERT_TRUE(memory.ok());
  Transfer transfer = a_.Between(link_, b_, 1, 0, 64);
  transfer.remote_address = memory->remote.address;
  transfer.remote_key = memory->remote.key;
  ASSERT_TRUE(a_.transport->Read(transfer));
  Settle();
  EXPECT_EQ(a_.done[1], Codes{Code::kOk});
  transfer.ticket = 2;
  ASSERT_TRUE(a_.transport->Write(transfer));
  Settle();
  EXPECT_EQ(a_.done[2], Codes{Code::kUnavailable});
  EXPECT_EQ(exported, std::vector<char>(64, 'e'));
  b_.transport = nullptr;  // before its memory
}

TEST_F(SimNetworkTest, NothingThatOverflowsAnAddressIsRead) {
  Start();
  Transfer transfer = a_.Between(link_, b_, 1, 0, 64);
  const std::uint64_t addresses[] = {
      0, 1, 64, UINT64_MAX, UINT64_MAX - 31, transfer.remote_address - 1};
  for (const std::uint64_t address : addresses) {
    link_ = a_.Connect(b_);
    transfer.link = link_;
    transfer.remote_address = address;
    ++transfer.ticket;
    ASSERT_TRUE(a_.transport->Read(transfer));
    Settle();
    EXPECT_EQ(a_.done[transfer.ticket], Codes{Code::kUnavailable}) << address;
  }
  EXPECT_EQ(network_->counters().refused, std::size(addresses));
}

}  // namespace
}  // namespace agentmem
