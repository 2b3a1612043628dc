#include "client/memctl/socket_probe.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "base/status.h"
#include "base/unique_fd.h"

namespace agentmem::memctl {

const char kHowToStartMemd[] =
    "start it with `systemctl start memd` or by running `memd`, or name its "
    "socket with --socket or AGENTMEM_SOCKET";

absl::Status ProbeSocket(const std::string& path, Door door) {
  const int type = door == Door::kClients ? SOCK_SEQPACKET : SOCK_STREAM;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return InvalidArgument("the socket path \"" + path + "\" has " +
                           std::to_string(path.size()) +
                           " bytes; a UNIX socket takes 1 to 107");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus("making a socket");
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                sizeof(address)) == 0 ||
      errno == EAGAIN) {
    return absl::OkStatus();
  }
  if (errno == EACCES || errno == EPERM) {
    return PermissionDenied("memd's socket " + path +
                            " belongs to another user: run memctl as the user "
                            "that runs memd, or as root");
  }
  return Unavailable("memd is not reachable at " + path + " (" +
                     std::strerror(errno) + "): " + kHowToStartMemd);
}

}  // namespace agentmem::memctl
