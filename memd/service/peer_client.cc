#include "memd/service/peer_client.h"

#include <grpc/support/time.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/support/async_unary_call.h>

#include <algorithm>
#include <map>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
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
    std::unique_ptr<grpc::ClientAsyncResponseReader<peer::v1::HelloResponse>>
        reader;
    grpc::Status status;

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
  absl::StatusOr<PeerCard> Judge(const Call& call);
  void TakeAnswers() AGENTMEM_EXCLUDES(mutex);

  std::shared_ptr<PeerSecurity> security;
  PeerRefusals refusals;
  Mutex mutex;
  std::map<ChannelKey, std::shared_ptr<PeerChannel>> channels
      AGENTMEM_GUARDED_BY(mutex);
  absl::flat_hash_map<Call*, std::unique_ptr<Call>> calls
      AGENTMEM_GUARDED_BY(mutex);
  bool ending AGENTMEM_GUARDED_BY(mutex) = false;
  grpc::CompletionQueue answers;
  std::thread thread;
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

absl::StatusOr<PeerCard> PeerClient::Impl::Judge(const Call& call) {
  const std::string peer = call.peer();
  if (call.status.error_code() == grpc::StatusCode::CANCELLED) {
    MutexLock lock(&mutex);
    if (ending) {
      return MakeStatus(absl::StatusCode::kCancelled,
                        "the Hello to " + peer + " was cancelled");
    }
  }
  if (call.status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    Drop(call.key, call.channel.get());
  }
  PeerCard card = FromProto(call.response.card());
  const Failure failure =
      call.status.ok()
          ? LookAtAnswer(call.response, card, call.key.second, call.own, peer)
          : Explain(call.status, peer, *call.channel);
  if (!failure.status.ok()) {
    refusals.Note(peer, failure.cause, StatusMessage(failure.status));
    return failure.status;
  }
  refusals.Forget(peer);
  return card;
}

// The thread's, until the queue is shut down and empty.
void PeerClient::Impl::TakeAnswers() {
  void* tag = nullptr;
  bool is_ok = false;  // (of a call's end it always is)
  while (answers.Next(&tag, &is_ok)) {
    std::unique_ptr<Call> call;
    {
      MutexLock lock(&mutex);
      call = std::move(calls.extract(static_cast<Call*>(tag)).mapped());
    }
    call->answer(Judge(*call));
  }
}

PeerClient::PeerClient(std::shared_ptr<PeerSecurity> security)
    : impl_(std::make_unique<Impl>()) {
  AGENTMEM_CHECK(security != nullptr);
  impl_->security = std::move(security);
  impl_->thread = std::thread([impl = impl_.get()] { impl->TakeAnswers(); });
}

PeerClient::~PeerClient() {
  {
    MutexLock lock(&impl_->mutex);
    impl_->ending = true;
    for (const auto& [at, call] : impl_->calls) call->context.TryCancel();
  }
  impl_->answers.Shutdown();
  impl_->thread.join();
}

void PeerClient::Hello(const std::string& address, const std::string& node,
                       const PeerCard& own, TimeNs deadline, Answer answer) {
  const absl::Status checked = CheckArguments(address, node, own);
  if (!checked.ok()) return answer(checked);
  auto owned = std::make_unique<Impl::Call>();
  Impl::Call* const call = owned.get();
  call->key = {address, node};
  call->own = own;
  call->channel = impl_->ChannelTo(address, node, own.cluster);
  call->answer = std::move(answer);
  call->context.set_deadline(
      ToGrpc(std::min(deadline, MonotonicNowNs() + kWaitNsMax)));
  call->request.set_protocol_version(peer::v1::PROTOCOL_VERSION_CURRENT);
  CopyTo(own, call->request.mutable_card());
  // (Under the lock, so that it is known before it can end.)
  MutexLock lock(&impl_->mutex);
  impl_->calls.emplace(call, std::move(owned));
  call->reader = call->channel->stub->AsyncHello(&call->context, call->request,
                                                 &impl_->answers);
  call->reader->Finish(&call->response, &call->status, call);
}

}  // namespace agentmem
