// The demo's memd: with a directory, a configuration and a log of its own.
//
// Ownership: owns the process and the directory, which its destructor removes
// unless it is to be kept. Threads: thread-compatible. Errors: UNAVAILABLE with
// the end of memd's log when it does not come up or does not stop well. Cost:
// Start and Stop wait, bounded.
#ifndef AGENTMEM_TESTS_DEMO_MEMD_PROCESS_H_
#define AGENTMEM_TESTS_DEMO_MEMD_PROCESS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "tests/demo/child_process.h"
#include "tests/demo/options.h"

namespace agentmem::demo {

// A connection to a UNIX socket; invalid: nobody takes it, errno says why.
UniqueFd ConnectTo(const std::string& socket_path, int type);
// The last lines of a file.
std::string LogTail(const std::string& path);

class MemdProcess {
 public:
  // Makes directory and configuration; nothing runs yet.
  static absl::StatusOr<std::unique_ptr<MemdProcess>> Create(
      const DemoOptions& options);
  ~MemdProcess();

  // Returns when memd takes connections.
  absl::Status Start();
  // SIGTERM; memd must drain and end with 0.
  absl::Status Stop();
  // SIGKILL: everything that memd has not written is lost.
  void Kill();

  const std::string& directory() const { return directory_; }
  std::string socket_path() const { return directory_ + "/memd.sock"; }
  int pidfd() const { return child_.pidfd(); }
  bool running() const { return child_.running(); }
  std::string LogTail() const { return demo::LogTail(log_path()); }

 private:
  MemdProcess(const DemoOptions& options, std::string directory)
      : program_(options.memd),
        keep_(options.keep),
        directory_(std::move(directory)) {}
  absl::Status Configure(const DemoOptions& options) const;
  std::string log_path() const { return directory_ + "/memd.log"; }

  const std::string program_;
  const bool keep_;
  const std::string directory_;
  ChildProcess child_;
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_MEMD_PROCESS_H_
