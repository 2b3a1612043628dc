// Region::Read and Write.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "client/region.h"

namespace agentmem::client {
namespace {

// What memd loads and keeps at a time for one call.
constexpr std::uint64_t kChunkBytes = 4 << 20;
constexpr std::size_t kBounceBytes = 64 << 10;

Outcome CopyFailed(const char* call) {
  return Fail(Code::kInternal, std::string(call) + " of a region's memory: " +
                                   std::strerror(errno));
}

// One system call's worth, by a buffer of our own: a caller's buffer that lies
// in a region may only be paged in by user mode, not by the system call.
ssize_t ReadThrough(int fd, char* buffer, std::size_t bytes, off_t at) {
  bytes = std::min(bytes, kBounceBytes);
  const auto bounce = std::make_unique<char[]>(bytes);
  const ssize_t got = pread(fd, bounce.get(), bytes, at);
  if (got > 0) std::memcpy(buffer, bounce.get(), got);
  return got;
}
ssize_t WriteThrough(int fd, const char* buffer, std::size_t bytes, off_t at) {
  bytes = std::min(bytes, kBounceBytes);
  const auto bounce = std::make_unique<char[]>(bytes);
  std::memcpy(bounce.get(), buffer, bytes);
  return pwrite(fd, bounce.get(), bytes, at);
}

}  // namespace

Outcome Region::Read(std::uint64_t offset, char* buffer, std::uint64_t bytes,
                     const Deadline& deadline) {
  if (Outcome checked = CheckRange(offset, bytes); !checked.ok()) {
    return checked;
  }
  if (!read_only_) return ReadChunks(offset, buffer, bytes, deadline);
  // A Refresh beside it moves the pages of one that reads: what was copied may
  // be of two versions then. Without the lock first: readers are many.
  const std::uint32_t before = moves_.load(std::memory_order_acquire);
  if (before % 2 == 0) {
    const Outcome outcome = ReadChunks(offset, buffer, bytes, deadline);
    if (moves_.fetch_add(0, std::memory_order_acq_rel) == before) {
      return outcome;
    }
  }
  if (!moving_.Lock(deadline)) {
    return Fail(Code::kDeadlineExceeded,
                "region " + name_ +
                    " was refreshed beside the read until the deadline");
  }
  const Outcome outcome = ReadChunks(offset, buffer, bytes, deadline);
  moving_.Unlock();
  return outcome;
}

Outcome Region::ReadChunks(std::uint64_t offset, char* buffer,
                           std::uint64_t bytes, const Deadline& deadline) {
  while (bytes != 0) {
    const std::uint64_t chunk = std::min(bytes, kChunkBytes);
    if (Outcome read = ReadChunk(offset, buffer, chunk, deadline); !read.ok()) {
      return read;
    }
    offset += chunk;
    buffer += chunk;
    bytes -= chunk;
  }
  return {};
}

Outcome Region::Write(std::uint64_t offset, const char* buffer,
                      std::uint64_t bytes, const Deadline& deadline) {
  if (read_only_) {
    return Fail(Code::kFailedPrecondition,
                "region " + name_ + " is open for reading");
  }
  if (Outcome checked = CheckRange(offset, bytes); !checked.ok()) {
    return checked;
  }
  while (bytes != 0) {
    const std::uint64_t chunk = std::min(bytes, kChunkBytes);
    if (Outcome written = WriteChunk(offset, buffer, chunk, deadline);
        !written.ok()) {
      return written;
    }
    offset += chunk;
    buffer += chunk;
    bytes -= chunk;
  }
  return {};
}

Outcome Region::ReadChunk(std::uint64_t offset, char* buffer,
                          std::uint64_t bytes, const Deadline& deadline) {
  const bool mapped = data() != nullptr;
  if (Outcome loaded =
          Populate(offset, bytes, mapped ? Keep::kNo : Keep::kPinned, deadline);
      !loaded.ok()) {
    return loaded;
  }
  if (mapped) {
    std::memcpy(buffer, data() + offset, bytes);
    return {};
  }
  Outcome outcome;
  for (std::uint64_t done = 0; done < bytes && outcome.ok();) {
    const auto at = static_cast<off_t>(offset + done);
    ssize_t got = pread(memory_.get(), buffer + done, bytes - done, at);
    if (got < 0 && errno == EFAULT) {
      got = ReadThrough(memory_.get(), buffer + done, bytes - done, at);
    }
    if (got > 0) done += static_cast<std::uint64_t>(got);
    if (got == 0 || (got < 0 && errno != EINTR)) outcome = CopyFailed("pread");
  }
  return LetGo(offset, bytes, std::move(outcome));
}

// Also past the caller's deadline: what is kept would stay so.
Outcome Region::LetGo(std::uint64_t offset, std::uint64_t bytes,
                      Outcome outcome) {
  Outcome unpinned = Unpin(offset, bytes, Deadline::After(kCloseTimeoutNs));
  return outcome.ok() ? unpinned : outcome;
}

Outcome Region::WriteChunk(std::uint64_t offset, const char* buffer,
                           std::uint64_t bytes, const Deadline& deadline) {
  const bool mapped = data() != nullptr;
  if (Outcome loaded =
          Populate(offset, bytes, mapped ? Keep::kNo : Keep::kPinned, deadline);
      !loaded.ok()) {
    return loaded;
  }
  if (mapped) {
    std::memcpy(data() + offset, buffer, bytes);
    return {};
  }
  Outcome outcome;
  std::uint64_t done = 0;
  while (done < bytes && outcome.ok()) {
    const auto at = static_cast<off_t>(offset + done);
    ssize_t put = pwrite(memory_.get(), buffer + done, bytes - done, at);
    if (put < 0 && errno == EFAULT) {
      put = WriteThrough(memory_.get(), buffer + done, bytes - done, at);
    }
    if (put > 0) done += static_cast<std::uint64_t>(put);
    if (put == 0 || (put < 0 && errno != EINTR)) outcome = CopyFailed("pwrite");
  }
  // Marked while it is pinned: memd may let go of what is clean.
  if (done != 0) {
    Outcome marked =
        RangeRequest(AgentOp::kMarkDirty, 0, offset, done, deadline);
    if (outcome.ok()) outcome = std::move(marked);
  }
  return LetGo(offset, bytes, std::move(outcome));
}

}  // namespace agentmem::client
