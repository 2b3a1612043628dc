#include "memd/store/direct_segment_io.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "base/log.h"
#include "base/status.h"

namespace agentmem {
namespace {

// A quota and a limit on the size of files are full disks too.
absl::Status DiskStatus(const std::string& what, int error = errno) {
  const bool full = error == EDQUOT || error == EFBIG;
  if (error == EACCES || error == EPERM) {
    return Unavailable(StatusMessage(ErrnoStatus(what, error)));
  }
  if (full) return ResourceExhausted(StatusMessage(ErrnoStatus(what, error)));
  return ErrnoStatus(what, error);
}

// Takes `done` bytes off the front of `parts`.
std::span<iovec> Rest(std::span<iovec> parts, std::size_t done) {
  while (!parts.empty() && done >= parts[0].iov_len) {
    done -= parts[0].iov_len;
    parts = parts.subspan(1);
  }
  if (done > 0) {
    parts[0].iov_base = static_cast<char*>(parts[0].iov_base) + done;
    parts[0].iov_len -= done;
  }
  return parts;
}

template <typename Call>
int UntilNotInterrupted(Call call) {
  int result = 0;
  do {
    result = call();
  } while (result != 0 && errno == EINTR);
  return result;
}

absl::Status SyncDirectoryOf(const std::string& path) {
  const std::string directory = path.substr(0, path.rfind('/'));
  const UniqueFd fd(
      ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || ::fsync(fd.get()) != 0) {
    return DiskStatus("making " + path + " durable");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<UniqueFd> DirectSegmentIo::Open(const std::string& path,
                                               bool create) {
  const int flags = O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_EXCL : 0);
  UniqueFd fd(::open(path.c_str(), flags | O_DIRECT, 0600));
  if (!fd.valid() && errno == EINVAL) {
    // Some kernels have made the file when they refuse.
    const int again = O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0);
    fd = UniqueFd(::open(path.c_str(), again, 0600));
    if (fd.valid() && !refusal_logged_.exchange(true)) {
      LogWarning("the filesystem of " + path +
                 " refuses direct I/O: segments go through the page cache");
    }
  }
  if (!fd.valid()) return DiskStatus("opening " + path);
  if (create) AGENTMEM_RETURN_IF_ERROR(SyncDirectoryOf(path));
  return fd;
}

absl::Status DirectSegmentIo::Allocate(int fd, std::uint64_t offset,
                                       std::uint64_t length) {
  if (UntilNotInterrupted([&] {
        return ::fallocate(fd, 0, static_cast<off_t>(offset),
                           static_cast<off_t>(length));
      }) == 0) {
    return absl::OkStatus();
  }
  // Writes take the space then, each its own.
  if (errno == EOPNOTSUPP) return absl::OkStatus();
  return DiskStatus("allocating space for a segment");
}

absl::Status DirectSegmentIo::Write(int fd, std::span<iovec> parts,
                                    std::uint64_t offset) {
  while (!parts.empty()) {
    const ssize_t done =
        ::pwritev(fd, parts.data(), static_cast<int>(parts.size()),
                  static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return DiskStatus("writing a segment");
    if (done == 0) return DiskStatus("writing a segment", ENOSPC);
    offset += static_cast<std::uint64_t>(done);
    parts = Rest(parts, static_cast<std::size_t>(done));
  }
  return absl::OkStatus();
}

absl::Status DirectSegmentIo::Read(int fd, std::span<iovec> parts,
                                   std::uint64_t offset) {
  while (!parts.empty()) {
    const ssize_t done =
        ::preadv(fd, parts.data(), static_cast<int>(parts.size()),
                 static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return DiskStatus("reading a segment");
    if (done == 0) {
      return DataLoss("a segment ends at " + std::to_string(offset));
    }
    offset += static_cast<std::uint64_t>(done);
    parts = Rest(parts, static_cast<std::size_t>(done));
  }
  return absl::OkStatus();
}

absl::Status DirectSegmentIo::Sync(int fd) {
  if (UntilNotInterrupted([fd] { return ::fdatasync(fd); }) == 0) {
    return absl::OkStatus();
  }
  return DiskStatus("syncing a segment");
}

absl::Status DirectSegmentIo::Punch(int fd, std::uint64_t offset,
                                    std::uint64_t length) {
  if (UntilNotInterrupted([&] {
        return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           static_cast<off_t>(offset),
                           static_cast<off_t>(length));
      }) == 0) {
    return absl::OkStatus();
  }
  return DiskStatus("giving space of a segment back");
}

absl::Status DirectSegmentIo::Truncate(int fd, std::uint64_t bytes) {
  if (UntilNotInterrupted(
          [&] { return ::ftruncate(fd, static_cast<off_t>(bytes)); }) == 0) {
    return absl::OkStatus();
  }
  return DiskStatus("cutting a segment");
}

absl::Status DirectSegmentIo::Remove(const std::string& path) {
  if (::unlink(path.c_str()) == 0) return absl::OkStatus();
  return DiskStatus("removing " + path);
}

}  // namespace agentmem
