// What a start would refuse, refused without one.
#include "memd/service/start_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/status.h"

namespace agentmem {
namespace {

using ::testing::HasSubstr;

std::string Cluster(const std::string& fields) {
  return "[cluster]\nnode = \"n1\"\n" + fields;
}

const char kListen[] = "listen = \"127.0.0.1:7474\"\n";
const char kOpen[] = "listen = \"127.0.0.1:7474\"\ninsecure = true\n";

// What CheckStart says of a file that is well in itself.
std::string Said(const std::string& text) {
  Surroundings surroundings;
  surroundings.home = "/srv/somebody";
  surroundings.memory_bytes = 8ULL << 30;
  const auto config = ParseConfig(text, "memd.toml", surroundings);
  if (!config.ok()) return "parsing: " + StatusMessage(config.status());
  const absl::Status status = CheckStart(*config);
  return status.ok() ? "valid" : StatusMessage(status);
}

TEST(StartCheck, ANodeAloneAndARightClusterAreValid) {
  EXPECT_EQ(Said(""), "valid");
  EXPECT_EQ(Said(Cluster(kOpen)), "valid");
  EXPECT_EQ(Said(Cluster(kOpen) + "peers = [\"n1=127.0.0.1:7474\"]\n" +
                 "[fabric]\nprovider = \"tcp\"\n"),
            "valid");
}

TEST(StartCheck, WhatTheStartRefusesIsNamedByLineAndField) {
  const std::string files =
      "certificate = \"/nope\"\nkey = \"/nope\"\nauthority = \"/nope\"\n";
  const struct {
    std::string text;
    const char* place;
    const char* why;
  } wrong[] = {
      {Cluster("listen = \"127.0.0.1:99999\"\ninsecure = true\n"),
       "memd.toml:3: field \"listen\" of [cluster]", "a port of 1 to 65535"},
      {Cluster(kOpen) + "advertise = \"a b:1\"\n",
       "memd.toml:5: field \"advertise\"", "not host:port"},
      {"[cluster]\nnode = \"a b/c\"\n" + std::string(kOpen),
       "memd.toml:2: field \"node\" of [cluster]", "letters, digits"},
      {Cluster(kOpen) + "rack = \"r/2\"\n", "memd.toml:5: field \"rack\"",
       "is no name"},
      {Cluster(kOpen) + "peers = [\"n1=h:1\", \"b/=h:2\"]\n",
       "memd.toml:5: field \"peers\"", "is no name"},
      {Cluster(kOpen) + "etcd = [\"foo\"]\n", "memd.toml:5: field \"etcd\"",
       "\"foo\": allowed are"},
      {Cluster(kListen) + files, "memd.toml:4: field \"certificate\"",
       "certificate file /nope: cannot be opened"},
      {Cluster(kOpen) + "[pool]\nkeys = \"/nope\"\n",
       "memd.toml:6: field \"keys\" of [pool]", "/nope"},
      {Cluster(kOpen) + "[fabric]\nprovider = \"foo\"\n",
       "memd.toml:6: field \"provider\" of [fabric]", "'foo' does not exist"},
      {Cluster(kOpen) + "[fabric]\ndomain = \"nope_9\"\n",
       "memd.toml:6: field \"domain\" of [fabric]",
       "no RDMA device \"nope_9\""},
  };
  for (const auto& one : wrong) {
    const std::string said = Said(one.text);
    EXPECT_THAT(said, HasSubstr(one.place)) << one.text;
    EXPECT_THAT(said, HasSubstr(one.why)) << one.text;
  }
}

}  // namespace
}  // namespace agentmem
