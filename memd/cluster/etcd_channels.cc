#include "memd/cluster/etcd_channels.h"

#include <grpc/support/time.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "base/status.h"

namespace agentmem {
namespace {

// A page of a listing is 128 refs of 64 KiB (memd/cluster/etcd_ref_store.h).
constexpr int kResponseBytesMax = 16 << 20;
// How soon a channel tries again, at first and at most; and how long one try
// may take.
constexpr int kBackOffMsMin = 50;
constexpr int kBackOffMsMax = 500;
constexpr int kConnectMsMax = 1000;
// etcd closes connections that ping more than once in 5 s.
constexpr int kPingMs = 10'000;
constexpr int kPingAnswerMs = 3'000;
// One endpoint's part of the time, while there are others to try.
constexpr DurationNs kTryNs = 300 * kMillisecondNs;
constexpr DurationNs kPauseNs = 50 * kMillisecondNs;

gpr_timespec ToGpr(TimeNs deadline) {
  return gpr_timespec{deadline / kSecondNs,
                      static_cast<std::int32_t>(deadline % kSecondNs),
                      GPR_CLOCK_MONOTONIC};
}

absl::StatusOr<std::string> ReadFile(const std::string& what,
                                     const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)),
                   std::istreambuf_iterator<char>());
  if (file.is_open() && !text.empty()) return text;
  return InvalidArgument("etcd's " + what + " \"" + path +
                         "\" cannot be read or is empty: name a PEM file that "
                         "memd may read");
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(
    const EtcdOptions& options, bool tls) {
  if (!tls) {
    if (options.ca_file.empty() && options.certificate_file.empty() &&
        options.key_file.empty()) {
      return grpc::InsecureChannelCredentials();
    }
    return InvalidArgument(
        "certificate files are given, and etcd's endpoints are http: use "
        "https, or leave the files out");
  }
  if (options.certificate_file.empty() != options.key_file.empty()) {
    return InvalidArgument(
        "of memd's certificate and its key for etcd one is missing: give both "
        "or neither");
  }
  grpc::SslCredentialsOptions ssl;
  AGENTMEM_ASSIGN_OR_RETURN(ssl.pem_root_certs,
                            ReadFile("certificate authority", options.ca_file));
  AGENTMEM_ASSIGN_OR_RETURN(ssl.pem_private_key,
                            ReadFile("client key", options.key_file));
  AGENTMEM_ASSIGN_OR_RETURN(
      ssl.pem_cert_chain,
      ReadFile("client certificate", options.certificate_file));
  return grpc::SslCredentials(ssl);
}

// host:port of "http://host:port"; sets `tls`.
absl::StatusOr<std::string> Target(const std::string& endpoint, bool* tls) {
  for (const std::string scheme : {"http://", "https://"}) {
    if (endpoint.rfind(scheme, 0) != 0) continue;
    std::string target = endpoint.substr(scheme.size());
    while (!target.empty() && target.back() == '/') target.pop_back();
    const std::size_t colon = target.rfind(':');
    if (colon == std::string::npos || colon == 0 ||
        colon + 1 == target.size() ||
        target.find_first_not_of("0123456789", colon + 1) !=
            std::string::npos ||
        target.find('/') != std::string::npos) {
      break;
    }
    *tls = scheme == "https://";
    return target;
  }
  return InvalidArgument("etcd's endpoint \"" + endpoint +
                         "\": allowed are http://host:port and "
                         "https://host:port");
}

grpc::ChannelArguments Arguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kResponseBytesMax);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kBackOffMsMin);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kBackOffMsMax);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectMsMax);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kPingMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingAnswerMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // Not a connection that another client of this process made or lost.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // etcd is where it was said to be, whatever the environment's proxies.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return arguments;
}

bool IsConnected(grpc::Channel* channel, TimeNs deadline) {
  auto state = channel->GetState(/*try_to_connect=*/true);
  while (state == GRPC_CHANNEL_IDLE || state == GRPC_CHANNEL_CONNECTING) {
    if (!channel->WaitForStateChange(state, ToGpr(deadline))) return false;
    state = channel->GetState(true);
  }
  return state == GRPC_CHANNEL_READY;
}

}  // namespace

absl::StatusOr<std::shared_ptr<EtcdChannels>> EtcdChannels::Make(
    const EtcdOptions& options) {
  if (options.endpoints.empty()) {
    return InvalidArgument(
        "no endpoint of etcd is given: name at least one, "
        "as http://host:port");
  }
  std::vector<std::string> targets;
  bool tls = false;
  for (const std::string& endpoint : options.endpoints) {
    bool this_tls = false;
    AGENTMEM_ASSIGN_OR_RETURN(std::string target, Target(endpoint, &this_tls));
    if (!targets.empty() && this_tls != tls) {
      return InvalidArgument("etcd's endpoints \"" + options.endpoints[0] +
                             "\" and \"" + endpoint +
                             "\": either all are http or all are https");
    }
    tls = this_tls;
    targets.push_back(std::move(target));
  }
  AGENTMEM_ASSIGN_OR_RETURN(const auto credentials,
                            MakeCredentials(options, tls));
  std::shared_ptr<EtcdChannels> channels(new EtcdChannels());
  channels->endpoints_ = options.endpoints;
  for (const std::string& target : targets) {
    channels->channels_.push_back(
        grpc::CreateCustomChannel(target, credentials, Arguments()));
  }
  return channels;
}

EtcdChannels::~EtcdChannels() = default;

absl::StatusOr<EtcdChannels::Connection> EtcdChannels::Connect(
    TimeNs deadline) {
  const std::size_t count = channels_.size();
  while (true) {
    const std::size_t first = current_.load(std::memory_order_relaxed);
    for (std::size_t step = 0; step < count; ++step) {
      const std::size_t index = (first + step) % count;
      const TimeNs until =
          count == 1 ? deadline : std::min(deadline, MonotonicNowNs() + kTryNs);
      if (!IsConnected(channels_[index].get(), until)) continue;
      current_.store(index, std::memory_order_relaxed);
      return Connection{channels_[index], index};
    }
    if (MonotonicNowNs() >= deadline) break;
    Pause({channels_[first], first}, deadline);
  }
  return Unavailable("etcd (" + names() +
                     "): no connection by the deadline; is it running, is "
                     "it an etcd (gRPC over HTTP/2), and may memd reach it?");
}

void EtcdChannels::Fault(std::size_t index) {
  current_.compare_exchange_strong(index, (index + 1) % channels_.size(),
                                   std::memory_order_relaxed);
}

void EtcdChannels::Pause(const Connection& connection, TimeNs deadline) {
  const TimeNs until = std::min(deadline, MonotonicNowNs() + kPauseNs);
  connection.channel->WaitForStateChange(connection.channel->GetState(true),
                                         ToGpr(until));
}

std::string EtcdChannels::names() const {
  std::string names;
  for (const std::string& endpoint : endpoints_) {
    names += (names.empty() ? "" : ", ") + endpoint;
  }
  return names;
}

void PrepareEtcdCall(TimeNs deadline, grpc::ClientContext* context) {
  if (deadline != kNoDeadline) context->set_deadline(ToGpr(deadline));
  context->AddMetadata("hasleader", "true");
}

absl::Status EtcdStatus(const grpc::Status& status, const std::string& what,
                        const std::string& endpoint) {
  if (status.ok()) return absl::OkStatus();
  const std::string message =
      "etcd (" + endpoint + "): " + what + ": " + status.error_message();
  switch (status.error_code()) {
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return Unavailable("etcd (" + endpoint + "): " + what +
                         ": no answer by the deadline");
    case grpc::StatusCode::CANCELLED:
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::UNKNOWN:
    case grpc::StatusCode::INTERNAL:
    case grpc::StatusCode::ABORTED:  // (here it is the word for a lost race)
      return Unavailable(message);
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return ResourceExhausted(
          message +
          "; if its space is used up: compact and defragment it, "
          "disarm the alarm, or raise --quota-backend-bytes");
    default:
      return MakeStatus(static_cast<absl::StatusCode>(status.error_code()),
                        message);
  }
}

}  // namespace agentmem
