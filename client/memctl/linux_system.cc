#include "client/memctl/linux_system.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/unique_fd.h"

// Newer than the oldest headers that this builds with.
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

namespace agentmem::memctl {
namespace {

constexpr std::size_t kReadBytesMax = 64 << 10;

// The errno of a call that returns a descriptor, which is closed again.
int TryDescriptor(long result) {
  if (result < 0) return errno;
  const UniqueFd closes(static_cast<int>(result));
  return 0;
}

int TryUserfaultfdDevice() {
  const UniqueFd device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (!device.valid()) return errno;
  return TryDescriptor(
      ::ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
}

int TryIoUring() {
  io_uring_params parameters = {};
  return TryDescriptor(::syscall(SYS_io_uring_setup, 1, &parameters));
}

int TryMemfdSeals() {
  const UniqueFd fd(static_cast<int>(::syscall(
      SYS_memfd_create, "agentmem-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING)));
  if (!fd.valid()) return errno;
  if (::ftruncate(fd.get(), 4096) != 0) return errno;
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE) != 0) return errno;
  // A seal that is accepted but not kept would be worse than none.
  void* const page =
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (page == MAP_FAILED) return 0;
  ::munmap(page, 4096);
  return EINVAL;
}

int TryWipeOnFork() {
  void* const page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return errno;
  const int error = ::madvise(page, 4096, MADV_WIPEONFORK) == 0 ? 0 : errno;
  ::munmap(page, 4096);
  return error;
}

int TryCudaLibrary() {
  void* const library = ::dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) return ENOENT;
  ::dlclose(library);
  return 0;
}

std::string Parent(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

std::optional<std::string> LinuxSystem::Read(const std::string& path) const {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return std::nullopt;
  std::string text(kReadBytesMax, '\0');
  std::size_t length = 0;
  while (length < text.size()) {
    const ssize_t got =
        ::read(fd.get(), text.data() + length, text.size() - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) break;
    length += static_cast<std::size_t>(got);
  }
  text.resize(length);
  return text;
}

std::optional<mode_t> LinuxSystem::Mode(const std::string& path) const {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return std::nullopt;
  return info.st_mode;
}

int LinuxSystem::Access(const std::string& path) const {
  return ::access(path.c_str(), R_OK | W_OK) == 0 ? 0 : errno;
}

std::vector<std::string> LinuxSystem::List(const std::string& path) const {
  std::vector<std::string> names;
  DIR* const directory = ::opendir(path.c_str());
  if (directory == nullptr) return names;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  ::closedir(directory);
  std::sort(names.begin(), names.end());
  return names;
}

int LinuxSystem::Try(Feature feature) const {
  switch (feature) {
    case Feature::kUserfaultfd:
      return TryDescriptor(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
    case Feature::kUserfaultfdUserMode:
      return TryDescriptor(::syscall(
          SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
    case Feature::kUserfaultfdDevice:
      return TryUserfaultfdDevice();
    case Feature::kIoUring:
      return TryIoUring();
    case Feature::kPidfd:
      return TryDescriptor(::syscall(SYS_pidfd_open, ::getpid(), 0));
    case Feature::kMemfdSeals:
      return TryMemfdSeals();
    case Feature::kWipeOnFork:
      return TryWipeOnFork();
    case Feature::kCudaLibrary:
      return TryCudaLibrary();
  }
  return ENOSYS;
}

LimitValue LinuxSystem::LimitOf(Limit limit) const {
  rlimit value = {};
  if (::getrlimit(limit == Limit::kMemlock ? RLIMIT_MEMLOCK : RLIMIT_NOFILE,
                  &value) != 0) {
    return {};
  }
  const auto convert = [](rlim_t v) {
    return v == RLIM_INFINITY ? LimitValue::kUnlimited
                              : static_cast<std::uint64_t>(v);
  };
  return {convert(value.rlim_cur), convert(value.rlim_max)};
}

std::optional<DiskSpace> LinuxSystem::Space(const std::string& path) const {
  std::string existing = path;
  while (!Mode(existing).has_value()) {
    const std::string parent = Parent(existing);
    if (parent == existing) return std::nullopt;
    existing = parent;
  }
  struct statvfs info;
  if (::statvfs(existing.c_str(), &info) != 0) return std::nullopt;
  DiskSpace space;
  space.path = existing;
  space.free_bytes = static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
  space.total_bytes = static_cast<std::uint64_t>(info.f_blocks) * info.f_frsize;
  space.writable = ::access(existing.c_str(), W_OK | X_OK) == 0;
  return space;
}

}  // namespace agentmem::memctl
