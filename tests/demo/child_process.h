// One child process: started, signalled, waited for.
//
// The child is in a process group of its own (the terminal's Ctrl-C reaches the
// demo alone, which then ends its children in order) and is killed by the
// kernel when the demo dies.
//
// Ownership: owns the child: its destructor kills it and waits. Threads:
// thread-compatible; the thread that starts children must outlive them. Errors:
// of fork and pidfd_open; a program that cannot be executed ends with 127.
// Cost: system calls; Wait blocks up to its timeout.
#ifndef AGENTMEM_TESTS_DEMO_CHILD_PROCESS_H_
#define AGENTMEM_TESTS_DEMO_CHILD_PROCESS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/unique_fd.h"

namespace agentmem::demo {

struct ChildOptions {
  std::vector<int> inherited;  // descriptors that keep their numbers
  int standard_output = -1;    // -1: the demo's own
  int standard_error = -1;
};

class ChildProcess {
 public:
  static absl::StatusOr<ChildProcess> Start(
      const std::vector<std::string>& command, const ChildOptions& options);

  ChildProcess() = default;
  ~ChildProcess();
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;

  bool running() const { return pid_ > 0; }
  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }

  void Signal(int number) const;
  // What waitpid says; none: it still runs.
  std::optional<int> Wait(DurationNs timeout_ns);

 private:
  void End();

  pid_t pid_ = -1;
  UniqueFd pidfd_;
};

// "exit code 1", "killed by signal 9 (Killed)".
std::string DescribeExit(int wait_status);

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_CHILD_PROCESS_H_
