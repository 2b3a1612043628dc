// What tests of agents share: a client beside a fake memd and a fake agentd,
// and short ways to open an agent and a region.
//
// Ownership: closes region, agent, client, in that order. Threads: one. Errors:
// an EXPECT. Cost: two threads.
#ifndef AGENTMEM_TESTS_UNIT_CLIENT_AGENT_TEST_BASE_H_
#define AGENTMEM_TESTS_UNIT_CLIENT_AGENT_TEST_BASE_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "client/user_fault.h"
#include "tests/unit/client/client_test_base.h"
#include "tests/unit/client/fake_agentd.h"

namespace agentmem {

inline constexpr std::uint64_t kTestRegionBytes = 1 << 20;

// Into a field of a struct that is all zeros.
template <std::size_t N>
void SetName(char (*field)[N], std::string_view name) {
  name.copy(*field, N - 1);
}

class AgentTest : public ClientTest {
 protected:
  void TearDown() override {
    CloseRegion();
    CloseAgent();
    ClientTest::TearDown();
  }

  void StartAll(const FakeAgentd::Options& options = FakeAgentd::Options()) {
    agentd_ = std::make_unique<FakeAgentd>(options);
    FakeMemd::Options memd;
    memd.agents = [this](UniqueFd fd) { agentd_->Serve(std::move(fd)); };
    Start(memd);
    ASSERT_EQ(Connect(), AGENTMEM_OK) << error_.message;
  }
  // A writer that makes the agent.
  void OpenAgent(std::uint64_t fault_timeout_ns = 0) {
    agentmem_agent_options options = {};
    options.size = sizeof(options);
    options.mode = AGENTMEM_AGENT_WRITE;
    options.create = 1;
    options.fault_timeout_ns = fault_timeout_ns;
    ASSERT_EQ(
        agentmem_agent_open(client_, "a", &options, kLongNs, &agent_, &error_),
        AGENTMEM_OK)
        << error_.message;
  }
  void OpenReader() {
    ASSERT_EQ(
        agentmem_agent_open(client_, "a", nullptr, kLongNs, &agent_, &error_),
        AGENTMEM_OK)
        << error_.message;
  }
  agentmem_code OpenRegion(std::uint64_t bytes = kTestRegionBytes,
                           bool force_explicit = false,
                           std::uint64_t version = 0) {
    agentmem_region_options options = {};
    options.size = sizeof(options);
    options.bytes = bytes;
    options.force_explicit = force_explicit ? 1 : 0;
    options.version = version;
    return agentmem_region_open(agent_, "heap", &options, kLongNs, &region_,
                                &error_);
  }
  std::uint64_t Commit() {
    std::uint64_t version = 0;
    EXPECT_EQ(
        agentmem_region_commit(region_, nullptr, kLongNs, &version, &error_),
        AGENTMEM_OK)
        << error_.message;
    return version;
  }
  agentmem_region_state State() {
    agentmem_region_state state = {};
    state.size = sizeof(state);
    EXPECT_EQ(agentmem_region_status(region_, &state, &error_), AGENTMEM_OK);
    return state;
  }
  volatile char* data() {
    return static_cast<volatile char*>(agentmem_region_data(region_));
  }
  void CloseRegion() {
    agentmem_region_close(region_);
    region_ = nullptr;
  }
  void CloseAgent() {
    agentmem_agent_close(agent_);
    agent_ = nullptr;
  }
  static bool CanFault() {
    client::UserFault probe;
    return client::UserFault::Open(&probe).ok();
  }

  std::unique_ptr<FakeAgentd> agentd_;
  agentmem_agent* agent_ = nullptr;
  agentmem_region* region_ = nullptr;
};

// For regions that need a userfaultfd.
class FaultTest : public AgentTest {
 protected:
  void SetUp() override {
    AgentTest::SetUp();
    if (!CanFault()) GTEST_SKIP() << "this process gets no userfaultfd";
  }
  void OpenAll(std::uint64_t fault_timeout_ns = 0,
               TrackingMode tracking = TrackingMode::kSync) {
    FakeAgentd::Options options;
    options.tracking = tracking;
    StartAll(options);
    OpenAgent(fault_timeout_ns);
    ASSERT_EQ(OpenRegion(), AGENTMEM_OK) << error_.message;
    ASSERT_NE(data(), nullptr) << State().reason;
  }
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_CLIENT_AGENT_TEST_BASE_H_
