// How processes of one program talk: plain structs over a stream socket.
//
// Ownership: none. Threads: any, one a socket. Errors: UNAVAILABLE if the
// other side has gone. Cost: blocks.
#ifndef AGENTMEM_BENCHMARKS_SELF_SOCKET_H_
#define AGENTMEM_BENCHMARKS_SELF_SOCKET_H_

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/status.h"

namespace agentmem::bench {

inline absl::Status SendBytes(int socket, const void* from, std::size_t count) {
  const char* bytes = static_cast<const char*>(from);
  while (count != 0) {
    const ssize_t sent = ::send(socket, bytes, count, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return ErrnoStatus("sending to a baseline's process");
    bytes += sent;
    count -= static_cast<std::size_t>(sent);
  }
  return absl::OkStatus();
}

inline absl::Status ReceiveBytes(int socket, void* to, std::size_t count) {
  char* bytes = static_cast<char*>(to);
  while (count != 0) {
    const ssize_t received = ::recv(socket, bytes, count, MSG_WAITALL);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0) return ErrnoStatus("hearing from a baseline's process");
    if (received == 0) return Unavailable("a baseline's process has ended");
    bytes += received;
    count -= static_cast<std::size_t>(received);
  }
  return absl::OkStatus();
}

template <class T>
absl::Status Send(int socket, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return SendBytes(socket, &value, sizeof(value));
}

template <class T>
absl::Status Receive(int socket, T* value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return ReceiveBytes(socket, value, sizeof(*value));
}

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_SELF_SOCKET_H_
