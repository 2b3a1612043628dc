// Certificates as peers show them: X.509 in PEM, read and checked by libcrypto.
//
// Who a node is stands in exactly one URI among the certificate's alternative
// names, spiffe://agentmem/CLUSTER/node/NAME (after the SPIFFE standard's one
// URI per certificate); host names mean nothing here.
//
// Ownership: values; a PeerAuthority keeps what its text was parsed to.
// Threads: pure functions; a PeerAuthority is immutable and thread-safe.
// Errors: INVALID_ARGUMENT: not PEM, or no certificate; UNAUTHENTICATED: nobody
// of ours signed it, it has expired, or is not for this use; PERMISSION_DENIED:
// it is somebody else's, and the message names what it shows and what was
// wanted. libcrypto's queue of errors is left empty. Cost: a chain takes about
// a signature check a certificate; nothing blocks.
#ifndef AGENTMEM_MEMD_SERVICE_PEER_CERTIFICATE_H_
#define AGENTMEM_MEMD_SERVICE_PEER_CERTIFICATE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace agentmem {

enum class PeerRole { kClient, kServer };

struct PeerName {
  std::string cluster;
  std::string node;
};

std::string PeerUri(const std::string& cluster, const std::string& node);

// The URIs among the first certificate's alternative names.
absl::StatusOr<std::vector<std::string>> CertificateUris(
    const std::string& certificate);

// The name in the one URI of the first certificate. PERMISSION_DENIED: there is
// none, more than one, or it is no node's; `wanted` says for whom it was.
absl::StatusOr<PeerName> CertificateName(const std::string& certificate,
                                         const std::string& wanted);

// Whether `key` (PEM, without a passphrase) belongs to the first certificate.
absl::Status CheckPrivateKey(const std::string& certificate,
                             const std::string& key);

// Those who may sign nodes' certificates.
class PeerAuthority {
 public:
  static absl::StatusOr<std::shared_ptr<const PeerAuthority>> Parse(
      const std::string& authorities);
  ~PeerAuthority();
  PeerAuthority(const PeerAuthority&) = delete;
  PeerAuthority& operator=(const PeerAuthority&) = delete;

  // Their subjects, for people.
  const std::string& names() const;

  // Whether the first certificate, with what follows it as intermediates, was
  // signed by one of them, is valid now, and may be used in this role.
  absl::Status Verify(const std::string& chain, PeerRole role) const;

 private:
  struct Impl;
  explicit PeerAuthority(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_PEER_CERTIFICATE_H_
