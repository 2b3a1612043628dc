// The bare disk under a memd: a file beside its state, read by direct I/O.
//
// Ownership: owns the file, which has no name any more. Threads:
// thread-compatible. Errors: errno's, with the directory. Cost: Make writes the
// file; Read takes what it measures.
#ifndef AGENTMEM_BENCHMARKS_RAW_DISK_H_
#define AGENTMEM_BENCHMARKS_RAW_DISK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace agentmem::bench {

class RawDisk {
 public:
  // Whole MiB.
  static absl::StatusOr<std::unique_ptr<RawDisk>> Make(
      const std::string& directory, std::uint64_t bytes);

  // Nanoseconds of reading all of it in reads of 1 MiB, two at a time.
  absl::StatusOr<double> Read() const;

 private:
  RawDisk(UniqueFd fd, std::uint64_t bytes)
      : fd_(std::move(fd)), bytes_(bytes) {}
  // Every other one, from `first` on.
  absl::Status ReadHalf(std::uint64_t first) const;

  const UniqueFd fd_;
  const std::uint64_t bytes_;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_RAW_DISK_H_
