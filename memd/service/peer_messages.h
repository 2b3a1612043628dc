// PeerCard to and from proto/peer.proto.
//
// Ownership: values. Threads: pure functions. Errors: none; what a peer sent is
// checked by CheckPeerCard. Cost: copies strings.
#ifndef AGENTMEM_MEMD_SERVICE_PEER_MESSAGES_H_
#define AGENTMEM_MEMD_SERVICE_PEER_MESSAGES_H_

#include <cstddef>

#include "memd/service/peer_card.h"
#include "proto/peer.pb.h"

namespace agentmem {

// A card's strings (4 x 64 + 2 x 256), its numbers and the framing: under 1
// KiB.
inline constexpr std::size_t kPeerMessageBytesMax = 4096;

void CopyTo(const PeerCard& card, peer::v1::Card* out);
PeerCard FromProto(const peer::v1::Card& card);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_PEER_MESSAGES_H_
