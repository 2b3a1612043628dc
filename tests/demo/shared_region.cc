#include "tests/demo/shared_region.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <utility>

#include "base/status.h"

namespace agentmem::demo {

absl::StatusOr<SharedRegion> SharedRegion::Create(const std::string& name,
                                                  std::size_t bytes) {
  UniqueFd fd(memfd_create(name.c_str(), MFD_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus("memfd " + name);
  if (ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    return ErrnoStatus("memfd " + name + " of " + std::to_string(bytes) +
                       " bytes");
  }
  return Open(std::move(fd));
}

absl::StatusOr<SharedRegion> SharedRegion::Open(UniqueFd fd) {
  struct stat status;
  if (fstat(fd.get(), &status) != 0) return ErrnoStatus("shared memory");
  SharedRegion region;
  region.size_ = static_cast<std::size_t>(status.st_size);
  void* const data = mmap(nullptr, region.size_, PROT_READ | PROT_WRITE,
                          MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) return ErrnoStatus("mapping shared memory");
  region.data_ = static_cast<std::byte*>(data);
  region.fd_ = std::move(fd);
  return region;
}

SharedRegion::~SharedRegion() {
  if (data_ != nullptr) munmap(data_, size_);
}

SharedRegion::SharedRegion(SharedRegion&& other) noexcept {
  *this = std::move(other);
}

SharedRegion& SharedRegion::operator=(SharedRegion&& other) noexcept {
  if (this == &other) return *this;
  if (data_ != nullptr) munmap(data_, size_);
  fd_ = std::move(other.fd_);
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  return *this;
}

}  // namespace agentmem::demo
