#include "client/memctl/region_commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "client/memctl/new_file.h"
#include "tests/unit/memctl/agents_fixture.h"

namespace agentmem::memctl {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string ReadAll(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::string Bytes(std::size_t count) {
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) {
    bytes += static_cast<char>(i * 7 + i / 256 + 1);
  }
  return bytes;
}

class RegionCommandsTest : public AgentsFixture {
 protected:
  // Nothing but `names` lies in the test's directory.
  void ExpectFiles(const std::vector<std::string>& names) {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      found.push_back(entry.path().filename());
    }
    EXPECT_THAT(found, ::testing::UnorderedElementsAreArray(names));
  }
};

TEST_F(RegionCommandsTest, AWrongCommandLineExitsWithTwo) {
  const std::vector<std::vector<std::string>> kWrong = {
      {"region"},
      {"region", "read", "a"},
      {"region", "read", "a", "heap", "--offset", "1kb"},
      {"region", "read", "a", "heap", "--length", "2TiB"},
      {"region", "read", "a", "heap", "--version", "0"},
      {"region", "write", "a", "heap", "--label", "step"},
      {"region", "write", "a", "heap", "--label", "=3"},
      {"region", "export", "a", "heap"}};
  for (const std::vector<std::string>& arguments : kWrong) {
    EXPECT_EQ(Run(arguments, "x"), 2) << ::testing::PrintToString(arguments);
    EXPECT_THAT(error(), ::testing::Not(IsEmpty()));
    EXPECT_THAT(output(), IsEmpty());
  }
}

TEST_F(RegionCommandsTest, WhatIsWrittenIsAVersionAndReadsBack) {
  const std::string bytes = Bytes(10'000);
  EXPECT_EQ(Run({"region", "write", "a", "heap", "--bytes", "16KiB", "--offset",
                 "4096", "-m", "restored", "--label", "step=3", "--label",
                 "expression=a=b"},
                bytes),
            0)
      << error();
  EXPECT_EQ(output(),
            "AGENT  REGION  VERSION  OFFSET   LENGTH\n"
            "a      heap          1    4096  9.8 KiB\n");
  EXPECT_EQ(timeout_, 60 * kSecondNs);
  const FakeRegion& region = node_.agents["a"].regions["heap"];
  EXPECT_EQ(region.bytes, 16384u);
  EXPECT_EQ(region.versions[0].facts.message, "restored");
  EXPECT_EQ(region.versions[0].facts.labels,
            (Labels{{"step", "3"}, {"expression", "a=b"}}));
  EXPECT_EQ(Run({"region", "read", "a", "heap", "--offset", "4KiB", "--length",
                 "10000"}),
            0);
  EXPECT_TRUE(output() == bytes);
  EXPECT_EQ(Run({"region", "read", "a", "heap"}), 0);
  EXPECT_TRUE(output() == std::string(4096, '\0') + bytes +
                              std::string(16384 - 4096 - 10'000, '\0'));
  EXPECT_EQ(Run({"region", "write", "a", "heap", "-o", "json"}, "x"), 0);
  EXPECT_EQ(json()["version"], 2);
  EXPECT_EQ(
      Run({"region", "read", "a", "heap", "--version", "1", "--length", "1"}),
      0);
  EXPECT_EQ(output(), std::string(1, '\0'));
}

TEST_F(RegionCommandsTest, BytesMoveInBoundedPieces) {
  const std::string from = directory_ + "/from";
  const std::string bytes = Bytes((9 << 20) + 5);
  std::ofstream(from, std::ios::binary) << bytes;
  EXPECT_EQ(
      Run({"region", "write", "a", "heap", "--bytes", "10MiB", "--file", from}),
      0)
      << error();
  EXPECT_EQ(node_.largest_request, 4u << 20);
  node_.largest_request = 0;
  EXPECT_EQ(Run({"region", "read", "a", "heap", "--length",
                 std::to_string(bytes.size())}),
            0);
  EXPECT_TRUE(output() == bytes);
  EXPECT_EQ(node_.largest_request, 4u << 20);
}

TEST_F(RegionCommandsTest, ZerosAreWrittenOnlyWhereSomethingMayBe) {
  const std::string zeros(kFakeUnit, '\0');
  const std::string unit(kFakeUnit, 'x');
  const std::string bytes =
      zeros + unit + unit + zeros + unit + std::string("\0\0y", 3);
  EXPECT_EQ(Run({"region", "write", "a", "heap", "--bytes", "1MiB"}, bytes), 0);
  const FakeRegion& region = node_.agents["a"].regions["heap"];
  ASSERT_EQ(region.versions.size(), 1u);
  EXPECT_EQ(region.versions[0].units.size(), 4u);
  EXPECT_EQ(region.versions[0].units.count(0), 0u);
  EXPECT_EQ(region.versions[0].units.count(3), 0u);
  EXPECT_EQ(Run({"region", "write", "a", "heap", "--offset", "4096"}, zeros),
            0);
  EXPECT_TRUE(region.versions[1].units.at(1) == zeros);
  EXPECT_TRUE(region.versions[1].units.at(2) == unit);
  EXPECT_EQ(Run({"region", "write", "b", "heap", "--bytes", "1MiB"}, zeros), 0);
  EXPECT_EQ(node_.agents["b"].regions["heap"].versions.size(), 1u);
}

TEST_F(RegionCommandsTest, WhatIsBeyondTheEndIsRefusedWithTheSize) {
  Commit({"a", "heap"}, "one");
  for (const std::vector<std::string>& range :
       std::vector<std::vector<std::string>>{
           {"--offset", "1MiB"},
           {"--offset", "1TiB", "--length", "1"},
           {"--offset", "1048575", "--length", "2"},
           {"--length", "1048577"}}) {
    std::vector<std::string> arguments = {"region", "read", "a", "heap"};
    arguments.insert(arguments.end(), range.begin(), range.end());
    EXPECT_EQ(Run(arguments), 1) << ::testing::PrintToString(range);
    EXPECT_THAT(error(), HasSubstr("has 1048576 bytes"));
    EXPECT_THAT(output(), IsEmpty());
  }
  EXPECT_EQ(Run({"region", "write", "a", "heap", "--offset", "1048575"}, "xx"),
            1);
  EXPECT_THAT(error(), HasSubstr("has 1048576 bytes"));
  EXPECT_EQ(Run({"region", "write", "a", "heap", "--offset", "1TiB"}, "x"), 1);
  EXPECT_EQ(node_.agents["a"].regions["heap"].versions.size(), 1u);
}

TEST_F(RegionCommandsTest, InputThatIsNotThereMakesNothing) {
  const std::vector<std::string> write = {"region", "write",   "a",
                                          "heap",   "--bytes", "4096"};
  EXPECT_EQ(Run(write), 1);
  EXPECT_THAT(error(), HasSubstr("standard input has no bytes"));
  for (const std::string& file : {directory_ + "/none", directory_}) {
    std::vector<std::string> arguments = write;
    arguments.insert(arguments.end(), {"--file", file});
    EXPECT_EQ(Run(arguments), 1);
    EXPECT_THAT(error(), HasSubstr(file + ": "));
  }
  EXPECT_THAT(node_.agents, IsEmpty());
}

TEST_F(RegionCommandsTest, AnotherWriterIsLeftAloneUnlessToldOtherwise) {
  Commit({"a", "heap"}, "one");
  node_.agents["a"].writer = "trainer";
  EXPECT_EQ(Run({"region", "write", "a", "heap"}, "x"), 1);
  EXPECT_THAT(error(), HasSubstr("trainer"));
  EXPECT_EQ(Run({"region", "write", "a", "heap", "--take-over"}, "x"), 0);
  EXPECT_EQ(node_.agents["a"].regions["heap"].versions.size(), 2u);
}

TEST_F(RegionCommandsTest, ARegionThatWasNeverCommittedHasNothingToRead) {
  node_.agents["a"].regions["heap"].bytes = 4096;
  EXPECT_EQ(Run({"region", "read", "a", "heap"}), 1);
  EXPECT_THAT(error(), HasSubstr("\"heap\" of agent \"a\" has no version yet"));
  EXPECT_EQ(Run({"region", "export", "a", "heap", directory_ + "/f"}), 1);
  ExpectFiles({});
}

TEST_F(RegionCommandsTest, AnExportReadsAndWritesWhatIsNotZero) {
  const std::string unit(kFakeUnit, 'x');
  const std::string zeros(kFakeUnit, '\0');
  Commit({"a", "heap"}, "one", {{3, unit}});
  Commit({"a", "heap"}, "two",
         {{0, unit}, {1, zeros}, {1ULL << 18, unit}, {(1ULL << 26) - 1, unit}});
  node_.agents["a"].regions["heap"].bytes = 1ULL << 38;
  const std::string path = directory_ + "/heap.bin";
  EXPECT_EQ(Run({"region", "export", "a", "heap", path}), 0) << error();
  EXPECT_THAT(output(), HasSubstr("256 GiB   12 KiB"));
  EXPECT_EQ(node_.read_bytes, 4 * kFakeUnit);
  struct stat info = {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 1LL << 38);
  EXPECT_LE(info.st_blocks * 512, 64 << 10);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  std::ifstream file(path, std::ios::binary);
  std::string read(2 * kFakeUnit, '?');
  file.read(read.data(), 2 * kFakeUnit);
  EXPECT_TRUE(read == unit + zeros);
  file.seekg((1LL << 38) - 2 * static_cast<std::int64_t>(kFakeUnit));
  file.read(read.data(), 2 * kFakeUnit);
  EXPECT_TRUE(read == zeros + unit);
  ExpectFiles({"heap.bin"});
}

TEST_F(RegionCommandsTest, AnExportOfAnOldVersionHasItsBytes) {
  const std::string unit(kFakeUnit, 'x');
  node_.agents["a"].regions["heap"].bytes = 3 * kFakeUnit;
  Commit({"a", "heap"}, "one", {{1, unit}});
  Commit({"a", "heap"}, "two", {{0, unit}});
  const std::string path = directory_ + "/old";
  EXPECT_EQ(Run({"region", "export", "a", "heap", path, "--version", "1", "-o",
                 "json"}),
            0);
  EXPECT_EQ(json()["version"], 1);
  EXPECT_EQ(json()["length"], 3 * kFakeUnit);
  EXPECT_EQ(json()["written_bytes"], kFakeUnit);
  EXPECT_TRUE(ReadAll(path) == std::string(kFakeUnit, '\0') + unit +
                                   std::string(kFakeUnit, '\0'));
}

TEST_F(RegionCommandsTest, AFileThatExistsStaysUnlessToldOtherwise) {
  node_.agents["a"].regions["heap"].bytes = kFakeUnit;
  Commit({"a", "heap"}, "one", {{0, std::string(kFakeUnit, 'x')}});
  const std::string path = directory_ + "/f";
  std::ofstream(path) << "mine";
  EXPECT_EQ(Run({"region", "export", "a", "heap", path}), 1);
  EXPECT_THAT(error(), HasSubstr(path + " exists"));
  EXPECT_EQ(ReadAll(path), "mine");
  EXPECT_EQ(Run({"region", "export", "a", "heap", path, "--overwrite"}), 0);
  EXPECT_TRUE(ReadAll(path) == std::string(kFakeUnit, 'x'));
  EXPECT_EQ(Run({"region", "export", "a", "heap", directory_, "--overwrite"}),
            1);
  EXPECT_THAT(error(), HasSubstr("Is a directory"));
  ExpectFiles({"f"});
}

TEST_F(RegionCommandsTest, AnExportThatFailsLeavesNoFileAndTheOldOne) {
  Commit({"a", "heap"}, "one", {{0, std::string(kFakeUnit, 'x')}});
  node_.failure = DataLoss("the page at 0 is lost");
  const std::string path = directory_ + "/f";
  EXPECT_EQ(Run({"region", "export", "a", "heap", path}), 1);
  EXPECT_THAT(error(), HasSubstr("the page at 0 is lost"));
  ExpectFiles({});
  std::ofstream(path) << "mine";
  EXPECT_EQ(Run({"region", "export", "a", "heap", path, "--overwrite"}), 1);
  EXPECT_EQ(ReadAll(path), "mine");
  ExpectFiles({"f"});
}

TEST_F(RegionCommandsTest, AFileThatSomebodyMakesMeanwhileIsNotReplaced) {
  const std::string path = directory_ + "/f";
  {
    auto file = NewFile::Create(path, NewFile::Existing::kRefuse);
    ASSERT_TRUE(file.ok()) << file.status();
    std::ofstream(path) << "theirs";
    EXPECT_EQ(file->Finish(0).code(), absl::StatusCode::kAlreadyExists);
  }
  EXPECT_EQ(ReadAll(path), "theirs");
  ExpectFiles({"f"});
}

}  // namespace
}  // namespace agentmem::memctl
