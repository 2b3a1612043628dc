#include "memd/socket_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "base/status.h"
#include "base/unique_fd.h"

namespace agentmem {
namespace {

constexpr char kPrivate[] = ".XXXXXX";

// Whether a new socket may take the place of what is at `path`.
absl::Status CheckReplaceable(const std::string& path, int type) {
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT ? absl::OkStatus()
                           : ErrnoStatus("looking at the socket " + path);
  }
  if (!S_ISSOCK(info.st_mode)) {
    return FailedPrecondition(path +
                              " exists and is not a socket: remove it, or "
                              "choose another directory for the sockets");
  }
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const UniqueFd probe(
      ::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) return ErrnoStatus("making a socket");
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address),
                sizeof(address)) != 0) {
    // Refused: the file outlived its listener. EAGAIN is a full backlog: alive.
    if (errno == ECONNREFUSED || errno == ENOENT) return absl::OkStatus();
    // EPROTOTYPE is a listener of another kind.
    if (errno != EAGAIN && errno != EPROTOTYPE) {
      return ErrnoStatus("connecting to " + path);
    }
  }
  return FailedPrecondition(
      "another process answers at " + path +
      ": stop it if it is a memd, or choose another directory for the "
      "sockets");
}

}  // namespace

SocketFile::SocketFile(std::string path, std::string directory)
    : path_(std::move(path)),
      directory_(std::move(directory)),
      private_path_(directory_ + "/s") {}

absl::StatusOr<std::unique_ptr<SocketFile>> SocketFile::Make(
    const std::string& path, int type) {
  static_assert(kBytesMax + sizeof(kPrivate) - 1 + 2 <
                sizeof(sockaddr_un::sun_path));
  if (path.size() > kBytesMax) {
    return InvalidArgument("the socket path " + path + " has " +
                           std::to_string(path.size()) + " bytes; at most " +
                           std::to_string(kBytesMax) +
                           " are allowed: choose a shorter directory");
  }
  AGENTMEM_RETURN_IF_ERROR(CheckReplaceable(path, type));
  std::string directory = path + kPrivate;
  if (::mkdtemp(directory.data()) == nullptr) {
    return ErrnoStatus("making a private directory beside " + path);
  }
  return std::unique_ptr<SocketFile>(new SocketFile(path, directory));
}

absl::Status SocketFile::Publish(mode_t mode) {
  if (::chmod(private_path_.c_str(), mode) != 0) {
    return ErrnoStatus("setting the mode of " + private_path_);
  }
  struct stat info;
  if (::lstat(private_path_.c_str(), &info) != 0) {
    return ErrnoStatus("looking at " + private_path_);
  }
  if (::rename(private_path_.c_str(), path_.c_str()) != 0) {
    return ErrnoStatus("moving the socket to " + path_);
  }
  // Not needed any more, and so nothing is left behind by a kill.
  ::rmdir(directory_.c_str());
  published_ = true;
  device_ = info.st_dev;
  inode_ = info.st_ino;
  return absl::OkStatus();
}

SocketFile::~SocketFile() {
  struct stat info;
  if (published_ && ::lstat(path_.c_str(), &info) == 0 &&
      info.st_dev == device_ && info.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
  ::unlink(private_path_.c_str());
  ::rmdir(directory_.c_str());
}

}  // namespace agentmem
