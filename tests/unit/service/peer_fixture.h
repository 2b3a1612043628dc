// A server "a" and clients of other nodes in cluster "c", on loopback, with
// certificates of their own.
//
// Ownership: the fixture owns servers, certificates and their directory.
// Threads: one but for the backend's. Errors: the test fails.
#ifndef AGENTMEM_TESTS_UNIT_SERVICE_PEER_FIXTURE_H_
#define AGENTMEM_TESTS_UNIT_SERVICE_PEER_FIXTURE_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "base/unique_fd.h"
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

// Waits for the answer.
inline absl::StatusOr<PeerCard> HelloOf(PeerClient* client,
                                        const std::string& address,
                                        const std::string& node,
                                        const PeerCard& own, TimeNs deadline) {
  std::promise<absl::StatusOr<PeerCard>> came;
  client->Hello(
      address, node, own, deadline,
      [&came](const absl::StatusOr<PeerCard>& card) { came.set_value(card); });
  return came.get_future().get();
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

// A port where connections are taken and nothing is ever said.
class SilentPort {
 public:
  SilentPort() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at = {};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(at);
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&at), length), 0);
    EXPECT_EQ(::listen(fd_.get(), 8), 0);
    EXPECT_EQ(
        ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&at), &length), 0);
    address_ = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
  }
  const std::string& address() const { return address_; }

 private:
  UniqueFd fd_;
  std::string address_;
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
    return HelloOf(client, address_, "a", own, Soon());
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
