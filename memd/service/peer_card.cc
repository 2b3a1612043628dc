#include "memd/service/peer_card.h"

#include <algorithm>
#include <limits>

#include "absl/strings/escaping.h"
#include "base/status.h"

namespace agentmem {
namespace {

constexpr std::size_t kShownBytesMax = 160;

bool IsNameByte(char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
         (byte >= '0' && byte <= '9') || byte == '.' || byte == '_' ||
         byte == '-';
}

absl::Status CheckLength(const std::string& what, const std::string& bytes,
                         std::size_t bytes_max) {
  if (bytes.size() <= bytes_max) return absl::OkStatus();
  return InvalidArgument("its " + what + " has " +
                         std::to_string(bytes.size()) + " bytes, at most " +
                         std::to_string(bytes_max) + " are allowed");
}

}  // namespace

std::string Shown(const std::string& bytes) {
  const bool cut = bytes.size() > kShownBytesMax;
  const std::size_t length = std::min(bytes.size(), kShownBytesMax);
  return absl::CHexEscape(absl::string_view(bytes.data(), length)) +
         (cut ? "..." : "");
}

absl::Status CheckPeerName(const std::string& what, const std::string& name) {
  if (!name.empty() && name.size() <= kPeerNameBytesMax && name != "." &&
      name != ".." && std::all_of(name.begin(), name.end(), IsNameByte)) {
    return absl::OkStatus();
  }
  return InvalidArgument("the " + what + " \"" + Shown(name) +
                         "\" is no name: 1 to " +
                         std::to_string(kPeerNameBytesMax) +
                         " letters, digits, '.', '_' and '-' are");
}

absl::Status CheckPeerCard(const PeerCard& card) {
  AGENTMEM_RETURN_IF_ERROR(CheckPeerName("cluster", card.cluster));
  AGENTMEM_RETURN_IF_ERROR(CheckPeerName("node", card.node));
  if (!card.rack.empty()) {
    AGENTMEM_RETURN_IF_ERROR(CheckPeerName("rack", card.rack));
  }
  AGENTMEM_RETURN_IF_ERROR(
      CheckLength("provider", card.provider, kPeerProviderBytesMax));
  AGENTMEM_RETURN_IF_ERROR(CheckLength("fabric address", card.fabric_address,
                                       kFabricAddressBytesMax));
  AGENTMEM_RETURN_IF_ERROR(
      CheckLength("store path", card.store_path, kStorePathBytesMax));
  if (card.instance == 0) return InvalidArgument("its instance is 0");
  if (card.pool_version == 0) return InvalidArgument("its pool version is 0");
  if (card.export_bytes >
      std::numeric_limits<std::uint64_t>::max() - card.export_address) {
    return InvalidArgument("its export extents end beyond all addresses: " +
                           std::to_string(card.export_bytes) +
                           " bytes from address " +
                           std::to_string(card.export_address));
  }
  return absl::OkStatus();
}

}  // namespace agentmem
