// The administration's door: proto/admin.proto over gRPC on a UNIX socket.
//
// The socket file has mode 0600 from the moment that it can be seen: it is made
// in a private directory beside it and moved into place. A file that is there
// already is replaced only if it is a socket where nobody answers.
//
// Ownership: the backend outlives the server; the socket file is removed with
//   the server, unless somebody else's stands there by then.
// Threads: Start and the destructor are called by one thread. The backend is
//   called from gRPC's threads (at most kAdminThreadsMax), so it must be
//   thread-safe, and must answer UNAVAILABLE once the daemon shuts down.
// Errors: FAILED_PRECONDITION: another process answers at the path, or the path
//   is not a socket; INVALID_ARGUMENT: the path is empty or too long; others as
//   the file system says.
// Cost: the destructor waits up to kAdminDrainNs for calls to finish, cancels
//   the others, and then waits for what is still inside the backend.
#ifndef AGENTMEM_MEMD_SERVICE_ADMIN_SERVICE_H_
#define AGENTMEM_MEMD_SERVICE_ADMIN_SERVICE_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "memd/service/snapshot.h"

namespace agentmem {

inline constexpr int kAdminThreadsMax = 8;
inline constexpr DurationNs kAdminDrainNs = kSecondNs;
// sockaddr_un takes 107; the name that the socket is made under may be 12
// longer than the path.
inline constexpr std::size_t kAdminPathBytesMax = 95;

class AdminServer {
 public:
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(
      const std::string& socket_path, AdminBackend* backend);
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

 private:
  struct Impl;
  explicit AdminServer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_ADMIN_SERVICE_H_
