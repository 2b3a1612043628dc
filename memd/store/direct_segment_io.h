// SegmentIo by direct I/O, without the operating system's page cache: what a
// store reads goes into DRAM that memd keeps itself, and what it writes would
// only push other things out. Where a filesystem refuses direct I/O, through
// the page cache, which is logged once.
//
// Ownership: nothing. Threads: thread-safe. Errors: as SegmentIo.
// Cost: as SegmentIo.
#ifndef AGENTMEM_MEMD_STORE_DIRECT_SEGMENT_IO_H_
#define AGENTMEM_MEMD_STORE_DIRECT_SEGMENT_IO_H_

#include <atomic>
#include <string>

#include "memd/store/segment_io.h"

namespace agentmem {

class DirectSegmentIo final : public SegmentIo {
 public:
  absl::StatusOr<UniqueFd> Open(const std::string& path, bool create) override;
  absl::Status Allocate(int fd, std::uint64_t offset,
                        std::uint64_t length) override;
  absl::Status Write(int fd, std::span<iovec> parts,
                     std::uint64_t offset) override;
  absl::Status Read(int fd, std::span<iovec> parts,
                    std::uint64_t offset) override;
  absl::Status Sync(int fd) override;
  absl::Status Punch(int fd, std::uint64_t offset,
                     std::uint64_t length) override;
  absl::Status Truncate(int fd, std::uint64_t bytes) override;
  absl::Status Remove(const std::string& path) override;

 private:
  std::atomic<bool> refusal_logged_ = false;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_DIRECT_SEGMENT_IO_H_
