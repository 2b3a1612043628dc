// The machine as doctor sees it; an interface, so that tests make machines up.
//
// Ownership: none. Threads: thread-compatible.
// Errors: errno values; 0 is success. Cost: a few system calls a question.
#ifndef AGENTMEM_CLIENT_MEMCTL_SYSTEM_VIEW_H_
#define AGENTMEM_CLIENT_MEMCTL_SYSTEM_VIEW_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace agentmem::memctl {

// What the kernel can be asked to do; each is tried for real, and undone.
enum class Feature {
  kUserfaultfd,          // the plain system call: full
  kUserfaultfdUserMode,  // UFFD_USER_MODE_ONLY
  kUserfaultfdDevice,    // through /dev/userfaultfd: full
  kIoUring,              // io_uring_setup
  kPidfd,                // pidfd_open of this process
  kMemfdSeals,           // memfd_create and F_SEAL_FUTURE_WRITE
  kWipeOnFork,           // MADV_WIPEONFORK
  kCudaLibrary,          // libcuda.so.1 can be loaded
};

enum class Limit { kMemlock, kOpenFiles };

struct LimitValue {
  static constexpr std::uint64_t kUnlimited = UINT64_MAX;
  std::uint64_t soft = kUnlimited;
  std::uint64_t hard = kUnlimited;
};

struct DiskSpace {
  std::string path;  // the nearest directory that exists
  std::uint64_t free_bytes = 0;
  std::uint64_t total_bytes = 0;
  bool writable = false;
};

class SystemView {
 public:
  virtual ~SystemView() = default;
  // The file's text (at most 64 KiB), or nothing if it cannot be read.
  virtual std::optional<std::string> Read(const std::string& path) const = 0;
  // The mode and type bits, or nothing if there is no such file.
  virtual std::optional<mode_t> Mode(const std::string& path) const = 0;
  // Whether this process may read and write it: 0 or an errno.
  virtual int Access(const std::string& path) const = 0;
  // Names in a directory, sorted; empty if it cannot be read.
  virtual std::vector<std::string> List(const std::string& path) const = 0;
  virtual int Try(Feature feature) const = 0;
  virtual LimitValue LimitOf(Limit limit) const = 0;
  virtual std::optional<DiskSpace> Space(const std::string& path) const = 0;
};

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_SYSTEM_VIEW_H_
