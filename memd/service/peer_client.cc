#include "memd/service/peer_client.h"

#include <grpc/support/time.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/mutex.h"
#include "base/status.h"
#include "memd/service/peer_address.h"
#include "memd/service/peer_credentials.h"
#include "memd/service/peer_messages.h"
#include "memd/service/peer_refusals.h"
#include "proto/peer.grpc.pb.h"

namespace agentmem {
namespace {

// A peer that is back is found within this time, and one that is gone costs a
// connection attempt as often.
constexpr int kReconnectMsMin = 50;
constexpr int kReconnectMsMax = 500;
constexpr int kConnectMsMax = 2'000;
// A Hello's wait is somebody's: no caller means to wait for longer.
constexpr DurationNs kWaitNsMax = 60 * kSecondNs;

struct PeerChannel {
  std::uint64_t credentials_version = 0;
  std::string uri;          // that its certificate must show
  std::string authorities;  // for people; empty: insecure
  std::shared_ptr<PeerVerdict> verdict;
  std::unique_ptr<peer::v1::Peer::Stub> stub;
};

grpc::ChannelArguments ChannelArguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kPeerMessageBytesMax);
  arguments.SetMaxSendMessageSize(kPeerMessageBytesMax);
  // Peers are reached directly, whatever the environment says of proxies.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // A new channel is a new connection.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectMsMin);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kReconnectMsMax);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectMsMax);
  return arguments;
}

struct Failure {
  PeerCause cause = PeerCause::kAnswer;
  absl::Status status;
};

// "failed to connect to all addresses; last error: UNKNOWN: ADDRESS: WHY" ->
// WHY.
std::string LastError(const std::string& words) {
  for (const std::string start : {"SSL_ERROR", "last error: "}) {
    const std::size_t at = words.find(start);
    if (at != std::string::npos) return words.substr(at);
  }
  return words;
}

gpr_timespec ToGrpc(TimeNs deadline) {
  return gpr_timespec{deadline / kSecondNs,
                      static_cast<std::int32_t>(deadline % kSecondNs),
                      GPR_CLOCK_MONOTONIC};
}

absl::Status CheckArguments(const std::string& address, const std::string& node,
                            const PeerCard& own) {
  AGENTMEM_RETURN_IF_ERROR(CheckPeerAddress(address, 1));
  AGENTMEM_RETURN_IF_ERROR(CheckPeerName("node", node));
  AGENTMEM_RETURN_IF_ERROR(CheckPeerCard(own));
  if (own.node != node) return absl::OkStatus();
  return InvalidArgument("the peer at " + address + " is to be node " + node +
                         ", which is this node's own name");
}

// The certificate is the node's; what it says may be wrong all the same.
Failure LookAtAnswer(const peer::v1::HelloResponse& response,
                     const PeerCard& card, const std::string& node,
                     const PeerCard& own, const std::string& peer) {
  if (response.protocol_version() != peer::v1::PROTOCOL_VERSION_CURRENT) {
    return {PeerCause::kVersion,
            FailedPrecondition(
                peer + " speaks version " +
                std::to_string(response.protocol_version()) +
                " of the peers' protocol, this memd speaks version " +
                std::to_string(peer::v1::PROTOCOL_VERSION_CURRENT) +
                ": run the same release on both")};
  }
  if (absl::Status status = CheckPeerCard(card); !status.ok()) {
    return {PeerCause::kCard,
            FailedPrecondition(peer + " shows a card that is wrong: " +
                               StatusMessage(status))};
  }
  if (card.cluster != own.cluster) {
    return {PeerCause::kCluster,
            FailedPrecondition(peer + " is of cluster " + card.cluster +
                               ", this node is of cluster " + own.cluster)};
  }
  if (card.instance == own.instance || card.node == own.node) {
    return {PeerCause::kSelf,
            FailedPrecondition(peer + " is this node itself, " + own.node +
                               ": correct the peer's address")};
  }
  if (card.node != node) {
    return {PeerCause::kName,
            FailedPrecondition(peer + " is node " + card.node +
                               ": correct the peer's address or name")};
  }
  if (card.pool_version != own.pool_version) {
    return {PeerCause::kVersion,
            FailedPrecondition(peer + " speaks version " +
                               std::to_string(card.pool_version) +
                               " of the pool's protocol, this memd speaks "
                               "version " +
                               std::to_string(own.pool_version) +
                               ": run the same release on both")};
  }
  return {};
}

}  // namespace

struct PeerClient::Impl {
  using ChannelKey = std::pair<std::string, std::string>;  // address, node

  struct Call {
    ChannelKey key;
    PeerCard own;
    std::shared_ptr<PeerChannel> channel;
    Answer answer;
    grpc::ClientContext context;
    peer::v1::HelloRequest request;
    peer::v1::HelloResponse response;

    std::string peer() const {
      return "the peer " + key.second + " at " + key.first;
    }
  };

  std::shared_ptr<PeerChannel> ChannelTo(const std::string& address,
                                         const std::string& node,
                                         const std::string& cluster)
      AGENTMEM_EXCLUDES(mutex);
  // Unless another has taken its place already.
  void Drop(const ChannelKey& key, const PeerChannel* channel)
      AGENTMEM_EXCLUDES(mutex);
  Failure Explain(const grpc::Status& answer, const std::string& peer,
                  const PeerChannel& channel) const;
  absl::StatusOr<PeerCard> Judge(const Call& call, const grpc::Status& answer);
  void Begin(std::shared_ptr<Call> call) AGENTMEM_EXCLUDES(mutex);
  void End(const std::shared_ptr<Call>& call) AGENTMEM_EXCLUDES(mutex);

  std::shared_ptr<PeerSecurity> security;
  PeerRefusals refusals;
  Mutex mutex;
  std::map<ChannelKey, std::shared_ptr<PeerChannel>> channels
      AGENTMEM_GUARDED_BY(mutex);
  std::set<std::shared_ptr<Call>> calls AGENTMEM_GUARDED_BY(mutex);
  CondVar ended;  // one of `calls`
  std::atomic<bool> ending = false;
};

std::shared_ptr<PeerChannel> PeerClient::Impl::ChannelTo(
    const std::string& address, const std::string& node,
    const std::string& cluster) {
  std::shared_ptr<const PeerCredentials> credentials;
  if (!security->insecure()) credentials = security->Current();
  const std::uint64_t version =
      credentials == nullptr ? 0 : credentials->version;
  MutexLock lock(&mutex);
  const auto known = channels.find({address, node});
  if (known != channels.end() &&
      known->second->credentials_version == version) {
    return known->second;
  }
  auto channel = std::make_shared<PeerChannel>();
  channel->credentials_version = version;
  channel->uri = PeerUri(cluster, node);
  if (credentials != nullptr) {
    channel->authorities = credentials->trusted->names();
  }
  channel->verdict = std::make_shared<PeerVerdict>();
  channel->stub = peer::v1::Peer::NewStub(grpc::CreateCustomChannel(
      "dns:///" + address,
      credentials == nullptr
          ? grpc::InsecureChannelCredentials()
          : MakePeerChannelCredentials(*credentials, channel->uri,
                                       channel->verdict),
      ChannelArguments()));
  if (channels.size() >= kPeerChannelsMax) channels.clear();
  channels[{address, node}] = channel;
  return channel;
}

void PeerClient::Impl::Drop(const ChannelKey& key, const PeerChannel* channel) {
  MutexLock lock(&mutex);
  const auto known = channels.find(key);
  if (known != channels.end() && known->second.get() == channel) {
    channels.erase(known);
  }
}

// gRPC tells apart by words alone why a connection was not made.
Failure PeerClient::Impl::Explain(const grpc::Status& answer,
                                  const std::string& peer,
                                  const PeerChannel& channel) const {
  const std::string& words = answer.error_message();
  const auto says = [&words](const char* what) {
    return words.find(what) != std::string::npos;
  };
  if (answer.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return {PeerCause::kSilence,
            DeadlineExceeded(peer + " did not answer in time")};
  }
  if (answer.error_code() != grpc::StatusCode::UNAVAILABLE) {
    return {PeerCause::kAnswer,
            MakeStatus(static_cast<absl::StatusCode>(answer.error_code()),
                       peer + " answered: " + Shown(words))};
  }
  const absl::Status verdict = channel.verdict->Get();
  if (says(kPeerRefusedMark) && !verdict.ok()) {
    return {PeerCause::kName,
            MakeStatus(verdict.code(), peer + ": " + StatusMessage(verdict))};
  }
  const std::string reason = Shown(LastError(words));
  if (!security->insecure() && says("handshake failed")) {
    return {PeerCause::kHandshake,
            MakeStatus(absl::StatusCode::kUnauthenticated,
                       peer + ": TLS failed (" + reason +
                           "); wanted is a valid certificate of " +
                           channel.uri + ", signed by " + channel.authorities)};
  }
  std::string hint;
  if (says("Socket closed") || says("reset by peer")) {
    hint = security->insecure()
               ? "; it may want TLS, and this node was told to be insecure"
               : "; if it goes on, its authority file may lack who signed this "
                 "node's certificate";
  }
  return {PeerCause::kSilence,
          Unavailable(peer + " cannot be reached: " + reason + hint)};
}

absl::StatusOr<PeerCard> PeerClient::Impl::Judge(const Call& call,
                                                 const grpc::Status& answer) {
  const std::string peer = call.peer();
  if (ending && answer.error_code() == grpc::StatusCode::CANCELLED) {
    return MakeStatus(absl::StatusCode::kCancelled,
                      "the Hello to " + peer + " was cancelled");
  }
  if (answer.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    Drop(call.key, call.channel.get());
  }
  PeerCard card = FromProto(call.response.card());
  const Failure failure =
      answer.ok()
          ? LookAtAnswer(call.response, card, call.key.second, call.own, peer)
          : Explain(answer, peer, *call.channel);
  if (!failure.status.ok()) {
    refusals.Note(peer, failure.cause, StatusMessage(failure.status));
    return failure.status;
  }
  refusals.Forget(peer);
  return card;
}

void PeerClient::Impl::Begin(std::shared_ptr<Call> call) {
  MutexLock lock(&mutex);
  calls.insert(std::move(call));
}

void PeerClient::Impl::End(const std::shared_ptr<Call>& call) {
  MutexLock lock(&mutex);
  calls.erase(call);
  ended.NotifyAll();
}

PeerClient::PeerClient(std::shared_ptr<PeerSecurity> security)
    : impl_(std::make_shared<Impl>()) {
  AGENTMEM_CHECK(security != nullptr);
  impl_->security = std::move(security);
}

PeerClient::~PeerClient() {
  impl_->ending = true;
  MutexLock lock(&impl_->mutex);
  for (const auto& call : impl_->calls) call->context.TryCancel();
  while (!impl_->calls.empty()) impl_->ended.Wait(&impl_->mutex);
}

void PeerClient::Hello(const std::string& address, const std::string& node,
                       const PeerCard& own, TimeNs deadline, Answer answer) {
  const absl::Status checked = CheckArguments(address, node, own);
  if (!checked.ok()) return answer(checked);
  auto call = std::make_shared<Impl::Call>();
  call->key = {address, node};
  call->own = own;
  call->channel = impl_->ChannelTo(address, node, own.cluster);
  call->answer = std::move(answer);
  call->context.set_deadline(
      ToGrpc(std::min(deadline, MonotonicNowNs() + kWaitNsMax)));
  call->request.set_protocol_version(peer::v1::PROTOCOL_VERSION_CURRENT);
  CopyTo(own, call->request.mutable_card());
  impl_->Begin(call);
  Impl::Call* const at = call.get();
  at->channel->stub->async()->Hello(
      &at->context, &at->request, &at->response,
      [impl = impl_, call = std::move(call)](const grpc::Status& status) {
        call->answer(impl->Judge(*call, status));
        impl->End(call);
      });
}

}  // namespace agentmem
