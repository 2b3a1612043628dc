// The file of a listening UNIX socket: made in private, moved into place.
//
//   file = SocketFile::Make("/run/agentmem/admin.sock", SOCK_STREAM)
//                                            a directory of mode 0700
//   ... bind and listen at file->private_path() ...
//   file->Publish(0600)                      mode, rename
//
// rename keeps the socket's inode, so that what listens at the private path
// answers at the public one, and nobody sees the file before its mode is set.
//
// Ownership: removes the public file (only while it is the one that was
//   published) and the private directory.
// Threads: thread-compatible.
// Errors: FAILED_PRECONDITION when somebody answers at the path or something
//   other than a socket stands there, which is left alone; INVALID_ARGUMENT
//   when the path is longer than kBytesMax; else as errno says.
// Cost: a few system calls.
#ifndef AGENTMEM_MEMD_SOCKET_FILE_H_
#define AGENTMEM_MEMD_SOCKET_FILE_H_

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace agentmem {

class SocketFile {
 public:
  // Of a UNIX socket's 107, the private one beside it takes some.
  static constexpr std::size_t kBytesMax = 98;

  // `type`: SOCK_STREAM or another.
  static absl::StatusOr<std::unique_ptr<SocketFile>> Make(
      const std::string& path, int type);
  ~SocketFile();
  SocketFile(const SocketFile&) = delete;
  SocketFile& operator=(const SocketFile&) = delete;

  const std::string& private_path() const { return private_path_; }
  absl::Status Publish(mode_t mode);

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

#endif  // AGENTMEM_MEMD_SOCKET_FILE_H_
