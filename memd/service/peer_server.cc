#include "memd/service/peer_server.h"

#include <grpc/support/time.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <utility>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "memd/service/peer_address.h"
#include "memd/service/peer_credentials.h"
#include "memd/service/peer_messages.h"
#include "memd/service/peer_refusals.h"
#include "proto/peer.grpc.pb.h"

namespace agentmem {
namespace {

using grpc::ServerContext;

constexpr std::size_t kServerMemoryBytes = 64 << 20;
constexpr int kHandshakeMsMax = 5'000;
constexpr int kStreamsMax = 8;
constexpr int kMetadataBytesMax = 8 << 10;
// A connection that says nothing more is closed; peers say Hello again.
constexpr int kIdleMsMax = 10 * 60 * 1'000;

grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      StatusMessage(status));
}

std::string Property(const grpc::AuthContext& context, const char* name) {
  const std::vector<grpc::string_ref> values = context.FindPropertyValues(name);
  if (values.size() != 1) return "";
  return std::string(values.front().data(), values.front().size());
}

struct Refusal {
  PeerCause cause = PeerCause::kCard;
  absl::Status status;
};

class PeerService final : public peer::v1::Peer::Service {
 public:
  PeerService(const PeerServerOptions& options, PeerBackend* backend)
      : options_(options), backend_(backend) {}

  grpc::Status Hello(ServerContext* context,
                     const peer::v1::HelloRequest* request,
                     peer::v1::HelloResponse* response) override {
    const std::string host = HostOf(context->peer());
    PeerCard card;
    const Refusal refusal = Look(*context, *request, &card);
    if (!refusal.status.ok()) {
      refusals_.Note(
          host, refusal.cause,
          "refused a peer at " + host + ": " + StatusMessage(refusal.status));
      return ToGrpc(refusal.status);
    }
    refusals_.Forget(host);
    const absl::StatusOr<PeerCard> own = backend_->Hello(card);
    if (!own.ok()) return ToGrpc(own.status());
    response->set_protocol_version(peer::v1::PROTOCOL_VERSION_CURRENT);
    CopyTo(*own, response->mutable_card());
    return grpc::Status::OK;
  }

  std::uint64_t refused() const { return refusals_.count(); }

 private:
  // In the order of peer_server.h. OK: `card` is what the certificate allows.
  Refusal Look(const ServerContext& context,
               const peer::v1::HelloRequest& request, PeerCard* card) const {
    PeerName shown;
    if (!options_.security->insecure()) {
      const Refusal refusal = LookAtCertificate(context, &shown);
      if (!refusal.status.ok()) return refusal;
    }
    if (request.protocol_version() != peer::v1::PROTOCOL_VERSION_CURRENT) {
      return {PeerCause::kVersion,
              FailedPrecondition(
                  "the peer speaks version " +
                  std::to_string(request.protocol_version()) +
                  " of the peers' protocol, this memd (node " + options_.node +
                  ") speaks version " +
                  std::to_string(peer::v1::PROTOCOL_VERSION_CURRENT) +
                  ": run the same release on both")};
    }
    *card = FromProto(request.card());
    if (absl::Status status = CheckPeerCard(*card); !status.ok()) {
      return {PeerCause::kCard, InvalidArgument("the peer's card is wrong: " +
                                                StatusMessage(status))};
    }
    if (!options_.security->insecure() &&
        (card->cluster != shown.cluster || card->node != shown.node)) {
      return {PeerCause::kName,
              PermissionDenied("the peer's card says " +
                               PeerUri(card->cluster, card->node) +
                               ", its certificate shows " +
                               PeerUri(shown.cluster, shown.node))};
    }
    return LookAtCard(*card);
  }

  // TLS did so at the handshake. A connection lasts, and what made it right may
  // have ended since: the certificate, or the authority's place in our file.
  Refusal LookAtCertificate(const ServerContext& context,
                            PeerName* shown) const {
    const std::shared_ptr<const grpc::AuthContext> auth =
        context.auth_context();
    const std::string certificate =
        auth == nullptr ? ""
                        : Property(*auth, GRPC_X509_PEM_CERT_PROPERTY_NAME);
    const std::string wanted = PeerUri(options_.cluster, "NAME");
    if (certificate.empty()) {
      return {PeerCause::kCertificate,
              MakeStatus(absl::StatusCode::kUnauthenticated,
                         "the peer shows no certificate, wanted is one with "
                         "the URI name " +
                             wanted)};
    }
    absl::Status status = options_.security->Current()->trusted->Verify(
        certificate + Property(*auth, GRPC_X509_PEM_CERT_CHAIN_PROPERTY_NAME),
        PeerRole::kClient);
    if (!status.ok()) return {PeerCause::kCertificate, status};
    const absl::StatusOr<PeerName> name = CertificateName(certificate, wanted);
    if (!name.ok()) return {PeerCause::kName, name.status()};
    if (name->cluster != options_.cluster) {
      return {PeerCause::kName,
              PermissionDenied("the certificate shows the URI name " +
                               PeerUri(name->cluster, name->node) +
                               ", wanted is " + wanted)};
    }
    *shown = *name;
    return {};
  }

  Refusal LookAtCard(const PeerCard& card) const {
    if (card.cluster != options_.cluster) {
      return {PeerCause::kCluster,
              FailedPrecondition("the peer " + card.node + " is of cluster " +
                                 card.cluster + ", this memd (node " +
                                 options_.node + ") is of cluster " +
                                 options_.cluster)};
    }
    if (card.node == options_.node) {
      return {PeerCause::kSelf,
              FailedPrecondition(
                  "the peer calls itself node " + card.node +
                  ", as this memd does: another node has the same name, or a "
                  "peer address leads to the node itself")};
    }
    if (card.pool_version != options_.pool_version) {
      return {PeerCause::kVersion,
              FailedPrecondition("the peer " + card.node + " speaks version " +
                                 std::to_string(card.pool_version) +
                                 " of the pool's protocol, this memd (node " +
                                 options_.node + ") speaks version " +
                                 std::to_string(options_.pool_version) +
                                 ": run the same release on both")};
    }
    return {};
  }

  const PeerServerOptions options_;
  PeerBackend* const backend_;
  PeerRefusals refusals_;
};

absl::Status CheckOptions(const PeerServerOptions& options) {
  AGENTMEM_RETURN_IF_ERROR(CheckPeerAddress(options.listen, 0));
  AGENTMEM_RETURN_IF_ERROR(CheckPeerName("cluster", options.cluster));
  AGENTMEM_RETURN_IF_ERROR(CheckPeerName("node", options.node));
  if (options.pool_version == 0) {
    return InvalidArgument("the pool's version is 0, it begins at 1");
  }
  if (options.security == nullptr) {
    return InvalidArgument(
        "the peers' door has no security: give certificate, key and authority, "
        "or choose insecure");
  }
  return absl::OkStatus();
}

}  // namespace

// Declared in the order in which they are made.
struct PeerServer::Impl {
  Impl(const PeerServerOptions& options, PeerBackend* backend)
      : service(options, backend) {}

  PeerService service;
  // gRPC calls into it at each handshake and does not own it.
  std::shared_ptr<grpc::ServerCredentials> credentials;
  int port = 0;
  std::unique_ptr<grpc::Server> server;
};

PeerServer::PeerServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

absl::StatusOr<std::unique_ptr<PeerServer>> PeerServer::Start(
    const PeerServerOptions& options, PeerBackend* backend) {
  AGENTMEM_RETURN_IF_ERROR(CheckOptions(options));
  auto impl = std::make_unique<Impl>(options, backend);
  grpc::ResourceQuota quota("memd-peer");
  quota.SetMaxThreads(kPeerThreadsMax);
  quota.Resize(kServerMemoryBytes);
  grpc::ServerBuilder builder;
  builder.SetResourceQuota(quota);
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
  builder.SetMaxReceiveMessageSize(kPeerMessageBytesMax);
  builder.SetMaxSendMessageSize(kPeerMessageBytesMax);
  // Two daemons at one address would each get some of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             kHandshakeMsMax);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsMax);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMetadataBytesMax);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kIdleMsMax);
  impl->credentials = MakePeerServerCredentials(options.security);
  builder.AddListeningPort(options.listen, impl->credentials, &impl->port);
  builder.RegisterService(&impl->service);
  impl->server = builder.BuildAndStart();
  if (impl->server == nullptr || impl->port <= 0) {
    return Unavailable("cannot listen for peers at " + options.listen +
                       ": is the address this node's, and the port free?");
  }
  if (options.security->insecure()) {
    LogWarning("peers at " + options.listen +
               " are not authenticated: whoever reaches this address is "
               "believed (insecure was chosen)");
  }
  return std::unique_ptr<PeerServer>(new PeerServer(std::move(impl)));
}

PeerServer::~PeerServer() {
  const TimeNs deadline = MonotonicNowNs() + kPeerDrainNs;
  impl_->server->Shutdown(gpr_timespec{
      deadline / kSecondNs, static_cast<std::int32_t>(deadline % kSecondNs),
      GPR_CLOCK_MONOTONIC});
}

int PeerServer::port() const { return impl_->port; }
std::uint64_t PeerServer::refused() const { return impl_->service.refused(); }

}  // namespace agentmem
