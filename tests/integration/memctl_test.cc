// memctl against a real memd: what an operator types, and what comes back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace agentmem {
namespace {

using ::testing::HasSubstr;

constexpr int kReadyTimeoutMs = 60'000;
const char kKeyText[] = "0000002a:00112233445566778899aabb";

struct Outcome {
  int exit_code = -1;
  std::string output;
  std::string error;
  nlohmann::json json() const {
    return nlohmann::json::parse(output, nullptr, false);
  }
};

std::string ReadAll(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

class MemctlTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = "/tmp/memctlXXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    socket_ = directory_ + "/memd.sock";
    std::ofstream(directory_ + "/memd.toml")
        << "state_directory = \"" << directory_ << "/state\"\n"
        << "socket = \"" << socket_ << "\"\n"
        << "dram = \"64MiB\"\n";
    StartMemd();
  }
  void TearDown() override {
    StopMemd();
    std::filesystem::remove_all(directory_);
  }

  // Returns when memd says READY=1, as systemd would wait for it.
  void StartMemd() {
    const std::string path = directory_ + "/notify";
    const UniqueFd notify(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    ASSERT_EQ(::bind(notify.get(), reinterpret_cast<sockaddr*>(&address),
                     sizeof(address)),
              0);
    memd_ = ::fork();
    ASSERT_GE(memd_, 0);
    if (memd_ == 0) {
      ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
      const std::string config = directory_ + "/memd.toml";
      ::execl(AGENTMEM_MEMD, "memd", "--config", config.c_str(), nullptr);
      ::_exit(127);
    }
    std::string said;
    while (said.find("READY=1") == std::string::npos) {
      pollfd waits = {notify.get(), POLLIN, 0};
      ASSERT_GT(::poll(&waits, 1, kReadyTimeoutMs), 0) << "memd is not ready";
      char text[512];
      const ssize_t bytes = ::recv(notify.get(), text, sizeof(text), 0);
      ASSERT_GT(bytes, 0);
      said.append(text, static_cast<std::size_t>(bytes));
    }
  }
  void StopMemd() {
    if (memd_ <= 0) return;
    ::kill(memd_, SIGTERM);
    int status = 0;
    EXPECT_EQ(::waitpid(memd_, &status, 0), memd_);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    memd_ = 0;
  }

  Outcome Memctl(std::vector<std::string> arguments,
                 const std::string& input = "") const {
    arguments.insert(arguments.begin(), {"memctl", "--socket", socket_});
    std::ofstream(directory_ + "/in", std::ios::binary) << input;
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
      const bool redirected =
          std::freopen((directory_ + "/in").c_str(), "r", stdin) != nullptr &&
          std::freopen((directory_ + "/out").c_str(), "w", stdout) != nullptr &&
          std::freopen((directory_ + "/err").c_str(), "w", stderr) != nullptr;
      if (redirected) ::execv(AGENTMEM_MEMCTL, argv.data());
      ::_exit(127);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "memctl ended by a signal: " << status;
    return {WEXITSTATUS(status), ReadAll(directory_ + "/out"),
            ReadAll(directory_ + "/err")};
  }

  std::string directory_;
  std::string socket_;
  pid_t memd_ = 0;
};

TEST_F(MemctlTest, StatusTellsOfTheMemdThatRuns) {
  const Outcome status = Memctl({"status", "-o", "json"});
  ASSERT_EQ(status.exit_code, 0) << status.error;
  EXPECT_EQ(status.json()["state"], "serving");
  EXPECT_EQ(status.json()["pid"], memd_);
  EXPECT_EQ(status.json()["socket_path"], socket_);
  for (const char* command : {"status", "tiers", "tenants", "clients"}) {
    const Outcome table = Memctl({command});
    EXPECT_EQ(table.exit_code, 0) << table.error;
    EXPECT_FALSE(table.output.empty()) << command;
  }
}

TEST_F(MemctlTest, TheAdministrationsSocketIsItsOwnersAlone) {
  struct stat info;
  ASSERT_EQ(::stat((directory_ + "/admin.sock").c_str(), &info), 0);
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
  StopMemd();
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/admin.sock"));
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
