#include "benchmarks/free_ports.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/status.h"
#include "base/unique_fd.h"

namespace agentmem::bench {

absl::StatusOr<std::vector<std::uint16_t>> FreePorts(std::size_t count) {
  std::vector<UniqueFd> sockets;
  std::vector<std::uint16_t> ports;
  for (std::size_t i = 0; i < count; ++i) {
    sockets.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    if (::bind(sockets.back().get(), generic, length) != 0 ||
        ::getsockname(sockets.back().get(), generic, &length) != 0) {
      return ErrnoStatus("a free port on 127.0.0.1");
    }
    ports.push_back(ntohs(address.sin_port));
  }
  return ports;
}

}  // namespace agentmem::bench
