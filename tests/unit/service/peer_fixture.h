// A server "a" and clients of other nodes in cluster "c", on loopback, with
// certificates of their own.
//
// Ownership: the fixture owns servers, certificates and their directory.
// Threads: one but for the backend's. Errors: the test fails.
#ifndef AGENTMEM_TESTS_UNIT_SERVICE_PEER_FIXTURE_H_
#define AGENTMEM_TESTS_UNIT_SERVICE_PEER_FIXTURE_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "memd/service/peer_client.h"
#include "memd/service/peer_server.h"
#include "tests/unit/service/peer_certificates.h"

namespace agentmem {

inline PeerCard SampleCard(const std::string& node) {
  PeerCard card;
  card.cluster = "c";
  card.node = node;
  card.instance = 1000 + static_cast<unsigned char>(node[0]);
  card.rack = "r1";
  card.provider = "tcp;ofi_rxm";
  card.fabric_address = std::string("\0\xff address", 10);
  card.pool_version = 3;
  card.token = 0xfedcba9876543210;
  card.export_address = 0x7f0000000000;
  card.export_key = 0xffffffffffffffff;
  card.export_bytes = 1ULL << 40;
  card.store_version = 1;
  card.store_bytes = 1ULL << 41;
  card.store_path = "/state/store";
  return card;
}

class FakePeerBackend final : public PeerBackend {
 public:
  absl::StatusOr<PeerCard> Hello(const PeerCard& from) override {
    MutexLock lock(&mutex);
    seen.push_back(from);
    if (!failure.ok()) return failure;
    return card;
  }
  std::size_t calls() {
    MutexLock lock(&mutex);
    return seen.size();
  }

  Mutex mutex;
  PeerCard card = SampleCard("a");
  absl::Status failure;
  std::vector<PeerCard> seen;
};

class PeerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/peersXXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  // Files and credentials of node `node`, with a right certificate.
  std::shared_ptr<PeerSecurity> Node(const std::string& node) {
    return Secured(node, authority_.SignNode("c", node),
                   authority_.certificate());
  }
  std::shared_ptr<PeerSecurity> Secured(const std::string& node,
                                        const TestCertificate& certificate,
                                        const std::string& authority,
                                        const std::string& cluster = "c") {
    const PeerFiles files =
        WritePeerFiles(directory_, node, certificate, authority);
    auto security = PeerSecurity::FromFiles(files, cluster, node);
    EXPECT_TRUE(security.ok()) << security.status();
    return security.ok() ? *security : nullptr;
  }
  void StartServer(std::shared_ptr<PeerSecurity> security) {
    PeerServerOptions options = Options();
    options.security = std::move(security);
    auto server = PeerServer::Start(options, &backend_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    address_ = "127.0.0.1:" + std::to_string(server_->port());
  }
  static PeerServerOptions Options() {
    PeerServerOptions options;
    options.listen = "127.0.0.1:0";
    options.cluster = "c";
    options.node = "a";
    options.pool_version = 3;
    return options;
  }
  absl::StatusOr<PeerCard> Hello(PeerClient* client, const PeerCard& own) {
    return client->Hello(address_, "a", own, Soon());
  }
  static TimeNs Soon() { return MonotonicNowNs() + 20 * kSecondNs; }

  std::string directory_;
  TestAuthority authority_{"authority one"};
  FakePeerBackend backend_;
  std::unique_ptr<PeerServer> server_;
  std::string address_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_SERVICE_PEER_FIXTURE_H_
