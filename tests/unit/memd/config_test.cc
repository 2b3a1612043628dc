#include "memd/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
