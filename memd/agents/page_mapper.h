// How memd moves a region's pages into and out of the process that maps it.
//
// Two ways: FaultMapper, by the process's own userfaultfd (whose descriptor it
// sent), and ExplicitMapper, which only fills the memfd: the process asks for
// what it touches, and says what it wrote.
//
//   Install    a page appears: with `protect`, writes to it are reported
//   Protect    writes to [offset, offset + bytes) are reported from here on;
//              when it returns no write is under way
//   Unprotect  and not any more; who waits goes on
//   Continue   maps what the memfd has already
//   Wake       who waits in the range looks again
//   Poison     who touches the range gets SIGBUS
//
// Offsets are the region's, multiples of 4 KiB.
//
// Ownership: borrows descriptors. Threads: thread-compatible. Errors:
// NOT_FOUND: the process is gone, or its mapping is; INTERNAL else. A page that
// is there already is no error (and is woken). Cost: one ioctl or pwrite; they
// take locks of the process's address space, so they may wait for it.
#ifndef AGENTMEM_MEMD_AGENTS_PAGE_MAPPER_H_
#define AGENTMEM_MEMD_AGENTS_PAGE_MAPPER_H_

#include <cstdint>

#include "absl/status/status.h"

namespace agentmem {

class PageMapper {
 public:
  virtual ~PageMapper() = default;
  virtual absl::Status Install(std::uint64_t offset, const char* bytes,
                               std::uint64_t length, bool protect) = 0;
  virtual absl::Status Protect(std::uint64_t offset, std::uint64_t length) = 0;
  virtual absl::Status Unprotect(std::uint64_t offset,
                                 std::uint64_t length) = 0;
  virtual absl::Status Continue(std::uint64_t offset, std::uint64_t length,
                                bool protect) = 0;
  virtual void Wake(std::uint64_t offset, std::uint64_t length) = 0;
  virtual absl::Status Poison(std::uint64_t offset, std::uint64_t length) = 0;
  // Are writes reported, or does the process say what it wrote?
  virtual bool reports_writes() const = 0;
};

class FaultMapper final : public PageMapper {
 public:
  // `base`: where the process has mapped the region.
  FaultMapper(int userfaultfd, std::uint64_t base)
      : fd_(userfaultfd), base_(base) {}

  absl::Status Install(std::uint64_t offset, const char* bytes,
                       std::uint64_t length, bool protect) override;
  absl::Status Protect(std::uint64_t offset, std::uint64_t length) override;
  absl::Status Unprotect(std::uint64_t offset, std::uint64_t length) override;
  absl::Status Continue(std::uint64_t offset, std::uint64_t length,
                        bool protect) override;
  void Wake(std::uint64_t offset, std::uint64_t length) override;
  absl::Status Poison(std::uint64_t offset, std::uint64_t length) override;
  bool reports_writes() const override { return true; }

 private:
  absl::Status SetProtection(std::uint64_t offset, std::uint64_t length,
                             bool protect);

  const int fd_;
  const std::uint64_t base_;
};

class ExplicitMapper final : public PageMapper {
 public:
  explicit ExplicitMapper(int memfd) : memfd_(memfd) {}

  absl::Status Install(std::uint64_t offset, const char* bytes,
                       std::uint64_t length, bool protect) override;
  absl::Status Protect(std::uint64_t, std::uint64_t) override {
    return absl::OkStatus();
  }
  absl::Status Unprotect(std::uint64_t, std::uint64_t) override {
    return absl::OkStatus();
  }
  absl::Status Continue(std::uint64_t, std::uint64_t, bool) override {
    return absl::OkStatus();
  }
  void Wake(std::uint64_t, std::uint64_t) override {}
  absl::Status Poison(std::uint64_t, std::uint64_t) override {
    return absl::OkStatus();
  }
  bool reports_writes() const override { return false; }

 private:
  const int memfd_;
};

// A fault as the userfaultfd reports it.
struct PageFault {
  std::uint64_t address = 0;
  bool write = false;       // it was a write
  bool protected_ = false;  // to a page that is there, protected
  bool minor = false;       // the memfd has the page
};

// Takes up to `count` faults without waiting, whatever the process does with
// the flags of the descriptor that it shares. -1: the kernel cannot (older than
// 6.10), errno says.
int ReadFaults(int userfaultfd, PageFault* faults, int count);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_PAGE_MAPPER_H_
