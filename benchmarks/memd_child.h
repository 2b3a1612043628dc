// A memd of the benchmark's own: directory, configuration, log; and a client's
// connection to it.
//
// Ownership: owns the process and the directory; the destructor stops the one
// and removes the other. memd dies with the benchmark, however that ends.
// Threads: thread-compatible; Start from the thread that outlives it.
// Errors: UNAVAILABLE with memd's last words. Cost: Start and Stop wait.
#ifndef AGENTMEM_BENCHMARKS_MEMD_CHILD_H_
#define AGENTMEM_BENCHMARKS_MEMD_CHILD_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/temporary_directory.h"

namespace agentmem::bench {

struct MemdOptions {
  std::string program;
  std::uint64_t dram_bytes = 0;
  std::uint64_t slots = 0;
  std::uint64_t grant_quota_bytes = 0;  // 0: memd's default
  std::uint64_t collect_ms = 0;         // 0: memd's default
  std::string tables;  // TOML after all of that: [cluster], [pool], ...
};

class MemdChild {
 public:
  // Returns when memd says that it is ready.
  static absl::StatusOr<std::unique_ptr<MemdChild>> Start(
      const MemdOptions& options);
  ~MemdChild();

  // SIGTERM, and again on the same state.
  absl::Status Restart();
  // SIGKILL, as a node that is lost; Restart brings it back on its state.
  void Kill();

  std::string socket_path() const { return directory() + "/memd.sock"; }
  std::string state_directory() const { return directory() + "/state"; }
  // As /proc calls it.
  std::string process() const { return std::to_string(pid_); }
  pid_t pid() const { return pid_; }
  const std::string& program() const { return program_; }
  // For what lies beside memd's state, on the same disk.
  const std::string& directory() const { return directory_->path(); }

 private:
  MemdChild(std::string program, std::unique_ptr<TemporaryDirectory> directory)
      : program_(std::move(program)), directory_(std::move(directory)) {}
  absl::Status Configure(const MemdOptions& options) const;
  absl::Status Launch();
  absl::Status Stop();
  [[noreturn]] void Exec(const std::string& notify_path) const;
  std::string LastWords() const;

  const std::string program_;
  const std::unique_ptr<TemporaryDirectory> directory_;
  pid_t pid_ = -1;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_MEMD_CHILD_H_
