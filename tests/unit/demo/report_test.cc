#include "tests/demo/report.h"

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/demo/report_text.h"

namespace agentmem::demo {
namespace {

// A run that showed everything.
class ReportTest : public testing::Test {
 protected:
  ReportTest() {
    options_.dram_bytes = 1 << 20;
    workload_.requests = 100;
    result_.requests_done = 100;
    result_.kills = 10;
    result_.recovered = true;
    result_.resident_while_down = 1;
    result_.durable_acknowledged = 7;
    result_.durable_verified = 7;
    result_.samples.push_back(
        {0.5, 1.0, {.dram_bytes = 10, .store_bytes = 20}});
    result_.memory.done = true;
    result_.memory.agents = 4;
    result_.memory.kills_mid_commit = 5;
    result_.memory.memd_kills = 1;
    result_.memory.hibernations = 3;
    result_.memory.resumes = 9;
    result_.memory.forks = 2;
    result_.memory.pool_hits = 11;
    result_.memory.first_page.Record(63);
    board_->Count(Counter::kHitsDram, 5);
    board_->Count(Counter::kHitsStore, 3);
    board_->Count(Counter::kStateBytes, 4 << 20);
    board_->lanes[2].Of(Operation::kGetDram).Record(60);
  }
  Report Make() const { return {options_, workload_, *board_, result_}; }
  void ExpectFailure(const std::string& words) const {
    const std::vector<std::string> failures = Failures(Make());
    ASSERT_EQ(failures.size(), 1u) << words;
    EXPECT_NE(failures[0].find(words), std::string::npos) << failures[0];
  }

  DemoOptions options_;
  WorkloadHeader workload_;
  const std::unique_ptr<Scoreboard> board_ = std::make_unique<Scoreboard>();
  RunResult result_;
};

TEST_F(ReportTest, ARunThatShowedEverythingHasNoFailure) {
  EXPECT_TRUE(Failures(Make()).empty());
  EXPECT_NE(RenderScreen(Make()).find("OK"), std::string::npos);
}

TEST_F(ReportTest, OneMismatchFails) {
  board_->Count(Counter::kMismatches);
  ExpectFailure("1 mismatches");
}

TEST_F(ReportTest, ARunThatTheUserStoppedIsCalledInterruptedAlone) {
  result_.interrupted = true;
  result_.requests_done = 5;
  result_.kills = 0;
  ExpectFailure("interrupted");
}

TEST_F(ReportTest, NineKillsFail) {
  result_.kills = 9;
  ExpectFailure("only 9 kills");
}

TEST_F(ReportTest, StateBelowFourTimesTheBudgetFails) {
  options_.dram_bytes += 1;
  ExpectFailure("4 x the DRAM budget");
}

TEST_F(ReportTest, ARequestNotDoneFails) {
  result_.requests_done = 99;
  ExpectFailure("1 requests were not done");
}

TEST_F(ReportTest, ADurableBlockThatIsLostFails) {
  result_.durable_verified = 6;
  ExpectFailure("durable");
}

TEST_F(ReportTest, BytesThatMemdDidNotGetBackFail) {
  result_.at_end.held_bytes = 1;
  ExpectFailure("get everything back");
}

TEST_F(ReportTest, ATroubleFailsAndIsShown) {
  result_.Trouble("put: no room");
  ExpectFailure("1 troubles");
  EXPECT_NE(RenderScreen(Make()).find("put: no room"), std::string::npos);
}

TEST_F(ReportTest, WrongWorkingMemoryFails) {
  result_.memory.mismatches = 1;
  ExpectFailure("working memory: 1 mismatches");
}

TEST_F(ReportTest, WorkingMemoryThatWasNotShownFailsUnlessItWasLeftOut) {
  result_.memory = {};
  ExpectFailure("working memory: not done");
  options_.memory_agents = 0;
  EXPECT_TRUE(Failures(Make()).empty());
}

TEST_F(ReportTest, ACommitThatNobodyWasKilledInFails) {
  result_.memory.kills_mid_commit = 0;
  ExpectFailure("mid-commit");
}

TEST_F(ReportTest, OnNodesWorkingMemoryAloneCountsAndMustMove) {
  options_.nodes = 3;
  result_.requests_done = 0;
  result_.kills = 0;
  result_.recovered = false;
  result_.memory.nodes = 3;
  result_.memory.moves = 8;
  result_.memory.pool_hits = 70;
  EXPECT_TRUE(Failures(Make()).empty());
  EXPECT_NE(RenderScreen(Make()).find("70 pool hits"), std::string::npos);
  result_.memory.moves = 0;
  ExpectFailure("no agent woke on another node");
  result_.memory.moves = 8;
  result_.memory.pool_hits = 0;
  ExpectFailure("no hits in the pool");
}

TEST_F(ReportTest, ATierWithoutHitsFails) {
  const auto empty = std::make_unique<Scoreboard>();
  empty->Count(Counter::kStateBytes, 4 << 20);
  EXPECT_EQ(Failures({options_, workload_, *empty, result_}).size(), 2u);
}

TEST_F(ReportTest, TheSummaryHasWhatProgramsLookFor) {
  const auto json =
      nlohmann::json::parse(RenderSummary(Make()), nullptr, false);
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["ok"], true);
  EXPECT_EQ(json["requests"], 100);
  EXPECT_EQ(json["hits"]["dram"], 5);
  EXPECT_EQ(json["hits"]["store"], 3);
  EXPECT_EQ(json["hits"]["pool"], 11);
  EXPECT_EQ(json["nodes"], 1);
  EXPECT_EQ(json["kills"], 10);
  EXPECT_EQ(json["mismatches"], 0);
  EXPECT_EQ(json["state_bytes"], 4 << 20);
  EXPECT_EQ(json["dram_budget_bytes"], 1 << 20);
  EXPECT_EQ(json["hibernations"], 3);
  EXPECT_EQ(json["resumes"], 9);
  EXPECT_EQ(json["forks"], 2);
  EXPECT_EQ(json["first_page_p99_ms"], 63e-6);
  EXPECT_EQ(json["memory"]["kills_mid_commit"], 5);
  EXPECT_TRUE(json.contains("bytes_verified"));
  EXPECT_TRUE(json.contains("seconds"));
  EXPECT_EQ(json["latencies"]["get_dram"]["p50_ns"], 60);
  EXPECT_EQ(json["tiers_over_time"][0]["store_bytes"], 20);
}

TEST(ReportText, NumbersReadAsPeopleWriteThem) {
  EXPECT_EQ(CountText(0), "0");
  EXPECT_EQ(CountText(999), "999");
  EXPECT_EQ(CountText(1234567), "1,234,567");
  EXPECT_EQ(BytesText(512), "512 B");
  EXPECT_EQ(BytesText(1536), "1.5 KiB");
  EXPECT_EQ(BytesText(100ULL << 20), "100 MiB");
  EXPECT_EQ(TimeText(150), "150 ns");
  EXPECT_EQ(TimeText(1500), "1.5 us");
  EXPECT_EQ(Percent(1, 3), "33%");
  EXPECT_EQ(Percent(0, 0), "0%");
}

}  // namespace
}  // namespace agentmem::demo
