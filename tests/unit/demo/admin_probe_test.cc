#include "tests/demo/admin_probe.h"

#include <gtest/gtest.h>

namespace agentmem::demo {
namespace {

TEST(AdminProbe, ReadsWhatMemctlPrintsOfATenant) {
  const auto sample = ParseTenants(
      R"({"tenants": [{"name": "default", "clients": 2, "granted_bytes": 3,
          "held_bytes": 4, "dram": {"used_bytes": 5, "evictions": 6},
          "pool": {"hits": 9},
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
  EXPECT_FALSE(sample->Quiet());
}

TEST(AdminProbe, ReadsTheProcessesOfClients) {
  const auto pids =
      ParseClientPids(R"({"clients": [{"pid": 12}, {"pid": 34}]})");
  ASSERT_TRUE(pids.ok()) << pids.status();
  EXPECT_EQ(*pids, (std::vector<std::int64_t>{12, 34}));
}

TEST(AdminProbe, ReadsWhatAgentsHaveInHbmInAllProcesses) {
  const auto hbm = ParseHbm(
      R"({"processes": [
          {"pid": 12, "budget_bytes": 30, "allocated_bytes": 20, "agents": [
            {"name": "a", "bytes": 5, "wish_open": true, "wish_late": false},
            {"name": "b", "bytes": 0, "wish_open": false, "wish_late": true}]},
          {"pid": 34, "agents": [{"name": "a", "bytes": 2}]}]})");
  ASSERT_TRUE(hbm.ok()) << hbm.status();
  ASSERT_EQ(hbm->processes.size(), 2u);
  EXPECT_EQ(hbm->processes[0].pid, 12);
  EXPECT_EQ(hbm->processes[0].budget_bytes, 30u);
  EXPECT_EQ(hbm->processes[0].allocated_bytes, 20u);
  EXPECT_EQ(hbm->BytesOf("a"), 7u);
  EXPECT_TRUE(hbm->IsAsked("a"));
  EXPECT_FALSE(hbm->IsLate("a"));
  EXPECT_EQ(hbm->BytesOf("b"), 0u);
  EXPECT_FALSE(hbm->IsAsked("b"));
  EXPECT_TRUE(hbm->IsLate("b"));
  EXPECT_EQ(hbm->BytesOf("nobody"), 0u);
  EXPECT_FALSE(ParseHbm("{}").ok());
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
