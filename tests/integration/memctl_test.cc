// memctl against a real memd: what an operator types, and what comes back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/integration/memctl_run.h"

namespace agentmem {
namespace {

using ::testing::HasSubstr;

const char kKeyText[] = "0000002a:00112233445566778899aabb";

class MemctlTest : public ::testing::Test {
 protected:
  void TearDown() override {
    if (memd_.pid() <= 0) return;
    EXPECT_EQ(memd_.Stop(), 0) << memd_.Log();
  }

  Outcome Memctl(const std::vector<std::string>& arguments,
                 const std::string& input = "") const {
    return RunMemctl(memd_, arguments, input);
  }

  MemdProcess memd_{"64MiB"};
};

TEST_F(MemctlTest, StatusTellsOfTheMemdThatRuns) {
  const Outcome status = Memctl({"status", "-o", "json"});
  ASSERT_EQ(status.exit_code, 0) << status.error;
  EXPECT_EQ(status.json()["state"], "serving");
  EXPECT_EQ(status.json()["pid"], memd_.pid());
  EXPECT_EQ(status.json()["socket_path"], memd_.socket());
  for (const char* command : {"status", "tiers", "tenants", "clients"}) {
    const Outcome table = Memctl({command});
    EXPECT_EQ(table.exit_code, 0) << table.error;
    EXPECT_FALSE(table.output.empty()) << command;
  }
}

TEST_F(MemctlTest, TheAdministrationsSocketIsItsOwnersAlone) {
  struct stat info;
  ASSERT_EQ(::stat((memd_.directory() + "/admin.sock").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(MemctlTest, ADurableBlockComesBackByteForByteAndStandsInBothTiers) {
  std::string bytes;
  for (int i = 0; i < 100'000; ++i) bytes += static_cast<char>(i * 7 + i / 256);
  const Outcome put = Memctl({"block", "put", kKeyText, "--class", "state",
                              "--ack", "durable", "--timeout", "30s"},
                             bytes);
  ASSERT_EQ(put.exit_code, 0) << put.error;
  const Outcome get = Memctl({"block", "get", kKeyText});
  ASSERT_EQ(get.exit_code, 0) << get.error;
  EXPECT_TRUE(get.output == bytes);
  const Outcome show = Memctl({"block", "show", kKeyText, "-o", "json"});
  ASSERT_EQ(show.exit_code, 0) << show.error;
  const nlohmann::json block = show.json()["blocks"][0];
  EXPECT_EQ(block["length"], bytes.size());
  EXPECT_EQ(block["block_class"], "state");
  EXPECT_EQ(block["in_dram"], true);
  EXPECT_EQ(block["in_store"], true);
}

TEST_F(MemctlTest, ABlockThatNobodyPutIsNotFound) {
  for (const char* verb : {"get", "show"}) {
    const Outcome outcome = Memctl({"block", verb, kKeyText});
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.error, HasSubstr("memctl: "));
    EXPECT_EQ(outcome.output, "");
  }
}

TEST_F(MemctlTest, AStoppedMemdIsUnreachableAndLeavesNoSocketBehind) {
  EXPECT_EQ(memd_.Stop(), 0) << memd_.Log();
  EXPECT_FALSE(std::filesystem::exists(memd_.directory() + "/admin.sock"));
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"status"},
                                             {"block", "get", kKeyText}}) {
    const Outcome outcome = Memctl(arguments);
    EXPECT_EQ(outcome.exit_code, 3) << outcome.error;
    EXPECT_THAT(outcome.error, HasSubstr("systemctl start memd"));
  }
}

TEST_F(MemctlTest, DoctorSeesTheMemdThatRuns) {
  const Outcome doctor = Memctl({"doctor", "-o", "json"});
  EXPECT_TRUE(doctor.exit_code == 0 || doctor.exit_code == 4) << doctor.error;
  const nlohmann::json finding = doctor.json()["findings"][0];
  EXPECT_EQ(finding["name"], "memd");
  EXPECT_EQ(finding["level"], "ok");
}

}  // namespace
}  // namespace agentmem
