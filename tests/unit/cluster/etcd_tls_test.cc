#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/status.h"
#include "memd/cluster/etcd_client.h"
#include "tests/unit/cluster/etcd_process.h"

namespace agentmem {
namespace {

// Makes an authority and one certificate of it, for 127.0.0.1.
class Certificates {
 public:
  Certificates() {
    directory_ = testing::TempDir() + "agentmem_tls_XXXXXX";
    made_ = mkdtemp(directory_.data()) != nullptr &&
            OpenSsl(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
                "-nodes -days 2 -subj /CN=authority -keyout ca.key "
                "-out ca.pem") &&
            OpenSsl(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
                "-subj /CN=node -addext subjectAltName=IP:127.0.0.1 "
                "-keyout node.key -out node.csr") &&
            OpenSsl(
                "x509 -req -in node.csr -CA ca.pem -CAkey ca.key "
                "-CAcreateserial -days 2 -copy_extensions copy "
                "-out node.pem");
  }
  ~Certificates() {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  bool made() const { return made_; }
  const std::string& directory() const { return directory_; }

 private:
  bool OpenSsl(const std::string& arguments) const {
    const std::string command =
        "cd " + directory_ + " && openssl " + arguments + " >>openssl.log 2>&1";
    return system(command.c_str()) == 0;
  }

  std::string directory_;
  bool made_ = false;
};

TEST(EtcdTlsTest, OnlyWhoTrustsAndIsTrustedSpeaksWithEtcd) {
  if (EtcdProcess::Binary().empty() || access("/usr/bin/openssl", X_OK) != 0) {
    GTEST_SKIP() << "etcd or openssl is not installed; ./dev deps does it";
  }
  const Certificates ours, others;
  ASSERT_TRUE(ours.made() && others.made());
  const EtcdProcess etcd(ours.directory());
  const auto ask = [](const EtcdOptions& options, DurationNs within_ns) {
    return EtcdClient::Make(options)
        .value()
        ->Range({"key"}, MonotonicNowNs() + within_ns)
        .status();
  };
  EXPECT_TRUE(ask(etcd.options(), kTestPatienceNs).ok());

  EtcdOptions wrong = etcd.options();
  wrong.ca_file = others.directory() + "/ca.pem";  // etcd is not who we trust
  EXPECT_EQ(ask(wrong, kSecondNs / 2).code(), absl::StatusCode::kUnavailable);

  wrong = etcd.options();  // etcd does not trust us
  wrong.certificate_file = others.directory() + "/node.pem";
  wrong.key_file = others.directory() + "/node.key";
  EXPECT_FALSE(ask(wrong, kSecondNs / 2).ok());

  wrong.certificate_file.clear();  // nor somebody without a name
  wrong.key_file.clear();
  EXPECT_FALSE(ask(wrong, kSecondNs / 2).ok());
}

}  // namespace
}  // namespace agentmem
