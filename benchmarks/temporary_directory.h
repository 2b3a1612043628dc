// A directory of the benchmark's own, for as long as this object lives.
//
// Ownership: owns it and all in it. Threads: thread-compatible.
// Errors: errno's. Cost: system calls.
#ifndef AGENTMEM_BENCHMARKS_TEMPORARY_DIRECTORY_H_
#define AGENTMEM_BENCHMARKS_TEMPORARY_DIRECTORY_H_

#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "absl/status/statusor.h"
#include "base/status.h"

namespace agentmem::bench {

class TemporaryDirectory {
 public:
  static absl::StatusOr<std::unique_ptr<TemporaryDirectory>> Make() {
    // Short: a socket's path has room for 107 bytes.
    char path[] = "/tmp/agentmem-bench-XXXXXX";
    if (::mkdtemp(path) == nullptr) return ErrnoStatus(path);
    return std::unique_ptr<TemporaryDirectory>(new TemporaryDirectory(path));
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }

 private:
  explicit TemporaryDirectory(std::string path) : path_(std::move(path)) {}

  const std::string path_;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_TEMPORARY_DIRECTORY_H_
