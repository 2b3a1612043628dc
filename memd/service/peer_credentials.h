// PeerSecurity as gRPC takes it, for a server and for a channel.
//
// A server's handshakes each look for changed files. Its clients must show a
// certificate that an authority signed; whose it is, the service looks at
// itself. A channel keeps the credentials that it was made with, and takes no
// server but the node that it was made for: a verifier in the handshake looks
// at the server's one URI name before a byte is sent to it.
//
// Ownership: what is returned shares what it was made from; a server's must
// outlive it. Threads:
// thread-safe; files are read in gRPC's threads. Errors: a refusal's; it
// reaches the call as UNAVAILABLE with kPeerRefusedMark in its message. Cost: a
// server's handshake reads three small files.
#ifndef AGENTMEM_MEMD_SERVICE_PEER_CREDENTIALS_H_
#define AGENTMEM_MEMD_SERVICE_PEER_CREDENTIALS_H_

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "base/mutex.h"
#include "memd/service/peer_security.h"

namespace agentmem {

inline constexpr char kPeerRefusedMark[] = "[agentmem refuses this peer]";

// Why a channel's verifier refused its server last. Thread-safe.
class PeerVerdict {
 public:
  void Set(const absl::Status& status) AGENTMEM_EXCLUDES(mutex_) {
    MutexLock lock(&mutex_);
    status_ = status;
  }
  absl::Status Get() const AGENTMEM_EXCLUDES(mutex_) {
    MutexLock lock(&mutex_);
    return status_;
  }

 private:
  mutable Mutex mutex_;
  absl::Status status_ AGENTMEM_GUARDED_BY(mutex_);
};

// Outlives the server: gRPC keeps a bare pointer to it.
std::shared_ptr<grpc::ServerCredentials> MakePeerServerCredentials(
    std::shared_ptr<PeerSecurity> security);

// For a server whose certificate must show `uri`.
std::shared_ptr<grpc::ChannelCredentials> MakePeerChannelCredentials(
    const PeerCredentials& credentials, const std::string& uri,
    std::shared_ptr<PeerVerdict> verdict);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_PEER_CREDENTIALS_H_
