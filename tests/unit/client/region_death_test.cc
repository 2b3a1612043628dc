// What becomes of open regions when memd dies.
#include <setjmp.h>
#include <signal.h>

#include <atomic>
#include <string>
#include <thread>

#include "tests/unit/client/agent_test_base.h"

namespace agentmem {
namespace {

thread_local sigjmp_buf t_escape;

void OnBus(int) { siglongjmp(t_escape, 1); }

// Counts SIGBUS as an answer of a touch, for as long as it lives.
class BusHandler {
 public:
  BusHandler() {
    struct sigaction action = {};
    action.sa_handler = OnBus;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &before_);
  }
  ~BusHandler() { sigaction(SIGBUS, &before_, nullptr); }

  // False: SIGBUS.
  static bool Touch(volatile char* address, char* seen) {
    if (sigsetjmp(t_escape, 1) != 0) return false;
    *seen = *address;
    return true;
  }

 private:
  struct sigaction before_ = {};
};

class RegionDeathTest : public FaultTest {
 protected:
  static constexpr std::uint64_t kSoonNs = 1;

  void KillAll() {
    Kill();
    agentd_->Kill();
  }
  void AwaitLost() {
    while (State().lost == 0) std::this_thread::yield();
  }
};

TEST_F(RegionDeathTest, CallsSayThatTheAgentMustBeOpenedAgain) {
  OpenAll();
  KillAll();
  AwaitLost();
  std::uint64_t version = 0;
  EXPECT_EQ(
      agentmem_region_commit(region_, nullptr, kLongNs, &version, &error_),
      AGENTMEM_UNAVAILABLE);
  EXPECT_NE(std::string(error_.message).find("open the agent again"),
            std::string::npos);
  EXPECT_EQ(agentmem_region_populate(region_, 0, 4096, kLongNs, &error_),
            AGENTMEM_UNAVAILABLE);
  EXPECT_EQ(agentmem_region_watch(region_, 0, kLongNs, &version, &error_),
            AGENTMEM_UNAVAILABLE);
  EXPECT_EQ(agentmem_agent_phase(agent_, AGENTMEM_IDLE, nullptr, 0, kLongNs,
                                 nullptr, &error_),
            AGENTMEM_UNAVAILABLE);
}

TEST_F(RegionDeathTest, TheAgentOpensAgainWithTheNextMemd) {
  OpenAll();
  data()[0] = 'c';
  Commit();
  KillAll();
  AwaitLost();
  CloseRegion();
  CloseAgent();
  FakeMemd::Options memd;
  memd.agents = [this](UniqueFd fd) { agentd_->Serve(std::move(fd)); };
  Start(memd);
  OpenAgent();
  ASSERT_EQ(OpenRegion(0), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(data()[0], 'c');
  EXPECT_EQ(agentd_->connections(), 2);
}

TEST_F(RegionDeathTest, MemoryThatIsThereStaysReadableAndWritable) {
  OpenAll();
  data()[0] = 'r';                   // has no fault any more
  EXPECT_EQ(data()[kUnitBytes], 0);  // loaded and write-protected
  KillAll();
  AwaitLost();
  EXPECT_EQ(data()[0], 'r');
  data()[kUnitBytes] = 'w';
  EXPECT_EQ(data()[kUnitBytes], 'w');
}

TEST_F(RegionDeathTest, AWriterThatWaitedForMemdGoesOn) {
  OpenAll(AGENTMEM_FOREVER);
  EXPECT_EQ(data()[0], 0);
  agentd_->LeaveFaults();
  std::thread writer([this] { data()[0] = 'w'; });
  agentd_->AwaitLeftFault(1);  // memd has read it, and dies with it
  KillAll();
  writer.join();
  EXPECT_EQ(data()[0], 'w');
}

TEST_F(RegionDeathTest, ATouchOfAMissingPageIsSigbusAfterTheTimeout) {
  OpenAll(kSoonNs);
  if (State().poisons == 0) GTEST_SKIP() << "Linux 6.6 or later poisons";
  const BusHandler handler;
  KillAll();
  AwaitLost();
  char seen = 'n';
  EXPECT_FALSE(BusHandler::Touch(data() + 7 * kUnitBytes, &seen));
  EXPECT_EQ(seen, 'n');
  EXPECT_GE(State().faults_poisoned, 1u);
}

TEST_F(RegionDeathTest, AFaultThatMemdHadReadIsSigbusToo) {
  OpenAll(kSoonNs);
  if (State().poisons == 0) GTEST_SKIP() << "Linux 6.6 or later poisons";
  const BusHandler handler;
  agentd_->LeaveFaults();
  bool read = true;
  std::thread reader([this, &read] {
    char seen;
    read = BusHandler::Touch(data() + 3 * kUnitBytes, &seen);
  });
  agentd_->AwaitLeftFault(1);
  KillAll();
  reader.join();
  EXPECT_FALSE(read);
}

TEST_F(RegionDeathTest, ATouchThatWaitsIsSigbusWhenItsTimeIsOver) {
  OpenAll(10 * kShortNs);
  if (State().poisons == 0) GTEST_SKIP() << "Linux 6.6 or later poisons";
  const BusHandler handler;
  KillAll();
  AwaitLost();
  char seen;
  EXPECT_FALSE(BusHandler::Touch(data() + 3 * kUnitBytes, &seen));
  EXPECT_EQ(State().faults_waiting, 1u);
}

TEST_F(RegionDeathTest, BeforeTheTimeoutATouchWaits) {
  OpenAll(AGENTMEM_FOREVER);
  if (State().poisons == 0) GTEST_SKIP() << "Linux 6.6 or later poisons";
  const BusHandler handler;
  KillAll();
  AwaitLost();
  std::atomic<bool> ended = false;
  std::thread reader([this, &ended] {
    char seen;
    BusHandler::Touch(data() + 3 * kUnitBytes, &seen);
    ended = true;
  });
  while (State().faults_waiting == 0) std::this_thread::yield();
  EXPECT_FALSE(ended);
  EXPECT_EQ(State().faults_poisoned, 0u);
  // The end of the region ends the wait: the touch finds no mapping.
  signal(SIGSEGV, OnBus);
  CloseRegion();
  reader.join();
  signal(SIGSEGV, SIG_DFL);
}

TEST_F(RegionDeathTest, ReadAnswersWhereATouchWouldBeSigbus) {
  OpenAll(kSoonNs);
  KillAll();
  AwaitLost();
  char byte = 0;
  EXPECT_EQ(agentmem_region_read(region_, 0, &byte, 1, kLongNs, &error_),
            AGENTMEM_UNAVAILABLE);
}

}  // namespace
}  // namespace agentmem
