// The door for other daemons: proto/peer.proto over gRPC on TCP, with mutual
// TLS unless insecurity was asked for.
//
// A caller is looked at in this order, and gets nothing but an error until all
// fits: TLS (an authority signed its certificate), the certificate again on
// each call (so that a connection does not outlive it), its one URI name, the
// protocol's version, the card, the card's cluster and node against the
// certificate, and the pool's version.
//
// Ownership: the backend outlives the server; credentials are shared.
// Threads: Start and the destructor are called by one thread. The backend is
//   called from gRPC's threads (at most kPeerThreadsMax), so it must be
//   thread-safe, and must not block for long.
// Errors of Start: INVALID_ARGUMENT: an option; UNAVAILABLE: the address cannot
//   be listened at. Errors that callers get: UNAUTHENTICATED,
//   PERMISSION_DENIED, INVALID_ARGUMENT, FAILED_PRECONDITION, or the backend's.
//   The log says each once per host and cause.
// Cost: the destructor waits up to kPeerDrainNs for calls to finish, cancels
//   the others, and then waits for what is still inside the backend.
#ifndef AGENTMEM_MEMD_SERVICE_PEER_SERVER_H_
#define AGENTMEM_MEMD_SERVICE_PEER_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "memd/service/peer_card.h"
#include "memd/service/peer_security.h"

namespace agentmem {

// Two that listen, and some peers at once; one that has ended counts until gRPC
// joins it. Beyond, a peer is told RESOURCE_EXHAUSTED, and asks again.
inline constexpr int kPeerThreadsMax = 16;
inline constexpr DurationNs kPeerDrainNs = kSecondNs;

// Thread-safe.
class PeerBackend {
 public:
  virtual ~PeerBackend() = default;

  // `from` fits its certificate. Answers this node's card.
  virtual absl::StatusOr<PeerCard> Hello(const PeerCard& from) = 0;
};

struct PeerServerOptions {
  std::string listen;  // host:port; port 0: any that is free
  std::string cluster;
  std::string node;
  std::uint32_t pool_version = 0;
  std::shared_ptr<PeerSecurity> security;
};

class PeerServer {
 public:
  static absl::StatusOr<std::unique_ptr<PeerServer>> Start(
      const PeerServerOptions& options, PeerBackend* backend);
  ~PeerServer();
  PeerServer(const PeerServer&) = delete;
  PeerServer& operator=(const PeerServer&) = delete;

  int port() const;
  // Calls that were answered with a refusal.
  std::uint64_t refused() const;

 private:
  struct Impl;
  explicit PeerServer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_PEER_SERVER_H_
