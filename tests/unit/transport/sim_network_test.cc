// Each fault of the simulated network does what it says.
#include "memd/transport/sim_network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/unit/transport/sim_fixture.h"

namespace agentmem {
namespace {

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
  const TimeNs start = clock_.Now();
  Settle();
  const DurationNs retransmits = 7 * kMillisecondNs;
  EXPECT_GE(clock_.Now() - start, retransmits);
  EXPECT_LE(clock_.Now() - start, retransmits + kMillisecondNs / 2);
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

TEST_F(SimNetworkTest, OfOneLatencyNothingOvertakesButWhatIsReordered) {
  for (const double rate : {0.0, 0.5}) {
    TearDown();
    a_ = ContractNode();
    b_ = ContractNode();
    SimOptions options;
    options.latency_min = options.latency_max;
    options.reorder_rate = rate;
    Start(options);
    std::vector<std::string> sent;
    for (std::uint64_t i = 0; i < 30; ++i) {
      sent.push_back(std::to_string(i));
      Send(i, sent.back());
    }
    Settle();
    EXPECT_EQ(b_.messages == sent, rate == 0.0);
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

TEST_F(SimNetworkTest, ALateWriteDoesNotPassACut) {
  SimOptions options;
  options.late_write_rate = 1;
  Start(options);
  network_->Cut("a", "b");
  Write(1, 0, 64);
  a_.transport->Close(link_);
  Settle();
  EXPECT_EQ(a_.done[1], Codes{Code::kUnavailable});
  EXPECT_EQ(CountShared('o'), 0u);
  EXPECT_TRUE(a_.lost.empty());  // who closes a link knows
}

TEST_F(SimNetworkTest, TheSecondHalfOfATornWriteMayBeLate) {
  SimOptions options;
  options.torn_rate = 1;
  options.torn_gap_max = kMillisecondNs;
  options.late_write_rate = 1;
  Start(options);
  network_->Observe([this](const SimTrace& trace) {
    if (trace.kind == SimTrace::Kind::kCopy) a_.transport->Close(link_);
  });
  for (std::uint64_t i = 0; i < 20; ++i) {
    std::fill(b_.shared.begin(), b_.shared.end(), 's');
    link_ = a_.Connect(b_);
    Write(i, 0, 4096);
    Settle();
    EXPECT_EQ(a_.done[i], Codes{Code::kUnavailable});
    EXPECT_EQ(CountShared('o'), 4096u);
  }
  EXPECT_GT(network_->counters().late_writes, 10u);
}

}  // namespace
}  // namespace agentmem
