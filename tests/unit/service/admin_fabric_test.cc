// The fabric and the pool over the administration's door.
#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "base/status.h"
#include "memd/service/admin_messages.h"
#include "memd/service/admin_service.h"
#include "proto/admin.grpc.pb.h"

namespace agentmem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class AloneBackend : public AdminBackend {
 public:
  absl::StatusOr<NodeSnapshot> Snapshot() override { return NodeSnapshot(); }
  absl::StatusOr<BlockSnapshot> ShowBlock(const std::string&,
                                          const Key&) override {
    return NotFound("no such block");
  }
};

class FabricBackend final : public AloneBackend {
 public:
  absl::StatusOr<FabricSnapshot> Fabric() override {
    if (!failure.ok()) return failure;
    return fabric;
  }

  FabricSnapshot fabric;
  absl::Status failure;
};

FabricSnapshot TwoNodes() {
  FabricSnapshot fabric;
  fabric.provider = "tcp;ofi_rxm";
  fabric.domain = "eth0";
  fabric.address = "10.0.0.1";
  fabric.rdma_asked = true;
  fabric.fallbacks = 1;
  fabric.counters = {21, 22, 23};
  fabric.candidates = {{"verbs;ofi_rxm", true, false, "no device"},
                       {"tcp;ofi_rxm", false, true, "the first"}};
  RdmaDevice device{"mlx5_0", "0000:03:00.0", 1, {}, {true, "by dma-buf"},
                    1,        "the only one"};
  device.ports.push_back({1, "ACTIVE", "Ethernet", 5, {"fe80::1"}, "eth1"});
  fabric.devices.devices.push_back(device);
  fabric.devices.taken = "mlx5_0";
  fabric.devices.best = "mlx5_1";
  fabric.devices.reason = "mlx5_0 port 1: the only one";
  fabric.devices.memlock_bytes = RdmaSurvey::kUnlimited;
  fabric.devices.gpus = 2;
  fabric.devices.problems.push_back({"found", "remedy"});
  fabric.pool.export_bytes = 100;
  fabric.pool.export_refused = 17;
  fabric.pool.gets = 11;
  fabric.pool.gets_local = 12;
  fabric.pool.gets_not_found = 13;
  fabric.pool.gets_elsewhere = 14;
  fabric.pool.stale = 15;
  fabric.pool.corrupt = 16;
  fabric.pool.peers.push_back(
      {"b\xff", "r2", 7, PoolPeerState::kDown, 8, 9, 10, 11, 12, 13, 14, 15});
  fabric.pool.store_remote = true;
  fabric.pool.stores.push_back({"s", true, "why", 21, "/p", 22, 23, 24, true});
  fabric.pool.served = {31, 32, 33, 34, 35, 36, 37};
  fabric.cluster = {"prod", "etcd", 42, false, {{"a", "a:7000", "r1", 100, 5}}};
  fabric.peers_insecure = true;
  fabric.spin_us = 50;
  fabric.pins_memory = true;
  fabric.early_collections = 41;
  fabric.early_dropped = 42;
  fabric.warnings = {"look here"};
  return fabric;
}

class AdminFabricTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/fabricXXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    backend_.fabric = TwoNodes();
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  grpc::Status Ask(AdminBackend* backend, std::uint32_t version,
                   admin::v1::FabricSnapshot* fabric) const {
    const std::string path = directory_ + "/admin.sock";
    const auto server = AdminServer::Start(path, backend);
    EXPECT_TRUE(server.ok()) << server.status();
    grpc::ClientContext context;
    admin::v1::FabricRequest request;
    request.set_protocol_version(version);
    return admin::v1::Admin::NewStub(
               grpc::CreateChannel("unix:" + path,
                                   grpc::InsecureChannelCredentials()))
        ->Fabric(&context, request, fabric);
  }

  std::string directory_;
  FabricBackend backend_;
};

TEST_F(AdminFabricTest, TheFabricArrivesAsItWas) {
  admin::v1::FabricSnapshot fabric;
  const grpc::Status status = Ask(&backend_, 1, &fabric);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(fabric.provider(), "tcp;ofi_rxm");
  EXPECT_EQ(fabric.domain(), "eth0");
  EXPECT_EQ(fabric.address(), "10.0.0.1");
  EXPECT_FALSE(fabric.rdma());
  EXPECT_TRUE(fabric.rdma_asked());
  EXPECT_EQ(fabric.fallbacks(), 1u);
  EXPECT_EQ(fabric.links_lost(), 21u);
  EXPECT_EQ(fabric.messages_dropped(), 22u);
  EXPECT_EQ(fabric.completions_unknown(), 23u);
  ASSERT_EQ(fabric.candidates_size(), 2);
  EXPECT_TRUE(fabric.candidates(0).rdma());
  EXPECT_EQ(fabric.candidates(0).reason(), "no device");
  EXPECT_TRUE(fabric.candidates(1).taken());
  EXPECT_TRUE(fabric.peers_insecure());
  EXPECT_EQ(fabric.spin_us(), 50u);
  EXPECT_TRUE(fabric.pins_memory());
  EXPECT_EQ(fabric.early_collections(), 41u);
  EXPECT_EQ(fabric.early_dropped(), 42u);
  EXPECT_EQ(fabric.pool().export_refused(), 17u);
  EXPECT_THAT(fabric.warnings(), ElementsAre("look here"));
}

TEST_F(AdminFabricTest, TheDevicesArriveAsTheyWere) {
  admin::v1::FabricSnapshot fabric;
  ASSERT_TRUE(Ask(&backend_, 1, &fabric).ok());
  const admin::v1::RdmaSurvey& survey = fabric.devices();
  EXPECT_EQ(survey.taken(), "mlx5_0");
  EXPECT_EQ(survey.best(), "mlx5_1");
  EXPECT_EQ(survey.reason(), "mlx5_0 port 1: the only one");
  EXPECT_EQ(survey.memory_node(), -1);
  EXPECT_EQ(survey.memlock_bytes(), UINT64_MAX);
  EXPECT_EQ(survey.gpus(), 2u);
  ASSERT_EQ(survey.problems_size(), 1);
  EXPECT_EQ(survey.problems(0).found(), "found");
  EXPECT_EQ(survey.problems(0).remedy(), "remedy");
  ASSERT_EQ(survey.devices_size(), 1);
  const admin::v1::RdmaDevice& device = survey.devices(0);
  EXPECT_EQ(device.pci(), "0000:03:00.0");
  EXPECT_EQ(device.numa_node(), 1);
  EXPECT_TRUE(device.gpu_reaches());
  EXPECT_EQ(device.gpu_reason(), "by dma-buf");
  EXPECT_EQ(device.port_taken(), 1u);
  EXPECT_EQ(device.reason(), "the only one");
  ASSERT_EQ(device.ports_size(), 1);
  EXPECT_EQ(device.ports(0).state(), "ACTIVE");
  EXPECT_EQ(device.ports(0).link_layer(), "Ethernet");
  EXPECT_EQ(device.ports(0).bytes_per_second(), 5u);
  EXPECT_THAT(device.ports(0).gids(), ElementsAre("fe80::1"));
  EXPECT_EQ(device.ports(0).netdev(), "eth1");
}

TEST_F(AdminFabricTest, ThePoolAndTheClusterArriveAsTheyWere) {
  admin::v1::FabricSnapshot fabric;
  ASSERT_TRUE(Ask(&backend_, 1, &fabric).ok());
  EXPECT_EQ(fabric.pool().export_bytes(), 100u);
  EXPECT_EQ(fabric.pool().gets(), 11u);
  EXPECT_EQ(fabric.pool().gets_local(), 12u);
  EXPECT_EQ(fabric.pool().gets_not_found(), 13u);
  EXPECT_EQ(fabric.pool().gets_elsewhere(), 14u);
  EXPECT_EQ(fabric.pool().stale(), 15u);
  EXPECT_EQ(fabric.pool().corrupt(), 16u);
  ASSERT_EQ(fabric.pool().peers_size(), 1);
  const admin::v1::PoolPeer& peer = fabric.pool().peers(0);
  EXPECT_EQ(peer.node(), "b\xff");
  EXPECT_EQ(peer.rack(), "r2");
  EXPECT_EQ(peer.instance(), 7u);
  EXPECT_EQ(peer.state(), admin::v1::PEER_STATE_DOWN);
  EXPECT_EQ(peer.heard_ns(), 8);
  EXPECT_EQ(peer.export_bytes(), 9u);
  EXPECT_EQ(peer.room_bytes(), 10u);
  EXPECT_EQ(peer.round_trip_ns(), 11);
  EXPECT_EQ(peer.bytes_read(), 12u);
  EXPECT_EQ(peer.bytes_written(), 13u);
  EXPECT_EQ(peer.in_flight(), 14u);
  EXPECT_EQ(peer.losses(), 15u);
  EXPECT_TRUE(fabric.pool().store_remote());
  ASSERT_EQ(fabric.pool().stores_size(), 1);
  const admin::v1::RemoteStore& store = fabric.pool().stores(0);
  EXPECT_EQ(store.node(), "s");
  EXPECT_TRUE(store.reachable());
  EXPECT_EQ(store.text(), "why");
  EXPECT_EQ(store.serve_bytes(), 21u);
  EXPECT_EQ(store.path(), "/p");
  EXPECT_EQ(store.writes(), 22u);
  EXPECT_EQ(store.bytes_written(), 23u);
  EXPECT_EQ(store.refused(), 24u);
  EXPECT_TRUE(store.refuses());
  const admin::v1::ServedStore& served = fabric.pool().served();
  EXPECT_EQ(served.serve_bytes(), 31u);
  EXPECT_EQ(served.used_bytes(), 32u);
  EXPECT_EQ(served.writes(), 33u);
  EXPECT_EQ(served.bytes_written(), 34u);
  EXPECT_EQ(served.refused(), 35u);
  EXPECT_EQ(served.erased(), 36u);
  EXPECT_EQ(served.under_way(), 37u);
  EXPECT_EQ(fabric.cluster().name(), "prod");
  EXPECT_EQ(fabric.cluster().kind(), "etcd");
  EXPECT_EQ(fabric.cluster().epoch(), 42u);
  EXPECT_FALSE(fabric.cluster().reachable());
  ASSERT_EQ(fabric.cluster().members_size(), 1);
  EXPECT_EQ(fabric.cluster().members(0).address(), "a:7000");
  EXPECT_EQ(fabric.cluster().members(0).rack(), "r1");
  EXPECT_EQ(fabric.cluster().members(0).weight(), 100u);
  EXPECT_EQ(fabric.cluster().members(0).instance(), 5u);
}

TEST_F(AdminFabricTest, AnUnknownVersionIsRefusedAndBothAreNamed) {
  admin::v1::FabricSnapshot fabric;
  const grpc::Status status = Ask(&backend_, 2, &fabric);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("version 2"));
  EXPECT_THAT(status.error_message(), HasSubstr("speaks version 1"));
}

TEST_F(AdminFabricTest, ABackendsFailureIsPassedOn) {
  admin::v1::FabricSnapshot fabric;
  backend_.failure = Unavailable("shutting down");
  EXPECT_EQ(Ask(&backend_, 1, &fabric).error_message(), "shutting down");
  AloneBackend alone;
  EXPECT_EQ(Ask(&alone, 1, &fabric).error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(AdminFabricTest, WhatLiesInThePoolIsToldOfTenantsAndBlocks) {
  NodeSnapshot node;
  node.tenants.emplace_back();
  node.tenants[0].pool = {Tier::kPool, 1, 2, 3, 4, 5, 6, 7};
  admin::v1::NodeSnapshot node_message;
  CopyTo(node, &node_message);
  EXPECT_EQ(node_message.tenants(0).pool().tier(), admin::v1::TIER_POOL);
  EXPECT_EQ(node_message.tenants(0).pool().blocks(), 3u);
  BlockSnapshot block;
  block.pool_copies = 2;
  admin::v1::BlockSnapshot block_message;
  CopyTo(block, &block_message);
  EXPECT_EQ(block_message.pool_copies(), 2u);
}

}  // namespace
}  // namespace agentmem
