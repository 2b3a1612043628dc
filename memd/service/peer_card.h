// What a node shows to its peers: who it is and where its memory is, for this
// run of its memd (proto/peer.proto's Card, without gRPC).
//
// Names of clusters and nodes go into certificates, paths and logs: 1 to 64 of
// letters, digits, '.', '_' and '-', and neither "." nor "..".
//
// Ownership: a value. Threads: thread-compatible. Errors: INVALID_ARGUMENT: the
// field, its value and what is allowed. Cost: one pass over its strings.
#ifndef AGENTMEM_MEMD_SERVICE_PEER_CARD_H_
#define AGENTMEM_MEMD_SERVICE_PEER_CARD_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace agentmem {

inline constexpr std::size_t kPeerNameBytesMax = 64;
inline constexpr std::size_t kPeerProviderBytesMax = 64;
// sockaddr_storage, or a verbs address with its path.
inline constexpr std::size_t kFabricAddressBytesMax = 256;
inline constexpr std::size_t kStorePathBytesMax = 256;

struct PeerCard {
  std::string cluster;
  std::string node;
  std::uint64_t instance = 0;  // which run of its memd; not 0
  std::string rack;            // empty: none
  std::string provider;        // libfabric's name; empty: no fabric
  std::string fabric_address;  // opaque bytes
  std::uint32_t pool_version = 0;
  std::uint64_t token = 0;  // messages to this node must carry it
  std::uint64_t export_address = 0;
  std::uint64_t export_key = 0;
  std::uint64_t export_bytes = 0;  // 0: it exports nothing
  // Of proto/store_messages.h; 0: a memd of before it.
  std::uint32_t store_version = 0;
  std::uint64_t store_bytes = 0;  // that its store takes; 0: it serves nobody
  std::string store_path;         // for people

  friend bool operator==(const PeerCard&, const PeerCard&) = default;
};

// `what` is "cluster", "node" or "rack".
absl::Status CheckPeerName(const std::string& what, const std::string& name);

// A card as it may be, whoever shows it.
absl::Status CheckPeerCard(const PeerCard& card);

// Bytes of a peer for people: escaped, and cut.
std::string Shown(const std::string& bytes);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_PEER_CARD_H_
