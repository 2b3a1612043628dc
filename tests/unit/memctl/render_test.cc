#include "client/memctl/render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/memctl/sample_node.h"

namespace agentmem::memctl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

nlohmann::json Parse(const std::string& text) {
  return nlohmann::json::parse(text, nullptr, false);
}

std::vector<std::string> KeysOf(const nlohmann::json& object) {
  std::vector<std::string> keys;
  for (const auto& item : object.items()) keys.push_back(item.key());
  return keys;
}

TEST(RenderTest, TiersAreATableWithOneLineATenantAndTier) {
  EXPECT_EQ(
      RenderTiers(SampleNode(), "", Output::kTable),
      "TENANT  TIER     BUDGET     USED  FULL  BLOCKS  HITS  READS  WRITES  "
      "EVICTIONS\n"
      "chat    dram    512 MiB  128 MiB   25%       0  9000      0       0  "
      "        0\n"
      "chat    pool   no limit    1 GiB     -       4     0      0       0  "
      "        0\n"
      "chat    store  no limit    3 GiB     -       0     0      0       0  "
      "        0\n"
      "code    dram   no limit      0 B     -       0     0      0       0  "
      "        0\n"
      "code    store  no limit      0 B     -       0     0      0       0  "
      "        0\n");
}

TEST(RenderTest, StatusStartsWithTheStateAndEndsWithTheTiers) {
  const std::string text = RenderStatus(SampleNode(), Health(), Output::kTable);
  EXPECT_THAT(text, ::testing::StartsWith("memd             serving\n"
                                          "health           ok\n"));
  EXPECT_THAT(text, HasSubstr("up               5m 12s\n"));
  EXPECT_THAT(text, HasSubstr("clients          2 (2 died, 0 refused)\n"));
  EXPECT_THAT(text, HasSubstr("\n\nTENANT"));
}

TEST(RenderTest, StatusAsJsonHasRawIntegers) {
  const auto json = Parse(RenderStatus(SampleNode(), Health(), Output::kJson));
  EXPECT_EQ(json["state"], "serving");
  EXPECT_EQ(json["uptime_ns"], 312 * kSecondNs);
  EXPECT_EQ(json["store_disk_bytes"], 3ULL << 30);
  EXPECT_EQ(json["instance"], "0000000000000abc");
  EXPECT_EQ(json["clients"], 2);
  EXPECT_EQ(json["health"]["state"], "ok");
  ASSERT_EQ(json["tiers"].size(), 5u);
  EXPECT_EQ(json["tiers"][1]["tier"], "pool");
  EXPECT_EQ(json["tiers"][2]["tier"], "store");
  EXPECT_EQ(json["tiers"][1]["tenant"], "chat");
}

TEST(RenderTest, BlocksInDeviceMemoryAreTheFirstTier) {
  admin::v1::NodeSnapshot node = SampleNode();
  admin::v1::TierSnapshot* const hbm = node.mutable_tenants(1)->mutable_hbm();
  hbm->set_tier(admin::v1::TIER_HBM);
  hbm->set_budget_bytes(4ULL << 30);
  hbm->set_used_bytes(1ULL << 30);
  hbm->set_blocks(512);
  hbm->set_hits(77);
  hbm->set_hit_bytes(77ULL << 21);
  EXPECT_EQ(
      RenderTiers(node, "code", Output::kTable),
      "TENANT  TIER     BUDGET   USED  FULL  BLOCKS  HITS  READS  WRITES  "
      "EVICTIONS\n"
      "code    hbm       4 GiB  1 GiB   25%     512    77      -       -  "
      "        -\n"
      "code    dram   no limit    0 B     -       0     0      0       0  "
      "        0\n"
      "code    store  no limit    0 B     -       0     0      0       0  "
      "        0\n");
  const auto json = Parse(RenderTiers(node, "code", Output::kJson));
  ASSERT_EQ(json["tiers"].size(), 3u);
  EXPECT_THAT(KeysOf(json["tiers"][0]),
              ::testing::UnorderedElementsAre("tenant", "tier", "budget_bytes",
                                              "used_bytes", "blocks", "hits",
                                              "hit_bytes"))
      << "nobody counts the others";
  EXPECT_EQ(json["tiers"][0]["tier"], "hbm");
  EXPECT_EQ(json["tiers"][0]["hits"], 77);
  EXPECT_EQ(json["tiers"][0]["hit_bytes"], 77ULL << 21);
  EXPECT_FALSE(json["tiers"][1].contains("hit_bytes"));
  EXPECT_EQ(Parse(RenderTenants(node, "code",
                                Output::kJson))["tenants"][0]["hbm"]["blocks"],
            512);
  EXPECT_THAT(RenderTenants(node, "code", Output::kTable), HasSubstr("1 GiB"));
  // All processes have ended: no budget is not one without limit.
  hbm->set_budget_bytes(0);
  hbm->set_used_bytes(0);
  EXPECT_THAT(RenderTiers(node, "code", Output::kTable),
              HasSubstr("code    hbm           -  "));
}

TEST(RenderTest, ATenantThatIsNamedStandsAlone) {
  const admin::v1::NodeSnapshot node = SampleNode();
  for (const Output output : {Output::kTable, Output::kJson}) {
    for (const std::string& text : {RenderTiers(node, "code", output),
                                    RenderTenants(node, "code", output),
                                    RenderClients(node, "code", output)}) {
      EXPECT_THAT(text, HasSubstr("code"));
      EXPECT_THAT(text, Not(HasSubstr("chat")));
    }
  }
}

TEST(RenderTest, ClientsShowWhatTheyPinAndHoldAndForHowLong) {
  const std::string text = RenderClients(SampleNode(), "", Output::kTable);
  EXPECT_EQ(
      text,
      "CLIENT  NAME       PID   UID  TENANT  CONNECTED  PINS  PINNED  HOLDS  "
      " HELD  OLDEST  REGISTERED  GRANTED  LIMBO  SOCKET\n"
      "     7  agent?[2J  100  1000  chat       1m 30s     2  64 KiB      1  "
      "4 KiB   1.5 s       8 MiB        -      -  open\n"
      "    12  bench ?      0     0  code         0 ns     -       -      -  "
      "    -       -           -        -      -  closed\n"
      "\n"
      "CLIENT  HOLDS KEY                          BYTES    AGE\n"
      "     7  0000002a:00112233445566778899aabb  4 KiB  1.5 s\n");
}

TEST(RenderTest, ClientsAsJsonHaveStableKeysAndSurviveOddNames) {
  const auto json = Parse(RenderClients(SampleNode(), "", Output::kJson));
  ASSERT_EQ(json["clients"].size(), 2u);
  EXPECT_THAT(KeysOf(json["clients"][0]),
              ::testing::UnorderedElementsAre(
                  "id", "name", "tenant", "pid", "uid", "connected_ns", "pins",
                  "pinned_bytes", "holds", "held_bytes", "registered_bytes",
                  "oldest_hold_ns", "grants", "granted_bytes", "limbo_bytes",
                  "socket_closed", "oldest_holds"));
  EXPECT_EQ(json["clients"][0]["oldest_holds"][0]["key"],
            "0000002a:00112233445566778899aabb");
  EXPECT_EQ(json["clients"][1]["name"], "bench \xef\xbf\xbd");
  EXPECT_EQ(json["clients"][1]["socket_closed"], true);
}

TEST(RenderTest, TenantsHaveStableKeys) {
  const auto json = Parse(RenderTenants(SampleNode(), "", Output::kJson));
  EXPECT_THAT(
      KeysOf(json["tenants"][0]),
      ::testing::UnorderedElementsAre(
          "name", "id", "clients", "puts", "puts_failed", "puts_failed_room",
          "puts_failed_quota", "puts_failed_store", "puts_failed_replica",
          "misses", "granted_bytes", "pinned_bytes", "held_bytes",
          "registered_bytes", "limbo_bytes", "dirty_bytes", "notes_lost",
          "corrupt_blocks", "slots_used", "slots", "dram", "pool", "store"));
  EXPECT_THAT(KeysOf(json["tenants"][0]["dram"]),
              ::testing::UnorderedElementsAre("tier", "budget_bytes",
                                              "used_bytes", "blocks", "hits",
                                              "reads", "writes", "evictions"));
  const std::string table = RenderTenants(SampleNode(), "", Output::kTable);
  EXPECT_THAT(table, HasSubstr("512/1024"));
}

TEST(RenderTest, ABlockInTheStoreAloneHasNoSlot) {
  admin::v1::ShowBlockResponse response;
  auto* block = response.add_blocks();
  SetKey(kSampleKey, block->mutable_key());
  block->set_tenant("chat");
  block->set_block_class(admin::v1::BLOCK_CLASS_STATE);
  block->set_length(1536);
  block->set_in_store(true);
  block->set_pool_copies(2);
  EXPECT_EQ(RenderBlocks(response, Output::kTable),
            "KEY                                TENANT  CLASS   LENGTH  DRAM  "
            "POOL  STORE  SLOT  GENERATION  PINS  HOLDS\n"
            "0000002a:00112233445566778899aabb  chat    state  1.5 KiB  no    "
            "   2  yes       -           -     -      -\n");
  const auto json = Parse(RenderBlocks(response, Output::kJson));
  EXPECT_EQ(json["blocks"][0]["length"], 1536);
  EXPECT_EQ(json["blocks"][0]["pool_copies"], 2);
  EXPECT_EQ(json["blocks"][0]["block_class"], "state");
}

TEST(RenderTest, FindingsShowTheRemedyBelowAndCountTheProblems) {
  const std::vector<Finding> findings = {
      {"pidfd", Level::kOk, "works", ""},
      {"memlock", Level::kProblem, "8 MiB", "raise it"}};
  EXPECT_EQ(RenderFindings(findings, Output::kTable),
            "LEVEL    CHECK    FOUND\n"
            "ok       pidfd    works\n"
            "problem  memlock  8 MiB\n"
            "                  -> raise it\n"
            "\n"
            "1 problem, 0 notes\n");
  const auto json = Parse(RenderFindings(findings, Output::kJson));
  EXPECT_EQ(json["problems"], 1);
  EXPECT_EQ(json["notes"], 0);
  EXPECT_THAT(
      KeysOf(json["findings"][1]),
      ::testing::UnorderedElementsAre("name", "level", "value", "remedy"));
  EXPECT_EQ(json["findings"][1]["level"], "problem");
}

}  // namespace
}  // namespace agentmem::memctl
