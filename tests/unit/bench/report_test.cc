#include "benchmarks/report.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>

#include "benchmarks/temporary_directory.h"

namespace agentmem::bench {
namespace {

SuiteResult TwoCases() {
  SuiteResult result;
  result.suite = "block";
  result.machine = {"a cpu", 2, "Linux 6", 8ULL << 30};
  CaseResult fast;
  fast.name = "get";
  fast.p50_ns = 73;
  fast.p99_ns = 1250;
  fast.p999_ns = 3'400'000;
  fast.value = 500;
  fast.unit = "MB/s";
  fast.higher_is_better = true;
  fast.baseline = "memcpy";
  fast.baseline_value = 1000;
  CaseResult alone;
  alone.name = "lone";
  alone.value = 10;
  alone.unit = "ns";
  result.cases = {fast, alone};
  result.notes = {"a note"};
  return result;
}

std::set<std::string> FieldsOf(const nlohmann::json& object) {
  std::set<std::string> fields;
  for (const auto& [field, value] : object.items()) fields.insert(field);
  return fields;
}

TEST(ReportTest, TheJsonHasTheFieldsThatProgramsReadAndNoOthers) {
  const auto json = nlohmann::json::parse(Json(TwoCases()));
  EXPECT_EQ(FieldsOf(json),
            (std::set<std::string>{"suite", "machine", "cases"}));
  EXPECT_EQ(FieldsOf(json["machine"]),
            (std::set<std::string>{"cpu", "cores", "kernel", "memory_bytes"}));
  for (const auto& one : json["cases"]) {
    EXPECT_EQ(FieldsOf(one),
              (std::set<std::string>{"name", "p50_ns", "p99_ns", "p999_ns",
                                     "value", "unit", "better", "baseline",
                                     "baseline_value", "ratio"}));
  }
}

TEST(ReportTest, BarsAndAFailureAreInTheJsonAndBarsBelowTheTables) {
  SuiteResult result = TwoCases();
  result.bars = {{"a", 0.9, true, 0.95}, {"b", 1.1, false, 1.2}, {"c", 1}};
  result.failure = "lost";
  const auto json = nlohmann::json::parse(Json(result));
  EXPECT_EQ(json["failure"], "lost");
  ASSERT_EQ(json["bars"].size(), 3u);
  EXPECT_EQ(json["bars"][0], nlohmann::json({{"name", "a"},
                                             {"limit", 0.9},
                                             {"at", "least"},
                                             {"value", 0.95},
                                             {"result", "met"}}));
  EXPECT_EQ(json["bars"][1]["at"], "most");
  EXPECT_EQ(json["bars"][1]["result"], "missed");
  EXPECT_TRUE(json["bars"][2]["value"].is_null());
  EXPECT_EQ(json["bars"][2]["result"], "not measured");
  for (const std::string& table : {TextTable(result), MarkdownTable(result)}) {
    EXPECT_NE(table.find("- b: 1.200, bar at most 1.100: MISSED\n"),
              std::string::npos)
        << table;
  }
}

TEST(ReportTest, TheRatioIsOursByTheBaseline) {
  const auto json = nlohmann::json::parse(Json(TwoCases()));
  EXPECT_EQ(json["cases"][0]["ratio"], 0.5);
  EXPECT_EQ(json["cases"][0]["better"], "higher");
  EXPECT_EQ(json["cases"][1]["better"], "lower");
}

TEST(ReportTest, ACaseWithoutABaselineHasNullForIt) {
  const auto json = nlohmann::json::parse(Json(TwoCases()));
  EXPECT_TRUE(json["cases"][1]["baseline"].is_null());
  EXPECT_TRUE(json["cases"][1]["ratio"].is_null());
}

TEST(ReportTest, TheMarkdownTableHasOneRowACaseAndAsManyCellsAsItsHead) {
  const std::string table = MarkdownTable(TwoCases());
  EXPECT_NE(table.find("| case | p50 | p99 | p99.9 | throughput | baseline | "
                       "ratio |\n|---|--:|--:|--:|--:|---|--:|\n"),
            std::string::npos);
  EXPECT_NE(table.find("| get | 73.0 ns | 1.25 us | 3.40 ms | 500 MB/s | "
                       "memcpy 1000 MB/s | 0.50 |\n"),
            std::string::npos);
  EXPECT_NE(table.find("| lone |  |  |  | 10.0 ns |  |  "
                       "|\n"),
            std::string::npos);
}

TEST(ReportTest, TheTextTableKeepsItsColumnsInLine) {
  const std::string table = TextTable(TwoCases());
  const auto column_of = [&table](const std::string& text) {
    const std::size_t at = table.find(text);
    return at - table.rfind('\n', at);
  };
  EXPECT_EQ(column_of("baseline"), column_of("memcpy"));
  EXPECT_NE(table.find("a note"), std::string::npos);
}

std::string Read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST(ReportTest, AFileThatIsWrittenAnewIsTheOldOneUntilTheNewOneIsWhole) {
  const auto directory = TemporaryDirectory::Make();
  ASSERT_TRUE(directory.ok());
  const std::string path = (*directory)->path() + "/deep/hbm.json";
  ASSERT_TRUE(WriteFile(path, "old").ok());
  std::ifstream reader(path);  // of what was there
  ASSERT_TRUE(WriteFile(path, "new, and longer").ok());
  std::string seen;
  std::getline(reader, seen);
  EXPECT_EQ(seen, "old");
  EXPECT_EQ(Read(path), "new, and longer");
  EXPECT_FALSE(std::filesystem::exists(path + ".new"));
  std::filesystem::create_directory(path + ".new");  // it cannot be written
  EXPECT_FALSE(WriteFile(path, "third").ok());
  EXPECT_EQ(Read(path), "new, and longer");
}

TEST(ReportTest, WhatIsNoFileIsWrittenToAndNotReplaced) {
  const auto directory = TemporaryDirectory::Make();
  ASSERT_TRUE(directory.ok());
  const std::string path = (*directory)->path() + "/link";
  std::filesystem::create_symlink("file", path);
  ASSERT_TRUE(WriteFile(path, "text").ok());
  EXPECT_TRUE(std::filesystem::is_symlink(path));
  EXPECT_EQ(Read((*directory)->path() + "/file"), "text");
}

TEST(ReportTest, DurationsAreToldInTheUnitThatFits) {
  EXPECT_EQ(DurationText(73), "73.0 ns");
  EXPECT_EQ(DurationText(1'250), "1.25 us");
  EXPECT_EQ(DurationText(150'000), "150 us");
  EXPECT_EQ(DurationText(2.5e9), "2.50 s");
}

}  // namespace
}  // namespace agentmem::bench
