#include "memd/dram/shared_memory.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <utility>

#include "base/map_shared.h"
#include "base/status.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace agentmem {

absl::StatusOr<SharedMemory> SharedMemory::Create(const std::string& name,
                                                  std::uint64_t bytes,
                                                  Access access) {
  SharedMemory memory;
  memory.fd_ =
      UniqueFd(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory.fd_.valid()) return ErrnoStatus("memfd_create(" + name + ")");
  const int fd = memory.fd_.get();
  // A read-only descriptor can be opened again through /proc/PID/fd: the mode
  // keeps other users out, the seal below everybody.
  if (fchmod(fd, 0600) != 0) return ErrnoStatus("fchmod(" + name + ")");
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    return ErrnoStatus("ftruncate(" + name + ", " + std::to_string(bytes) +
                       ")");
  }
  void* base = MapShared(fd, bytes, PROT_READ | PROT_WRITE);
  if (base == MAP_FAILED) {
    return ErrnoStatus("mmap(" + name + ", " + std::to_string(bytes) + ")");
  }
  memory.base_ = static_cast<char*>(base);
  memory.bytes_ = bytes;
  int seals = F_SEAL_SHRINK | F_SEAL_GROW;
  if (access == Access::kClientsRead) seals |= F_SEAL_FUTURE_WRITE;
  if (fcntl(fd, F_ADD_SEALS, seals | F_SEAL_SEAL) != 0) {
    return ErrnoStatus("sealing memfd " + name);
  }
  return memory;
}

SharedMemory::~SharedMemory() {
  if (base_ != nullptr) munmap(base_, bytes_);
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : fd_(std::move(other.fd_)),
      base_(std::exchange(other.base_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  if (this != &other) {
    if (base_ != nullptr) munmap(base_, bytes_);
    fd_ = std::move(other.fd_);
    base_ = std::exchange(other.base_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

bool SharedMemory::Populate(std::uint64_t offset, std::uint64_t bytes) const {
  return madvise(base_ + offset, bytes, MADV_POPULATE_WRITE) == 0;
}

absl::Status SharedMemory::UseHugePages() const {
  for (std::uint64_t at = 0; at + kHugePageBytes <= bytes_;
       at += kHugePageBytes) {
    // What has no page at all yet cannot be collapsed.
    if (!Populate(at, kHugePageBytes) ||
        madvise(base_ + at, kHugePageBytes, MADV_COLLAPSE) != 0) {
      return ErrnoStatus("MADV_COLLAPSE");
    }
  }
  return absl::OkStatus();
}

}  // namespace agentmem
