#include "memd/cluster/etcd_client.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <algorithm>

#include "base/status.h"
#include "proto/etcd.grpc.pb.h"

namespace agentmem {
namespace {

namespace pb = etcdserverpb;

// A read waits for one endpoint at most half of what is left, and not so
// little that a slow disk looks like a dead machine.
constexpr DurationNs kTryNsMin = 200 * kMillisecondNs;

enum class Repeat { kAlways, kOnlyIfRefused };

// The member that was asked had no leader: it did nothing.
bool WasRefused(const grpc::Status& status) {
  return status.error_message().find("etcdserver: no leader") !=
         std::string::npos;
}

// Calls until it is answered or the deadline has passed.
template <typename Call>
absl::Status CallEtcd(EtcdChannels* channels, const std::string& what,
                      TimeNs deadline, Repeat repeat, const Call& call) {
  absl::Status last;
  while (true) {
    auto connection = channels->Connect(deadline);
    if (!connection.ok()) return last.ok() ? connection.status() : last;
    TimeNs until = deadline;
    if (repeat == Repeat::kAlways && channels->size() > 1) {
      const TimeNs now = MonotonicNowNs();
      until =
          std::min(deadline, now + std::max((deadline - now) / 2, kTryNsMin));
    }
    grpc::ClientContext context;
    PrepareEtcdCall(until, &context);
    const grpc::Status status = call(connection->channel, &context);
    last = EtcdStatus(status, what, channels->endpoint(connection->index));
    if (last.code() != absl::StatusCode::kUnavailable) return last;
    channels->Fault(connection->index);
    if (repeat == Repeat::kOnlyIfRefused && !WasRefused(status)) return last;
    if (MonotonicNowNs() >= deadline) return last;
    channels->Pause(*connection, deadline);
  }
}

EtcdKeyValue FromProto(const pb::KeyValue& value) {
  return {value.key(), value.value(), value.mod_revision(), value.lease()};
}

void CopyTo(const std::vector<EtcdOp>& ops,
            google::protobuf::RepeatedPtrField<pb::RequestOp>* to) {
  for (const EtcdOp& op : ops) {
    pb::RequestOp* const request = to->Add();
    switch (op.kind) {
      case EtcdOp::Kind::kGet:
        request->mutable_request_range()->set_key(op.key);
        break;
      case EtcdOp::Kind::kPut:
        request->mutable_request_put()->set_key(op.key);
        request->mutable_request_put()->set_value(op.value);
        request->mutable_request_put()->set_lease(op.lease);
        break;
      case EtcdOp::Kind::kDelete:
        request->mutable_request_delete_range()->set_key(op.key);
        break;
    }
  }
}

bool OnlyReads(const std::vector<EtcdOp>& ops) {
  return std::all_of(ops.begin(), ops.end(), [](const EtcdOp& op) {
    return op.kind == EtcdOp::Kind::kGet;
  });
}

pb::TxnRequest ToProto(const EtcdTxn& txn) {
  pb::TxnRequest request;
  for (const auto& [key, revision] : txn.unchanged) {
    pb::Compare* const compare = request.add_compare();
    compare->set_result(pb::Compare::EQUAL);
    compare->set_target(pb::Compare::MOD);
    compare->set_key(key);
    compare->set_mod_revision(revision);
  }
  CopyTo(txn.then, request.mutable_success());
  CopyTo(txn.otherwise, request.mutable_failure());
  return request;
}

}  // namespace

std::string EtcdPrefixEnd(std::string prefix) {
  while (!prefix.empty() && prefix.back() == '\xff') prefix.pop_back();
  if (!prefix.empty()) ++prefix.back();
  return prefix;
}

absl::StatusOr<std::unique_ptr<EtcdClient>> EtcdClient::Make(
    const EtcdOptions& options) {
  AGENTMEM_ASSIGN_OR_RETURN(std::shared_ptr<EtcdChannels> channels,
                            EtcdChannels::Make(options));
  return std::unique_ptr<EtcdClient>(new EtcdClient(std::move(channels)));
}

absl::StatusOr<EtcdRangeResult> EtcdClient::Range(
    const EtcdRangeRequest& request, TimeNs deadline) {
  pb::RangeRequest message;
  message.set_key(request.key);
  message.set_range_end(request.range_end);
  message.set_limit(request.limit);
  message.set_revision(request.revision);
  pb::RangeResponse response;
  AGENTMEM_RETURN_IF_ERROR(CallEtcd(
      channels_.get(), "reading", deadline, Repeat::kAlways,
      [&](const auto& channel, grpc::ClientContext* context) {
        return pb::KV::NewStub(channel)->Range(context, message, &response);
      }));
  EtcdRangeResult result;
  result.revision = response.header().revision();
  result.more = response.more();
  for (const pb::KeyValue& value : response.kvs()) {
    result.values.push_back(FromProto(value));
  }
  return result;
}

absl::StatusOr<EtcdTxnResult> EtcdClient::Txn(const EtcdTxn& txn,
                                              TimeNs deadline) {
  const pb::TxnRequest message = ToProto(txn);
  pb::TxnResponse response;
  const bool reads = OnlyReads(txn.then) && OnlyReads(txn.otherwise);
  AGENTMEM_RETURN_IF_ERROR(CallEtcd(
      channels_.get(), reads ? "reading" : "changing", deadline,
      reads ? Repeat::kAlways : Repeat::kOnlyIfRefused,
      [&](const auto& channel, grpc::ClientContext* context) {
        return pb::KV::NewStub(channel)->Txn(context, message, &response);
      }));
  EtcdTxnResult result;
  result.held = response.succeeded();
  result.revision = response.header().revision();
  for (const pb::ResponseOp& op : response.responses()) {
    for (const pb::KeyValue& value : op.response_range().kvs()) {
      result.values.push_back(FromProto(value));
    }
  }
  return result;
}

absl::Status EtcdClient::Compact(std::int64_t revision, TimeNs deadline) {
  pb::CompactionRequest message;
  message.set_revision(revision);
  pb::CompactionResponse response;
  return CallEtcd(
      channels_.get(), "compacting", deadline, Repeat::kOnlyIfRefused,
      [&](const auto& channel, grpc::ClientContext* context) {
        return pb::KV::NewStub(channel)->Compact(context, message, &response);
      });
}

absl::StatusOr<EtcdLease> EtcdClient::GrantLease(std::int64_t ttl_s,
                                                 TimeNs deadline) {
  pb::LeaseGrantRequest message;
  message.set_ttl(ttl_s);
  pb::LeaseGrantResponse response;
  AGENTMEM_RETURN_IF_ERROR(CallEtcd(
      channels_.get(), "granting a lease", deadline, Repeat::kOnlyIfRefused,
      [&](const auto& channel, grpc::ClientContext* context) {
        return pb::Lease::NewStub(channel)->LeaseGrant(context, message,
                                                       &response);
      }));
  if (!response.error().empty() || response.id() == 0 || response.ttl() <= 0) {
    return Unavailable("etcd: granting a lease of " + std::to_string(ttl_s) +
                       " s: " + response.error());
  }
  return EtcdLease{response.id(), response.ttl() * kSecondNs};
}

absl::Status EtcdClient::RevokeLease(std::int64_t id, TimeNs deadline) {
  pb::LeaseRevokeRequest message;
  message.set_id(id);
  pb::LeaseRevokeResponse response;
  return CallEtcd(channels_.get(), "revoking a lease", deadline,
                  Repeat::kAlways,
                  [&](const auto& channel, grpc::ClientContext* context) {
                    return pb::Lease::NewStub(channel)->LeaseRevoke(
                        context, message, &response);
                  });
}

}  // namespace agentmem
