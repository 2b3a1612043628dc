#include "memd/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "base/status.h"
#include "proto/types.h"

namespace agentmem {
namespace {

using ::testing::HasSubstr;

Surroundings Somebody() {
  Surroundings surroundings;
  surroundings.uid = 1000;
  surroundings.home = "/srv/somebody";
  surroundings.xdg_runtime_dir = "/run/user/1000";
  surroundings.memory_bytes = 8ULL << 30;
  return surroundings;
}

absl::StatusOr<Config> Parse(const std::string& text) {
  return ParseConfig(text, "memd.toml", Somebody());
}
std::string ErrorOf(const std::string& text) {
  const auto config = Parse(text);
  return config.ok() ? "it was accepted" : StatusMessage(config.status());
}

// What is said of durability, though the file is valid.
std::string RemarkOf(const std::string& text) {
  const auto config = Parse(text);
  if (!config.ok()) return StatusMessage(config.status());
  for (const std::string& remark : config->remarks) {
    if (remark.find("durable") != std::string::npos) return remark;
  }
  return "";
}

TEST(ConfigTest, ANodeThatMayMakeNothingDurableIsWarned) {
  const std::string cluster =
      "[cluster]\nnode = \"a\"\nlisten = \"127.0.0.1:7474\"\n"
      "insecure = true\n";
  const std::string etcd = cluster + "etcd = [\"http://127.0.0.1:2379\"]\n";
  EXPECT_EQ(RemarkOf(""), "");
  EXPECT_THAT(RemarkOf(etcd), HasSubstr("\"export\" of [pool] is 0"));
  EXPECT_EQ(RemarkOf(etcd + "[pool]\nexport = \"64MiB\"\n"), "");
  const std::string peers =
      cluster + "peers = [\"a=127.0.0.1:7474\", \"b=127.0.0.2:7474\"]\n";
  EXPECT_EQ(RemarkOf(peers + "[pool]\nexport = \"64MiB\"\n"), "");
  EXPECT_EQ(RemarkOf(peers + "[pool]\ndurable = false\n"), "");
  EXPECT_THAT(RemarkOf(cluster + "peers = [\"a=127.0.0.1:7474\"]\n[pool]\n"
                                 "export = \"64MiB\"\n"),
              HasSubstr("names no other node"));
}

TEST(ConfigTest, DefaultsFollowTheXdgDirectoriesAndRootTheSystems) {
  Config config = DefaultConfig(Somebody());
  EXPECT_EQ(config.state_directory, "/srv/somebody/.local/state/agentmem");
  EXPECT_EQ(config.socket_path, "/run/user/1000/agentmem/memd.sock");
  EXPECT_EQ(config.admin_socket_path, "/run/user/1000/agentmem/admin.sock");
  Surroundings root = Somebody();
  root.uid = 0;
  config = DefaultConfig(root);
  EXPECT_EQ(config.state_directory, "/var/lib/agentmem");
  EXPECT_EQ(config.socket_path, "/run/agentmem/memd.sock");
  root.state_directory = "/var/lib/private/agentmem";
  EXPECT_EQ(DefaultConfig(root).state_directory, "/var/lib/private/agentmem");
}

TEST(ConfigTest, AnEmptyFileIsTheDefaults) {
  const auto config = Parse("");
  ASSERT_TRUE(config.ok()) << StatusMessage(config.status());
  ASSERT_EQ(config->tenants.size(), 1u);
  EXPECT_EQ(config->tenants[0].name, "default");
  EXPECT_EQ(config->tenants[0].dram_bytes, 1ULL << 30);
  EXPECT_EQ(config->tenants[0].hold_quota_bytes, 256ULL << 20);
}

// What it wrote has to be made stable after that, and systemd kills.
TEST(ConfigTest, MemdStopsWellBeforeItsUnitsTimeout) {
  std::ifstream unit(AGENTMEM_SOURCE_DIR "/configs/memd.service");
  std::string line;
  while (std::getline(unit, line) && !line.starts_with("TimeoutStopSec=")) {
  }
  ASSERT_TRUE(line.starts_with("TimeoutStopSec="));
  const std::uint64_t timeout_ms = 1000 * std::stoull(line.substr(15));
  EXPECT_LE(DefaultConfig(Somebody()).stop_ms + 20'000, timeout_ms);
  EXPECT_EQ(Parse("stop_ms = 5000")->stop_ms, 5000u);
  EXPECT_THAT(ErrorOf("stop_ms = -1"), HasSubstr("stop_ms"));
}

TEST(ConfigTest, TenantsTakeWhatTheyDoNotSayFromTheTop) {
  const auto config = Parse(
      "dram = \"64MiB\"\n[[tenant]]\nname = \"a\"\nusers = [1, 2]\n"
      "[[tenant]]\nname = \"b\"\ndram = 33554433\nstore_quota = \"1GiB\"\n");
  ASSERT_TRUE(config.ok()) << StatusMessage(config.status());
  ASSERT_EQ(config->tenants.size(), 2u);
  EXPECT_EQ(config->tenants[0].dram_bytes, 64ULL << 20);
  EXPECT_EQ(config->tenants[0].users, (std::vector<std::uint32_t>{1, 2}));
  EXPECT_EQ(config->tenants[1].dram_bytes, 32ULL << 20);  // whole extents
  EXPECT_EQ(config->tenants[1].store_quota_bytes, 1ULL << 30);
}

TEST(ConfigTest, DeviceMemoryIsBoundedByNodeAndTenant) {
  const auto usual = Parse("");
  ASSERT_TRUE(usual.ok()) << StatusMessage(usual.status());
  EXPECT_EQ(usual->hbm.device_bytes, 0u);
  EXPECT_EQ(usual->hbm.leave_ms, 1000u);
  EXPECT_EQ(usual->hbm.reload_ms, 1000u);
  EXPECT_EQ(usual->tenants[0].hbm_quota_bytes, 0u);
  const auto config = Parse(
      "[hbm]\ndevice_bytes = \"40GiB\"\nleave_ms = 250\nreload_ms = 700\n"
      "[[tenant]]\nhbm_quota = \"8GiB\"\n");
  ASSERT_TRUE(config.ok()) << StatusMessage(config.status());
  EXPECT_EQ(config->hbm.device_bytes, 40ULL << 30);
  EXPECT_EQ(config->hbm.leave_ms, 250u);
  EXPECT_EQ(config->hbm.reload_ms, 700u);
  EXPECT_EQ(config->tenants[0].hbm_quota_bytes, 8ULL << 30);
  EXPECT_THAT(ErrorOf("[hbm]\nleave_ms = 0"), HasSubstr("from 1 to 3600000"));
  EXPECT_THAT(ErrorOf("[hbm]\nreload_ms = 0"), HasSubstr("\"reload_ms\""));
  EXPECT_THAT(ErrorOf("[hbm]\ndevice_bytes = -1"),
              HasSubstr("\"device_bytes\""));
  EXPECT_THAT(ErrorOf("[hbm]\nbytes = 1"), HasSubstr("unknown field"));
  EXPECT_THAT(ErrorOf("hbm = 1"), HasSubstr("\"hbm\""));
  EXPECT_THAT(ErrorOf("[[tenant]]\nhbm_quota = \"much\""),
              HasSubstr("\"hbm_quota\""));
}

TEST(ConfigTest, AWrongValueIsRefusedNamingLineFieldValueAndRange) {
  const std::string small = ErrorOf("\ndram = \"1MiB\"\n");
  EXPECT_THAT(small, HasSubstr("memd.toml:2"));
  EXPECT_THAT(small, HasSubstr("\"dram\""));
  EXPECT_THAT(small, HasSubstr("1MiB"));
  EXPECT_THAT(small, HasSubstr("16777216"));
  EXPECT_THAT(ErrorOf("clients_max = 0"), HasSubstr("from 1 to 1048576"));
  EXPECT_THAT(ErrorOf("spin_us = \"long\""), HasSubstr("\"spin_us\""));
  EXPECT_THAT(ErrorOf("dram = \"12 parsecs\""), HasSubstr("12 parsecs"));
  EXPECT_THAT(ErrorOf("[[tenant]]\nusers = [\"me\"]"), HasSubstr("\"users\""));
}

TEST(ConfigTest, UnknownFieldsTwinTenantsAndBrokenTomlAreRefused) {
  EXPECT_THAT(ErrorOf("drma = 1"), HasSubstr("unknown field \"drma\""));
  EXPECT_THAT(ErrorOf("[[tenant]]\nquota = 1"), HasSubstr("\"quota\""));
  EXPECT_THAT(ErrorOf("[[tenant]]\nname=\"a\"\n[[tenant]]\nname=\"a\"\n"),
              HasSubstr("\"a\""));
  EXPECT_THAT(ErrorOf("dram = "), HasSubstr("memd.toml:1"));
  EXPECT_THAT(ErrorOf("\n[\x08"),
              HasSubstr("memd.toml:2: control character 8"));
  EXPECT_THAT(ErrorOf("socket = \"/" + std::string(200, 's') + "\""),
              HasSubstr("95"));
}

TEST(ConfigTest, WhatWouldFailLaterIsRefusedNow) {
  EXPECT_THAT(ErrorOf("dram = \"16MiB\"\n[[tenant]]\nslots = 1073741824\n"),
              HasSubstr("64 to 32768"));
  EXPECT_THAT(ErrorOf("[[tenant]]\ndram = \"64MiB\"\nhold_quota = \"65MiB\""),
              HasSubstr("at most its dram, 67108864"));
  EXPECT_THAT(ErrorOf("[[tenant]]\ndram = \"64MiB\"\ngrant_quota = \"1GiB\""),
              HasSubstr("\"grant_quota\""));
  EXPECT_THAT(ErrorOf("socket = \"relative.sock\""), HasSubstr("\"socket\""));
  EXPECT_THAT(ErrorOf("state_directory = \"rel\""), HasSubstr("absolute"));
  EXPECT_THAT(ErrorOf("socket = \"/a/s\"\nadmin_socket = \"/a/s\""),
              HasSubstr("must differ"));
  EXPECT_THAT(ErrorOf("[[tenant]]\nname = \"a\\nb\""), HasSubstr("letters"));
  Surroundings homeless = Somebody();
  homeless.home.clear();
  EXPECT_FALSE(ParseConfig("", "defaults", homeless).ok());
  EXPECT_FALSE(LoadConfig("/", Somebody()).ok());
}

TEST(ConfigTest, WhatIsFoundOnceAllIsReadIsNamedByItsLineToo) {
  const struct {
    std::string text;
    const char* says;
  } wrong[] = {
      {"\n\nsocket = \"rel\"\n", "memd.toml:3: field \"socket\""},
      {"dram = \"16MiB\"\n\n[[tenant]]\nname = \"a\"\n[[tenant]]\n"
       "name = \"b\"\nslots = 1073741824\n",
       "memd.toml:7: field \"slots\" of tenant b"},
      {"[[tenant]]\nname = \"a\"\n[[tenant]]\nname = \"a\"\n",
       "memd.toml:4: two tenants"},
      {"\n[pool]\nexport = \"64MiB\"\n", "memd.toml:2: [pool] without"},
      {"\n[store]\nkind = \"remote\"\n", "memd.toml:3: [store] kind"},
      {"[cluster]\nnode = \"n1\"\n", "memd.toml:1: [cluster] needs"},
      {"[cluster]\nlisten = \"127.0.0.1:7474\"\ninsecure = true\n"
       "etcd = [\"https://127.0.0.1:2379\"]\n",
       "memd.toml:4: field \"etcd\" of [cluster] has "
       "https://127.0.0.1:2379: https needs \"etcd_authority\""},
  };
  for (const auto& one : wrong) {
    EXPECT_THAT(ErrorOf(one.text), HasSubstr(one.says)) << one.text;
  }
}

TEST(ConfigTest, WhatIsNotDoneAsWrittenIsSaid) {
  const auto config = Parse(
      "dram = \"17MiB\"\n[cluster]\nnode = \"n1\"\n"
      "listen = \"127.0.0.1:7474\"\ninsecure = true\n"
      "peers = [\"n2=127.0.0.1:7475\"]\n[pool]\nexport = \"9MiB\"\n");
  ASSERT_TRUE(config.ok()) << StatusMessage(config.status());
  EXPECT_EQ(config->tenants[0].dram_bytes, 16ULL << 20);
  EXPECT_EQ(config->pool.export_bytes, 8ULL << 20);
  ASSERT_EQ(config->remarks.size(), 3u);
  EXPECT_THAT(config->remarks[0], HasSubstr("memd.toml:6: field \"peers\""));
  EXPECT_THAT(config->remarks[0], HasSubstr("names n2, and not this node"));
  EXPECT_THAT(config->remarks[1], HasSubstr("memd.toml:8: field \"export\""));
  EXPECT_THAT(config->remarks[2], HasSubstr("memd.toml:1: field \"dram\""));
  EXPECT_THAT(config->remarks[2], HasSubstr("so it is 16777216"));
  EXPECT_TRUE(Parse("")->remarks.empty());
}

TEST(ConfigTest, NobodyAndAnIndexBeyondTheMachineAreSlips) {
  EXPECT_THAT(ErrorOf("[[tenant]]\nusers = []\n"),
              HasSubstr("left out: memd's own"));
  EXPECT_THAT(ErrorOf("[[tenant]]\nindex_entries = 68719476736\n"),
              HasSubstr("memd.toml:2: field \"index_entries\" of tenant "
                        "default is 68719476736"));
}

std::string ClusterWith(
    const std::string& store, const std::string& pool,
    const std::string& members = "etcd = [\"http://127.0.0.1:2379\"]") {
  return "[store]\n" + store + "\n[cluster]\nnode = \"n1\"\nlisten = " +
         "\"127.0.0.1:7474\"\ninsecure = true\n" + members + "\n[pool]\n" +
         pool + "\n";
}

TEST(ConfigTest, ARemoteStoreIsAnotherNodesDisk) {
  const auto config =
      Parse(ClusterWith("kind = \"remote\"\nnodes = [\"s1\", \"s2\"]", ""));
  ASSERT_TRUE(config.ok()) << StatusMessage(config.status());
  EXPECT_TRUE(config->store.remote);
  EXPECT_EQ(config->store.nodes, (std::vector<std::string>{"s1", "s2"}));
  // That disk is another node's already; who wants a third place says so.
  EXPECT_FALSE(config->pool.durable);
  EXPECT_TRUE(
      Parse(ClusterWith("kind = \"remote\"", "durable = true"))->pool.durable);
  const auto serves =
      Parse(ClusterWith("serve = \"2TiB\"", "export = \"64MiB\""));
  ASSERT_TRUE(serves.ok()) << StatusMessage(serves.status());
  EXPECT_FALSE(serves->store.remote);
  EXPECT_EQ(serves->store.serve_bytes, 2ULL << 40);
  EXPECT_TRUE(serves->pool.durable);
}

TEST(ConfigTest, AStoreThatCannotWorkIsRefusedSayingWhatToDo) {
  const struct {
    std::string text;
    const char* says;
  } wrong[] = {
      {"[store]\nkind = \"tape\"\n", "\"disk\""},
      {"[store]\nkind = 1\n", "a string"},
      {"[store]\nkind = \"remote\"\n", "name etcd's endpoints"},
      {ClusterWith("kind = \"remote\"", "", "peers = [\"n2=127.0.0.1:7475\"]"),
       "name etcd's endpoints"},
      {ClusterWith("kind = \"remote\"\nserve = \"1GiB\"", ""), "has no disk"},
      {ClusterWith("kind = \"remote\"", "") +
           "[[tenant]]\nname = \"a\"\nstore_quota = \"1GiB\"\n",
       "only that node can count; set it there"},
      {ClusterWith("nodes = [\"s1\"]", ""), "kind is \"disk\""},
      {ClusterWith("kind = \"remote\"\nnodes = [\"n1\"]", ""),
       "which is this node"},
      {ClusterWith("kind = \"remote\"\nnodes = [1]", ""), "array"},
      {ClusterWith("serve = \"1GiB\"", ""), "needs \"export\""},
      {ClusterWith("serve = \"1GiB\"", "export = \"64MiB\"",
                   "peers = [\"n2=127.0.0.1:7475\"]"),
       "needs \"etcd\""},
      {"[store]\nserve = \"1GiB\"\n", "needs \"etcd\""},
      {"[store]\nwhere = \"there\"\n", "kind, nodes, serve"},
  };
  for (const auto& one : wrong) {
    EXPECT_THAT(ErrorOf(one.text), HasSubstr(one.says)) << one.text;
  }
  // A disk that other nodes open agents from: as before.
  EXPECT_THAT(ErrorOf(ClusterWith("", "durable = false")),
              HasSubstr("must be in their memory"));
}

TEST(ConfigTest, SizesHaveUnitsAndDoNotOverflow) {
  EXPECT_EQ(*ParseBytes("3 GiB"), 3ULL << 30);
  EXPECT_EQ(*ParseBytes("7B"), 7u);
  EXPECT_FALSE(ParseBytes("GiB").ok());
  EXPECT_FALSE(ParseBytes("1GB").ok());
  EXPECT_FALSE(ParseBytes("99999999999999999999B").ok());
  EXPECT_FALSE(ParseBytes("99999999999TiB").ok());
}

}  // namespace
}  // namespace agentmem
