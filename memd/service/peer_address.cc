#include "memd/service/peer_address.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "base/status.h"
#include "memd/service/peer_card.h"

namespace agentmem {
namespace {

constexpr std::size_t kHostBytesMax = 253;  // of a name in DNS

bool IsHostByte(char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
         (byte >= '0' && byte <= '9') || byte == '.' || byte == '-' ||
         byte == '_';
}

bool IsHost(std::string_view host) {
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
    return !host.empty() &&
           std::all_of(host.begin(), host.end(), [](char byte) {
             return IsHostByte(byte) || byte == ':' || byte == '%';
           });
  }
  return !host.empty() && std::all_of(host.begin(), host.end(), IsHostByte);
}

}  // namespace

absl::Status CheckPeerAddress(const std::string& address,
                              std::uint32_t port_min) {
  const std::string_view text = address;
  const std::size_t colon = text.rfind(':');
  if (colon != std::string_view::npos && colon <= kHostBytesMax &&
      IsHost(text.substr(0, colon))) {
    const char* const end = text.data() + text.size();
    std::uint32_t port = 0;
    const auto [parsed, error] =
        std::from_chars(text.data() + colon + 1, end, port);
    if (error == std::errc() && parsed == end && port >= port_min &&
        port <= 65535) {
      return absl::OkStatus();
    }
  }
  return InvalidArgument(
      "the peer address \"" + Shown(address) +
      "\" is not host:port, with a name, an IPv4 address or an [IPv6 address] "
      "and a port of " +
      std::to_string(port_min) + " to 65535");
}

std::string HostOf(const std::string& grpc_peer) {
  const std::size_t colon = grpc_peer.rfind(':');
  return Shown(grpc_peer.substr(0, colon));
}

}  // namespace agentmem
