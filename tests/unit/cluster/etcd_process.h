// A real etcd-server for a test: on a loopback port, in a directory of its own.
//
// Ownership: owns the process and its directory: both end with it. Threads: as
// the test. Errors: a failed check of the test. Cost: 0.1 to 1 s to start.
#ifndef AGENTMEM_TESTS_UNIT_CLUSTER_ETCD_PROCESS_H_
#define AGENTMEM_TESTS_UNIT_CLUSTER_ETCD_PROCESS_H_

#include <gtest/gtest.h>
#include <sys/types.h>

#include <memory>
#include <string>

#include "memd/cluster/etcd_client.h"

namespace agentmem {

// Generous: a loaded machine; what is measured says so itself.
inline constexpr DurationNs kTestPatienceNs = 30 * kSecondNs;
inline TimeNs Patience() { return MonotonicNowNs() + kTestPatienceNs; }

class EtcdProcess {
 public:
  // Empty: etcd is not installed.
  static std::string Binary();

  // With a directory of certificates (ca.pem, node.pem, node.key) it speaks
  // https, and only to clients that the same authority signed.
  explicit EtcdProcess(std::string tls_directory = "");
  ~EtcdProcess();
  EtcdProcess(const EtcdProcess&) = delete;
  EtcdProcess& operator=(const EtcdProcess&) = delete;

  EtcdOptions options() const;
  void Kill();            // SIGKILL, and waits
  void Start();           // on the same port and data; returns once it answers
  void Stop() const;      // SIGSTOP
  void Continue() const;  // SIGCONT
  // Forgets everything: to be used while it is killed.
  void RemoveData() const;

 private:
  std::string ClientUrl() const;
  void Launch();
  bool Answers() const;  // or it ended

  std::string directory_;
  const std::string tls_directory_;
  int client_port_ = 0;
  int peer_port_ = 0;
  pid_t pid_ = -1;
};

// Skips its tests, with the reason, where etcd is missing.
class EtcdTest : public testing::Test {
 protected:
  void SetUp() override;

  EtcdClient& client() { return *client_; }

  std::unique_ptr<EtcdProcess> etcd_;
  std::unique_ptr<EtcdClient> client_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_CLUSTER_ETCD_PROCESS_H_
