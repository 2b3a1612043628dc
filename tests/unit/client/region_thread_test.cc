// Many threads in one region, one connection and one agent.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/client/agent_test_base.h"

namespace agentmem {
namespace {

constexpr int kThreads = 4;
constexpr int kRounds = 200;

class RegionThreadTest : public FaultTest {};

TEST_F(RegionThreadTest, WritersGoOnWhileVersionsAreMade) {
  OpenAll();
  std::atomic<int> running = kThreads;
  std::vector<std::thread> writers;
  for (int thread = 0; thread < kThreads; ++thread) {
    writers.emplace_back([this, thread, &running] {
      for (int i = 0; i < kRounds; ++i) {
        const std::uint64_t unit = 16 * thread + i % 16;
        data()[unit * kUnitBytes] = static_cast<char>(i);
      }
      --running;
    });
  }
  while (running != 0) Commit();
  for (std::thread& writer : writers) writer.join();
  const std::uint64_t last = Commit();
  const FakeContent content = agentd_->ContentOf("a", "heap", last);
  for (std::uint64_t unit = 0; unit < 16 * kThreads; ++unit) {
    // The last round of each thread that wrote this unit.
    const int round = static_cast<int>(kRounds - 16 + (unit + 8) % 16);
    ASSERT_EQ(content.at(unit)[0], static_cast<char>(round)) << unit;
  }
}

TEST_F(RegionThreadTest, CallsOfManyThreadsGetTheirOwnAnswers) {
  OpenAll();
  agentd_->OnReply(AgentOp::kHint, [](const FakeAgentd::Request& request,
                                      FakeAgentd::Answer* answer) {
    answer->value[0] = request.fixed.offset / kUnitBytes;
  });
  std::vector<std::thread> callers;
  for (std::uint64_t thread = 1; thread <= kThreads; ++thread) {
    callers.emplace_back([this, thread] {
      agentmem_error error;
      for (int i = 0; i < kRounds; ++i) {
        agentmem_answer answer = 0;
        // Some give up before the answer comes.
        const std::uint64_t timeout = i % 8 == 7 ? 20'000 : kLongNs;
        const agentmem_code code = agentmem_region_hint(
            region_, thread * kUnitBytes, 1, 0, timeout, &answer, &error);
        if (code == AGENTMEM_OK) {
          EXPECT_EQ(answer, thread);
        } else {
          EXPECT_EQ(code, AGENTMEM_DEADLINE_EXCEEDED) << error.message;
        }
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(agentd_->connections(), 1);
}

TEST_F(RegionThreadTest, WatchersSeeEveryVersionOrALaterOne) {
  OpenAll();
  constexpr std::uint64_t kVersions = 50;
  std::vector<std::thread> watchers;
  for (int thread = 0; thread < 2; ++thread) {
    watchers.emplace_back([this] {
      agentmem_error error;
      for (std::uint64_t seen = 0; seen < kVersions;) {
        std::uint64_t version = 0;
        ASSERT_EQ(
            agentmem_region_watch(region_, seen, kLongNs, &version, &error),
            AGENTMEM_OK)
            << error.message;
        ASSERT_GT(version, seen);
        seen = version;
      }
    });
  }
  for (std::uint64_t i = 0; i < kVersions; ++i) Commit();
  for (std::thread& watcher : watchers) watcher.join();
}

TEST_F(RegionThreadTest, RegionsOpenAndCloseWhileMemdDies) {
  OpenAll();
  std::vector<std::thread> openers;
  std::atomic<int> opened = 0;
  for (int thread = 0; thread < kThreads; ++thread) {
    openers.emplace_back([this, thread, &opened] {
      agentmem_region_options options = {};
      options.size = sizeof(options);
      options.bytes = kTestRegionBytes;
      const std::string name = "r" + std::to_string(thread);
      for (;;) {
        agentmem_region* region = nullptr;
        agentmem_error error;
        if (agentmem_region_open(agent_, name.c_str(), &options, kLongNs,
                                 &region, &error) != AGENTMEM_OK) {
          EXPECT_EQ(error.code, AGENTMEM_UNAVAILABLE) << error.message;
          return;
        }
        ++opened;
        agentmem_region_close(region);
      }
    });
  }
  while (opened < 50) std::this_thread::yield();
  Kill();
  agentd_->Kill();
  for (std::thread& opener : openers) opener.join();
}

}  // namespace
}  // namespace agentmem
