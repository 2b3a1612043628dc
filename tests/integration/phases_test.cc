// What an agent says that it does decides whose pages leave first.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "agentmem/agentmem.hpp"
#include "tests/integration/memd_process.h"
#include "tests/integration/region_bytes.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kHalf = 24 * kMiB;

template <typename T>
T Value(Result<T> result) {
  EXPECT_TRUE(result) << result.status().message();
  return std::move(*result);
}

// An agent with a region of which the first half is there, unchanged.
struct OpenAgent {
  OpenAgent(Client* client, const std::string& name, std::uint64_t seed)
      : agent(Value(
            client->Agents().Open(name, {.write = true, .create = true}))),
        region(Value(agent.OpenRegion("heap", {.bytes = 2 * kHalf}))) {
    Fill(region.data(), kHalf, seed);
    EXPECT_TRUE(region.Commit());
  }

  Agent agent;
  Region region;
};

// memd lends regions at most 56 MiB of 64: two halves fit, three do not.
class PhasesTest : public ::testing::TestWithParam<bool> {
 protected:
  PhasesTest()
      : other_(ConnectTo(memd_, "other")),
        worker_(&client_, "worker", 1),
        sleeper_(GetParam() ? &client_ : &other_, "sleeper", 2) {}

  void WorkerNeedsMore() { Fill(worker_.region.data() + kHalf, kHalf, 3); }
  void ExpectAllBytes() {
    EXPECT_TRUE(IsFilled(worker_.region.data(), kHalf, 1));
    EXPECT_TRUE(IsFilled(worker_.region.data() + kHalf, kHalf, 3));
    EXPECT_TRUE(IsFilled(sleeper_.region.data(), kHalf, 2));
  }
  std::uint64_t Resident(const std::string& name) {
    auto shown = client_.Agents().Show(name);
    EXPECT_TRUE(shown);
    return shown ? shown->resident_bytes : 0;
  }

  MemdProcess memd_{"64MiB"};
  Client client_ = ConnectTo(memd_, "worker");
  Client other_;
  OpenAgent worker_;
  OpenAgent sleeper_;
};

// In the same process, and in another one.
INSTANTIATE_TEST_SUITE_P(Processes, PhasesTest, ::testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "Same" : "Another";
                         });

TEST_P(PhasesTest, WhoIsIdleGivesWayToWhoWorks) {
  for (const auto& [phase, tool] : std::vector<std::pair<Phase, std::string>>{
           {Phase::kTool, "build"}, {Phase::kIdle, ""}}) {
    const auto answer = sleeper_.agent.SetPhase(phase, tool);
    ASSERT_TRUE(answer) << answer.status().message();
    EXPECT_EQ(*answer, HintAnswer::kAccepted);
  }
  WorkerNeedsMore();
  EXPECT_EQ(Resident("worker"), 2 * kHalf);
  EXPECT_LT(Resident("sleeper"), kHalf / 2);
  ExpectAllBytes();
}

TEST_P(PhasesTest, WhoIsDoneGivesWayToWhoIsIdle) {
  ASSERT_TRUE(worker_.agent.SetPhase(Phase::kIdle));
  ASSERT_TRUE(sleeper_.agent.SetPhase(Phase::kDone));
  WorkerNeedsMore();
  EXPECT_EQ(Resident("worker"), 2 * kHalf);
  ExpectAllBytes();
}

TEST_P(PhasesTest, WhoComesBackAtOnceDoesNot) {
  ASSERT_TRUE(worker_.agent.SetPhase(Phase::kHumanWait));
  ASSERT_TRUE(sleeper_.agent.SetPhase(Phase::kTool, "ls",
                                      std::chrono::milliseconds(1)));
  WorkerNeedsMore();
  EXPECT_EQ(Resident("sleeper"), kHalf);
  EXPECT_LE(Resident("worker"), 32 * kMiB);
  ExpectAllBytes();
}

TEST(PhaseAnswersTest, TheAnswerSaysWhatWasDone) {
  MemdProcess memd("64MiB");
  Client client = ConnectTo(memd);
  auto agent = client.Agents().Open("a", {.write = true, .create = true});
  ASSERT_TRUE(agent);
  const auto answer = [&](Phase phase, const std::string& tool = {},
                          Timeout eta = Timeout(0)) {
    return Value(agent->SetPhase(phase, tool, eta));
  };
  EXPECT_EQ(answer(Phase::kIdle), HintAnswer::kDeferred);
  auto region = agent->OpenRegion("heap", {.bytes = kMiB});
  ASSERT_TRUE(region) << region.status().message();
  EXPECT_EQ(answer(Phase::kIdle), HintAnswer::kAccepted);
  EXPECT_EQ(answer(Phase::kIdle, {}, std::chrono::hours(24)),
            HintAnswer::kAccepted);
  EXPECT_EQ(answer(Phase::kIdle, {}, std::chrono::hours(25)),
            HintAnswer::kClipped);
  // Its writer's word alone counts.
  Client other = ConnectTo(memd, "other");
  auto reader = other.Agents().Open("a");
  ASSERT_TRUE(reader) << reader.status().message();
  EXPECT_FALSE(reader->SetPhase(Phase::kDone));
}

}  // namespace
}  // namespace agentmem
