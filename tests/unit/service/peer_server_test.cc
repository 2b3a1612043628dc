#include "memd/service/peer_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <random>

#include "base/unique_fd.h"
#include "memd/service/peer_messages.h"
#include "proto/peer.grpc.pb.h"
#include "tests/unit/service/peer_fixture.h"

namespace agentmem {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// A caller that shows whatever it wants to, over TLS as node `node`.
class PeerServerTest : public PeerTest {
 protected:
  std::unique_ptr<peer::v1::Peer::Stub> Connect(
      const TestCertificate& certificate, const TestAuthority& authority) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = authority.certificate();
    options.pem_private_key = certificate.key;
    options.pem_cert_chain = certificate.certificate;
    return ConnectWith(grpc::SslCredentials(options));
  }
  std::unique_ptr<peer::v1::Peer::Stub> ConnectWith(
      const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    grpc::ChannelArguments arguments;
    // What node a's certificate has besides its URI name.
    arguments.SetSslTargetNameOverride("test.invalid");
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return peer::v1::Peer::NewStub(
        grpc::CreateCustomChannel(address_, credentials, arguments));
  }
  static grpc::Status Call(peer::v1::Peer::Stub* stub, const PeerCard& card,
                           std::uint32_t version = 1) {
    peer::v1::HelloRequest request;
    request.set_protocol_version(version);
    CopyTo(card, request.mutable_card());
    return Call(stub, request);
  }
  static grpc::Status Call(peer::v1::Peer::Stub* stub,
                           const peer::v1::HelloRequest& request) {
    grpc::ClientContext context;
    context.set_deadline(
        gpr_timespec{Soon() / kSecondNs, 0, GPR_CLOCK_MONOTONIC});
    peer::v1::HelloResponse response;
    const grpc::Status status = stub->Hello(&context, request, &response);
    EXPECT_TRUE(status.ok() || response.ByteSizeLong() == 0);
    return status;
  }
  // What a caller with this certificate is told.
  grpc::Status Answer(const TestCertificateOptions& options,
                      const PeerCard& card = SampleCard("b")) {
    return Call(Connect(authority_.Sign(options), authority_).get(), card);
  }
  UniqueFd ConnectRaw() const {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(server_->port()));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)),
              0);
    return fd;
  }
};

constexpr char kUriOfB[] = "spiffe://agentmem/c/node/b";

TEST_F(PeerServerTest, ACertificateWithoutExactlyOneUriNameIsRefused) {
  StartServer(Node("a"));
  grpc::Status status = Answer({{}});
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(status.error_message(),
              AllOf(HasSubstr("0 URI names"),
                    HasSubstr("spiffe://agentmem/c/node/NAME")));
  status = Answer({{kUriOfB, "spiffe://agentmem/c/node/x"}});
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(status.error_message(),
              AllOf(HasSubstr("2 URI names"), HasSubstr(kUriOfB),
                    HasSubstr("spiffe://agentmem/c/node/x")));
  EXPECT_EQ(backend_.calls(), 0u);
  EXPECT_TRUE(Answer({{kUriOfB}}).ok());
}

TEST_F(PeerServerTest, AUriNameThatIsNotANodesOfTheClusterIsRefused) {
  StartServer(Node("a"));
  for (const std::string uri :
       {"spiffe://agentmem/other/node/b", "spiffe://agentmem/c/node/",
        "spiffe://agentmem//node/b", "spiffe://agentmem/c/node/b/c",
        "spiffe://agentmem/c/agent/b", "spiffe://agentmem.evil/c/node/b",
        "https://agentmem/c/node/b", "spiffe://agentmem/c/node/..",
        "spiffe://agentmem/c/node/b?x=1", "SPIFFE://agentmem/c/node/b"}) {
    const grpc::Status status = Answer({{uri}});
    EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED) << uri;
    EXPECT_THAT(status.error_message(),
                AllOf(HasSubstr(uri),
                      HasSubstr("wanted is spiffe://agentmem/c/node/NAME")));
  }
  EXPECT_EQ(backend_.calls(), 0u);
  EXPECT_EQ(server_->refused(), 10u);
}

TEST_F(PeerServerTest, ACardOfAnotherNodeThanTheCertificatesIsRefused) {
  StartServer(Node("a"));
  PeerCard card = SampleCard("x");
  grpc::Status status = Answer({{kUriOfB}}, card);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(status.error_message(),
              AllOf(HasSubstr("card says spiffe://agentmem/c/node/x"),
                    HasSubstr("shows spiffe://agentmem/c/node/b")));
  card = SampleCard("b");
  card.cluster = "other";
  status = Answer({{kUriOfB}}, card);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(backend_.calls(), 0u);
}

TEST_F(PeerServerTest, OtherAuthoritiesAndExpiredCertificatesFailInTls) {
  StartServer(Node("a"));
  const TestAuthority other("authority one");  // by the same name
  EXPECT_EQ(
      Call(Connect(other.SignNode("c", "b"), authority_).get(), SampleCard("b"))
          .error_code(),
      grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Answer({{kUriOfB}, -7200, -3600}).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Answer({{kUriOfB}, 3600, 7200}).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Answer({{kUriOfB}, -3600, 3600, "serverAuth"}).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(backend_.calls(), 0u);
  EXPECT_TRUE(Answer({{kUriOfB}, -3600, 3600, "clientAuth"}).ok());
}

TEST_F(PeerServerTest, NobodyComesInWithoutACertificate) {
  StartServer(Node("a"));
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = authority_.certificate();
  EXPECT_EQ(
      Call(ConnectWith(grpc::SslCredentials(options)).get(), SampleCard("b"))
          .error_code(),
      grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Call(ConnectWith(grpc::InsecureChannelCredentials()).get(),
                 SampleCard("b"))
                .error_code(),
            grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(backend_.calls(), 0u);
}

// One connection, made when all was right; then the authority goes.
TEST_F(PeerServerTest, AConnectionDoesNotOutliveTheTrustThatItWasMadeUnder) {
  const TestAuthority second("authority two");
  const std::string both = authority_.certificate() + second.certificate();
  StartServer(Secured("a", authority_.SignNode("c", "a"), both));
  const auto stub = Connect(second.SignNode("c", "b"), authority_);
  ASSERT_TRUE(Call(stub.get(), SampleCard("b")).ok());
  WriteTestFile(directory_ + "/a.ca", authority_.certificate(), 0644);
  const grpc::Status status = Call(stub.get(), SampleCard("b"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(
      status.error_message(),
      AllOf(HasSubstr(kUriOfB), HasSubstr("signed by /CN=authority two"),
            HasSubstr("wanted is one signed by /CN=authority one")));
  EXPECT_EQ(backend_.calls(), 1u);
}

TEST_F(PeerServerTest, OtherVersionsAreNamedWithTheOwn) {
  StartServer(Node("a"));
  const auto stub = Connect(authority_.SignNode("c", "b"), authority_);
  for (const std::uint32_t version : {0u, 2u}) {
    const grpc::Status status = Call(stub.get(), SampleCard("b"), version);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_THAT(status.error_message(),
                AllOf(HasSubstr("version " + std::to_string(version)),
                      HasSubstr("node a) speaks version 1")));
  }
  PeerCard card = SampleCard("b");
  card.pool_version = 4;
  const grpc::Status status = Call(stub.get(), card);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(),
              AllOf(HasSubstr("version 4 of the pool's protocol"),
                    HasSubstr("speaks version 3")));
  EXPECT_EQ(backend_.calls(), 0u);
}

TEST_F(PeerServerTest, CardsThatCannotBeAreRefusedWithTheField) {
  StartServer(PeerSecurity::Insecure());
  const auto stub = ConnectWith(grpc::InsecureChannelCredentials());
  const auto refusal = [&](const PeerCard& card) {
    const grpc::Status status = Call(stub.get(), card);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    return status.error_message();
  };
  PeerCard card = SampleCard("b");
  card.node = "../b";
  EXPECT_THAT(refusal(card), HasSubstr("the node \"../b\" is no name"));
  card.node = std::string(65, 'n');
  EXPECT_THAT(refusal(card), HasSubstr("1 to 64"));
  card = SampleCard("b");
  card.rack = "r\n1";
  EXPECT_THAT(refusal(card), HasSubstr("the rack \"r\\n1\""));
  card = SampleCard("b");
  card.fabric_address = std::string(257, 0);
  EXPECT_THAT(refusal(card), HasSubstr("fabric address has 257 bytes"));
  card = SampleCard("b");
  card.store_path = std::string(257, 'p');
  EXPECT_THAT(refusal(card), HasSubstr("store path has 257 bytes"));
  card = SampleCard("b");
  card.instance = 0;
  EXPECT_THAT(refusal(card), HasSubstr("instance is 0"));
  card = SampleCard("b");
  card.export_address = ~0ull;
  EXPECT_THAT(refusal(card), HasSubstr("end beyond all addresses"));
  EXPECT_THAT(refusal(PeerCard()), HasSubstr("the cluster \"\""));
  EXPECT_EQ(backend_.calls(), 0u);
}

TEST_F(PeerServerTest, AnotherClusterAndANodeByTheOwnNameAreRefused) {
  StartServer(PeerSecurity::Insecure());
  const auto stub = ConnectWith(grpc::InsecureChannelCredentials());
  PeerCard card = SampleCard("b");
  card.cluster = "other";
  grpc::Status status = Call(stub.get(), card);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(),
              AllOf(HasSubstr("cluster other"), HasSubstr("of cluster c")));
  status = Call(stub.get(), SampleCard("a"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("calls itself node a"));
  EXPECT_EQ(backend_.calls(), 0u);
}

TEST_F(PeerServerTest, SaysOncePerCauseWhomItRefused) {
  StartServer(Node("a"));
  const auto stub = Connect(authority_.SignNode("c", "b"), authority_);
  ::testing::internal::CaptureStderr();
  for (int i = 0; i < 5; ++i) {
    EXPECT_FALSE(Call(stub.get(), SampleCard("x")).ok());
    EXPECT_FALSE(Call(stub.get(), SampleCard("b"), 2).ok());
  }
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(server_->refused(), 10u);
  std::size_t lines = 0;
  for (std::size_t at = 0; (at = log.find("refused a peer at ipv4:127.0.0.1:",
                                          at)) != std::string::npos;
       ++at) {
    ++lines;
  }
  EXPECT_EQ(lines, 2u) << log;
}

TEST_F(PeerServerTest, MessagesTooLargeAreRefusedUnread) {
  StartServer(Node("a"));
  const auto stub = Connect(authority_.SignNode("c", "b"), authority_);
  peer::v1::HelloRequest request;
  request.set_protocol_version(1);
  CopyTo(SampleCard("b"), request.mutable_card());
  request.mutable_card()->set_fabric_address(std::string(1 << 20, 'x'));
  EXPECT_EQ(Call(stub.get(), request).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(Call(stub.get(), SampleCard("b")).ok());
}

TEST_F(PeerServerTest, GarbageClosesItsOwnConnectionAndNoOther) {
  for (const bool insecure : {false, true}) {
    StartServer(insecure ? PeerSecurity::Insecure() : Node("a"));
    constexpr std::uint64_t kSeed = 7;
    std::mt19937_64 random(kSeed);
    for (int i = 0; i < 16; ++i) {
      const UniqueFd fd = ConnectRaw();
      std::string garbage(64 + random() % 4096, 0);
      for (char& byte : garbage) byte = static_cast<char>(random());
      // Some begin as TLS does, some as HTTP/2 does.
      if (i % 3 == 1) garbage.replace(0, 5, "\x16\x03\x01\x02\x00", 5);
      if (i % 3 == 2) {
        garbage.insert(0, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
      }
      ::send(fd.get(), garbage.data(), garbage.size(), MSG_NOSIGNAL);
      ::shutdown(fd.get(), SHUT_WR);
      // Until the server hangs up.
      pollfd event = {fd.get(), POLLIN, 0};
      char answer[4096];
      ssize_t got = 1;
      while (got > 0 && ::poll(&event, 1, 20'000) == 1) {
        got = ::recv(fd.get(), answer, sizeof(answer), 0);
      }
      EXPECT_LE(got, 0) << "seed " << kSeed << " connection " << i;
    }
    PeerClient client(insecure ? PeerSecurity::Insecure() : Node("b"));
    const absl::StatusOr<PeerCard> card = Hello(&client, SampleCard("b"));
    EXPECT_TRUE(card.ok()) << card.status();
  }
}

TEST_F(PeerServerTest, StartRefusesWhatCannotBe) {
  const auto refusal = [&](auto change) {
    PeerServerOptions options = Options();
    options.security = PeerSecurity::Insecure();
    change(&options);
    return PeerServer::Start(options, &backend_).status();
  };
  EXPECT_TRUE(refusal([](PeerServerOptions*) {}).ok());
  for (const std::string listen :
       {"", "127.0.0.1", "127.0.0.1:", ":7", "127.0.0.1:65536", "unix:/x:1",
        "127.0.0.1:-1", "a b:1", "127.0.0.1:7x"}) {
    const absl::Status status =
        refusal([&](PeerServerOptions* o) { o->listen = listen; });
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << listen;
    EXPECT_THAT(StatusMessage(status), HasSubstr("\"" + listen + "\""));
  }
  EXPECT_THAT(StatusMessage(
                  refusal([](PeerServerOptions* o) { o->security = nullptr; })),
              HasSubstr("choose insecure"));
  EXPECT_FALSE(refusal([](PeerServerOptions* o) { o->cluster = "a/b"; }).ok());
  EXPECT_FALSE(refusal([](PeerServerOptions* o) { o->node = ""; }).ok());
  EXPECT_FALSE(refusal([](PeerServerOptions* o) { o->pool_version = 0; }).ok());
  const absl::Status foreign =
      refusal([](PeerServerOptions* o) { o->listen = "192.0.2.1:7400"; });
  EXPECT_EQ(foreign.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(StatusMessage(foreign), HasSubstr("192.0.2.1:7400"));
}

TEST_F(PeerServerTest, TwoDaemonsDoNotShareAnAddress) {
  StartServer(PeerSecurity::Insecure());
  PeerServerOptions options = Options();
  options.security = PeerSecurity::Insecure();
  options.listen = address_;
  const absl::Status status = PeerServer::Start(options, &backend_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(StatusMessage(status), HasSubstr(address_));
}

}  // namespace
}  // namespace agentmem
