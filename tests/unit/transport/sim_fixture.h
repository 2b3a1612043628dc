// Two nodes on a simulated network, connected, with nothing left to happen.
#ifndef AGENTMEM_TESTS_UNIT_TRANSPORT_SIM_FIXTURE_H_
#define AGENTMEM_TESTS_UNIT_TRANSPORT_SIM_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "memd/transport/sim_network.h"
#include "tests/unit/transport/transport_contract.h"

namespace agentmem {

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

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_TRANSPORT_SIM_FIXTURE_H_
