#include "memd/service/peer_security.h"

#include <gmock/gmock.h>
#include <grpc/support/log.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "memd/service/peer_address.h"
#include "memd/service/peer_grpc_log.h"
#include "memd/service/peer_refusals.h"
#include "tests/unit/service/peer_fixture.h"

namespace agentmem {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class PeerSecurityTest : public PeerTest {
 protected:
  void SetUp() override {
    PeerTest::SetUp();
    Write(authority_.SignNode("c", "a"));
  }
  void Write(const TestCertificate& own) {
    files_ = WritePeerFiles(directory_, "a", own, authority_.certificate());
  }
  absl::StatusOr<std::shared_ptr<PeerSecurity>> Load() const {
    return PeerSecurity::FromFiles(files_, "c", "a");
  }
  // The message, which names `path`.
  std::string Refusal(const std::string& path) const {
    const absl::Status status = Load().status();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(StatusMessage(status), HasSubstr(path));
    return StatusMessage(status);
  }

  PeerFiles files_;
};

TEST_F(PeerSecurityTest, FilesThatCannotBeReadAreNamedWithTheCause) {
  ASSERT_TRUE(Load().ok());
  for (const std::string& path :
       {files_.certificate, files_.key, files_.authority}) {
    std::filesystem::rename(path, path + ".away");
    EXPECT_THAT(Refusal(path), HasSubstr("No such file"));
    WriteTestFile(path, "not PEM\n", 0600);
    EXPECT_THAT(Refusal(path), HasSubstr("PEM"));
    WriteTestFile(path, std::string(300'000, '\n'), 0600);
    EXPECT_THAT(Refusal(path), HasSubstr("more than"));
    std::filesystem::remove(path);
    std::filesystem::create_directory(path);
    EXPECT_THAT(Refusal(path), HasSubstr("no regular file"));
    std::filesystem::remove(path);
    std::filesystem::rename(path + ".away", path);
  }
  EXPECT_TRUE(Load().ok());
  files_.key = "";
  EXPECT_THAT(Refusal(files_.certificate), HasSubstr("or choose insecure"));
}

TEST_F(PeerSecurityTest, ACertificateCutShortIsRefused) {
  std::string text = authority_.certificate();
  text += text.substr(0, text.size() / 2);
  WriteTestFile(files_.authority, text, 0644);
  EXPECT_THAT(Refusal(files_.authority), HasSubstr("certificate 2"));
}

TEST_F(PeerSecurityTest, AKeyThatEverybodyMayReadIsRefused) {
  ASSERT_EQ(::chmod(files_.key.c_str(), 0644), 0);
  EXPECT_THAT(Refusal(files_.key),
              AllOf(HasSubstr("mode 0644"), HasSubstr("chmod 0600")));
}

TEST_F(PeerSecurityTest, AKeyOfAnotherCertificateIsRefused) {
  WriteTestFile(files_.key, authority_.SignNode("c", "a").key, 0600);
  EXPECT_THAT(Refusal(files_.key), HasSubstr("is not the key"));
}

TEST_F(PeerSecurityTest, TheOwnCertificateMustShowTheOwnName) {
  Write(authority_.SignNode("c", "b"));
  EXPECT_THAT(Refusal(files_.certificate),
              AllOf(HasSubstr("spiffe://agentmem/c/node/b"),
                    HasSubstr("this node's is spiffe://agentmem/c/node/a")));
  Write(authority_.Sign({{}}));
  EXPECT_THAT(Refusal(files_.certificate), HasSubstr("0 URI names"));
}

TEST_F(PeerSecurityTest, TheOwnCertificateMustBeValidAndForBothUses) {
  const std::string uri = "spiffe://agentmem/c/node/a";
  Write(authority_.Sign({{uri}, -7200, -3600}));
  EXPECT_THAT(Refusal(files_.certificate), HasSubstr("expired"));
  Write(authority_.Sign({{uri}, -3600, 3600, "serverAuth"}));
  EXPECT_THAT(Refusal(files_.certificate), HasSubstr("a client's"));
  const TestAuthority other("authority two");
  Write(other.SignNode("c", "a"));
  EXPECT_THAT(Refusal(files_.certificate),
              AllOf(HasSubstr("signed by /CN=authority two"),
                    HasSubstr("wanted is one signed by /CN=authority one")));
}

TEST_F(PeerSecurityTest, ChangedFilesAreTakenOnceTheyAreRightTogether) {
  const auto security = Load();
  ASSERT_TRUE(security.ok()) << security.status();
  const auto first = (*security)->Current();
  EXPECT_EQ((*security)->Current(), first);
  const TestAuthority second("authority two");
  const TestCertificate fresh = second.SignNode("c", "a");
  ::testing::internal::CaptureStderr();
  WriteTestFile(files_.authority, second.certificate(), 0644);
  EXPECT_EQ((*security)->Current(), first);
  EXPECT_EQ((*security)->Current(), first);
  WriteTestFile(files_.certificate, fresh.certificate, 0644);
  EXPECT_EQ((*security)->Current(), first);
  std::filesystem::remove(files_.key);
  EXPECT_EQ((*security)->Current(), first);
  WriteTestFile(files_.key, fresh.key, 0600);
  const auto taken = (*security)->Current();
  EXPECT_EQ(taken->version, first->version + 1);
  EXPECT_EQ(taken->certificate, fresh.certificate);
  EXPECT_EQ(taken->authority, second.certificate());
  EXPECT_EQ((*security)->Current(), taken);
  // What was wrong on the way was said once each.
  const std::string log = ::testing::internal::GetCapturedStderr();
  std::size_t warnings = 0;
  for (std::size_t at = 0;
       (at = log.find("serves on", at)) != std::string::npos; ++at) {
    ++warnings;
  }
  EXPECT_EQ(warnings, 3u) << log;
}

TEST(PeerRefusalsTest, SaysEachPeerAndCauseOnceUntilThePeerIsRight) {
  PeerRefusals refusals;
  EXPECT_TRUE(refusals.Note("b", PeerCause::kName, "b is wrong"));
  EXPECT_FALSE(refusals.Note("b", PeerCause::kName, "b is wrong again"));
  EXPECT_TRUE(refusals.Note("b", PeerCause::kVersion, "b is old"));
  EXPECT_TRUE(refusals.Note("b2", PeerCause::kName, "b2 is wrong"));
  refusals.Forget("b");
  EXPECT_FALSE(refusals.Note("b2", PeerCause::kName, "b2 is wrong"));
  EXPECT_TRUE(refusals.Note("b", PeerCause::kName, "b is wrong"));
  EXPECT_TRUE(refusals.Note("b", PeerCause::kVersion, "b is old"));
  EXPECT_EQ(refusals.count(), 7u);
}

TEST(PeerRefusalsTest, RemembersABoundedNumber) {
  PeerRefusals refusals;
  ::testing::internal::CaptureStderr();
  std::size_t said = 0;
  for (std::size_t i = 0; i < 3 * PeerRefusals::kRemembered; ++i) {
    said += refusals.Note(std::to_string(i), PeerCause::kName, "x") ? 1 : 0;
  }
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(said, PeerRefusals::kRemembered);
  const std::size_t first = log.find("not named");
  ASSERT_NE(first, std::string::npos);
  EXPECT_EQ(log.find("not named", first + 1), std::string::npos);
}

TEST(PeerAddressTest, ACallersHostIsNamedWithoutItsPort) {
  EXPECT_EQ(HostOf("ipv4:10.0.0.7:51234"), "ipv4:10.0.0.7");
  EXPECT_EQ(HostOf("ipv6:%5Bfe80::7%5D:51234"), "ipv6:%5Bfe80::7%5D");
  EXPECT_TRUE(CheckPeerAddress("[fe80::7%eth0]:7400", 1).ok());
  EXPECT_TRUE(CheckPeerAddress("node-7.example:7400", 1).ok());
  EXPECT_FALSE(CheckPeerAddress("fe80::7:7400", 1).ok());
  EXPECT_FALSE(CheckPeerAddress(std::string(300, 'a') + ":1", 1).ok());
}

TEST(PeerGrpcLogTest, GrpcsErrorsAreSaidOnceAndServerNamesNever) {
  LogGrpcErrorsOnce();
  // As grpc_init does, which nothing in here has called yet.
  gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
  ::testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) {
    gpr_log(__FILE__, __LINE__, GPR_LOG_SEVERITY_ERROR, "Handshake failed: x");
    gpr_log(__FILE__, __LINE__, GPR_LOG_SEVERITY_ERROR,
            "No match found for server name: 127.0.0.1.");
  }
  const std::string log = ::testing::internal::GetCapturedStderr();
  const std::size_t first = log.find("gRPC (said once): Handshake failed: x");
  ASSERT_NE(first, std::string::npos) << log;
  EXPECT_EQ(log.find("Handshake", first + 30), std::string::npos) << log;
  EXPECT_THAT(log, Not(HasSubstr("server name")));
}

}  // namespace
}  // namespace agentmem
