// A simulated node's death, return and memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "memd/transport/sim_network.h"
#include "tests/unit/transport/sim_fixture.h"

namespace agentmem {
namespace {

class SimNodeTest : public SimNetworkTest {};

TEST_F(SimNodeTest, ADeathLeavesTheLinksToOthersAlone) {
  Start();
  ContractNode c;
  c.Start(network_->Add("c"));
  const LinkId other = a_.Connect(c);
  network_->Kill("b");
  Settle();
  EXPECT_EQ(a_.lost, std::vector<LinkId>{link_});
  const Transfer read = a_.Between(other, c, 5, 0, 64);
  ASSERT_TRUE(a_.transport->Read(read));
  Settle();
  EXPECT_EQ(a_.done[5], Codes{Code::kOk});
}

TEST_F(SimNodeTest, AKilledNodeIsNoticedAtOnceAndItsMemoryIsLeftAlone) {
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

TEST_F(SimNodeTest, AnIdleLinkToAKilledNodeIsLost) {
  Start();
  network_->Kill("b");
  Settle();
  EXPECT_EQ(a_.lost, std::vector<LinkId>{link_});
}

TEST_F(SimNodeTest, AMachineWithoutPowerIsNoticedByWhoeverSpeaksToIt) {
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

TEST_F(SimNodeTest, AKilledNodeDoesNothingAnyMore) {
  Start();
  Read(1, 0, 64);
  network_->Kill("a");
  EXPECT_FALSE(a_.transport->Read(a_.Between(link_, b_, 2, 0, 64)));
  while (network_->Step()) Poll();
  EXPECT_TRUE(a_.done.empty());
  EXPECT_EQ(a_.own, std::vector<char>(ContractNode::kBytes, 'o'));
}

TEST_F(SimNodeTest, ARestartedNodeHasAnotherAddressAndTheOldOneIsDead) {
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

TEST_F(SimNodeTest, MemoryThatPeersMayOnlyReadIsNotWritten) {
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

TEST_F(SimNodeTest, NothingThatOverflowsAnAddressIsRead) {
  Start();
  constexpr std::uint64_t kBytes = ContractNode::kBytes;
  Transfer transfer = a_.Between(link_, b_, 1, 0, 64);
  const std::uint64_t addresses[] = {0,
                                     1,
                                     64,
                                     UINT64_MAX,
                                     UINT64_MAX - 31,
                                     transfer.remote_address - 1,
                                     transfer.remote_address + kBytes - 63,
                                     transfer.remote_address + kBytes,
                                     transfer.remote_address + kBytes + 1};
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

TEST_F(SimNodeTest, AQuietDeathIsNoticedByWhoAsks) {
  Start();
  network_->KillQuietly("b");
  network_->RunFor(kSecondNs);
  Poll();
  EXPECT_TRUE(a_.lost.empty());
  Read(1, 0, 64);
  Settle();
  EXPECT_EQ(a_.done[1], Codes{Code::kUnavailable});
  EXPECT_EQ(a_.lost.size(), 1u);
}

TEST_F(SimNodeTest, WhatIsAskedOfAStoppedNodeWaitsUntilItGoesOn) {
  Start();
  network_->Stop("b");
  Read(1, 0, 64);
  Write(2, 0, 64);
  Send(3, "m");
  network_->RunFor(kSecondNs);
  a_.Poll(clock_.Now());
  EXPECT_FALSE(a_.done.contains(1));
  EXPECT_FALSE(a_.done.contains(2));
  EXPECT_EQ(CountShared('o'), 0u);
  EXPECT_TRUE(a_.lost.empty());
  network_->Continue("b");
  Settle();
  EXPECT_EQ(a_.done[1], Codes{Code::kOk});
  EXPECT_EQ(a_.done[2], Codes{Code::kOk});
  EXPECT_EQ(CountShared('o'), 64u);
  EXPECT_EQ(b_.messages, std::vector<std::string>{"m"});
}

TEST_F(SimNodeTest, ALossThatStallsIsMissedLate) {
  SimOptions options;
  options.loss_stall_rate = 1;
  Start(options);
  network_->options()->loss_rate = 1;
  Read(1, 0, 64);
  network_->RunFor(kMillisecondNs);
  network_->options()->loss_rate = 0;
  network_->RunFor(kSecondNs);
  a_.Poll(clock_.Now());
  EXPECT_FALSE(a_.done.contains(1));
  Settle();
  EXPECT_EQ(a_.done[1], Codes{Code::kOk});
  EXPECT_EQ(network_->counters().stalls, 1u);
}

}  // namespace
}  // namespace agentmem
