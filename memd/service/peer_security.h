// How daemons know each other: mutual TLS from three files, or, said
// explicitly, not at all.
//
// The files are read at each handshake and each call between peers, which are
// rare. Changed ones are taken together once they are right together: the key
// is the certificate's, the certificate carries this node's one URI name, and
// an authority in the file signed it. Until then, and while they cannot be
// read, the last right ones serve on, and the log says once why.
//
// Ownership: shared by server and client. Threads: thread-safe. Errors of
// FromFiles: INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED,
// UNAUTHENTICATED (expired, signed by somebody else): the message names the
// file. Cost: Current reads three small files.
#ifndef AGENTMEM_MEMD_SERVICE_PEER_SECURITY_H_
#define AGENTMEM_MEMD_SERVICE_PEER_SECURITY_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "memd/service/peer_certificate.h"

namespace agentmem {

struct PeerFiles {
  std::string certificate;  // PEM: this node's, then intermediates
  std::string key;          // PEM, without a passphrase, not for others to read
  std::string authority;    // PEM: who may sign nodes' certificates
};

// What the files held when they were right; texts in PEM.
struct PeerCredentials {
  PeerCredentials() = default;
  ~PeerCredentials();
  PeerCredentials(const PeerCredentials&) = delete;
  PeerCredentials& operator=(const PeerCredentials&) = delete;

  std::uint64_t version = 0;  // of this process: grows with each change
  std::string certificate;
  std::string key;  // wiped with this object
  std::string authority;
  std::shared_ptr<const PeerAuthority> trusted;
};

class PeerSecurity {
 public:
  // Peers are believed what they say. For tests and closed networks.
  static std::shared_ptr<PeerSecurity> Insecure();
  static absl::StatusOr<std::shared_ptr<PeerSecurity>> FromFiles(
      const PeerFiles& files, const std::string& cluster,
      const std::string& node);

  bool insecure() const { return uri_.empty(); }

  // Of a secure one; never null.
  std::shared_ptr<const PeerCredentials> Current() AGENTMEM_EXCLUDES(mutex_);

 private:
  PeerSecurity(PeerFiles files, std::string uri);

  absl::StatusOr<std::shared_ptr<PeerCredentials>> Read() const;
  absl::Status Check(PeerCredentials* credentials) const;

  const PeerFiles files_;
  const std::string uri_;  // this node's; empty: insecure

  Mutex mutex_;
  std::shared_ptr<const PeerCredentials> current_ AGENTMEM_GUARDED_BY(mutex_);
  std::string complaint_ AGENTMEM_GUARDED_BY(mutex_);  // the last one logged
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_PEER_SECURITY_H_
