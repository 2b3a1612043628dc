// Says Hello to other daemons, over channels that are kept.
//
// A channel leads to one node at one address, and takes no other node's
// certificate there. Changed certificate files make new channels; so does a
// call that is not answered in time, because its connection may be one that
// only this side still believes in.
//
// Hellos go on side by side: a peer that is silent holds up no other. One that
// is under way when the client ends is cancelled, and its answer comes before
// the destructor returns.
//
// Ownership: credentials are shared; threads that call end before the client
// does. Threads: thread-safe; answers come on a thread of the client's, or from
// within the call, and must not end the client.
// Errors of Hello: INVALID_ARGUMENT: an argument; UNAVAILABLE,
// DEADLINE_EXCEEDED: it does not answer; UNAUTHENTICATED, PERMISSION_DENIED:
// one of the two has the wrong certificate; FAILED_PRECONDITION: versions,
// names or cards do not fit; CANCELLED: the client ended; others as the peer
// answers. Each names address and node, and is logged once per peer and cause
// until a Hello succeeds. Cost: does not wait; a round trip, and a handshake
// where no channel is up; at most kPeerChannelsMax channels.
#ifndef AGENTMEM_MEMD_SERVICE_PEER_CLIENT_H_
#define AGENTMEM_MEMD_SERVICE_PEER_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "memd/service/peer_card.h"
#include "memd/service/peer_security.h"

namespace agentmem {

// Those of a large cluster; beyond that all are made anew.
inline constexpr std::size_t kPeerChannelsMax = 4096;

class PeerClient {
 public:
  explicit PeerClient(std::shared_ptr<PeerSecurity> security);
  ~PeerClient();
  PeerClient(const PeerClient&) = delete;
  PeerClient& operator=(const PeerClient&) = delete;

  // The card of the peer, once, at the deadline at the latest.
  using Answer = std::function<void(const absl::StatusOr<PeerCard>& card)>;

  // To `node`, which is to be found at `address`; `own` is shown to it.
  void Hello(const std::string& address, const std::string& node,
             const PeerCard& own, TimeNs deadline, Answer answer);

 private:
  struct Impl;

  const std::unique_ptr<Impl> impl_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_PEER_CLIENT_H_
