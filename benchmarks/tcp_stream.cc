#include "benchmarks/tcp_stream.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "base/status.h"
#include "benchmarks/pool_bytes.h"
#include "benchmarks/self_socket.h"

namespace agentmem::bench {
namespace {

// The best here of writes of 64 KiB to 4 MiB, and of buffers of 1 and 4 MiB:
// larger ones leave the processor's cache.
constexpr std::size_t kWriteBytes = 256 << 10;
constexpr int kSocketBytes = 1 << 20;

void Tune(int socket) {
  const int yes = 1;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  ::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &kSocketBytes,
               sizeof(kSocketBytes));
  ::setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &kSocketBytes,
               sizeof(kSocketBytes));
}

// The child: so many bytes each time that it is asked.
[[noreturn]] void SendAsAsked(const sockaddr_in& address, std::uint64_t seed) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Tune(socket.get());
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address),
                sizeof(address)) != 0) {
    ::_exit(1);
  }
  std::vector<char> window(TcpStream::kWindowBytes);
  ByteStream(seed, 0).Fill(window.data(), window.size());
  std::uint64_t bytes = 0;
  while (Receive(socket.get(), &bytes).ok()) {
    for (std::uint64_t at = 0; at < bytes; at += kWriteBytes) {
      const std::size_t count =
          std::min<std::uint64_t>(kWriteBytes, bytes - at);
      if (!SendBytes(socket.get(), &window[at], count).ok()) ::_exit(1);
    }
  }
  ::_exit(0);
}

}  // namespace

absl::StatusOr<std::unique_ptr<TcpStream>> TcpStream::Start(
    std::uint64_t seed) {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  Tune(listener.get());
  if (::bind(listener.get(), generic, sizeof(address)) != 0 ||
      ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), generic, &length) != 0) {
    return ErrnoStatus("listening on 127.0.0.1");
  }
  const pid_t pid = ::fork();
  if (pid < 0) return ErrnoStatus("fork");
  if (pid == 0) SendAsAsked(address, seed);
  UniqueFd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket.valid()) return ErrnoStatus("accepting on 127.0.0.1");
  Tune(socket.get());
  return std::unique_ptr<TcpStream>(
      new TcpStream(pid, std::move(socket), seed));
}

TcpStream::~TcpStream() {
  ::shutdown(socket_.get(), SHUT_RDWR);
  int status = 0;
  ::waitpid(pid_, &status, 0);
}

absl::StatusOr<double> TcpStream::Receive(std::uint64_t bytes) {
  bytes = std::min(bytes, kWindowBytes);
  std::fill_n(window_.data(), bytes, '\0');
  const TimeNs start = MonotonicNowNs();
  AGENTMEM_RETURN_IF_ERROR(Send(socket_.get(), bytes));
  AGENTMEM_RETURN_IF_ERROR(ReceiveBytes(socket_.get(), window_.data(), bytes));
  const auto ns = static_cast<double>(MonotonicNowNs() - start);
  if (ByteStream(seed_, 0).Matches(window_.data(), bytes)) return ns;
  return DataLoss("a TCP connection delivered other bytes than were sent");
}

}  // namespace agentmem::bench
