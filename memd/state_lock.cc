#include "memd/state_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/status.h"

namespace agentmem {

absl::StatusOr<StateLock> StateLock::Acquire(const std::string& directory) {
  std::error_code error;
  const bool made = std::filesystem::create_directories(directory, error);
  if (error) {
    return ErrnoStatus("state directory " + directory, error.value());
  }
  if (made) ::chmod(directory.c_str(), 0700);
  const std::string path = directory + "/memd.lock";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return ErrnoStatus("lock file " + path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    char holder[32] = {};
    const ssize_t got = ::pread(fd.get(), holder, sizeof(holder) - 1, 0);
    return FailedPrecondition(
        "state directory " + directory + " is in use by memd with pid " +
        (got > 0 ? std::string(holder) : std::string("unknown")) +
        "; stop it, or give this one another state_directory");
  }
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(fd.get(), 0) != 0 ||
      ::pwrite(fd.get(), pid.data(), pid.size(), 0) !=
          static_cast<ssize_t>(pid.size())) {
    return ErrnoStatus("lock file " + path);
  }
  return StateLock(std::move(fd));
}

}  // namespace agentmem
