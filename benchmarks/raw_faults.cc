#include "benchmarks/raw_faults.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/status.h"
#include "proto/userfaultfd_abi.h"

namespace agentmem::bench {

absl::StatusOr<std::unique_ptr<RawFaults>> RawFaults::Make(
    std::uint64_t bytes) {
  std::unique_ptr<RawFaults> made(new RawFaults(bytes));
  AGENTMEM_RETURN_IF_ERROR(made->Register());
  made->thread_ = std::thread([raw = made.get()] { raw->Serve(); });
  return made;
}

absl::Status RawFaults::Register() {
  memfd_ = UniqueFd(memfd_create("raw faults", MFD_CLOEXEC));
  if (!memfd_.valid() ||
      ftruncate(memfd_.get(), static_cast<off_t>(bytes_)) != 0) {
    return ErrnoStatus("memory for raw faults");
  }
  void* const memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED,
                            memfd_.get(), 0);
  if (memory == MAP_FAILED) return ErrnoStatus("mapping raw faults");
  memory_ = memory;
  faults_ = UniqueFd(
      static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  if (!faults_.valid()) return ErrnoStatus("userfaultfd");
  uffdio_api api = {UFFD_API, UFFD_FEATURE_MISSING_SHMEM, 0};
  if (ioctl(faults_.get(), UFFDIO_API, &api) != 0) {
    return ErrnoStatus("UFFDIO_API");
  }
  uffdio_register range = {};
  range.range = {reinterpret_cast<std::uint64_t>(memory_), bytes_};
  range.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (ioctl(faults_.get(), UFFDIO_REGISTER, &range) != 0) {
    return ErrnoStatus("UFFDIO_REGISTER");
  }
  return absl::OkStatus();
}

void RawFaults::Serve() {
  while (!stop_.load(std::memory_order_relaxed)) {
    uffd_msg fault;
    if (::read(faults_.get(), &fault, sizeof(fault)) != sizeof(fault)) continue;
    uffdio_copy copy = {};
    copy.dst = fault.arg.pagefault.address / kPage * kPage;
    copy.src = reinterpret_cast<std::uint64_t>(page_.data());
    copy.len = kPage;
    ioctl(faults_.get(), UFFDIO_COPY, &copy);
  }
}

RawFaults::~RawFaults() {
  stop_.store(true);
  if (thread_.joinable()) thread_.join();
  if (memory_ != nullptr) munmap(memory_, bytes_);
}

}  // namespace agentmem::bench
