// What an operator sees of the fabric, and what is called degraded.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/status.h"
#include "client/memctl/doctor.h"
#include "client/memctl/health.h"
#include "client/memctl/render_fabric.h"
#include "tests/unit/memctl/sample_fabric.h"

namespace agentmem::memctl {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

std::vector<std::string> NamesOf(const Health& health) {
  std::vector<std::string> names;
  for (const HealthReason& reason : health.reasons) {
    EXPECT_THAT(reason.remedy, Not(IsEmpty())) << reason.name;
    names.push_back(reason.name);
  }
  return names;
}

admin::v1::FabricSnapshot AloneFabric() {
  admin::v1::FabricSnapshot fabric;
  fabric.mutable_cluster()->set_kind("none");
  fabric.mutable_cluster()->set_reachable(true);
  fabric.mutable_devices()->set_reason("this machine has no RDMA device");
  return fabric;
}

TEST(FabricHealthTest, AWholeClusterOverRdmaIsOk) {
  EXPECT_EQ(HealthOf(SampleFabric()).state, Health::State::kOk);
  EXPECT_THAT(HealthOf(SampleFabric()).reasons, IsEmpty());
}

TEST(FabricHealthTest, ANodeAloneIsOkWithoutAnything) {
  EXPECT_EQ(HealthOf(AloneFabric()).state, Health::State::kOk);
  EXPECT_EQ(HealthOf(admin::v1::FabricSnapshot()).state, Health::State::kOk);
}

TEST(FabricHealthTest, TcpWhereRdmaWasAskedForIsDegradedAndTellsWhy) {
  auto fabric = SampleFabric();
  fabric.set_rdma(false);
  fabric.set_provider("tcp;ofi_rxm");
  fabric.set_fallbacks(1);
  fabric.set_rdma_asked(true);
  fabric.mutable_candidates(0)->set_taken(false);
  fabric.mutable_candidates(0)->set_reason("No data available");
  const Health health = HealthOf(fabric);
  EXPECT_EQ(health.state, Health::State::kDegraded);
  ASSERT_THAT(NamesOf(health), ElementsAre("no_rdma"));
  EXPECT_EQ(health.reasons[0].text,
            "RDMA was asked for, and tcp;ofi_rxm is in use (verbs;ofi_rxm: No "
            "data available)");
}

TEST(FabricHealthTest, TcpIsWellUnlessADeviceCouldDoBetter) {
  auto fabric = SampleFabric();
  fabric.set_rdma(false);
  fabric.set_provider("tcp;ofi_rxm");
  EXPECT_THAT(NamesOf(HealthOf(fabric)), IsEmpty());  // by its name
  fabric.set_fallbacks(1);
  EXPECT_THAT(NamesOf(HealthOf(fabric)), ElementsAre("no_rdma"));
  // None is taken where another one's address is configured.
  fabric.mutable_devices()->clear_taken();
  EXPECT_THAT(NamesOf(HealthOf(fabric)), ElementsAre("no_rdma"));
  fabric.mutable_devices()->clear_best();
  EXPECT_THAT(NamesOf(HealthOf(fabric)), IsEmpty());
}

TEST(FabricHealthTest, PeersOutOfReachAreNamedAndManyAreCounted) {
  auto fabric = SampleFabric();
  auto* peer = fabric.mutable_pool()->mutable_peers(0);
  peer->set_state(admin::v1::PEER_STATE_CONNECTING);
  EXPECT_THAT(NamesOf(HealthOf(fabric)), ElementsAre("peers_not_connected"));
  peer->set_state(admin::v1::PEER_STATE_DOWN);
  peer->set_heard_ns(5 * kSecondNs);
  ASSERT_THAT(NamesOf(HealthOf(fabric)), ElementsAre("peers_down"));
  EXPECT_EQ(HealthOf(fabric).reasons[0].text,
            "1 of 1 peers down: node-b (heard 5 s ago)");
  for (int i = 0; i < 9; ++i) {
    *fabric.mutable_pool()->add_peers() = fabric.pool().peers(0);
  }
  EXPECT_THAT(HealthOf(fabric).reasons[0].text, HasSubstr("and 6 more"));
}

TEST(FabricHealthTest, AMemberThatNeverSaidHelloIsNamed) {
  auto fabric = SampleFabric();
  auto* member = fabric.mutable_cluster()->add_members();
  member->set_node("node-c");
  member->set_address("node-c:7000");
  ASSERT_THAT(NamesOf(HealthOf(fabric)), ElementsAre("peers_not_connected"));
  EXPECT_THAT(HealthOf(fabric).reasons[0].text,
              HasSubstr("node-c at node-c:7000"));
}

TEST(FabricHealthTest, AMemberThatLeftIsDownForTenMinutes) {
  auto fabric = SampleFabric();
  auto* left = fabric.mutable_cluster()->add_left();
  left->set_node("node-z");
  left->set_left_ns(12 * kSecondNs);
  ASSERT_THAT(NamesOf(HealthOf(fabric)), ElementsAre("peers_down"));
  EXPECT_EQ(HealthOf(fabric).reasons[0].text,
            "1 of 2 peers down: node-z (left the cluster 12 s ago)");
  left->set_left_ns(601 * kSecondNs);
  EXPECT_THAT(NamesOf(HealthOf(fabric)), IsEmpty());
  // One that the pool calls down itself is not counted twice.
  left->set_left_ns(kSecondNs);
  left->set_node("node-b");
  fabric.mutable_pool()->mutable_peers(0)->set_state(
      admin::v1::PEER_STATE_DOWN);
  EXPECT_THAT(HealthOf(fabric).reasons[0].text, HasSubstr("1 of 1 peers"));
}

void AddTrouble(admin::v1::FabricSnapshot* fabric) {
  auto* trouble = fabric->add_troubles();
  trouble->set_name("no_durability");
  trouble->set_text("nothing is durable");
  trouble->set_remedy("start n2");
  trouble->set_since_ns(5 * kSecondNs);
}

TEST(FabricHealthTest, ATroubleOfTheNodeDegradesOneThatIsAloneToo) {
  for (auto fabric : {SampleFabric(), AloneFabric()}) {
    AddTrouble(&fabric);
    const Health health = HealthOf(fabric);
    EXPECT_EQ(health.state, Health::State::kDegraded);
    ASSERT_THAT(NamesOf(health), ElementsAre("no_durability"));
    EXPECT_EQ(health.reasons[0].text, "nothing is durable (for 5 s)");
    EXPECT_EQ(health.reasons[0].level, Level::kProblem);
    EXPECT_EQ(CheckFabric(fabric)[0].name, "no_durability");
    EXPECT_EQ(CheckFabric(fabric)[0].level, Level::kProblem);
    EXPECT_EQ(CheckFabric(fabric)[0].remedy, "start n2");
  }
}

TEST(FabricHealthTest, EtcdOutOfReachInsecurePeersAndWarningsDegrade) {
  auto fabric = SampleFabric();
  fabric.mutable_cluster()->set_reachable(false);
  fabric.set_peers_insecure(true);
  fabric.add_warnings("the clock jumps");
  fabric.clear_provider();
  EXPECT_THAT(NamesOf(HealthOf(fabric)),
              ElementsAre("no_fabric", "cluster_unreachable", "peers_insecure",
                          "warning"));
  EXPECT_THAT(HealthOf(fabric).reasons[1].text, HasSubstr("epoch 42"));
  EXPECT_EQ(HealthOf(fabric).reasons[0].level, Level::kProblem);
  EXPECT_EQ(HealthOf(fabric).reasons[1].level, Level::kProblem);
  EXPECT_EQ(HealthOf(fabric).reasons[2].level, Level::kNote);
}

admin::v1::RemoteStore* AddStore(admin::v1::FabricSnapshot* fabric) {
  fabric->mutable_pool()->set_store_remote(true);
  auto* store = fabric->mutable_pool()->add_stores();
  store->set_node("store-1");
  store->set_reachable(true);
  store->set_text("takes what comes");
  store->set_serve_bytes(2ULL << 40);
  store->set_path("/var/lib/agentmem/store");
  store->set_writes(7);
  return store;
}

TEST(FabricHealthTest, ARemoteStoreIsWellWhileItTakesBlocks) {
  auto fabric = SampleFabric();
  auto* const store = AddStore(&fabric);
  EXPECT_THAT(NamesOf(HealthOf(fabric)), IsEmpty());
  store->set_refuses(true);
  store->set_text("its disk is full, at /var/lib/agentmem/store");
  EXPECT_THAT(NamesOf(HealthOf(fabric)), ElementsAre("store_refuses"));
  EXPECT_THAT(HealthOf(fabric).reasons[0].text, HasSubstr("store-1"));
  EXPECT_THAT(HealthOf(fabric).reasons[0].text, HasSubstr("disk is full"));
  store->set_reachable(false);
  EXPECT_THAT(NamesOf(HealthOf(fabric)), ElementsAre("store_unreachable"));
  EXPECT_EQ(HealthOf(fabric).reasons[0].level, Level::kProblem);
}

TEST(FabricHealthTest, ANodeWithoutADiskAndWithoutAServerIsDegraded) {
  auto fabric = SampleFabric();
  fabric.mutable_pool()->set_store_remote(true);
  EXPECT_THAT(NamesOf(HealthOf(fabric)), ElementsAre("store_unreachable"));
  EXPECT_THAT(HealthOf(fabric).reasons[0].remedy, HasSubstr("`serve`"));
}

TEST(FabricRenderTest, WhereBlocksAreKeptIsOnThePageAndInTheJson) {
  auto fabric = SampleFabric();
  EXPECT_THAT(RenderFabric(fabric, Output::kTable),
              HasSubstr("on this node's disk, for itself"));
  AddStore(&fabric);
  const std::string page = RenderFabric(fabric, Output::kTable);
  EXPECT_THAT(page, HasSubstr("remote: this node has no disk"));
  EXPECT_THAT(page, HasSubstr("takes what comes"));
  const auto json = nlohmann::json::parse(RenderFabric(fabric, Output::kJson));
  EXPECT_EQ(json["pool"]["store"], "remote");
  EXPECT_EQ(json["pool"]["stores"][0]["node"], "store-1");
  EXPECT_EQ(json["pool"]["stores"][0]["writes"], 7);
  fabric = SampleFabric();
  fabric.mutable_pool()->mutable_served()->set_serve_bytes(1ULL << 40);
  fabric.mutable_pool()->mutable_served()->set_writes(12);
  EXPECT_THAT(RenderFabric(fabric, Output::kTable), HasSubstr("serves peers"));
  EXPECT_THAT(RenderFabric(fabric, Output::kTable),
              HasSubstr("12 blocks of theirs written"));
}

TEST(FabricHealthTest, WhoCannotBeAskedIsOfUnknownHealth) {
  const Health health = HealthOf(Unavailable("shutting down"));
  EXPECT_EQ(health.state, Health::State::kUnknown);
  EXPECT_EQ(health.reasons[0].text, "shutting down");
}

TEST(FabricRenderTest, EverythingIsOnThePage) {
  const std::string text = RenderFabric(SampleFabric(), Output::kTable);
  EXPECT_THAT(text, StartsWith("health           ok\n"));
  for (const char* line :
       {"prod, etcd within reach, epoch 42, 2 members",
        "verbs;ofi_rxm on mlx5_0, 10.0.0.1",
        "yes, 0 fallbacks to what was not wanted first",
        "50 us for an answer, then sleeps",
        "pinned for the device: regions use memory beside it",
        "1 GiB used of 4 GiB (25%), 1000 blocks, 0 evicted",
        "27 blocks refused here; collected early 3 times, 812 blocks dropped",
        "100: 30 from this node's, 2 not from the first asked, 5 not found",
        "0 stale, 0 corrupt",
        "mlx5_0 port 1: the nearest to the memory",
        "mutual TLS",
        "\nPROVIDER",
        "\nDEVICE",
        "\nPEER",
        "\nMEMBER",
        "tcp;ofi_rxm    no    no     verbs;ofi_rxm comes before it",
        "12.5 GB/s     0  eth1    ::ffff:10.0.0.1  yes    the nearest",
        "12.5 GB/s     1  eth1    ::ffff:10.0.0.1  no     farther",
        "node-b  r2    up     20 ms        9 us  8 GiB  6 GiB  3 MiB    5 MiB "
        "         4       1\n",
        "node-b  node-b:7000  -     8 GiB  0000000000000abc\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  EXPECT_THAT(text, Not(HasSubstr("REACHES GPU MEMORY")));
}

TEST(FabricRenderTest, WithAGpuItsReachIsShownAndProblemsHaveRemedies) {
  auto fabric = SampleFabric();
  fabric.mutable_devices()->set_gpus(1);
  auto* problem = fabric.mutable_devices()->add_problems();
  problem->set_found("memd may lock 8 MiB");
  problem->set_remedy("set LimitMEMLOCK=infinity");
  const std::string text = RenderFabric(fabric, Output::kTable);
  EXPECT_THAT(text, HasSubstr("mlx5_0  yes                 by dma-buf\n"));
  EXPECT_THAT(text, HasSubstr("memd may lock 8 MiB\n"
                              "-> set LimitMEMLOCK=infinity\n"));
}

TEST(FabricRenderTest, ANodeAloneIsToldWhatToConfigure) {
  const std::string text = RenderFabric(AloneFabric(), Output::kTable);
  EXPECT_THAT(text, HasSubstr("this node is alone"));
  EXPECT_THAT(text, HasSubstr("configure [cluster]"));
  EXPECT_THAT(text, HasSubstr("this machine has no RDMA device"));
  EXPECT_THAT(text, Not(HasSubstr("provider")));
  EXPECT_THAT(text, Not(HasSubstr("PEER")));
}

TEST(FabricRenderTest, ADegradedFabricSaysWhatToDo) {
  auto fabric = SampleFabric();
  fabric.set_peers_insecure(true);
  const std::string text = RenderFabric(fabric, Output::kTable);
  EXPECT_THAT(text, StartsWith("health           degraded\n"));
  EXPECT_THAT(text, HasSubstr("-> set certificate, key and authority"));
}

TEST(FabricRenderTest, NamesOfOthersCannotDriveTheTerminal) {
  auto fabric = SampleFabric();
  fabric.mutable_pool()->mutable_peers(0)->set_node("b\x1b[2J");
  fabric.mutable_pool()->mutable_peers(0)->set_state(
      admin::v1::PEER_STATE_DOWN);
  EXPECT_THAT(RenderFabric(fabric, Output::kTable), Not(HasSubstr("\x1b")));
}

TEST(FabricRenderTest, JsonHasRawIntegersAndStableKeys) {
  const auto json = nlohmann::json::parse(
      RenderFabric(SampleFabric(), Output::kJson), nullptr, false);
  EXPECT_EQ(json["health"]["state"], "ok");
  EXPECT_EQ(json["provider"], "verbs;ofi_rxm");
  EXPECT_EQ(json["candidates"][1]["taken"], false);
  EXPECT_EQ(json["devices"]["taken"], "mlx5_0");
  EXPECT_EQ(json["devices"]["best"], "mlx5_0");
  EXPECT_EQ(json["devices"]["devices"][0]["ports"][0]["bytes_per_second"],
            12'500'000'000u);
  EXPECT_EQ(json["devices"]["devices"][0]["port_taken"], 1);
  EXPECT_EQ(json["pool"]["gets_local"], 30);
  EXPECT_EQ(json["pool"]["peers"][0]["state"], "up");
  EXPECT_EQ(json["pool"]["peers"][0]["round_trip_ns"], 9000);
  EXPECT_EQ(json["cluster"]["epoch"], 42);
  EXPECT_EQ(json["cluster"]["members"][1]["instance"], "0000000000000abc");
}

TEST(FabricRenderTest, JsonHasTheSeverityOfEachReasonAndWhoLeft) {
  auto fabric = SampleFabric();
  fabric.set_peers_insecure(true);
  AddTrouble(&fabric);
  fabric.mutable_cluster()->add_left()->set_node("node-z");
  const auto json = nlohmann::json::parse(RenderFabric(fabric, Output::kJson));
  EXPECT_EQ(json["health"]["reasons"][0]["severity"], "problem");
  EXPECT_EQ(json["health"]["reasons"][1]["name"], "peers_insecure");
  EXPECT_EQ(json["health"]["reasons"][1]["severity"], "note");
  EXPECT_EQ(json["cluster"]["left"][0]["node"], "node-z");
}

TEST(FabricDoctorTest, TheRunningMemdsViewIsAmongTheFindings) {
  auto fabric = SampleFabric();
  EXPECT_EQ(CheckFabric(fabric)[0].level, Level::kOk);
  EXPECT_EQ(CheckFabric(AloneFabric())[0].level, Level::kOk);
  EXPECT_THAT(CheckFabric(Unavailable("gone")), IsEmpty());
  fabric.mutable_devices()->add_problems()->set_found("memd may lock 8 MiB");
  fabric.mutable_pool()->set_corrupt(3);
  fabric.set_peers_insecure(true);
  const std::vector<Finding> findings = CheckFabric(fabric);
  ASSERT_EQ(findings.size(), 3u);
  EXPECT_EQ(findings[0].name, "peers_insecure");
  EXPECT_EQ(findings[0].level, Level::kNote);
  EXPECT_EQ(findings[1].name, "rdma_memd");
  EXPECT_EQ(findings[1].level, Level::kNote);
  EXPECT_EQ(findings[2].level, Level::kProblem);
  fabric.set_rdma_asked(true);
  EXPECT_EQ(CheckFabric(fabric)[1].level, Level::kProblem);
}

}  // namespace
}  // namespace agentmem::memctl
