// What one TCP connection over loopback carries: a process that sends, and this
// one, which receives. Large writes, TCP_NODELAY, large buffers; the receiver
// puts what comes where a block would lie.
//
// Ownership: owns the sender's process and the memory. Threads:
// thread-compatible; Start forks. Errors: UNAVAILABLE; DATA_LOSS if other bytes
// arrive than were sent. Cost: Receive blocks until all has come.
#ifndef AGENTMEM_BENCHMARKS_TCP_STREAM_H_
#define AGENTMEM_BENCHMARKS_TCP_STREAM_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace agentmem::bench {

class TcpStream {
 public:
  // What is sent lies in so much memory, again and again.
  static constexpr std::uint64_t kWindowBytes = 64 << 20;

  static absl::StatusOr<std::unique_ptr<TcpStream>> Start(std::uint64_t seed);
  ~TcpStream();
  TcpStream(const TcpStream&) = delete;
  TcpStream& operator=(const TcpStream&) = delete;

  // Nanoseconds from the request to the last byte of `bytes` (a multiple of
  // eight, at most kWindowBytes). All bytes are then compared.
  absl::StatusOr<double> Receive(std::uint64_t bytes);

 private:
  TcpStream(pid_t pid, UniqueFd socket, std::uint64_t seed)
      : pid_(pid),
        socket_(std::move(socket)),
        seed_(seed),
        window_(kWindowBytes) {}

  const pid_t pid_;
  UniqueFd socket_;
  const std::uint64_t seed_;
  std::vector<char> window_;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_TCP_STREAM_H_
