#include "tests/unit/client/fake_region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "base/check.h"

namespace agentmem {

FakeOpenRegion::FakeOpenRegion(FakeRegion* region, std::uint64_t version,
                               bool read_only)
    : region_(region),
      version_(version),
      read_only_(read_only),
      memory_(memfd_create("region", MFD_CLOEXEC)) {
  AGENTMEM_CHECK(memory_.valid() &&
                 ftruncate(memory_.get(), region->bytes) == 0);
  if (version != 0) base_ = region->versions[version - 1].content;
}

std::string FakeOpenRegion::Bytes(std::uint64_t unit) const {
  const auto found = base_.find(unit);
  return found == base_.end() ? std::string(kUnitBytes, '\0') : found->second;
}

void FakeOpenRegion::set_mapped(int uffd, std::uint64_t address,
                                TrackingMode tracking) {
  uffd_ = uffd;
  address_ = address;
  tracking_ = tracking;
}

void FakeOpenRegion::Protect(std::uint64_t unit, bool on) {
  uffdio_writeprotect request = {{address_ + unit * kUnitBytes, kUnitBytes},
                                 on ? UFFDIO_WRITEPROTECT_MODE_WP : 0};
  while (ioctl(uffd_, UFFDIO_WRITEPROTECT, &request) != 0) {
    AGENTMEM_CHECK(errno == EAGAIN);
  }
}

void FakeOpenRegion::Load(std::uint64_t unit) {
  if (!resident_.insert(unit).second) return;
  const std::string bytes = Bytes(unit);
  if (address_ == 0) {
    AGENTMEM_CHECK(
        pwrite(memory_.get(), bytes.data(), bytes.size(), unit * kUnitBytes) ==
        static_cast<ssize_t>(bytes.size()));
    return;
  }
  uffdio_copy request = {};
  request.dst = address_ + unit * kUnitBytes;
  request.src = reinterpret_cast<std::uintptr_t>(bytes.data());
  request.len = kUnitBytes;
  request.mode = UFFDIO_COPY_MODE_WP;
  while (ioctl(uffd_, UFFDIO_COPY, &request) != 0) {
    AGENTMEM_CHECK(errno == EAGAIN);
    request.copy = 0;
  }
}

bool FakeOpenRegion::Resolve(const uffd_msg& fault) {
  const std::uint64_t at = fault.arg.pagefault.address - address_;
  if (address_ == 0 || at >= region_->bytes) return false;
  const std::uint64_t unit = at / kUnitBytes;
  if ((fault.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0) {
    dirty_units.insert(unit);
    Protect(unit, false);
    return true;
  }
  if (!resident_.contains(unit)) {
    Load(unit);
    return true;
  }
  uffdio_continue request = {};
  request.range = {address_ + unit * kUnitBytes, kUnitBytes};
  request.mode = UFFDIO_CONTINUE_MODE_WP;
  if (ioctl(uffd_, UFFDIO_CONTINUE, &request) != 0) {
    AGENTMEM_CHECK(errno == EEXIST || errno == EAGAIN);
    uffdio_range range = request.range;
    ioctl(uffd_, UFFDIO_WAKE, &range);
  }
  return true;
}

void FakeOpenRegion::Populate(std::uint64_t offset, std::uint64_t bytes) {
  for (std::uint64_t unit = offset / kUnitBytes;
       unit * kUnitBytes < offset + bytes; ++unit) {
    Load(unit);
  }
}

void FakeOpenRegion::MarkDirty(std::uint64_t offset, std::uint64_t bytes) {
  for (std::uint64_t unit = offset / kUnitBytes;
       unit * kUnitBytes < offset + bytes; ++unit) {
    dirty_units.insert(unit);
  }
}

FakeContent FakeOpenRegion::Cut(std::uint64_t* changed_bytes) {
  for (const std::uint64_t unit : dirty_units) {
    if (tracking_ == TrackingMode::kSync) Protect(unit, true);
    std::string bytes(kUnitBytes, '\0');
    AGENTMEM_CHECK(
        pread(memory_.get(), bytes.data(), bytes.size(), unit * kUnitBytes) ==
        static_cast<ssize_t>(bytes.size()));
    base_[unit] = std::move(bytes);
  }
  *changed_bytes = dirty_units.size() * kUnitBytes;
  dirty_units.clear();
  version_ = region_->head() + 1;
  return base_;
}

void FakeOpenRegion::MoveTo(std::uint64_t version) {
  version_ = version;
  base_ = version == 0 ? FakeContent() : region_->versions[version - 1].content;
  resident_.clear();
  AGENTMEM_CHECK(fallocate(memory_.get(),
                           FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                           static_cast<off_t>(region_->bytes)) == 0);
}

}  // namespace agentmem
