#include <grpc/support/time.h>
#include <grpcpp/alarm.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>

#include <utility>

#include "base/check.h"
#include "base/mutex.h"
#include "base/status.h"
#include "memd/cluster/etcd_keep_alive.h"
#include "memd/cluster/etcd_watch.h"
#include "proto/etcd.grpc.pb.h"

namespace agentmem {
namespace {

namespace pb = etcdserverpb;

gpr_timespec ToGpr(TimeNs deadline) {
  if (deadline == kNoDeadline) return gpr_inf_future(GPR_CLOCK_MONOTONIC);
  return gpr_timespec{deadline / kSecondNs,
                      static_cast<std::int32_t>(deadline % kSecondNs),
                      GPR_CLOCK_MONOTONIC};
}

enum class Outcome { kDone, kBroken, kDeadline, kWoken };

// A stream in both directions with one operation under way at most, and
// wake-ups from other threads.
//
// Threads: thread-compatible; Wake from any thread while it lives.
template <typename Request, typename Response>
class Stream {
 public:
  Stream(std::shared_ptr<EtcdChannels> channels,
         EtcdChannels::Connection connection, std::string what)
      : channels_(std::move(channels)),
        connection_(std::move(connection)),
        what_(std::move(what)) {
    PrepareEtcdCall(kNoDeadline, &context_);
  }

  ~Stream() {
    context_.TryCancel();
    if (pending_) Await(kNoDeadline);
    if (rpc_ != nullptr && !finished_) Finish();
    {
      MutexLock lock(&mutex_);
      queue_.Shutdown();
    }
    void* tag;
    bool ok;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  // `prepare` makes the call's object from context and queue.
  template <typename Prepare>
  absl::Status Start(const Prepare& prepare, TimeNs deadline) {
    rpc_ = prepare(connection_.channel, &context_, &queue_);
    pending_ = true;
    rpc_->StartCall(Tag(kOperation));
    return ToStatus(Await(deadline));
  }

  absl::Status Write(const Request& request, TimeNs deadline) {
    AGENTMEM_CHECK(!pending_);
    pending_ = true;
    rpc_->Write(request, Tag(kOperation));
    return ToStatus(Await(deadline));
  }

  // kDeadline and kWoken leave the read under way: call it again.
  Outcome Read(TimeNs deadline) {
    if (!pending_) {
      pending_ = true;
      response_.Clear();
      rpc_->Read(&response_, Tag(kOperation));
    }
    return Next(deadline);
  }
  const Response& response() const { return response_; }

  absl::Status ToStatus(Outcome outcome) {
    if (outcome == Outcome::kDone) return absl::OkStatus();
    channels_->Fault(connection_.index);
    if (outcome != Outcome::kBroken) {
      return Unavailable("etcd (" + endpoint() + "): " + what_ +
                         ": no answer by the deadline");
    }
    const grpc::Status status = Finish();
    if (!status.ok()) return EtcdStatus(status, what_, endpoint());
    return Unavailable("etcd (" + endpoint() + "): " + what_ +
                       ": the stream was closed");
  }

  void Wake() {
    MutexLock lock(&mutex_);
    if (waking_) return;
    waking_ = true;
    alarm_.Set(&queue_, gpr_now(GPR_CLOCK_MONOTONIC), Tag(kWakeUp));
  }

 private:
  static constexpr std::intptr_t kOperation = 1;
  static constexpr std::intptr_t kWakeUp = 2;
  static void* Tag(std::intptr_t tag) { return reinterpret_cast<void*>(tag); }

  const std::string& endpoint() const {
    return channels_->endpoint(connection_.index);
  }

  Outcome Next(TimeNs deadline) {
    void* tag;
    bool ok;
    if (queue_.AsyncNext(&tag, &ok, ToGpr(deadline)) !=
        grpc::CompletionQueue::GOT_EVENT) {
      return Outcome::kDeadline;
    }
    if (tag == Tag(kWakeUp)) {
      MutexLock lock(&mutex_);
      waking_ = false;
      return Outcome::kWoken;
    }
    pending_ = false;
    return ok ? Outcome::kDone : Outcome::kBroken;
  }

  Outcome Await(TimeNs deadline) {
    while (true) {
      const Outcome outcome = Next(deadline);
      if (outcome != Outcome::kWoken) return outcome;
    }
  }

  // The call's end; what etcd said of it.
  grpc::Status Finish() {
    AGENTMEM_CHECK(!pending_);
    context_.TryCancel();  // (if it is over, its status stays)
    grpc::Status status;
    finished_ = true;
    pending_ = true;
    rpc_->Finish(&status, Tag(kOperation));
    Await(kNoDeadline);
    return status;
  }

  const std::shared_ptr<EtcdChannels> channels_;
  const EtcdChannels::Connection connection_;
  const std::string what_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::ClientAsyncReaderWriter<Request, Response>> rpc_;
  Response response_;
  bool pending_ = false;  // an operation is under way
  bool finished_ = false;
  Mutex mutex_;
  bool waking_ AGENTMEM_GUARDED_BY(mutex_) = false;
  grpc::Alarm alarm_;
};

}  // namespace

struct EtcdWatch::Impl : Stream<pb::WatchRequest, pb::WatchResponse> {
  using Stream::Stream;
};

EtcdWatch::EtcdWatch(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
EtcdWatch::~EtcdWatch() = default;
void EtcdWatch::Wake() { impl_->Wake(); }

absl::StatusOr<std::unique_ptr<EtcdWatch>> EtcdWatch::Open(
    const std::shared_ptr<EtcdChannels>& channels, const std::string& prefix,
    std::int64_t from_revision, TimeNs deadline) {
  AGENTMEM_ASSIGN_OR_RETURN(EtcdChannels::Connection connection,
                            channels->Connect(deadline));
  auto impl =
      std::make_unique<Impl>(channels, std::move(connection), "watching");
  AGENTMEM_RETURN_IF_ERROR(impl->Start(
      [](const auto& channel, auto* context, auto* queue) {
        return pb::Watch::NewStub(channel)->PrepareAsyncWatch(context, queue);
      },
      deadline));
  pb::WatchRequest request;
  pb::WatchCreateRequest* const create = request.mutable_create_request();
  create->set_key(prefix);
  create->set_range_end(EtcdPrefixEnd(prefix));
  create->set_start_revision(from_revision);
  AGENTMEM_RETURN_IF_ERROR(impl->Write(request, deadline));
  const Outcome outcome = impl->Read(deadline);
  if (outcome != Outcome::kDone) return impl->ToStatus(outcome);
  if (!impl->response().created() || impl->response().canceled()) {
    return Unavailable("etcd refuses to watch \"" + prefix +
                       "\": " + impl->response().cancel_reason());
  }
  return std::unique_ptr<EtcdWatch>(new EtcdWatch(std::move(impl)));
}

absl::StatusOr<std::vector<EtcdEvent>> EtcdWatch::Next(TimeNs deadline) {
  std::vector<EtcdEvent> events;
  const Outcome outcome = impl_->Read(deadline);
  if (outcome == Outcome::kBroken) return impl_->ToStatus(outcome);
  if (outcome != Outcome::kDone) return events;
  const pb::WatchResponse& response = impl_->response();
  if (response.compact_revision() != 0) {
    return MakeStatus(absl::StatusCode::kOutOfRange,
                      "etcd has compacted its history up to revision " +
                          std::to_string(response.compact_revision()));
  }
  if (response.canceled()) {
    return Unavailable("etcd ended the watch: " + response.cancel_reason());
  }
  for (const pb::Event& event : response.events()) {
    const pb::KeyValue& value = event.kv();
    events.push_back(
        {event.type() == pb::Event::DELETE,
         {value.key(), value.value(), value.mod_revision(), value.lease()}});
  }
  return events;
}

struct EtcdKeepAlive::Impl
    : Stream<pb::LeaseKeepAliveRequest, pb::LeaseKeepAliveResponse> {
  using Stream::Stream;
};

EtcdKeepAlive::EtcdKeepAlive(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}
EtcdKeepAlive::~EtcdKeepAlive() = default;

absl::StatusOr<std::unique_ptr<EtcdKeepAlive>> EtcdKeepAlive::Open(
    const std::shared_ptr<EtcdChannels>& channels, TimeNs deadline) {
  AGENTMEM_ASSIGN_OR_RETURN(EtcdChannels::Connection connection,
                            channels->Connect(deadline));
  auto impl = std::make_unique<Impl>(channels, std::move(connection),
                                     "keeping a lease alive");
  AGENTMEM_RETURN_IF_ERROR(impl->Start(
      [](const auto& channel, auto* context, auto* queue) {
        return pb::Lease::NewStub(channel)->PrepareAsyncLeaseKeepAlive(context,
                                                                       queue);
      },
      deadline));
  return std::unique_ptr<EtcdKeepAlive>(new EtcdKeepAlive(std::move(impl)));
}

absl::Status EtcdKeepAlive::Beat(std::int64_t lease, TimeNs deadline) {
  pb::LeaseKeepAliveRequest request;
  request.set_id(lease);
  AGENTMEM_RETURN_IF_ERROR(impl_->Write(request, deadline));
  const Outcome outcome = impl_->Read(deadline);
  if (outcome != Outcome::kDone) return impl_->ToStatus(outcome);
  if (impl_->response().ttl() > 0) return absl::OkStatus();
  return NotFound("etcd has no lease " + std::to_string(lease) +
                  " any more: it ran out, or was revoked");
}

}  // namespace agentmem
