// The file of a listening UNIX socket: made in private, moved into place.
//
//   PrivateSocket made = Make("/run/agentmem/admin.sock")   a 0700 directory
//   ... bind and listen at made.private_path() ...
//   made.Publish()                                          0600, rename
//
// rename keeps the socket's inode, so that what listens at the private path
// answers at the public one, and nobody sees the file before its mode is set.
//
// Ownership: removes the public file (only while it is the one that was
//   published) and the private directory.
// Threads: thread-compatible.
// Errors: FAILED_PRECONDITION when somebody answers at the path or something
//   other than a socket stands there; else as errno says.
// Cost: a few system calls.
#ifndef AGENTMEM_MEMD_SERVICE_SOCKET_FILE_H_
#define AGENTMEM_MEMD_SERVICE_SOCKET_FILE_H_

#include <sys/types.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace agentmem {

class SocketFile {
 public:
  static absl::StatusOr<std::unique_ptr<SocketFile>> Make(
      const std::string& path);
  ~SocketFile();
  SocketFile(const SocketFile&) = delete;
  SocketFile& operator=(const SocketFile&) = delete;

  const std::string& private_path() const { return private_path_; }
  absl::Status Publish();

 private:
  SocketFile(std::string path, std::string directory);

  const std::string path_;
  const std::string directory_;
  const std::string private_path_;
  bool published_ = false;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_SOCKET_FILE_H_
