#include "client/mapping.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "base/map_shared.h"

namespace agentmem::client {

Outcome Mapping::Map(const std::string& what, int fd, std::uint64_t bytes,
                     int protection, Mapping* mapping) {
  struct stat status;
  if (fstat(fd, &status) != 0) {
    return Fail(Code::kFailedPrecondition,
                what + ": fstat: " + std::strerror(errno));
  }
  if (bytes == 0 || static_cast<std::uint64_t>(status.st_size) < bytes) {
    return Fail(Code::kFailedPrecondition,
                what + ": memd says " + std::to_string(bytes) +
                    " bytes, its memory has " + std::to_string(status.st_size));
  }
  void* base = MapShared(fd, bytes, protection);
  if (base == MAP_FAILED) {
    return Fail(
        errno == ENOMEM ? Code::kResourceExhausted : Code::kFailedPrecondition,
        what + ": mapping " + std::to_string(bytes) +
            " bytes: " + std::strerror(errno));
  }
  mapping->Reset();
  mapping->base_ = static_cast<char*>(base);
  mapping->bytes_ = bytes;
  if (madvise(base, bytes, MADV_DONTFORK) != 0) {
    return Fail(Code::kFailedPrecondition,
                what + ": MADV_DONTFORK: " + std::strerror(errno));
  }
  return {};
}

void Mapping::Reset() {
  if (base_ != nullptr) munmap(base_, bytes_);
  base_ = nullptr;
  bytes_ = 0;
}

}  // namespace agentmem::client
