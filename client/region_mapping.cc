#include "client/region_mapping.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "client/messages.h"

namespace agentmem::client {
namespace {

constexpr std::uint64_t kHugePageBytes = 2 << 20;

// Address space for `bytes`, aligned; null: errno.
char* Reserve(std::uint64_t bytes) {
  const std::uint64_t slack = bytes >= kHugePageBytes ? kHugePageBytes : 0;
  void* reserved = mmap(nullptr, bytes + slack, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  char* const begin = static_cast<char*>(reserved);
  if (slack == 0) return begin;
  const std::uint64_t skip =
      (0 - reinterpret_cast<std::uintptr_t>(begin)) % kHugePageBytes;
  if (skip != 0) munmap(begin, skip);
  if (skip != slack) munmap(begin + skip + bytes, slack - skip);
  return begin + skip;
}

Outcome Exhausted(std::uint64_t bytes, const char* call) {
  return Fail(Code::kResourceExhausted, "mapping a region of " +
                                            HumanBytes(bytes) + ": " + call +
                                            ": " + std::strerror(errno));
}

}  // namespace

Outcome RegionMapping::Map(AgentConnection* connection, int fd,
                           std::uint64_t bytes, bool read_only,
                           DurationNs fault_timeout_ns) {
  char* const reserved = Reserve(bytes);
  if (reserved == nullptr) return Exhausted(bytes, "mmap");
  connection_ = connection;
  data_ = reserved;
  bytes_ = bytes;
  const int protection = read_only ? PROT_READ : PROT_READ | PROT_WRITE;
  if (mmap(reserved, bytes, protection, MAP_SHARED | MAP_FIXED, fd, 0) ==
      MAP_FAILED) {
    return Exhausted(bytes, "mmap");
  }
  // A child would read zeros where this process waits for memd.
  if (madvise(reserved, bytes, MADV_DONTFORK) != 0) {
    return Exhausted(bytes, "madvise");
  }
  if (Outcome registered = connection->user_fault().Register(reserved, bytes);
      !registered.ok()) {
    return registered;
  }
  range_.address = reinterpret_cast<std::uintptr_t>(reserved);
  range_.bytes = bytes;
  range_.fault_timeout_ns = fault_timeout_ns;
  connection->watchdog().Add(&range_);
  watched_ = true;
  return {};
}

void RegionMapping::Reset() {
  if (data_ == nullptr) return;
  if (watched_) connection_->watchdog().Remove(&range_);
  munmap(data_, bytes_);
  // Whoever still waits for a page of it, because memd is gone, is told by
  // nobody else; unmapped first, so that it meets SIGSEGV and not zeros.
  if (watched_) connection_->user_fault().Wake(range_.address, bytes_);
  watched_ = false;
  data_ = nullptr;
}

}  // namespace agentmem::client
