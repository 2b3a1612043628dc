#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "agentmem/agentmem.h"
#include "tests/demo/report.h"

namespace agentmem::demo {
namespace {

// A run with --hbm that showed everything.
class ReportHbmTest : public testing::Test {
 protected:
  ReportHbmTest() {
    options_.hbm = true;
    HbmResult& hbm = result_.hbm;
    hbm.done = true;
    hbm.device = "host";
    hbm.no_gpu = "GPU 0: no driver";
    hbm.agents = 6;
    hbm.hits[AGENTMEM_TIER_HBM] = 11;
    hbm.hits_shown = 9;
    hbm.hits[AGENTMEM_TIER_DRAM] = 12;
    hbm.hits[AGENTMEM_TIER_STORE] = 13;
    hbm.human_waits = 5;
    hbm.emptied = 5;
    hbm.emptied_ms_max = 40;
    hbm.returns = 5;
    hbm.returned = 5;
    hbm.return_blocks = 20;
    hbm.return_hbm_hits = 10;
    hbm.kills_mid_copy = 2;
    hbm.memd_kills = 1;
    hbm.bytes_verified = 3 << 20;
  }
  Report Make() const { return {options_, workload_, *board_, result_}; }
  void ExpectFailure(const std::string& words) const {
    const std::vector<std::string> failures = Failures(Make());
    ASSERT_EQ(failures.size(), 1u) << words;
    EXPECT_NE(failures[0].find(words), std::string::npos) << failures[0];
  }

  DemoOptions options_;
  const WorkloadHeader workload_;
  const std::unique_ptr<Scoreboard> board_ = std::make_unique<Scoreboard>();
  RunResult result_;
};

TEST_F(ReportHbmTest, ARunThatShowedEverythingHasNoFailure) {
  EXPECT_TRUE(Failures(Make()).empty());
  const std::string screen = RenderScreen(Make());
  EXPECT_NE(screen.find("OK: 3.0 MiB verified"), std::string::npos) << screen;
  EXPECT_NE(screen.find("device host (GPU 0: no driver)"), std::string::npos)
      << screen;
  EXPECT_NE(screen.find("hbm 11 (memctl shows 9), dram 12, pool 0, store 13"),
            std::string::npos);
  EXPECT_NE(screen.find("50% of what they loaded then"), std::string::npos);
}

TEST_F(ReportHbmTest, ATierWithoutHitsFails) {
  for (const auto& [tier, words] :
       {std::pair(AGENTMEM_TIER_HBM, "no hits in hbm"),
        std::pair(AGENTMEM_TIER_DRAM, "no hits in dram"),
        std::pair(AGENTMEM_TIER_STORE, "no hits in the store")}) {
    const std::uint64_t had =
        std::exchange(result_.hbm.hits[static_cast<std::size_t>(tier)], 0);
    ExpectFailure(words);
    result_.hbm.hits[static_cast<std::size_t>(tier)] = had;
  }
}

TEST_F(ReportHbmTest, HitsThatNoOperatorSeesFail) {
  result_.hbm.hits_shown = 0;
  ExpectFailure("memctl shows no hits in hbm");
}

TEST_F(ReportHbmTest, OnNodesThePoolHasHitsAndAgentsMove) {
  options_.nodes = 3;
  result_.hbm.nodes = 3;
  result_.hbm.moves = 4;
  ExpectFailure("no hits in the pool");
  result_.hbm.hits[AGENTMEM_TIER_POOL] = 1;
  EXPECT_TRUE(Failures(Make()).empty());
  result_.hbm.moves = 0;
  ExpectFailure("on another node");
}

TEST_F(ReportHbmTest, AnAgentThatDoesNotLeaveOrLeavesLateFails) {
  result_.hbm.emptied = 4;
  ExpectFailure("of 5 that waited for a human 4 left");
  result_.hbm.emptied = 5;
  result_.hbm.emptied_late = 1;
  ExpectFailure("1 left after memd's deadline");
}

TEST_F(ReportHbmTest, AnAgentThatDoesNotComeBackFails) {
  result_.hbm.returned = 3;
  ExpectFailure("of 5 that reason again 3 came back");
  result_.hbm.returned = 5;
  result_.hbm.return_hbm_hits = 9;
  ExpectFailure("of 20 blocks that were loaded after a return 9 were in HBM");
  result_.hbm.return_blocks = 0;
  result_.hbm.return_hbm_hits = 0;
  ExpectFailure("of 0 blocks that were loaded after a return 0 were in HBM");
}

TEST_F(ReportHbmTest, AWrongByteFails) {
  result_.hbm.mismatches = 1;
  ExpectFailure("HBM: 1 mismatches");
}

TEST_F(ReportHbmTest, WhatIsComputedAgainIsTheException) {
  result_.hbm.recomputed = 9;  // of 36 that were found
  EXPECT_TRUE(Failures(Make()).empty());
  result_.hbm.recomputed = 10;
  ExpectFailure("10 blocks had to be computed again");
}

TEST_F(ReportHbmTest, KillsThatWereNotShownFailUnlessTheyWereLeftOut) {
  result_.hbm.kills_mid_copy = 0;
  ExpectFailure("in the midst of copies");
  result_.hbm.kills_mid_copy = 1;
  result_.hbm.memd_kills = 0;
  ExpectFailure("memd was not killed");
  options_.recovery = false;
  EXPECT_TRUE(Failures(Make()).empty());
}

TEST_F(ReportHbmTest, ARunThatDidNotEndFails) {
  result_.hbm = {};
  ExpectFailure("HBM: not done");
}

TEST_F(ReportHbmTest, TheSummaryHasItsPartAndAllTiers) {
  const auto json =
      nlohmann::json::parse(RenderSummary(Make()), nullptr, false);
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["ok"], true);
  EXPECT_EQ(json["hits"]["hbm"], 11);
  EXPECT_EQ(json["hits"]["dram"], 12);
  EXPECT_EQ(json["hits"]["store"], 13);
  EXPECT_EQ(json["hbm"]["device"], "host");
  EXPECT_EQ(json["hbm"]["hits_shown"], 9);
  EXPECT_EQ(json["hbm"]["no_gpu"], "GPU 0: no driver");
  EXPECT_EQ(json["hbm"]["emptied"], 5);
  EXPECT_EQ(json["hbm"]["emptied_ms_max"], 40);
  EXPECT_EQ(json["hbm"]["return_hbm_hits"], 10);
}

// A run without it has the part, empty.
TEST_F(ReportHbmTest, WithoutItNothingIsAskedOfIt) {
  options_.hbm = false;
  options_.nodes = 3;
  result_.hbm = {};
  for (const std::string& failure : Failures(Make())) {
    EXPECT_EQ(failure.find("HBM"), std::string::npos) << failure;
  }
}

}  // namespace
}  // namespace agentmem::demo
