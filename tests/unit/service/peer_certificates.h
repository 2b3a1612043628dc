// Certificates for tests, made by libcrypto when they are needed: authorities,
// and what they sign, right or wrong in one way each.
//
// Ownership: values; files lie in the directory that they are written to.
// Threads: thread-compatible. Errors: a failure of libcrypto ends the test's
// process. Cost: an elliptic key each (well under a millisecond).
#ifndef AGENTMEM_TESTS_UNIT_SERVICE_PEER_CERTIFICATES_H_
#define AGENTMEM_TESTS_UNIT_SERVICE_PEER_CERTIFICATES_H_

#include <memory>
#include <string>
#include <vector>

#include "memd/service/peer_security.h"

namespace agentmem {

struct TestCertificate {
  std::string certificate;  // PEM
  std::string key;
};

struct TestCertificateOptions {
  std::vector<std::string> uris;
  long seconds_from = -3600;  // from now
  long seconds_to = 3600;
  std::string extended_usage;  // "serverAuth"; empty: for any
};

class TestAuthority {
 public:
  explicit TestAuthority(const std::string& name);
  ~TestAuthority();
  TestAuthority(const TestAuthority&) = delete;
  TestAuthority& operator=(const TestAuthority&) = delete;

  const std::string& certificate() const;
  TestCertificate Sign(const TestCertificateOptions& options) const;
  // A right one, of node `node` in cluster `cluster`.
  TestCertificate SignNode(const std::string& cluster,
                           const std::string& node) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// DIRECTORY/NAME.crt, .key (0600) and .ca; replaces what is there, each by one
// rename.
PeerFiles WritePeerFiles(const std::string& directory, const std::string& name,
                         const TestCertificate& own,
                         const std::string& authority);
void WriteTestFile(const std::string& path, const std::string& text,
                   unsigned mode);

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_SERVICE_PEER_CERTIFICATES_H_
