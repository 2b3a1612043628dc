#include "memd/service/admin_service.h"

#include <grpc/support/time.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <sys/socket.h>

#include <utility>

#include "base/status.h"
#include "memd/service/admin_messages.h"
#include "memd/socket_file.h"
#include "proto/admin.grpc.pb.h"

namespace agentmem {
namespace {

using grpc::ServerContext;

// A request is a version, a tenant's name and a key.
constexpr int kRequestBytesMax = 4096;
// A client costs under 512 B with its eight holds: room for 30,000. A peer and
// member of the cluster under 512 B together: as many.
constexpr int kResponseBytesMax = 16 << 20;
constexpr std::size_t kServerMemoryBytes = 64 << 20;

grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      StatusMessage(status));
}

class AdminService final : public admin::v1::Admin::Service {
 public:
  explicit AdminService(AdminBackend* backend) : backend_(backend) {}

  grpc::Status Snapshot(ServerContext*,
                        const admin::v1::SnapshotRequest* request,
                        admin::v1::NodeSnapshot* response) override {
    const absl::Status version = CheckVersion(request->protocol_version());
    if (!version.ok()) return ToGrpc(version);
    const absl::StatusOr<NodeSnapshot> snapshot = backend_->Snapshot();
    if (!snapshot.ok()) return ToGrpc(snapshot.status());
    CopyTo(*snapshot, response);
    return grpc::Status::OK;
  }

  grpc::Status ShowBlock(ServerContext*,
                         const admin::v1::ShowBlockRequest* request,
                         admin::v1::ShowBlockResponse* response) override {
    const absl::Status version = CheckVersion(request->protocol_version());
    if (!version.ok()) return ToGrpc(version);
    if (!request->has_key()) {
      return ToGrpc(InvalidArgument("ShowBlockRequest has no key"));
    }
    const Key key = Key::FromWords(request->key().low(), request->key().high());
    if (request->tenant().empty()) return ShowEverywhere(key, response);
    const absl::StatusOr<BlockSnapshot> block =
        backend_->ShowBlock(request->tenant(), key);
    if (!block.ok()) return ToGrpc(block.status());
    CopyTo(*block, response->add_blocks());
    return grpc::Status::OK;
  }

  grpc::Status Fabric(ServerContext*, const admin::v1::FabricRequest* request,
                      admin::v1::FabricSnapshot* response) override {
    const absl::Status version = CheckVersion(request->protocol_version());
    if (!version.ok()) return ToGrpc(version);
    const absl::StatusOr<FabricSnapshot> fabric = backend_->Fabric();
    if (!fabric.ok()) return ToGrpc(fabric.status());
    CopyTo(*fabric, response);
    return grpc::Status::OK;
  }

 private:
  static absl::Status CheckVersion(std::uint32_t version) {
    if (version == admin::v1::PROTOCOL_VERSION_CURRENT) {
      return absl::OkStatus();
    }
    return FailedPrecondition(
        "the request is of version " + std::to_string(version) +
        " of the administration protocol, this memd speaks version " +
        std::to_string(admin::v1::PROTOCOL_VERSION_CURRENT) +
        ": use the memctl that was installed with it");
  }

  grpc::Status ShowEverywhere(const Key& key,
                              admin::v1::ShowBlockResponse* response) {
    const absl::StatusOr<NodeSnapshot> snapshot = backend_->Snapshot();
    if (!snapshot.ok()) return ToGrpc(snapshot.status());
    for (const TenantSnapshot& tenant : snapshot->tenants) {
      const absl::StatusOr<BlockSnapshot> block =
          backend_->ShowBlock(tenant.name, key);
      if (block.ok()) {
        CopyTo(*block, response->add_blocks());
      } else if (block.status().code() != absl::StatusCode::kNotFound) {
        return ToGrpc(block.status());
      }
    }
    if (response->blocks_size() > 0) return grpc::Status::OK;
    return ToGrpc(NotFound("none of the node's " +
                           std::to_string(snapshot->tenants.size()) +
                           " tenants has this block"));
  }

  AdminBackend* const backend_;
};

}  // namespace

// Declared in the order in which they are made; the file goes last.
struct AdminServer::Impl {
  explicit Impl(AdminBackend* backend) : service(backend) {}

  AdminService service;
  std::unique_ptr<SocketFile> file;
  std::unique_ptr<grpc::Server> server;
};

AdminServer::AdminServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(
    const std::string& socket_path, AdminBackend* backend) {
  if (socket_path.empty() || socket_path.size() > kAdminPathBytesMax) {
    return InvalidArgument(
        "the administration's socket path \"" + socket_path + "\" has " +
        std::to_string(socket_path.size()) + " bytes; allowed are 1 to " +
        std::to_string(kAdminPathBytesMax) + ": choose a shorter directory");
  }
  auto impl = std::make_unique<Impl>(backend);
  AGENTMEM_ASSIGN_OR_RETURN(impl->file,
                            SocketFile::Make(socket_path, SOCK_STREAM));

  grpc::ResourceQuota quota("memd-admin");
  quota.SetMaxThreads(kAdminThreadsMax);
  quota.Resize(kServerMemoryBytes);
  grpc::ServerBuilder builder;
  builder.SetResourceQuota(quota);
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
  builder.SetMaxReceiveMessageSize(kRequestBytesMax);
  builder.SetMaxSendMessageSize(kResponseBytesMax);
  builder.AddListeningPort("unix:" + impl->file->private_path(),
                           grpc::InsecureServerCredentials());
  builder.RegisterService(&impl->service);
  impl->server = builder.BuildAndStart();
  if (impl->server == nullptr) {
    return Unavailable("cannot listen for administration at " + socket_path +
                       ": is its directory writable?");
  }
  if (absl::Status published = impl->file->Publish(0600); !published.ok()) {
    impl->server->Shutdown();
    return published;
  }
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(impl)));
}

AdminServer::~AdminServer() {
  const TimeNs deadline = MonotonicNowNs() + kAdminDrainNs;
  impl_->server->Shutdown(gpr_timespec{
      deadline / kSecondNs, static_cast<std::int32_t>(deadline % kSecondNs),
      GPR_CLOCK_MONOTONIC});
}

}  // namespace agentmem
