#include "tests/demo/admin_probe.h"

#include <gtest/gtest.h>

namespace agentmem::demo {
namespace {

TEST(AdminProbe, ReadsWhatMemctlPrintsOfATenant) {
  const auto sample = ParseTenants(
      R"({"tenants": [{"name": "default", "clients": 2, "granted_bytes": 3,
          "held_bytes": 4, "dram": {"used_bytes": 5, "evictions": 6},
          "hbm": {"hits": 10}, "pool": {"hits": 9},
          "store": {"used_bytes": 7, "reads": 8}}]})");
  ASSERT_TRUE(sample.ok()) << sample.status();
  EXPECT_EQ(sample->clients, 2u);
  EXPECT_EQ(sample->granted_bytes, 3u);
  EXPECT_EQ(sample->held_bytes, 4u);
  EXPECT_EQ(sample->dram_bytes, 5u);
  EXPECT_EQ(sample->dram_evictions, 6u);
  EXPECT_EQ(sample->store_bytes, 7u);
  EXPECT_EQ(sample->store_reads, 8u);
  EXPECT_EQ(sample->pool_hits, 9u);
  EXPECT_EQ(sample->hbm_hits, 10u);
  EXPECT_FALSE(sample->Quiet());
}

TEST(AdminProbe, ReadsTheProcessesOfClients) {
  const auto pids =
      ParseClientPids(R"({"clients": [{"pid": 12}, {"pid": 34}]})");
  ASSERT_TRUE(pids.ok()) << pids.status();
  EXPECT_EQ(*pids, (std::vector<std::int64_t>{12, 34}));
}

TEST(AdminProbe, ReadsWhatAgentsHaveInHbmAndWhatWasAskedOfThem) {
  const std::string processes =
      R"({"processes": [{"pid": 12, "budget_bytes": 30,
          "allocated_bytes": 20}]})";
  const auto hbm = ParseHbm(processes, R"({"agents": [
      {"name": "a", "pid": 12, "bytes": 5, "wish": "bring_back",
       "wish_open": true, "wish_late": false, "wish_ns": 0},
      {"name": "b", "pid": 12, "bytes": 0, "wish": "empty",
       "wish_open": false, "wish_late": true, "wish_ns": 77}]})");
  ASSERT_TRUE(hbm.ok()) << hbm.status();
  ASSERT_EQ(hbm->processes.size(), 1u);
  EXPECT_EQ(hbm->processes[0].pid, 12);
  EXPECT_EQ(hbm->processes[0].budget_bytes, 30u);
  EXPECT_EQ(hbm->processes[0].allocated_bytes, 20u);
  EXPECT_EQ(hbm->Of("a").bytes, 5u);
  EXPECT_EQ(hbm->Of("a").wish, "bring_back");
  EXPECT_TRUE(hbm->Of("a").is_open);
  EXPECT_FALSE(hbm->Of("a").is_late);
  EXPECT_EQ(hbm->Of("b").took_ns, 77u);
  EXPECT_FALSE(hbm->Of("b").is_open);
  EXPECT_TRUE(hbm->Of("b").is_late);
  EXPECT_EQ(hbm->Of("nobody").bytes, 0u);
  EXPECT_FALSE(ParseHbm("{}", R"({"agents": []})").ok());
  EXPECT_FALSE(ParseHbm(processes, "{}").ok());
}

TEST(AdminProbe, AnAnswerThatIsNoneIsAnError) {
  EXPECT_FALSE(ParseTenants("").ok());
  EXPECT_FALSE(ParseTenants("not json").ok());
  EXPECT_FALSE(ParseTenants("[]").ok());
  EXPECT_FALSE(ParseTenants(R"({"tenants": []})").ok());
  EXPECT_FALSE(ParseClientPids(R"({"clients": 5})").ok());
}

TEST(AdminProbe, AProgramThatCannotRunIsAnErrorInWords) {
  const AdminProbe probe("/nonexistent/memctl", "/nonexistent/socket");
  const auto sample = probe.Sample();
  ASSERT_FALSE(sample.ok());
  EXPECT_NE(sample.status().ToString().find("/nonexistent/memctl"),
            std::string::npos);
}

}  // namespace
}  // namespace agentmem::demo
