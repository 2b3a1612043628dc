// memctl's verbs of agents and regions against a real memd and a real writer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include "agentmem/agentmem.hpp"
#include "tests/integration/memctl_run.h"

namespace agentmem {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kMiB = 1 << 20;

// Bytes that are nowhere zero.
std::string Pattern(std::size_t count, unsigned seed) {
  std::string bytes(count, '\0');
  for (std::size_t i = 0; i < count; ++i) {
    bytes[i] = static_cast<char>((i * 7 + i / 255 + seed) % 255 + 1);
  }
  return bytes;
}

class MemctlAgentsTest : public ::testing::Test {
 protected:
  void TearDown() override {
    if (memd_.pid() <= 0) return;
    EXPECT_EQ(memd_.Stop(), 0) << memd_.Log();
  }

  Outcome Memctl(const std::vector<std::string>& arguments,
                 const std::string& input = "") const {
    return RunMemctl(memd_, arguments, input);
  }
  // What must succeed, as JSON.
  nlohmann::json Json(std::vector<std::string> arguments,
                      const std::string& input = "") const {
    arguments.insert(arguments.end(), {"-o", "json"});
    const Outcome outcome = Memctl(arguments, input);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.error;
    return outcome.json();
  }
  void ExpectFailure(const std::vector<std::string>& arguments,
                     const std::string& words,
                     const std::string& input = "") const {
    const Outcome outcome = Memctl(arguments, input);
    EXPECT_EQ(outcome.exit_code, 1) << ::testing::PrintToString(arguments);
    EXPECT_THAT(outcome.error, HasSubstr(words));
    EXPECT_EQ(outcome.output, "");
  }
  Client Connect(const std::string& name) const {
    ConnectOptions options;
    options.socket_path = memd_.socket();
    options.name = name;
    auto client = Client::Connect(options);
    if (!client) {
      ADD_FAILURE() << client.status().message();
      ::abort();
    }
    return std::move(*client);
  }

  MemdProcess memd_{"64MiB"};
};

TEST_F(MemctlAgentsTest, WhatIsWrittenComesBackByVersionAlsoAfterARestart) {
  const std::string first = Pattern(5 * kMiB + 123, 1);
  const std::string second = Pattern(9000, 2);
  nlohmann::json made =
      Json({"region", "write", "a", "heap", "--bytes", "16MiB", "--offset",
            "1000", "-m", "restored", "--label", "step=3"},
           first);
  EXPECT_EQ(made["version"], 1);
  EXPECT_EQ(made["length"], first.size());
  made = Json({"region", "write", "a", "heap", "--offset", "8MiB"}, second);
  EXPECT_EQ(made["version"], 2);
  EXPECT_EQ(memd_.Stop(), 0) << memd_.Log();
  memd_.Start();
  const Outcome newest = Memctl({"region", "read", "a", "heap"});
  ASSERT_EQ(newest.exit_code, 0) << newest.error;
  std::string expected(16 * kMiB, '\0');
  expected.replace(1000, first.size(), first);
  const std::string old_bytes = expected;
  expected.replace(8 * kMiB, second.size(), second);
  EXPECT_TRUE(newest.output == expected);
  const Outcome old = Memctl({"region", "read", "a", "heap", "--version", "1"});
  EXPECT_TRUE(old.output == old_bytes);
  const Outcome part = Memctl({"region", "read", "a", "heap", "--offset",
                               "8388609", "--length", "100"});
  EXPECT_EQ(part.output, second.substr(1, 100));
}

TEST_F(MemctlAgentsTest, TheLogTellsMessagesLabelsAndTraceIdsOfAllRegions) {
  {
    Client client = Connect("writer");
    auto agent = client.Agents().Open("a", {.write = true, .create = true});
    ASSERT_TRUE(agent) << agent.status().message();
    auto heap = agent->OpenRegion("heap", {.bytes = kMiB});
    auto notes = agent->OpenRegion("notes", {.bytes = 65536});
    ASSERT_TRUE(heap && notes);
    const std::string bytes = Pattern(4096, 1);
    ASSERT_TRUE(heap->Write(0, std::as_bytes(std::span(bytes))));
    CommitOptions options;
    options.message = "step 3\n\nof five";
    options.labels = {{"tool", "pytest"}};
    options.trace_id = {0x4b, 0xf9};
    ASSERT_TRUE(heap->Commit(options));
    ASSERT_TRUE(notes->Write(4096, std::as_bytes(std::span(bytes))));
    ASSERT_TRUE(notes->Commit());
    const nlohmann::json shown = Json({"agent", "show", "a"});
    EXPECT_EQ(shown["writing"], true);
    EXPECT_EQ(shown["writer"], "writer");
    EXPECT_EQ(shown["writer_pid"], ::getpid());
    EXPECT_EQ(shown["phase"], "idle");
    EXPECT_EQ(shown["regions"][0]["newest"]["message"], "step 3\n\nof five");
  }
  const nlohmann::json log = Json({"agent", "log", "a"})["versions"];
  ASSERT_EQ(log.size(), 2u);
  EXPECT_EQ(log[0]["region"], "notes");
  EXPECT_EQ(log[1]["region"], "heap");
  EXPECT_EQ(log[1]["labels"]["tool"], "pytest");
  EXPECT_EQ(log[1]["trace_id"], "4bf90000000000000000000000000000");
  EXPECT_GT(log[1]["changed_bytes"], 0);
  EXPECT_GE(log[0]["unix_ns"], log[1]["unix_ns"]);
  const Outcome text = Memctl({"agent", "log", "a", "--region", "heap"});
  EXPECT_THAT(text.output, HasSubstr("version 1 of heap\nwhen     2"));
  EXPECT_THAT(text.output, HasSubstr("\n    step 3\n\n    of five\n"));

  // Who reverts is not who wrote the version before.
  Json({"agent", "revert", "a", "heap", "1"});
  const nlohmann::json newest = Json({"agent", "log", "a", "-n", "1"});
  EXPECT_EQ(newest["versions"][0]["revert_of"], 1);
  EXPECT_FALSE(newest["versions"][0].contains("trace_id"));
}

TEST_F(MemctlAgentsTest, DiffRevertForkHibernateResumeAndDelete) {
  const std::string bytes = Pattern(65536, 1);
  Json({"region", "write", "a", "heap", "--bytes", "1MiB"}, bytes);
  Json({"region", "write", "a", "heap", "--offset", "128KiB"}, bytes);
  nlohmann::json diff = Json({"agent", "diff", "a", "heap", "1", "2"});
  EXPECT_EQ(diff["changed_bytes"], 65536);
  EXPECT_EQ(diff["ranges"][0]["offset"], 131072);
  EXPECT_EQ(Json({"agent", "diff", "a", "heap", "0", "2"})["changed_bytes"],
            131072);

  EXPECT_EQ(Json({"agent", "revert", "a", "heap", "1"})["version"], 3);
  diff = Json({"agent", "diff", "a", "heap", "1", "3"});
  EXPECT_EQ(diff["changed_bytes"], 0);

  EXPECT_EQ(Json({"agent", "fork", "a", "b", "--version", "2"})["name"], "b");
  EXPECT_GT(Json({"agent", "hibernate", "a"})["released_bytes"], 0);
  EXPECT_GT(Json({"agent", "resume", "a"})["asked_blocks"], 0);
  EXPECT_EQ(Json({"agent", "list"})["agents"].size(), 2u);

  ExpectFailure({"agent", "delete", "a"}, "--yes");
  EXPECT_EQ(Json({"agent", "delete", "a", "--yes"})["deleted"], true);
  const Outcome forked = Memctl({"region", "read", "b", "heap", "--offset",
                                 "128KiB", "--length", "64KiB"});
  EXPECT_TRUE(forked.output == bytes) << forked.error;
  EXPECT_EQ(Json({"agent", "list", "b"})["agents"][0]["name"], "b");
  EXPECT_EQ(Json({"agent", "list", "c"})["agents"].size(), 0u);
}

TEST_F(MemctlAgentsTest, WhatIsNotThereIsNamed) {
  Json({"region", "write", "a", "heap", "--bytes", "64KiB"}, "x");
  for (const char* verb : {"show", "log", "hibernate", "resume", "delete"}) {
    ExpectFailure({"agent", verb, "nobody"}, "no agent \"nobody\"");
  }
  ExpectFailure({"agent", "fork", "nobody", "b"}, "no agent \"nobody\"");
  ExpectFailure({"agent", "fork", "a", "a2", "--version", "2"},
                "no version 2; it has 1 to 1");
  ExpectFailure({"agent", "log", "a", "--region", "none"},
                "agent \"a\" has no region \"none\"");
  ExpectFailure({"agent", "diff", "a", "heap", "1", "2"},
                "no version 2; it has 1 to 1");
  ExpectFailure({"agent", "revert", "a", "heap", "9"},
                "no version 9; it has 1 to 1");
  ExpectFailure({"region", "read", "nobody", "heap"}, "memctl agent list");
  ExpectFailure({"region", "read", "a", "none"},
                "agent \"a\" has no region \"none\"");
  ExpectFailure({"region", "read", "a", "heap", "--version", "2"},
                "no version 2; it has 1 to 1");
  ExpectFailure({"region", "read", "a", "heap", "--offset", "64KiB"},
                "has 65536 bytes");
  ExpectFailure({"region", "write", "nobody", "heap"}, "--bytes makes one",
                "x");
  ExpectFailure({"region", "write", "a", "none"}, "--bytes makes one", "x");
  ExpectFailure({"region", "write", "a", "heap", "--bytes", "128KiB"},
                "has 65536 bytes, not 131072", "x");
  ExpectFailure({"region", "write", "a", "heap", "--bytes", "5000"},
                "a multiple of 4096", "x");
  ExpectFailure({"region", "write", "a", "heap", "--offset", "65535"},
                "nothing was committed", "xx");
  EXPECT_EQ(Json({"agent", "log", "a"})["versions"].size(), 1u);
}

TEST_F(MemctlAgentsTest, AWriterIsNamedAndFencedOffOnlyWhenItIsAskedFor) {
  Client client = Connect("trainer");
  auto agent = client.Agents().Open("a", {.write = true, .create = true});
  ASSERT_TRUE(agent) << agent.status().message();
  auto region = agent->OpenRegion("heap", {.bytes = kMiB});
  ASSERT_TRUE(region) << region.status().message();
  ExpectFailure({"region", "read", "a", "heap"}, "has no version yet");
  ASSERT_TRUE(region->Commit());
  const std::string by = "being written by \"trainer\"";
  ExpectFailure({"region", "write", "a", "heap"}, by, "x");
  ExpectFailure({"region", "write", "a", "heap"}, "--take-over", "x");
  ExpectFailure({"agent", "revert", "a", "heap", "1"}, by);
  ExpectFailure({"agent", "delete", "a", "--yes"}, by);
  EXPECT_EQ(
      Json({"region", "write", "a", "heap", "--take-over"}, "x")["version"], 2);
  const std::string bytes = "late";
  ASSERT_TRUE(region->Write(0, std::as_bytes(std::span(bytes))));
  const auto late = region->Commit();
  ASSERT_FALSE(late);
  EXPECT_EQ(late.status().code(), Code::kAborted) << late.status().message();
}

TEST_F(MemctlAgentsTest, AnExportOfATebibyteHasHolesAndAppearsWhole) {
  const std::string bytes = Pattern(300'000, 5);
  Json({"region", "write", "a", "heap", "--bytes", "1TiB", "--offset", "1GiB"},
       bytes);
  Json({"region", "write", "a", "heap", "--offset", "900GiB"},
       std::string(2 * kMiB, '\0') + "end");
  const std::string path = memd_.directory() + "/heap.bin";
  const nlohmann::json made = Json({"region", "export", "a", "heap", path});
  EXPECT_EQ(made["version"], 2);
  EXPECT_EQ(made["length"], 1ULL << 40);
  struct stat info = {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 1LL << 40);
  EXPECT_LE(info.st_blocks * 512, 1LL << 20);
  std::ifstream file(path, std::ios::binary);
  std::string read(bytes.size(), '\0');
  file.seekg(1LL << 30);
  file.read(read.data(), static_cast<std::streamsize>(read.size()));
  EXPECT_TRUE(read == bytes);
  std::string end(4, '?');
  file.seekg((900LL << 30) + (2 << 20));
  file.read(end.data(), 4);
  EXPECT_EQ(end, std::string("end\0", 4));

  ExpectFailure({"region", "export", "a", "heap", path}, "--overwrite");
  ExpectFailure(
      {"region", "export", "a", "heap", path, "--overwrite", "--version", "7"},
      "no version 7; it has 1 to 2");
  EXPECT_EQ(std::filesystem::file_size(path), 1ULL << 40);
  EXPECT_EQ(Json({"region", "export", "a", "heap", path, "--overwrite",
                  "--version", "1"})["version"],
            1);
}

TEST_F(MemctlAgentsTest, AnExportWrittenToANewRegionIsTheSame) {
  const std::string bytes = Pattern(300'000, 5);
  Json(
      {"region", "write", "a", "heap", "--bytes", "64MiB", "--offset", "20MiB"},
      bytes);
  const std::string path = memd_.directory() + "/heap.bin";
  Json({"region", "export", "a", "heap", path});
  Json({"region", "write", "b", "heap", "--bytes", "64MiB", "--file", path});
  const Outcome a = Memctl({"region", "read", "a", "heap"});
  const Outcome b = Memctl({"region", "read", "b", "heap"});
  EXPECT_EQ(a.output.size(), 64 * kMiB);
  EXPECT_TRUE(a.output == b.output) << b.error;
  EXPECT_LE(Json({"agent", "diff", "b", "heap", "0", "1"})["changed_bytes"],
            bytes.size() + 2 * 65536);
}

TEST_F(MemctlAgentsTest, AStoppedMemdIsUnreachable) {
  EXPECT_EQ(memd_.Stop(), 0) << memd_.Log();
  const std::string file = memd_.directory() + "/f";
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{
           {"agent", "list"},
           {"agent", "hibernate", "a"},
           {"region", "read", "a", "heap"},
           {"region", "export", "a", "heap", file}}) {
    const Outcome outcome = Memctl(arguments);
    EXPECT_EQ(outcome.exit_code, 3) << outcome.error;
    EXPECT_THAT(outcome.error, HasSubstr("systemctl start memd"));
  }
  EXPECT_FALSE(std::filesystem::exists(file));
}

}  // namespace
}  // namespace agentmem
