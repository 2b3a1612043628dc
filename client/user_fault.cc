#include "client/user_fault.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace agentmem::client {
namespace {

constexpr std::uint64_t kNeeded =
    UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MISSING_SHMEM |
    UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
// Taken where the kernel has them. EXACT_ADDRESS came with 5.18, before the
// last of the needed ones.
constexpr std::uint64_t kWelcome =
    UFFD_FEATURE_EXACT_ADDRESS | UFFD_FEATURE_THREAD_ID |
    UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_POISON;

struct Made {
  UniqueFd fd;
  bool user_mode_only = false;
};

Outcome Make(Made* made) {
  const int flags = O_CLOEXEC | O_NONBLOCK;
  made->user_mode_only = false;
  const UniqueFd device(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (device.valid()) {
    made->fd = UniqueFd(ioctl(device.get(), USERFAULTFD_IOC_NEW, flags));
    if (made->fd.valid()) return {};
  }
  const int device_error = errno;
  made->fd = UniqueFd(static_cast<int>(syscall(SYS_userfaultfd, flags)));
  if (made->fd.valid()) return {};
  const int call_error = errno;
  made->fd = UniqueFd(
      static_cast<int>(syscall(SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY)));
  if (made->fd.valid()) {
    made->user_mode_only = true;
    return {};
  }
  return Fail(Code::kFailedPrecondition,
              ExplainNoUserFault(device_error, call_error, errno));
}

bool Enable(const UniqueFd& fd, std::uint64_t features,
            std::uint64_t* available) {
  uffdio_api api = {};
  api.api = UFFD_API;
  api.features = features;
  if (ioctl(fd.get(), UFFDIO_API, &api) != 0) return false;
  if (available != nullptr) *available = api.features;
  return true;
}

}  // namespace

std::string ExplainNoUserFault(int device_error, int call_error,
                               int user_mode_error) {
  std::string text = "this process gets no userfaultfd (/dev/userfaultfd: ";
  text += std::strerror(device_error);
  text += "; the call: ";
  text += std::strerror(call_error);
  text += "; for user mode: ";
  text += std::strerror(user_mode_error);
  text += "); ";
  if (call_error == ENOSYS) {
    return text + "the kernel is built without CONFIG_USERFAULTFD";
  }
  return text +
         "set vm.unprivileged_userfaultfd=1, or give its group "
         "/dev/userfaultfd by a udev rule (MODE=\"0660\"), or let the "
         "container's seccomp profile pass userfaultfd";
}

Outcome UserFault::Open(UserFault* out) {
  // UFFDIO_API works once a descriptor: one to ask what there is, thrown away.
  std::uint64_t available = 0;
  Made made;
  if (Outcome probed = Make(&made); !probed.ok()) return probed;
  if (!Enable(made.fd, 0, &available)) {
    return Fail(Code::kFailedPrecondition,
                std::string("UFFDIO_API: ") + std::strerror(errno));
  }
  if ((available & kNeeded) != kNeeded) {
    return Fail(Code::kFailedPrecondition,
                "the kernel's userfaultfd cannot page shared memory with "
                "write-protection; Linux 5.19 or later can");
  }
  const std::uint64_t features = kNeeded | (available & kWelcome);
  if (Outcome again = Make(&made); !again.ok()) return again;
  if (!Enable(made.fd, features, nullptr)) {
    return Fail(Code::kFailedPrecondition,
                std::string("UFFDIO_API: ") + std::strerror(errno));
  }
  out->fd_ = std::move(made.fd);
  out->features_ = features;
  out->user_mode_only_ = made.user_mode_only;
  return {};
}

Outcome UserFault::Register(void* address, std::uint64_t bytes) const {
  uffdio_register request = {};
  request.range = {reinterpret_cast<std::uintptr_t>(address), bytes};
  request.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR |
                 UFFDIO_REGISTER_MODE_WP;
  if (ioctl(fd_.get(), UFFDIO_REGISTER, &request) == 0) return {};
  const int error = errno;
  return Fail(
      error == ENOMEM ? Code::kResourceExhausted : Code::kFailedPrecondition,
      std::string("UFFDIO_REGISTER: ") + std::strerror(error));
}

void UserFault::Wake(std::uint64_t address, std::uint64_t bytes) const {
  uffdio_range range = {address, bytes};
  ioctl(fd_.get(), UFFDIO_WAKE, &range);
}

void UserFault::Unprotect(std::uint64_t address, std::uint64_t bytes) const {
  uffdio_writeprotect request = {{address, bytes}, 0};
  while (ioctl(fd_.get(), UFFDIO_WRITEPROTECT, &request) != 0 &&
         errno == EAGAIN) {
  }
}

bool UserFault::Poison(std::uint64_t address, std::uint64_t bytes) const {
  uffdio_poison request = {};
  request.range = {address, bytes};
  int answer;
  do {
    request.updated = 0;
    answer = ioctl(fd_.get(), UFFDIO_POISON, &request);
  } while (answer != 0 && errno == EAGAIN && request.updated <= 0);
  // Somebody else put a page there: its toucher only has to look again.
  if (answer != 0 && errno == EEXIST) Wake(address, bytes);
  return answer == 0;
}

}  // namespace agentmem::client
