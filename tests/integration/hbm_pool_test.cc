// Blocks in device memory, all of it: an engine's process with a pool on the
// host device, a real memd, and agents of other processes whose phases empty
// it and bring it back.
#include <poll.h>

#include <algorithm>
#include <string>

#include "gmock/gmock.h"
#include "tests/integration/kv_engine.h"

namespace agentmem {
namespace {

using testing::Each;

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kBlockBytes = 256 << 10;
constexpr DurationNs kLeaveNs = 2 * kSecondNs;
constexpr char kConfig[] = "[hbm]\nleave_ms = 2000\n";

// A process of its own that is an agent's writer and says its phases.
class AgentChild {
 public:
  AgentChild(const MemdProcess& memd, const std::string& name) {
    EXPECT_EQ(::pipe(orders_), 0);
    const int orders = orders_[0];
    child_ = std::make_unique<Child>([&memd, name, orders](int say) {
      return Run(memd, name, orders, say);
    });
    EXPECT_EQ(child_->Hear(), 'o');
  }
  ~AgentChild() {
    ::close(orders_[0]);
    ::close(orders_[1]);
  }
  // Returns when memd has heard of it.
  void SetPhase(agentmem_phase phase) {
    Say(orders_[1], static_cast<char>(phase));
    EXPECT_EQ(child_->Hear(), static_cast<char>(phase));
  }

 private:
  static int Run(const MemdProcess& memd, const std::string& name, int orders,
                 int say) {
    agentmem_client* const client = memd.Connect("agent");
    agentmem_agent_options options = {};
    options.size = sizeof(options);
    options.mode = AGENTMEM_AGENT_WRITE;
    options.create = 1;
    agentmem_agent* agent = nullptr;
    if (agentmem_agent_open(client, name.c_str(), &options, kLongNs, &agent,
                            nullptr) != AGENTMEM_OK) {
      return 1;
    }
    Say(say, 'o');
    for (char phase = 0; ::read(orders, &phase, 1) == 1;) {
      agentmem_answer answer = {};
      if (agentmem_agent_phase(agent, static_cast<agentmem_phase>(phase),
                               nullptr, 0, kLongNs, &answer,
                               nullptr) != AGENTMEM_OK) {
        return 2;
      }
      Say(say, phase);
    }
    return 0;
  }

  int orders_[2] = {-1, -1};
  std::unique_ptr<Child> child_;
};

class HbmPoolTest : public KvTest {
 protected:
  explicit HbmPoolTest(const std::string& more = kConfig)
      : KvTest("64MiB", more) {}

  void OpenPool(std::uint64_t bytes) {
    agentmem_hbm_options options = {};
    options.size = sizeof(options);
    options.bytes = bytes;
    ASSERT_EQ(agentmem_hbm_open(device_, &options, kLongNs, &error_),
              AGENTMEM_OK)
        << error_.message;
  }
  void Keep(const Engine& engine, const char* agent) {
    ASSERT_EQ(agentmem_kv_keep(engine.kv(), agent, &error_), AGENTMEM_OK)
        << error_.message;
  }
  agentmem_hbm_state State() {
    agentmem_hbm_state state = {};
    state.size = sizeof(state);
    EXPECT_EQ(agentmem_hbm_describe(device_, &state, &error_), AGENTMEM_OK);
    return state;
  }
  // SIGSTOP; and there is no room in its ring.
  void StopMemd() {
    ::kill(memd_.pid(), SIGSTOP);
    int status = 0;
    ASSERT_EQ(::waitpid(memd_.pid(), &status, WUNTRACED), memd_.pid());
    std::vector<agentmem_key> keys;
    for (std::uint32_t i = 0; i < 4096; ++i) keys.push_back(KeyOf(100'000 + i));
    ASSERT_EQ(agentmem_prefetch(client_, keys.data(), keys.size(), &error_),
              AGENTMEM_RESOURCE_EXHAUSTED);
  }
  // Looks until it is so; a minute at most.
  template <typename Is>
  ::testing::AssertionResult Await(Is is) {
    const TimeNs deadline = MonotonicNowNs() + 60 * kSecondNs;
    while (MonotonicNowNs() < deadline) {
      if (is(State())) return ::testing::AssertionSuccess();
      ::poll(nullptr, 0, 1);
    }
    const agentmem_hbm_state state = State();
    return ::testing::AssertionFailure()
           << state.blocks << " blocks, " << state.allocated_bytes << " of "
           << state.budget_bytes
           << " bytes; memd: " << memd_.Memctl("hbm --agents").dump();
  }
  ::testing::AssertionResult AwaitEmpty() {
    return Await([](const agentmem_hbm_state& state) {
      return state.blocks == 0 && state.allocated_bytes == 0;
    });
  }
  // What was said of it, too: such a change waits for the disk.
  void SettleOnDisk(const char* agent) {
    EXPECT_EQ(agentmem_agent_set_retention(client_, agent, AGENTMEM_RETAIN_ALL,
                                           0, kLongNs, &error_),
              AGENTMEM_OK)
        << error_.message;
  }
  // As LoadAndCheck; where each was.
  std::vector<agentmem_tier> LoadTiers(Engine* to, std::uint32_t first,
                                       std::uint32_t count) {
    to->Poison();
    agentmem_kv_transfer* transfer = nullptr;
    EXPECT_EQ(Load(to, first, count, &transfer), AGENTMEM_OK) << error_.message;
    if (transfer == nullptr) return {};
    EXPECT_EQ(agentmem_kv_wait(transfer, kLongNs, &error_), AGENTMEM_OK)
        << error_.message;
    std::vector<agentmem_tier> tiers(count);
    EXPECT_EQ(agentmem_kv_tiers(transfer, tiers.data(), count, &error_),
              AGENTMEM_OK);
    agentmem_kv_close_transfer(transfer);
    for (std::uint32_t page = 0; page < count * kBlockPages; ++page) {
      EXPECT_TRUE(to->Has(page, first + page / kBlockPages, page % kBlockPages))
          << "block " << first + page / kBlockPages;
    }
    return tiers;
  }
};

TEST_F(HbmPoolTest, APhaseOfAnotherProcessEmptiesItAndBringsItBack) {
  Engine from(device_, Order::kTokensFirst, 64);
  Engine to(device_, Order::kHeadsFirst, 64);
  OpenPool(32 * kMiB);
  Keep(from, "ada");
  Keep(to, "ada");
  AgentChild ada(memd_, "ada");
  ada.SetPhase(AGENTMEM_REASONING);
  StoreAll(&from, 0, 32);
  EXPECT_THAT(LoadTiers(&to, 0, 32), Each(AGENTMEM_TIER_HBM));
  for (std::uint64_t time = 1; time <= 3; ++time) {
    const TimeNs began = MonotonicNowNs();
    ada.SetPhase(AGENTMEM_HUMAN_WAIT);
    ASSERT_TRUE(AwaitEmpty());
    EXPECT_LT(MonotonicNowNs() - began, kLeaveNs);
    EXPECT_EQ(State().emptied, time);
    EXPECT_EQ(State().emptied_late, 0u);
    ada.SetPhase(AGENTMEM_REASONING);
    ASSERT_TRUE(Await([time](const agentmem_hbm_state& state) {
      return state.brought_back == 32 * time;
    }));
    EXPECT_THAT(LoadTiers(&to, 0, 32), Each(AGENTMEM_TIER_HBM));
  }
}

TEST_F(HbmPoolTest, WhatAnotherAgentHasTooStaysAndIsRight) {
  Engine from(device_, Order::kTokensFirst, 64);
  Engine to(device_, Order::kHeadsFirst, 64);
  OpenPool(32 * kMiB);
  Keep(from, "ada");
  StoreAll(&from, 0, 16);
  Keep(to, "bob");
  EXPECT_THAT(LoadTiers(&to, 0, 4), Each(AGENTMEM_TIER_HBM));
  AgentChild ada(memd_, "ada");
  ada.SetPhase(AGENTMEM_IDLE);
  ASSERT_TRUE(
      Await([](const agentmem_hbm_state& state) { return state.blocks == 4; }));
  EXPECT_THAT(LoadTiers(&to, 0, 4), Each(AGENTMEM_TIER_HBM));
  EXPECT_THAT(LoadTiers(&to, 4, 12), Each(AGENTMEM_TIER_DRAM));
}

TEST_F(HbmPoolTest, AMemdThatIsKilledAndStartedAgainHearsOfIt) {
  Engine from(device_, Order::kTokensFirst, 32);
  Engine to(device_, Order::kHeadsFirst, 32);
  OpenPool(32 * kMiB);
  Keep(from, "ada");
  StoreAll(&from, 0, 16);
  const std::uint64_t had = State().blocks;
  EXPECT_EQ(had, 16u);
  memd_.Kill();
  EXPECT_THAT(LoadTiers(&to, 0, 16), Each(AGENTMEM_TIER_HBM))
      << "what is here needs no memd";
  memd_.Start();
  ASSERT_TRUE(Await([this](const agentmem_hbm_state&) {
    const auto heard = memd_.Memctl("hbm --agents")["agents"];
    return heard.size() == 1 && heard[0]["blocks"] == 16;
  }));
  AgentChild ada(memd_, "ada");
  // What that memd does not have is written there before it leaves.
  ada.SetPhase(AGENTMEM_HUMAN_WAIT);
  ASSERT_TRUE(AwaitEmpty());
  EXPECT_EQ(State().dropped + State().demoted, had);
  LoadTiers(&to, 0, 16);
}

TEST_F(HbmPoolTest, AMemdThatIsStoppedHoldsUpNoLoadAndLosesNothing) {
  Engine from(device_, Order::kTokensFirst, 8);
  Engine to(device_, Order::kHeadsFirst, 8);
  OpenPool(32 * kMiB);
  Keep(from, "ada");
  Keep(to, "ada");
  StoreAll(&from, 1, 2);
  StopMemd();
  agentmem_kv_transfer* store = nullptr;
  ASSERT_EQ(Store(&from, 3, 2, &store), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(agentmem_kv_wait(store, 20 * kMillisecondNs, &error_),
            AGENTMEM_DEADLINE_EXCEEDED);
  LoadAndCheck(&to, 1, 2);
  // memd has not taken these, and the pool has them.
  ASSERT_TRUE(
      Await([](const agentmem_hbm_state& state) { return state.filled == 4; }));
  LoadAndCheck(&to, 3, 2);
  ::kill(memd_.pid(), SIGCONT);
  EXPECT_EQ(agentmem_kv_wait(store, kLongNs, &error_), AGENTMEM_OK)
      << error_.message;
  agentmem_kv_close_transfer(store);
  for (const std::uint32_t number : {3u, 4u}) {
    const agentmem_key key = KeyOf(number);
    agentmem_span span;
    EXPECT_EQ(agentmem_get(client_, &key, 1, kLongNs, &span, &error_),
              AGENTMEM_OK)
        << error_.message;
    agentmem_release(client_, &span, 1);
  }
}

// Without a pool: what a store has copied is found below alone. Many times, for
// it takes a memd that makes room just when the load asks.
TEST_F(HbmPoolTest, ALoadFindsWhatAClosedStoreHadCopiedWhenMemdTookNothing) {
  Engine from(device_, Order::kTokensFirst, 8);
  Engine to(device_, Order::kHeadsFirst, 8);
  StoreAll(&from, 1, 2);
  const TimeNs deadline = MonotonicNowNs() + 60 * kSecondNs;
  for (std::uint32_t first = 3; first < 43; first += 2) {
    StopMemd();
    agentmem_kv_transfer* store = nullptr;
    ASSERT_EQ(Store(&from, first, 2, &store), AGENTMEM_OK) << error_.message;
    do {  // until its copies have ended: it waits for memd alone
      ASSERT_LT(MonotonicNowNs(), deadline) << error_.message;
      ASSERT_EQ(agentmem_kv_wait(store, kMillisecondNs, &error_),
                AGENTMEM_DEADLINE_EXCEEDED);
    } while (std::string(error_.message).find("2 blocks are copied") != 0);
    agentmem_kv_close_transfer(store);
    ::kill(memd_.pid(), SIGCONT);
    LoadAndCheck(&to, first, 2);
  }
}

TEST_F(HbmPoolTest, AMemdThatIsStartedAgainKnowsWhoWaitsForAHuman) {
  Engine from(device_, Order::kTokensFirst, 32);
  OpenPool(32 * kMiB);
  Keep(from, "ada");
  {
    AgentChild ada(memd_, "ada");
    ada.SetPhase(AGENTMEM_HUMAN_WAIT);
    SettleOnDisk("ada");
    memd_.Kill();
  }
  memd_.Start();
  StoreAll(&from, 0, 16);
  ASSERT_TRUE(Await([](const agentmem_hbm_state& state) {
    return state.emptied == 1 && state.blocks == 0;
  }));
  const auto heard = memd_.Memctl("hbm --agents")["agents"];
  ASSERT_EQ(heard.size(), 1u);
  EXPECT_EQ(heard[0]["phase"], "human_wait");
  const std::uint64_t left = State().dropped + State().demoted;
  EXPECT_GE(left, 1u);
  AgentChild ada(memd_, "ada");
  ada.SetPhase(AGENTMEM_REASONING);
  ASSERT_TRUE(Await([left](const agentmem_hbm_state& state) {
    return state.brought_back == left && state.blocks == left;
  }));
}

TEST_F(HbmPoolTest, AnOperatorSeesHitsAlsoOfProcessesThatEnded) {
  const auto tier = [this] { return memd_.Memctl("tiers")["tiers"][0]; };
  const auto hits_are = [tier](std::uint64_t hits) {
    const auto now = tier();
    return now["tier"] == "hbm" && now["hits"] == hits &&
           now["hit_bytes"] == hits * kBlockBytes;
  };
  const auto await = [this, hits_are](std::uint64_t hits) {
    return Await([&](const agentmem_hbm_state&) { return hits_are(hits); });
  };
  const auto load = [this](std::uint32_t first, std::uint32_t count) {
    OpenPool(32 * kMiB);
    Engine from(device_, Order::kTokensFirst, 32);
    Engine to(device_, Order::kHeadsFirst, 32);
    Keep(from, "ada");
    Keep(to, "ada");
    StoreAll(&from, first, count);
    EXPECT_THAT(LoadTiers(&to, first, count), Each(AGENTMEM_TIER_HBM));
  };
  EXPECT_EQ(tier()["tier"], "dram") << "no process has opened a pool";
  load(0, 16);
  ASSERT_TRUE(await(16));
  EXPECT_EQ(tier()["blocks"], 16);
  EXPECT_EQ(tier()["budget_bytes"], 32 * kMiB);
  EXPECT_EQ(tier()["used_bytes"], State().allocated_bytes);
  {
    Child other([this, load](int say) {
      KvTest::Open(memd_.Connect("other"));
      load(100, 8);
      Say(say, 'o');
      ::pause();
      return 0;
    });
    ASSERT_EQ(other.Hear(), 'o');
    ASSERT_TRUE(await(24));
  }
  // What was not told yet is told as the pool ends.
  {
    Engine to(device_, Order::kHeadsFirst, 32);
    Keep(to, "ada");
    EXPECT_THAT(LoadTiers(&to, 0, 16), Each(AGENTMEM_TIER_HBM));
  }
  agentmem_device_close(device_);
  device_ = nullptr;
  // (A machine that is busy takes longer than the close waits for it.)
  const TimeNs deadline = MonotonicNowNs() + 60 * kSecondNs;
  while (!hits_are(40) && MonotonicNowNs() < deadline) ::poll(nullptr, 0, 1);
  EXPECT_TRUE(hits_are(40)) << tier().dump();
}

TEST_F(HbmPoolTest, AProcessWithoutRoomForAPoolsBlocksGetsIt) {
  agentmem_device_close(device_);
  agentmem_device_options options = {};
  options.size = sizeof(options);
  options.kind = AGENTMEM_DEVICE_HOST;
  options.memory_bytes = 64 * kMiB;
  ASSERT_EQ(agentmem_device_open(client_, &options, &device_, &error_),
            AGENTMEM_OK);
  Engine from(device_, Order::kTokensFirst, 64);
  Engine to(device_, Order::kHeadsFirst, 64);
  OpenPool(64 * kMiB);
  Keep(from, nullptr);
  StoreAll(&from, 0, 32);
  ASSERT_GE(State().allocated_bytes, 32 * kMiB);
  std::uint64_t address = 0;
  ASSERT_EQ(agentmem_device_allocate(device_, 36 * kMiB, &address, &error_),
            AGENTMEM_OK)
      << error_.message;
  LoadTiers(&to, 0, 32);
  agentmem_device_free(device_, address);
}

// Of the device all processes may have 12 MiB.
class SmallHbmTest : public HbmPoolTest {
 protected:
  SmallHbmTest()
      : HbmPoolTest("[hbm]\nleave_ms = 2000\ndevice_bytes = \"12MiB\"\n") {}
};

TEST_F(SmallHbmTest, BlocksOfThreeTimesTheBudgetComeBack) {
  constexpr std::uint32_t kAtOnce = 24;
  Engine from(device_, Order::kTokensFirst, kAtOnce * kBlockPages);
  Engine to(device_, Order::kHeadsFirst, kAtOnce * kBlockPages);
  OpenPool(100 * kMiB);
  Keep(from, "ada");
  Keep(to, "ada");
  EXPECT_EQ(State().budget_bytes, 12 * kMiB);
  for (std::uint32_t first = 0; first < 144; first += kAtOnce) {
    StoreAll(&from, first, kAtOnce);
    EXPECT_LE(State().allocated_bytes, 12 * kMiB);
  }
  for (int time = 0; time < 2; ++time) {
    for (std::uint32_t first = 0; first < 144; first += kAtOnce) {
      LoadTiers(&to, first, kAtOnce);
      EXPECT_LE(State().allocated_bytes, 12 * kMiB);
    }
  }
  EXPECT_GE(State().blocks, 40u);
  EXPECT_THAT(LoadTiers(&to, 120, kAtOnce), Each(AGENTMEM_TIER_HBM));
}

TEST_F(SmallHbmTest, AnotherProcessGetsItsShareAndItComesBack) {
  Engine from(device_, Order::kTokensFirst, 96);
  Engine to(device_, Order::kHeadsFirst, 96);
  OpenPool(100 * kMiB);
  Keep(from, nullptr);
  StoreAll(&from, 0, 48);
  EXPECT_EQ(State().allocated_bytes, 12 * kMiB);
  {
    Child other([this](int say) {
      KvTest::Open(memd_.Connect("other"));
      OpenPool(100 * kMiB);
      Say(say, 'o');
      ::pause();
      return 0;
    });
    ASSERT_EQ(other.Hear(), 'o');
    ASSERT_TRUE(Await([](const agentmem_hbm_state& state) {
      return state.budget_bytes == 6 * kMiB &&
             state.allocated_bytes <= 6 * kMiB;
    }));
    LoadTiers(&to, 0, 48);
  }
  ASSERT_TRUE(Await([](const agentmem_hbm_state& state) {
    return state.budget_bytes == 12 * kMiB;
  }));
  StoreAll(&from, 100, 48);
  EXPECT_EQ(State().allocated_bytes, 12 * kMiB);
  LoadTiers(&to, 100, 48);
}

}  // namespace
}  // namespace agentmem
