#include "memd/service/admin_service.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/status.h"
#include "base/unique_fd.h"
#include "proto/admin.grpc.pb.h"

namespace agentmem {
namespace {

using ::testing::HasSubstr;

constexpr Key kKey{0x2a, {1, 2, 3}};

class FakeBackend final : public AdminBackend {
 public:
  absl::StatusOr<NodeSnapshot> Snapshot() override { return snapshot; }
  absl::StatusOr<BlockSnapshot> ShowBlock(const std::string& tenant,
                                          const Key& key) override {
    if (failure.ok() && tenant == "b" && key == kKey) return block;
    return failure.ok() ? NotFound("no such block") : failure;
  }

  NodeSnapshot snapshot;
  BlockSnapshot block;
  absl::Status failure;
};

NodeSnapshot TwoTenants() {
  NodeSnapshot node;
  node.version = "1.2.3";
  node.state = "serving";
  node.pid = 77;
  node.instance = 0xfedcba9876543210;
  node.uptime_ns = 5 * kSecondNs;
  node.clients_died = 3;
  TenantSnapshot tenant;
  tenant.name = "a";
  tenant.id = TenantId(9);
  tenant.dram = {Tier::kDram, 1000, 900, 8, 7, 6, 5, 4};
  tenant.store = {Tier::kStore, 0, 90, 80, 70, 60, 50, 40};
  tenant.slots = 16;
  node.tenants.push_back(tenant);
  tenant.name = "b";
  tenant.hbm = {Tier::kHbm, 4096, 2048, 2};
  tenant.hbm->hits = 3;
  tenant.hbm->hit_bytes = 12288;
  node.tenants.push_back(tenant);
  ClientSnapshot client;
  client.id = ClientId(5);
  client.name = "odd \xff name";
  client.pid = 1234;
  client.socket_closed = true;
  client.oldest_holds.push_back({kKey, 4096, 2 * kSecondNs});
  node.clients.push_back(client);
  return node;
}

class AdminServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/adminXXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    path_ = directory_ + "/admin.sock";
    backend_.snapshot = TwoTenants();
    backend_.block = {
        kKey, "b", BlockClass::kState, 512, true, false, 2, 11, 13, 2, 1};
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<AdminServer> StartServer() {
    auto server = AdminServer::Start(path_, &backend_);
    EXPECT_TRUE(server.ok()) << server.status();
    return server.ok() ? std::move(*server) : nullptr;
  }
  std::unique_ptr<admin::v1::Admin::Stub> Connect() const {
    return admin::v1::Admin::NewStub(grpc::CreateChannel(
        "unix:" + path_, grpc::InsecureChannelCredentials()));
  }
  grpc::Status Snapshot(std::uint32_t version,
                        admin::v1::NodeSnapshot* node) const {
    grpc::ClientContext context;
    admin::v1::SnapshotRequest request;
    request.set_protocol_version(version);
    return Connect()->Snapshot(&context, request, node);
  }
  grpc::Status ShowBlock(const std::string& tenant, const Key& key,
                         admin::v1::ShowBlockResponse* response) const {
    grpc::ClientContext context;
    admin::v1::ShowBlockRequest request;
    request.set_protocol_version(1);
    request.set_tenant(tenant);
    request.mutable_key()->set_low(key.low());
    request.mutable_key()->set_high(key.high());
    return Connect()->ShowBlock(&context, request, response);
  }
  // A socket file at the path; listens if asked to.
  UniqueFd Bind(bool listens) const {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address),
                     sizeof(address)),
              0);
    EXPECT_TRUE(!listens || ::listen(fd.get(), 1) == 0);
    return fd;
  }

  std::string directory_;
  std::string path_;
  FakeBackend backend_;
};

TEST_F(AdminServiceTest, OnlyTheOwnerMayOpenTheSocket) {
  const mode_t before = ::umask(0);
  const auto server = StartServer();
  ::umask(before);
  struct stat info;
  ASSERT_EQ(::lstat(path_.c_str(), &info), 0);
  EXPECT_TRUE(S_ISSOCK(info.st_mode));
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(AdminServiceTest, NothingIsLeftBehindWhenTheServerEnds) {
  StartServer().reset();
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(AdminServiceTest, ASnapshotArrivesAsItWas) {
  const auto server = StartServer();
  admin::v1::NodeSnapshot node;
  const grpc::Status status = Snapshot(1, &node);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(node.version(), "1.2.3");
  EXPECT_EQ(node.instance(), 0xfedcba9876543210);
  EXPECT_EQ(node.uptime_ns(), 5 * kSecondNs);
  EXPECT_EQ(node.clients_died(), 3u);
  ASSERT_EQ(node.tenants_size(), 2);
  EXPECT_EQ(node.tenants(0).id(), 9u);
  EXPECT_EQ(node.tenants(0).dram().tier(), admin::v1::TIER_DRAM);
  EXPECT_EQ(node.tenants(0).dram().evictions(), 4u);
  EXPECT_EQ(node.tenants(0).store().reads(), 60u);
  EXPECT_FALSE(node.tenants(0).has_hbm());
  EXPECT_EQ(node.tenants(1).name(), "b");
  EXPECT_EQ(node.tenants(1).hbm().tier(), admin::v1::TIER_HBM);
  EXPECT_EQ(node.tenants(1).hbm().budget_bytes(), 4096u);
  EXPECT_EQ(node.tenants(1).hbm().hits(), 3u);
  EXPECT_EQ(node.tenants(1).hbm().hit_bytes(), 12288u);
  ASSERT_EQ(node.clients_size(), 1);
  EXPECT_EQ(node.clients(0).name(), "odd \xff name");
  EXPECT_TRUE(node.clients(0).socket_closed());
  ASSERT_EQ(node.clients(0).oldest_holds_size(), 1);
  const auto& hold = node.clients(0).oldest_holds(0);
  EXPECT_EQ(Key::FromWords(hold.key().low(), hold.key().high()), kKey);
  EXPECT_EQ(hold.age_ns(), 2 * kSecondNs);
}

TEST_F(AdminServiceTest, AnUnknownVersionIsRefusedAndBothAreNamed) {
  const auto server = StartServer();
  admin::v1::NodeSnapshot node;
  for (const std::uint32_t version : {0u, 2u, 4000000000u}) {
    const grpc::Status status = Snapshot(version, &node);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_THAT(status.error_message(),
                HasSubstr("version " + std::to_string(version)));
    EXPECT_THAT(status.error_message(), HasSubstr("speaks version 1"));
  }
}

TEST_F(AdminServiceTest, ABlockIsFoundInItsTenantAndWithoutNamingOne) {
  const auto server = StartServer();
  for (const std::string tenant : {"b", ""}) {
    admin::v1::ShowBlockResponse response;
    const grpc::Status status = ShowBlock(tenant, kKey, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_EQ(response.blocks_size(), 1);
    EXPECT_EQ(response.blocks(0).tenant(), "b");
    EXPECT_EQ(response.blocks(0).block_class(), admin::v1::BLOCK_CLASS_STATE);
    EXPECT_EQ(response.blocks(0).length(), 512u);
    EXPECT_TRUE(response.blocks(0).in_dram());
    EXPECT_FALSE(response.blocks(0).in_store());
  }
}

TEST_F(AdminServiceTest, ABlockThatIsNowhereIsNotFound) {
  const auto server = StartServer();
  admin::v1::ShowBlockResponse response;
  EXPECT_EQ(ShowBlock("a", kKey, &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(ShowBlock("", Key{}, &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(AdminServiceTest, AFailingBackendIsNotTakenForAMissingBlock) {
  const auto server = StartServer();
  backend_.failure = Unavailable("shutting down");
  admin::v1::ShowBlockResponse response;
  const grpc::Status status = ShowBlock("", kKey, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(status.error_message(), "shutting down");
}

TEST_F(AdminServiceTest, ARequestBeyondTheLimitIsRefused) {
  const auto server = StartServer();
  admin::v1::ShowBlockResponse response;
  EXPECT_EQ(ShowBlock(std::string(8192, 'x'), kKey, &response).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(AdminServiceTest, ASocketFileThatNobodyAnswersIsReplaced) {
  Bind(false).Reset();
  const auto server = StartServer();
  ASSERT_NE(server, nullptr);
  admin::v1::NodeSnapshot node;
  EXPECT_TRUE(Snapshot(1, &node).ok());
}

TEST_F(AdminServiceTest, ASocketWhereSomebodyAnswersIsLeftAlone) {
  const UniqueFd other = Bind(true);
  const auto server = AdminServer::Start(path_, &backend_);
  EXPECT_EQ(server.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(StatusMessage(server.status()), HasSubstr(path_));
  EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(AdminServiceTest, AFileThatIsNoSocketIsLeftAlone) {
  std::ofstream(path_) << "precious";
  const auto server = AdminServer::Start(path_, &backend_);
  EXPECT_EQ(server.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(std::filesystem::file_size(path_), 8u);
}

TEST_F(AdminServiceTest, APathTooLongIsRefusedWithItsLimit) {
  const auto server =
      AdminServer::Start("/tmp/" + std::string(100, 'x'), &backend_);
  EXPECT_EQ(server.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(StatusMessage(server.status()), HasSubstr("1 to 95"));
}

TEST_F(AdminServiceTest, ADirectoryThatIsMissingIsNamed) {
  const auto server =
      AdminServer::Start(directory_ + "/no/admin.sock", &backend_);
  EXPECT_EQ(server.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(StatusMessage(server.status()), HasSubstr(directory_));
}

}  // namespace
}  // namespace agentmem
