#include "tests/demo/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/status.h"

namespace agentmem::demo {
namespace {

// In the child, between fork and exec: system calls only.
[[noreturn]] void BecomeProgram(char* const* arguments, pid_t parent,
                                const ChildOptions& options) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);
  setpgid(0, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  for (const int fd : options.inherited) fcntl(fd, F_SETFD, 0);
  if (options.standard_output >= 0) dup2(options.standard_output, 1);
  if (options.standard_error >= 0) dup2(options.standard_error, 2);
  execv(arguments[0], arguments);
  _exit(127);
}

}  // namespace

absl::StatusOr<ChildProcess> ChildProcess::Start(
    const std::vector<std::string>& command, const ChildOptions& options) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return ErrnoStatus("starting " + command[0]);
  if (pid == 0) BecomeProgram(arguments.data(), parent, options);
  ChildProcess child;
  child.pid_ = pid;
  child.pidfd_ = UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!child.pidfd_.valid()) return ErrnoStatus("pidfd of " + command[0]);
  return child;
}

ChildProcess::~ChildProcess() { End(); }

void ChildProcess::End() {
  if (pid_ <= 0) return;
  Signal(SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
  pidfd_.Reset();
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this == &other) return *this;
  End();
  pid_ = std::exchange(other.pid_, -1);
  pidfd_ = std::move(other.pidfd_);
  return *this;
}

void ChildProcess::Signal(int number) const {
  if (pid_ > 0) kill(pid_, number);
}

std::optional<int> ChildProcess::Wait(DurationNs timeout_ns) {
  const TimeNs deadline = MonotonicNowNs() + timeout_ns;
  while (true) {
    const DurationNs left =
        std::max<DurationNs>(deadline - MonotonicNowNs(), 0);
    pollfd event = {pidfd_.get(), POLLIN, 0};
    const int ready =
        poll(&event, 1, static_cast<int>(left / kMillisecondNs) + 1);
    if (ready < 0 && errno == EINTR) continue;
    if (ready > 0) break;
    if (MonotonicNowNs() >= deadline) return std::nullopt;
  }
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  pidfd_.Reset();
  return status;
}

std::string DescribeExit(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    const int number = WTERMSIG(wait_status);
    return "killed by signal " + std::to_string(number) + " (" +
           strsignal(number) + ")";
  }
  return "exit code " + std::to_string(WEXITSTATUS(wait_status));
}

}  // namespace agentmem::demo
