// The disk under the segments: eight verbs, so that tests can be the disk.
//
// Offsets and lengths of Write and Read are multiples of kSegmentAlign, their
// buffers begin and end on 512 B, so that the implementation may bypass the
// page cache.
//
// Ownership: descriptors are the caller's. Threads: thread-safe.
// Errors: NOT_FOUND (no such file), RESOURCE_EXHAUSTED (no space, or no more
// descriptors), DATA_LOSS (a read beyond the end), UNAVAILABLE (the rest); each
// message names the call. Cost: a system call or a few; blocks for the disk.
#ifndef AGENTMEM_MEMD_STORE_SEGMENT_IO_H_
#define AGENTMEM_MEMD_STORE_SEGMENT_IO_H_

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace agentmem {

class SegmentIo {
 public:
  virtual ~SegmentIo() = default;

  // Opens a file, or makes it; one that was made is still there after a crash.
  virtual absl::StatusOr<UniqueFd> Open(const std::string& path,
                                        bool create) = 0;
  // Takes space on the disk; the file becomes that long.
  virtual absl::Status Allocate(int fd, std::uint64_t offset,
                                std::uint64_t length) = 0;
  // All of `parts`, or an error; both may change `parts`.
  virtual absl::Status Write(int fd, std::span<iovec> parts,
                             std::uint64_t offset) = 0;
  virtual absl::Status Read(int fd, std::span<iovec> parts,
                            std::uint64_t offset) = 0;
  // What was written is on stable storage.
  virtual absl::Status Sync(int fd) = 0;
  // Gives the range's space back; it reads as zeros.
  virtual absl::Status Punch(int fd, std::uint64_t offset,
                             std::uint64_t length) = 0;
  virtual absl::Status Truncate(int fd, std::uint64_t bytes) = 0;
  virtual absl::Status Remove(const std::string& path) = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_SEGMENT_IO_H_
