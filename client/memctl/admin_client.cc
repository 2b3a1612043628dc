#include "client/memctl/admin_client.h"

#include <grpc/support/time.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <utility>

#include "base/status.h"
#include "client/memctl/socket_probe.h"
#include "proto/admin.grpc.pb.h"

namespace agentmem::memctl {
namespace {

// As many bytes as memd sends at most (memd/service/admin_service.cc).
constexpr int kResponseBytesMax = 16 << 20;

gpr_timespec ToDeadline(TimeNs time) {
  return gpr_timespec{time / kSecondNs,
                      static_cast<std::int32_t>(time % kSecondNs),
                      GPR_CLOCK_MONOTONIC};
}

class GrpcAdminClient final : public AdminClient {
 public:
  GrpcAdminClient(std::string path, DurationNs timeout, const Clock* clock)
      : path_(std::move(path)), timeout_(timeout), clock_(clock) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kResponseBytesMax);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    stub_ = admin::v1::Admin::NewStub(grpc::CreateCustomChannel(
        "unix:" + path_, grpc::InsecureChannelCredentials(), arguments));
  }

  absl::StatusOr<admin::v1::NodeSnapshot> Snapshot() override {
    grpc::ClientContext context;
    context.set_deadline(ToDeadline(clock_->Now() + timeout_));
    admin::v1::SnapshotRequest request;
    request.set_protocol_version(admin::v1::PROTOCOL_VERSION_CURRENT);
    admin::v1::NodeSnapshot response;
    AGENTMEM_RETURN_IF_ERROR(
        FromGrpc(stub_->Snapshot(&context, request, &response)));
    return response;
  }

  absl::StatusOr<admin::v1::ShowBlockResponse> ShowBlock(
      const std::string& tenant, const Key& key) override {
    grpc::ClientContext context;
    context.set_deadline(ToDeadline(clock_->Now() + timeout_));
    admin::v1::ShowBlockRequest request;
    request.set_protocol_version(admin::v1::PROTOCOL_VERSION_CURRENT);
    request.set_tenant(tenant);
    request.mutable_key()->set_low(key.low());
    request.mutable_key()->set_high(key.high());
    admin::v1::ShowBlockResponse response;
    AGENTMEM_RETURN_IF_ERROR(
        FromGrpc(stub_->ShowBlock(&context, request, &response)));
    return response;
  }

  absl::StatusOr<admin::v1::FabricSnapshot> Fabric() override {
    grpc::ClientContext context;
    context.set_deadline(ToDeadline(clock_->Now() + timeout_));
    admin::v1::FabricRequest request;
    request.set_protocol_version(admin::v1::PROTOCOL_VERSION_CURRENT);
    admin::v1::FabricSnapshot response;
    AGENTMEM_RETURN_IF_ERROR(
        FromGrpc(stub_->Fabric(&context, request, &response)));
    return response;
  }

 private:
  absl::Status FromGrpc(const grpc::Status& status) const {
    if (status.ok()) return absl::OkStatus();
    if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      return DeadlineExceeded("memd at " + path_ +
                              " did not answer in time: it is busy or stuck; "
                              "try again with a longer --timeout");
    }
    if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
      return FailedPrecondition("memd at " + path_ +
                                " does not know this request: use the memctl "
                                "that was installed with it");
    }
    return MakeStatus(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
  }

  const std::string path_;
  const DurationNs timeout_;
  const Clock* const clock_;
  std::unique_ptr<admin::v1::Admin::Stub> stub_;
};

}  // namespace

std::string AdminSocketPath(const std::string& socket_path) {
  const std::size_t slash = socket_path.rfind('/');
  return slash == std::string::npos
             ? "admin.sock"
             : socket_path.substr(0, slash + 1) + "admin.sock";
}

absl::StatusOr<std::unique_ptr<AdminClient>> ConnectAdmin(
    const std::string& socket_path, DurationNs timeout, const Clock* clock) {
  const std::string path = AdminSocketPath(socket_path);
  // gRPC would tell every failure as the same one, and only at the deadline.
  AGENTMEM_RETURN_IF_ERROR(ProbeSocket(path, Door::kAdministration));
  return std::unique_ptr<AdminClient>(
      std::make_unique<GrpcAdminClient>(path, timeout, clock));
}

}  // namespace agentmem::memctl
