#include "memd/agents/page_mapper.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <string>

#include "base/status.h"
#include "proto/userfaultfd_abi.h"

namespace agentmem {
namespace {

// EAGAIN: the address space is changing; what was done is in the result.
constexpr int kAttemptsMax = 1000;

absl::Status Failed(const char* what, int error) {
  const std::string message = std::string(what) + ": " + std::strerror(error);
  if (error == ESRCH || error == ENOENT) return NotFound(message);
  if (error == ENOMEM || error == ENOSPC) return ResourceExhausted(message);
  return Internal(message);
}

}  // namespace

absl::Status FaultMapper::Install(std::uint64_t offset, const char* bytes,
                                  std::uint64_t length, bool protect) {
  std::uint64_t done = 0;
  for (int attempt = 0; done < length; ++attempt) {
    uffdio_copy copy = {};
    copy.dst = base_ + offset + done;
    copy.src = reinterpret_cast<std::uintptr_t>(bytes) + done;
    copy.len = length - done;
    copy.mode = protect ? UFFDIO_COPY_MODE_WP : 0;
    if (ioctl(fd_, UFFDIO_COPY, &copy) == 0) return absl::OkStatus();
    const int error = errno;
    if (copy.copy > 0) done += static_cast<std::uint64_t>(copy.copy);
    if (error == EEXIST) {
      // Somebody else's touch made it; what is behind it may be missing.
      Wake(offset + done, 4096);
      done += 4096;
      continue;
    }
    if (error != EAGAIN || attempt > kAttemptsMax) {
      return Failed("UFFDIO_COPY", error);
    }
  }
  return absl::OkStatus();
}

absl::Status FaultMapper::SetProtection(std::uint64_t offset,
                                        std::uint64_t length, bool protect) {
  for (int attempt = 0;; ++attempt) {
    uffdio_writeprotect range = {};
    range.range.start = base_ + offset;
    range.range.len = length;
    range.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
    if (ioctl(fd_, UFFDIO_WRITEPROTECT, &range) == 0) return absl::OkStatus();
    if (errno != EAGAIN || attempt > kAttemptsMax) {
      return Failed("UFFDIO_WRITEPROTECT", errno);
    }
  }
}

absl::Status FaultMapper::Protect(std::uint64_t offset, std::uint64_t length) {
  return SetProtection(offset, length, true);
}

absl::Status FaultMapper::Unprotect(std::uint64_t offset,
                                    std::uint64_t length) {
  return SetProtection(offset, length, false);
}

absl::Status FaultMapper::Continue(std::uint64_t offset, std::uint64_t length,
                                   bool protect) {
  std::uint64_t done = 0;
  for (int attempt = 0; done < length; ++attempt) {
    uffdio_continue range = {};
    range.range.start = base_ + offset + done;
    range.range.len = length - done;
    range.mode = protect ? UFFDIO_CONTINUE_MODE_WP : 0;
    if (ioctl(fd_, UFFDIO_CONTINUE, &range) == 0) return absl::OkStatus();
    const int error = errno;
    if (range.mapped > 0) done += static_cast<std::uint64_t>(range.mapped);
    if (error == EEXIST) {
      Wake(offset + done, 4096);
      done += 4096;
      continue;
    }
    if (error != EAGAIN || attempt > kAttemptsMax) {
      return Failed("UFFDIO_CONTINUE", error);
    }
  }
  return absl::OkStatus();
}

void FaultMapper::Wake(std::uint64_t offset, std::uint64_t length) {
  uffdio_range range = {};
  range.start = base_ + offset;
  range.len = length;
  // It can fail only where nobody is left to be woken.
  (void)ioctl(fd_, UFFDIO_WAKE, &range);
}

absl::Status FaultMapper::Poison(std::uint64_t offset, std::uint64_t length) {
  uffdio_poison range = {};
  range.range.start = base_ + offset;
  range.range.len = length;
  if (ioctl(fd_, UFFDIO_POISON, &range) == 0) return absl::OkStatus();
  return Failed("UFFDIO_POISON", errno);
}

absl::Status ExplicitMapper::Install(std::uint64_t offset, const char* bytes,
                                     std::uint64_t length, bool) {
  std::uint64_t done = 0;
  while (done < length) {
    const ssize_t put = pwrite(memfd_, bytes + done, length - done,
                               static_cast<off_t>(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return Failed("writing a page", errno);
    done += static_cast<std::uint64_t>(put);
  }
  return absl::OkStatus();
}

int ReadFaults(int userfaultfd, PageFault* faults, int count) {
  uffd_msg messages[16];
  if (count > 16) count = 16;
  const iovec part = {messages, sizeof(uffd_msg) * static_cast<size_t>(count)};
  const ssize_t got = preadv2(userfaultfd, &part, 1, -1, RWF_NOWAIT);
  if (got < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
  const int read =
      static_cast<int>(got / static_cast<ssize_t>(sizeof(uffd_msg)));
  int taken = 0;
  for (int i = 0; i < read; ++i) {
    if (messages[i].event != UFFD_EVENT_PAGEFAULT) continue;
    const auto& fault = messages[i].arg.pagefault;
    faults[taken++] = {fault.address,
                       (fault.flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0,
                       (fault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0,
                       (fault.flags & UFFD_PAGEFAULT_FLAG_MINOR) != 0};
  }
  return taken;
}

}  // namespace agentmem
