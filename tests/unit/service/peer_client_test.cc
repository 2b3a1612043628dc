#include "memd/service/peer_client.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "base/unique_fd.h"
#include "tests/unit/service/peer_fixture.h"

namespace agentmem {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class PeerClientTest : public PeerTest {
 protected:
  // What node b is told when it speaks to the server as node a.
  absl::Status Refusal(std::shared_ptr<PeerSecurity> security) {
    PeerClient client(std::move(security));
    const absl::Status status = Hello(&client, SampleCard("b")).status();
    EXPECT_THAT(StatusMessage(status), HasSubstr("the peer a at " + address_));
    return status;
  }
};

TEST_F(PeerClientTest, TakesNoOtherNodeThanTheOneThatItMeant) {
  StartServer(Node("a"));
  PeerClient client(Node("b"));
  const absl::Status status =
      HelloOf(&client, address_, "z", SampleCard("b"), Soon()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(StatusMessage(status),
              AllOf(HasSubstr("the peer z at " + address_),
                    HasSubstr("shows the URI name spiffe://agentmem/c/node/a"),
                    HasSubstr("wanted is spiffe://agentmem/c/node/z")));
  EXPECT_EQ(backend_.calls(), 0u);
  // And does not confuse the two afterwards.
  EXPECT_TRUE(Hello(&client, SampleCard("b")).ok());
}

TEST_F(PeerClientTest, AServerOfAnotherClusterIsNotSpokenTo) {
  StartServer(Secured("a", authority_.SignNode("d", "a"),
                      authority_.certificate(), "d"));
  const absl::Status status = Refusal(Node("b"));
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(StatusMessage(status),
              AllOf(HasSubstr("spiffe://agentmem/d/node/a"),
                    HasSubstr("wanted is spiffe://agentmem/c/node/a")));
  EXPECT_EQ(backend_.calls(), 0u);
}

TEST_F(PeerClientTest, AServerThatAnotherAuthoritySignedIsNotSpokenTo) {
  const TestAuthority other("authority two");
  StartServer(Secured("a", other.SignNode("c", "a"), other.certificate()));
  const absl::Status status = Refusal(Node("b"));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(StatusMessage(status),
              AllOf(HasSubstr("certificate verify failed"),
                    HasSubstr("spiffe://agentmem/c/node/a")));
  EXPECT_EQ(backend_.calls(), 0u);
}

TEST_F(PeerClientTest, AServerThatDoesNotKnowOurAuthoritySaysSoBySilence) {
  const TestAuthority other("authority two");
  StartServer(Node("a"));
  const std::string both = authority_.certificate() + other.certificate();
  const absl::Status status =
      Refusal(Secured("b", other.SignNode("c", "b"), both));
  EXPECT_TRUE(status.code() == absl::StatusCode::kUnauthenticated ||
              status.code() == absl::StatusCode::kUnavailable)
      << status;
  EXPECT_THAT(StatusMessage(status), HasSubstr("authority"));
  EXPECT_EQ(backend_.calls(), 0u);
}

TEST_F(PeerClientTest, TlsAndPlainTextDoNotMeet) {
  StartServer(Node("a"));
  EXPECT_THAT(StatusMessage(Refusal(PeerSecurity::Insecure())),
              HasSubstr("insecure"));
  StartServer(PeerSecurity::Insecure());
  const absl::Status status = Refusal(Node("b"));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(StatusMessage(status), HasSubstr("TLS"));
  EXPECT_EQ(backend_.calls(), 0u);
}

TEST_F(PeerClientTest, APeerThatNeverAnswersCostsTheDeadlineAndIsNamed) {
  const SilentPort port;
  for (const bool insecure : {true, false}) {
    PeerClient client(insecure ? PeerSecurity::Insecure() : Node("b"));
    const TimeNs start = MonotonicNowNs();
    const absl::Status status =
        HelloOf(&client, port.address(), "a", SampleCard("b"),
                start + 100 * kMillisecondNs)
            .status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(StatusMessage(status),
                HasSubstr("the peer a at " + port.address()));
    EXPECT_GE(MonotonicNowNs() - start, 90 * kMillisecondNs);
    EXPECT_LT(MonotonicNowNs() - start, 10 * kSecondNs);
  }
}

TEST_F(PeerClientTest, APeerThatIsNotThereIsUnavailableAndFoundWhenItIs) {
  StartServer(Node("a"));
  PeerClient client(Node("b"));
  ASSERT_TRUE(Hello(&client, SampleCard("b")).ok());
  PeerServerOptions again = Options();
  again.listen = address_;
  again.security = Node("a");
  server_.reset();
  absl::Status status = Hello(&client, SampleCard("b")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(StatusMessage(status), HasSubstr("the peer a at " + address_));
  auto server = PeerServer::Start(again, &backend_);
  ASSERT_TRUE(server.ok()) << server.status();
  for (const TimeNs deadline = Soon(); MonotonicNowNs() < deadline;) {
    status = Hello(&client, SampleCard("b")).status();
    if (status.ok()) break;
  }
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(PeerClientTest, ChangedFilesServeTheNextHandshakeOfBothSides) {
  StartServer(Node("a"));
  PeerClient client(Node("b"));
  ASSERT_TRUE(Hello(&client, SampleCard("b")).ok());
  const TestAuthority second("authority two");
  WritePeerFiles(directory_, "a", second.SignNode("c", "a"),
                 second.certificate());
  // The client's files are the old ones yet: neither side takes the other.
  PeerClient old(Secured("old", authority_.SignNode("c", "old"),
                         authority_.certificate()));
  EXPECT_EQ(Hello(&old, SampleCard("old")).status().code(),
            absl::StatusCode::kUnauthenticated);
  WritePeerFiles(directory_, "b", second.SignNode("c", "b"),
                 second.certificate());
  const absl::StatusOr<PeerCard> card = Hello(&client, SampleCard("b"));
  EXPECT_TRUE(card.ok()) << card.status();
  EXPECT_EQ(backend_.calls(), 2u);
}

TEST_F(PeerClientTest, AnswersThatDoNotFitAreNamed) {
  StartServer(PeerSecurity::Insecure());
  PeerClient client(PeerSecurity::Insecure());
  const auto refusal = [&](auto change) {
    backend_.card = SampleCard("a");
    change(&backend_.card);
    const absl::Status status = Hello(&client, SampleCard("b")).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    return StatusMessage(status);
  };
  EXPECT_THAT(refusal([](PeerCard* card) { card->cluster = "d"; }),
              AllOf(HasSubstr("is of cluster d"), HasSubstr("of cluster c")));
  EXPECT_THAT(refusal([](PeerCard* card) { card->node = "z"; }),
              HasSubstr("is node z"));
  EXPECT_THAT(refusal([](PeerCard* card) {
                card->instance = SampleCard("b").instance;
              }),
              HasSubstr("is this node itself"));
  EXPECT_THAT(refusal([](PeerCard* card) { card->pool_version = 9; }),
              AllOf(HasSubstr("version 9"), HasSubstr("version 3")));
  EXPECT_THAT(
      refusal([](PeerCard* card) { card->provider = std::string(65, 'p'); }),
      HasSubstr("provider has 65 bytes"));
  backend_.failure = ResourceExhausted("no room\n\x01 for peers");
  const absl::Status status = Hello(&client, SampleCard("b")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(StatusMessage(status),
              HasSubstr("answered: no room\\n\\x01 for peers"));
}

TEST_F(PeerClientTest, WhatIsUnderWayWhenTheClientEndsIsCancelled) {
  const SilentPort port;
  const TimeNs start = MonotonicNowNs();
  absl::Status status;
  {
    PeerClient client(PeerSecurity::Insecure());
    client.Hello(port.address(), "a", SampleCard("b"), Soon(),
                 [&status](const absl::StatusOr<PeerCard>& card) {
                   status = card.status();
                 });
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_LT(MonotonicNowNs() - start, 10 * kSecondNs);
}

TEST_F(PeerClientTest, ArgumentsThatCannotBeAreAnswered) {
  PeerClient client(PeerSecurity::Insecure());
  const auto code = [&](const std::string& address, const std::string& node,
                        const PeerCard& own) {
    return HelloOf(&client, address, node, own, Soon()).status().code();
  };
  constexpr auto kWrong = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code("127.0.0.1:0", "a", SampleCard("b")), kWrong);
  EXPECT_EQ(code("dns:///a:1", "a", SampleCard("b")), kWrong);
  EXPECT_EQ(code("127.0.0.1:1", "", SampleCard("b")), kWrong);
  EXPECT_EQ(code("127.0.0.1:1", "b", SampleCard("b")), kWrong);
  EXPECT_EQ(code("127.0.0.1:1", "a", PeerCard()), kWrong);
}

TEST_F(PeerClientTest, SaysOnceThatAPeerDoesNotAnswer) {
  PeerClient client(PeerSecurity::Insecure());
  ::testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(HelloOf(&client, "127.0.0.1:1", "a", SampleCard("b"), Soon())
                  .status()
                  .code(),
              absl::StatusCode::kUnavailable);
  }
  const std::string log = ::testing::internal::GetCapturedStderr();
  const std::size_t first = log.find("the peer a at 127.0.0.1:1");
  ASSERT_NE(first, std::string::npos) << log;
  EXPECT_EQ(log.find("the peer a at", first + 1), std::string::npos) << log;
}

}  // namespace
}  // namespace agentmem
