#include "tests/demo/child_process.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <utility>

namespace agentmem::demo {
namespace {

absl::StatusOr<ChildProcess> Shell(const std::string& script) {
  return ChildProcess::Start({"/bin/sh", "-c", script}, {});
}

TEST(ChildProcess, TellsHowItsProgramEnded) {
  auto child = Shell("exit 3");
  ASSERT_TRUE(child.ok());
  const auto exit = child->Wait(60 * kSecondNs);
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(DescribeExit(*exit), "exit code 3");
  EXPECT_FALSE(child->running());
}

TEST(ChildProcess, WaitGivesUpAtItsTimeoutAndASignalEndsIt) {
  auto child = Shell("while :; do read line </dev/zero; done");
  ASSERT_TRUE(child.ok());
  EXPECT_FALSE(child->Wait(0).has_value());
  EXPECT_TRUE(child->running());
  child->Signal(SIGKILL);
  const auto exit = child->Wait(60 * kSecondNs);
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(DescribeExit(*exit), "killed by signal 9 (Killed)");
}

TEST(ChildProcess, ItsEndEndsTheProgram) {
  pid_t pid = -1;
  {
    auto child = Shell("while :; do read line </dev/zero; done");
    ASSERT_TRUE(child.ok());
    pid = child->pid();
    EXPECT_EQ(kill(pid, 0), 0);
  }
  EXPECT_EQ(kill(pid, 0), -1);
}

TEST(ChildProcess, AProgramThatIsNotThereEndsWith127) {
  auto child = ChildProcess::Start({"/nonexistent/program"}, {});
  ASSERT_TRUE(child.ok());
  const auto exit = child->Wait(60 * kSecondNs);
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(DescribeExit(*exit), "exit code 127");
}

}  // namespace
}  // namespace agentmem::demo
