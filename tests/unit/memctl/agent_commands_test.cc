#include "client/memctl/agent_commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/memctl/agents_fixture.h"

namespace agentmem::memctl {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using AgentCommandsTest = AgentsFixture;

std::vector<std::string> KeysOf(const nlohmann::json& object) {
  std::vector<std::string> keys;
  for (const auto& item : object.items()) keys.push_back(item.key());
  return keys;
}

TEST_F(AgentCommandsTest, EveryVerbHasHelpWithAnExampleAndTheExitCodes) {
  const std::vector<std::vector<std::string>> kCommands = {
      {"agent"},           {"agent", "list"},    {"agent", "show"},
      {"agent", "log"},    {"agent", "diff"},    {"agent", "fork"},
      {"agent", "revert"}, {"agent", "delete"},  {"agent", "hibernate"},
      {"agent", "resume"}, {"region"},           {"region", "read"},
      {"region", "write"}, {"region", "export"}, {"hbm"}};
  for (std::vector<std::string> arguments : kCommands) {
    arguments.push_back("--help");
    EXPECT_EQ(Run(arguments), 0);
    EXPECT_THAT(output(), HasSubstr("Examples:\n  "));
    EXPECT_THAT(output(), HasSubstr("3  no memd is reachable"));
    EXPECT_THAT(error(), IsEmpty());
  }
}

TEST_F(AgentCommandsTest, AWrongCommandLineExitsWithTwoAndConnectsToNobody) {
  const std::vector<std::vector<std::string>> kWrong = {
      {"agent"},
      {"agent", "show"},
      {"agent", "log", "a", "-n", "0"},
      {"agent", "log", "a", "-n", "many"},
      {"agent", "diff", "a", "heap", "1"},
      {"agent", "diff", "a", "heap", "1", "0"},
      {"agent", "diff", "a", "heap", "one", "2"},
      {"agent", "revert", "a", "heap", "0"},
      {"agent", "fork", "a"},
      {"agent", "fork", "a", "b", "--version", "0"},
      {"agent", "delete"},
      {"hbm", "coder-7"}};
  for (const std::vector<std::string>& arguments : kWrong) {
    EXPECT_EQ(Run(arguments), 2) << ::testing::PrintToString(arguments);
    EXPECT_THAT(error(), ::testing::Not(IsEmpty()));
    EXPECT_THAT(output(), IsEmpty());
  }
  EXPECT_EQ(timeout_, 0);
}

TEST_F(AgentCommandsTest, AnUnreachableMemdExitsWithThree) {
  reachable_ = Unavailable("memd is not reachable: start it");
  for (const char* verb : {"show", "log", "hibernate", "resume", "delete"}) {
    EXPECT_EQ(Run({"agent", verb, "a"}), 3);
    EXPECT_EQ(error(), "memctl: memd is not reachable: start it\n");
  }
  EXPECT_EQ(Run({"agent", "diff", "a", "heap", "1", "2"}), 3);
  EXPECT_EQ(Run({"hbm"}), 3);
}

TEST_F(AgentCommandsTest, AMemdThatLacksAnotherIsNotCalledUnreachable) {
  node_.hbm = Unavailable("etcd does not answer");
  EXPECT_EQ(Run({"hbm"}), 1);
  EXPECT_EQ(error(), "memctl: etcd does not answer\n");
}

TEST_F(AgentCommandsTest, AnAgentThatIsNotThereExitsWithOneAndIsNamed) {
  const std::vector<std::vector<std::string>> kVerbs = {
      {"show", "x"},
      {"log", "x"},
      {"log", "x", "--region", "heap"},
      {"diff", "x", "heap", "1", "2"},
      {"fork", "x", "y"},
      {"revert", "x", "heap", "1"},
      {"hibernate", "x"},
      {"resume", "x"},
      {"delete", "x", "--yes"}};
  for (std::vector<std::string> arguments : kVerbs) {
    arguments.insert(arguments.begin(), "agent");
    EXPECT_EQ(Run(arguments), 1) << ::testing::PrintToString(arguments);
    EXPECT_EQ(error(), "memctl: no agent \"x\"\n");
    EXPECT_THAT(output(), IsEmpty());
  }
}

TEST_F(AgentCommandsTest, WhatMovesBytesWaitsLongerUnlessToldOtherwise) {
  Commit({"a", "heap"}, "one");
  Run({"agent", "show", "a", "-t", "chat"});
  EXPECT_EQ(timeout_, 5 * kSecondNs);
  EXPECT_EQ(tenant_, "chat");
  Run({"agent", "hibernate", "a"});
  EXPECT_EQ(timeout_, 60 * kSecondNs);
  Run({"agent", "revert", "a", "heap", "1"});
  EXPECT_EQ(timeout_, 60 * kSecondNs);
  Run({"agent", "hibernate", "a", "--timeout", "2s"});
  EXPECT_EQ(timeout_, 2 * kSecondNs);
}

TEST_F(AgentCommandsTest, AgentsAreATableByNameWithTheirWriters) {
  Commit({"coder-7", "heap"}, "one");
  Commit({"coder-7", "notes"}, "one");
  node_.agents["coder-7"].writer = "trainer\x1b[2J";
  node_.agents["coder-7"].hbm_bytes = 5ULL << 30;
  node_.agents["other"] = {};
  EXPECT_EQ(Run({"agent", "list"}), 0);
  EXPECT_EQ(output(),
            "AGENT    PHASE  WRITER (PID)        REGIONS   SIZE  RESIDENT  "
            "  HBM  VERSIONS\n"
            "coder-7  tool   trainer?[2J (4242)        2  2 MiB     3 MiB  "
            "5 GiB         2\n"
            "other    tool   -                         -    0 B     3 MiB  "
            "    -         -\n");
  EXPECT_EQ(Run({"agent", "list", "cod", "-o", "json"}), 0);
  ASSERT_EQ(json()["agents"].size(), 1u);
  EXPECT_THAT(
      KeysOf(json()["agents"][0]),
      ::testing::UnorderedElementsAre(
          "name", "phase", "writing", "writer", "writer_pid", "region_count",
          "region_bytes", "resident_bytes", "hbm_bytes", "versions"));
  EXPECT_EQ(json()["agents"][0]["hbm_bytes"], 5ULL << 30);
  EXPECT_EQ(json()["agents"][0]["region_bytes"], 2 << 20);
}

TEST_F(AgentCommandsTest, AnAgentIsShownWithTheNewestVersionOfEachRegion) {
  Commit({"a", "heap"}, "one");
  Commit({"a", "heap"}, "two\nand more").changed_bytes = 8192;
  node_.agents["a"].regions["new"].bytes = 4096;
  EXPECT_EQ(Run({"agent", "show", "a"}), 0);
  EXPECT_EQ(
      output(),
      "agent     a\n"
      "phase     tool\n"
      "writer    -\n"
      "size      1 MiB\n"
      "resident  3 MiB\n"
      "hbm       -\n"
      "versions  2\n"
      "\n"
      "REGION   SIZE  OLDEST  NEWEST  COMMITTED                CHANGED  "
      "MESSAGE\n"
      "heap    1 MiB       1       2  2026-03-01 12:34:57 UTC    8 KiB  "
      "two\n"
      "new     4 KiB       -       -  -                              -\n");
  EXPECT_EQ(Run({"agent", "show", "a", "-o", "json"}), 0);
  const nlohmann::json regions = json()["regions"];
  EXPECT_EQ(regions[0]["newest"]["message"], "two\nand more");
  EXPECT_EQ(regions[0]["version"], 2);
  EXPECT_FALSE(regions[1].contains("newest"));
}

TEST_F(AgentCommandsTest, TheLogReadsLikeCommitsTheNewestFirst) {
  Commit({"a", "heap"}, "first\n\nwith\x1b[2J reasons");
  VersionFacts& second = Commit({"a", "heap"}, "");
  second.labels = {{"step", "3"}, {"tool", "py"}};
  second.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
  second.changed_bytes = 65536 + 4096;
  second.changed_pages = 2;
  second.revert_of = 1;
  EXPECT_EQ(Run({"agent", "log", "a"}), 0);
  EXPECT_EQ(output(),
            "version 2 of heap\n"
            "when     2026-03-01 12:34:57 UTC\n"
            "changed  68 KiB in 2 pages\n"
            "equal to version 1\n"
            "labels   step=3 tool=py\n"
            "trace    4bf92f3577b34da6a3ce929d0e0e4736\n"
            "\n"
            "version 1 of heap\n"
            "when     2026-03-01 12:34:56 UTC\n"
            "changed  0 B in 0 pages\n"
            "\n"
            "    first\n"
            "\n"
            "    with?[2J reasons\n");
  EXPECT_EQ(Run({"agent", "log", "a", "-o", "json"}), 0);
  EXPECT_EQ(json()["agent"], "a");
  const nlohmann::json version = json()["versions"][0];
  EXPECT_THAT(KeysOf(version),
              ::testing::UnorderedElementsAre(
                  "region", "version", "parent", "unix_ns", "region_bytes",
                  "changed_bytes", "changed_pages", "message", "labels",
                  "revert_of", "trace_id"));
  EXPECT_EQ(version["labels"]["step"], "3");
}

TEST_F(AgentCommandsTest, TheLogOfAllRegionsIsByTimeAndKeepsEachOnesOrder) {
  Commit({"a", "heap"}, "");
  Commit({"a", "notes"}, "");
  Commit({"a", "heap"}, "");
  node_.unix_ns = 1;  // the clock was set back
  Commit({"a", "heap"}, "");
  node_.agents["a"].regions["empty"].bytes = 4096;
  const auto logged = [&](const std::vector<std::string>& arguments) {
    EXPECT_EQ(Run(arguments), 0) << error();
    std::vector<std::string> names;
    const nlohmann::json log = json();
    for (const auto& version : log["versions"]) {
      names.push_back(version["region"].get<std::string>() + " " +
                      std::to_string(version["version"].get<int>()));
    }
    return names;
  };
  EXPECT_THAT(logged({"agent", "log", "a", "-o", "json"}),
              ElementsAre("notes 1", "heap 3", "heap 2", "heap 1"));
  EXPECT_THAT(logged({"agent", "log", "a", "-n", "2", "-o", "json"}),
              ElementsAre("notes 1", "heap 3"));
  EXPECT_THAT(logged({"agent", "log", "a", "--region", "notes", "-o", "json"}),
              ElementsAre("notes 1"));
}

TEST_F(AgentCommandsTest, ADiffIsRangesAndTheirSum) {
  const std::string unit(kFakeUnit, 'x');
  Commit({"a", "heap"}, "", {{0, unit}});
  Commit({"a", "heap"}, "", {{0, unit}, {2, unit}, {16, unit}});
  EXPECT_EQ(Run({"agent", "diff", "a", "heap", "1", "2"}), 0);
  EXPECT_EQ(output(),
            "OFFSET  LENGTH\n"
            "  8192    4096\n"
            " 65536    4096\n"
            "\n"
            "2 ranges, 8 KiB between version 1 and 2\n");
  EXPECT_EQ(Run({"agent", "diff", "a", "heap", "2", "2"}), 0);
  EXPECT_EQ(output(), "0 ranges, 0 B between version 2 and 2\n");
  EXPECT_EQ(Run({"agent", "diff", "a", "heap", "0", "2", "-o", "json"}), 0);
  EXPECT_EQ(json()["changed_bytes"], 3 * kFakeUnit);
  EXPECT_EQ(json()["ranges"][2]["offset"], 65536);
  EXPECT_EQ(Run({"agent", "diff", "a", "heap", "1", "3"}), 1);
  EXPECT_EQ(error(), "memctl: no version 3\n");
}

TEST_F(AgentCommandsTest, ARevertAndAForkTellWhatTheyMade) {
  Commit({"a", "heap"}, "one");
  Commit({"a", "heap"}, "two");
  EXPECT_EQ(Run({"agent", "revert", "a", "heap", "1"}), 0);
  EXPECT_EQ(output(),
            "AGENT  REGION  VERSION  EQUAL TO\n"
            "a      heap          3         1\n");
  EXPECT_EQ(Run({"agent", "fork", "a", "b", "--version", "2"}), 0);
  EXPECT_EQ(output(),
            "AGENT  FORK OF  REGIONS   SIZE\n"
            "b      a              1  1 MiB\n");
  EXPECT_EQ(node_.agents["b"].regions["heap"].versions.size(), 2u);
  EXPECT_EQ(Run({"agent", "fork", "a", "c", "-o", "json"}), 0);
  EXPECT_EQ(json()["fork_of"], "a");
  EXPECT_EQ(json()["versions"], 3);
}

TEST_F(AgentCommandsTest, HibernationAndResumeTellHowMuch) {
  node_.agents["a"] = {};
  EXPECT_EQ(Run({"agent", "hibernate", "a"}), 0);
  EXPECT_EQ(output(),
            "AGENT  WRITTEN  RELEASED\n"
            "a        4 KiB     3 MiB\n");
  EXPECT_EQ(Run({"agent", "hibernate", "a", "-o", "json"}), 0);
  EXPECT_EQ(json()["released_bytes"], 3 << 20);
  EXPECT_EQ(Run({"agent", "resume", "a"}), 0);
  EXPECT_EQ(output(),
            "AGENT  ASKED BLOCKS\n"
            "a                 7\n");
}

TEST_F(AgentCommandsTest, ADeletionWantsToBeSureAndSaysWhatGoes) {
  Commit({"a", "heap"}, "one");
  EXPECT_EQ(Run({"agent", "delete", "a"}), 1);
  EXPECT_THAT(error(), HasSubstr("regions: 1 of 1 MiB, versions: 1"));
  EXPECT_THAT(error(), HasSubstr("--yes"));
  EXPECT_EQ(node_.agents.count("a"), 1u);
  node_.agents["a"].writer = "trainer";
  EXPECT_EQ(Run({"agent", "delete", "a", "--yes"}), 1);
  EXPECT_THAT(error(), HasSubstr("trainer"));
  node_.agents["a"].writer.clear();
  EXPECT_EQ(Run({"agent", "delete", "a", "--yes", "-o", "json"}), 0);
  EXPECT_EQ(json()["deleted"], true);
  EXPECT_THAT(node_.agents, IsEmpty());
}

HbmAgentFacts HbmAgent(const std::string& name, const std::string& wish,
                       bool open, bool late, DurationNs took) {
  HbmAgentFacts agent;
  agent.name = name;
  agent.wish = wish;
  if (!wish.empty()) agent.phase = wish == "empty" ? "human_wait" : "reasoning";
  agent.wish_open = open;
  agent.wish_late = late;
  agent.wish_ns = static_cast<std::uint64_t>(took);
  if (wish != "empty" || open) agent.blocks = 2;
  agent.bytes = agent.blocks << 20;
  return agent;
}

TEST_F(AgentCommandsTest, BlocksInDeviceMemoryAreToldByProcess) {
  HbmProcessFacts engine;
  engine.pid = 4242;
  engine.client = "engine\x1b[2J";
  engine.device = "a GPU";
  engine.budget_bytes = 40ULL << 30;
  engine.allocated_bytes = 3ULL << 30;
  engine.wanted_bytes = 60ULL << 30;
  engine.used_bytes = 4 << 20;
  engine.blocks = 4;
  engine.hits = 300;
  engine.hit_bytes = 300 << 20;
  engine.agents = {HbmAgent("a", "", false, false, 0),
                   HbmAgent("b", "empty", false, false, kSecondNs)};
  node_.hbm->push_back(engine);
  node_.hbm->push_back({});
  EXPECT_EQ(Run({"hbm"}), 0);
  EXPECT_EQ(output(),
            "CLIENT (PID)       DEVICE  BUDGET  ALLOCATED  WANTED   USED  "
            "BLOCKS  AGENTS  HITS\n"
            "engine?[2J (4242)  a GPU   40 GiB      3 GiB  60 GiB  4 MiB  "
            "     4       1   300\n"
            " (0)                          0 B        0 B     0 B    0 B  "
            "     -       -     -\n");
  EXPECT_EQ(Run({"hbm", "-o", "json", "-t", "chat"}), 0);
  EXPECT_EQ(tenant_, "chat");
  const nlohmann::json process = json()["processes"][0];
  EXPECT_THAT(KeysOf(process),
              ::testing::UnorderedElementsAre(
                  "pid", "client", "device", "budget_bytes", "allocated_bytes",
                  "wanted_bytes", "used_bytes", "blocks", "agent_count", "hits",
                  "hit_bytes"));
  EXPECT_EQ(process["hit_bytes"], 300 << 20);
  EXPECT_EQ(process["budget_bytes"], 40ULL << 30);
  node_.hbm = MakeStatus(absl::StatusCode::kUnimplemented, "operation 37");
  EXPECT_EQ(Run({"hbm"}), 1);
  EXPECT_EQ(error(), "memctl: operation 37\n");
}

TEST_F(AgentCommandsTest, WhoLeftDeviceMemoryIsToldAndHowSoon) {
  HbmProcessFacts engine;
  engine.pid = 7;
  engine.client = "e";
  engine.device = "g";
  constexpr DurationNs kMs = kMillisecondNs;
  engine.agents = {HbmAgent("a", "", false, false, 0),
                   HbmAgent("b", "empty", false, false, 12 * kMs),
                   HbmAgent("c", "empty", false, true, 1200 * kMs),
                   HbmAgent("d", "empty", true, false, 0),
                   HbmAgent("e", "empty", true, true, 0),
                   HbmAgent("f", "bring_back", false, false, 30 * kMs)};
  node_.hbm->push_back(engine);
  EXPECT_EQ(Run({"hbm", "--agents"}), 0);
  EXPECT_EQ(
      output(),
      "AGENT  CLIENT (PID)  DEVICE   SIZE  BLOCKS  PHASE       WISH        "
      "ANSWER\n"
      "a      e (7)         g       2 MiB       2  -           -           -\n"
      "b      e (7)         g         0 B       -  human_wait  empty       "
      "left in 12 ms\n"
      "c      e (7)         g         0 B       -  human_wait  empty       "
      "left in 1.2 s, late\n"
      "d      e (7)         g       2 MiB       2  human_wait  empty       "
      "open\n"
      "e      e (7)         g       2 MiB       2  human_wait  empty       "
      "late\n"
      "f      e (7)         g       2 MiB       2  reasoning   bring back  "
      "back in 30 ms\n");
  EXPECT_EQ(Run({"hbm", "--agents", "-o", "json"}), 0);
  const nlohmann::json agents = json()["agents"];
  ASSERT_EQ(agents.size(), 6u);
  EXPECT_THAT(KeysOf(agents[1]),
              ::testing::UnorderedElementsAre(
                  "name", "pid", "client", "device", "bytes", "blocks", "phase",
                  "wish", "wish_open", "wish_late", "wish_ns"));
  EXPECT_EQ(agents[1]["wish_ns"], 12 * kMs);
  EXPECT_EQ(agents[4]["wish_late"], true);
}

}  // namespace
}  // namespace agentmem::memctl
