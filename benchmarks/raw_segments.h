// The store's segment files, read by direct I/O: what the disk alone gives.
//
// Ownership: owns its descriptors. Threads: Read is thread-safe.
// Errors: what cannot be opened or read. Cost: a pread each.
#ifndef AGENTMEM_BENCHMARKS_RAW_SEGMENTS_H_
#define AGENTMEM_BENCHMARKS_RAW_SEGMENTS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "memd/store/aligned_buffer.h"

namespace agentmem::bench {

class RawSegments {
 public:
  static constexpr std::uint64_t kReadBytes = 1 << 20;  // at a time

  // Those below `directory`.
  static absl::StatusOr<RawSegments> Open(const std::string& directory);

  // `bytes` at `place` of them all, one after the other, rounded down to whole
  // pages and wrapped around; `into` is aligned.
  absl::Status Read(std::uint64_t place, std::uint64_t bytes, char* into) const;
  // The first `bytes` by two threads: nanoseconds.
  absl::StatusOr<double> TimeSequential(std::uint64_t bytes) const;

  std::uint64_t bytes() const { return bytes_; }

 private:
  std::vector<std::pair<UniqueFd, std::uint64_t>> files_;  // with their bytes
  std::uint64_t bytes_ = 0;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_RAW_SEGMENTS_H_
