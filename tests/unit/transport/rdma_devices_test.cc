#include "memd/transport/rdma_devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/unit/transport/rdma_machine.h"

namespace agentmem {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const char kNearA[] = "pci0000:00/0000:00:01.0/0000:03:00.0";
const char kNearB[] = "pci0000:80/0000:80:01.0/0000:83:00.0";

TEST(RdmaDevicesTest, AMachineWithoutDevicesHasAnEmptyListAndASentence) {
  const RdmaMachine machine;
  const RdmaSurvey survey = machine.Survey();
  EXPECT_THAT(survey.devices, IsEmpty());
  EXPECT_THAT(survey.taken, IsEmpty());
  EXPECT_THAT(survey.reason,
              AllOf(HasSubstr("no RDMA device"), HasSubstr("over TCP")));
  EXPECT_THAT(survey.problems, IsEmpty());
}

TEST(RdmaDevicesTest, ThisMachineIsSurveyedWhateverItHas) {
  const RdmaSurvey survey = SurveyRdma({}, LinuxRdmaSystem());
  EXPECT_THAT(survey.reason, Not(IsEmpty()));
  for (const RdmaDevice& device : survey.devices) {
    EXPECT_THAT(device.reason, Not(IsEmpty())) << device.name;
    EXPECT_THAT(device.ports, Not(IsEmpty())) << device.name;
    EXPECT_THAT(device.gpu.reason, Not(IsEmpty())) << device.name;
  }
  for (const RdmaProblem& problem : survey.problems) {
    EXPECT_THAT(problem.remedy, Not(IsEmpty())) << problem.found;
  }
}

TEST(RdmaDevicesTest, ADeviceIsDescribedWithItsPort) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 1);
  const RdmaSurvey survey = machine.Survey();
  ASSERT_EQ(survey.devices.size(), 1u);
  const RdmaDevice& device = survey.devices[0];
  EXPECT_EQ(device.pci, "0000:03:00.0");
  EXPECT_EQ(device.numa_node, 1);
  EXPECT_EQ(device.port_taken, 1u);
  EXPECT_EQ(device.reason, "the only one that can be used");
  ASSERT_EQ(device.ports.size(), 1u);
  const RdmaPort& port = device.ports[0];
  EXPECT_EQ(port.number, 1u);
  EXPECT_EQ(port.state, "ACTIVE");
  EXPECT_EQ(port.link_layer, "Ethernet");
  EXPECT_EQ(port.bytes_per_second, 12'500'000'000u);
  EXPECT_EQ(port.netdev, "eth_mlx5_0");
  // The zero GID and the double are left out.
  EXPECT_THAT(port.gids, ElementsAre("fe80::ff:fe00:1", "::ffff:10.0.0.1"));
  EXPECT_EQ(survey.taken, "mlx5_0");
  EXPECT_THAT(survey.problems, IsEmpty());
}

TEST(RdmaDevicesTest, WhatIbverbsSaysComesBeforeSysfs) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0);
  RdmaPort port;
  port.number = 1;
  port.state = "DOWN";
  port.bytes_per_second = 5;
  machine.verbs[0].ports = {port};
  const RdmaSurvey survey = machine.Survey();
  EXPECT_EQ(survey.devices[0].ports[0].state, "DOWN");
  EXPECT_EQ(survey.devices[0].ports[0].bytes_per_second, 5u);
  EXPECT_EQ(survey.devices[0].ports[0].link_layer, "Ethernet");
  EXPECT_EQ(survey.taken, "");
}

TEST(RdmaDevicesTest, TheNicOnTheMemorysNodeIsTakenEvenIfItIsSlower) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0, "400 Gb/sec (4X NDR)");
  machine.Nic("mlx5_1", kNearB, 1);
  machine.Process("1", "0-15", "0");
  const RdmaSurvey survey = machine.Survey();
  EXPECT_EQ(survey.memory_node, 1);
  EXPECT_EQ(survey.taken, "mlx5_1");
  EXPECT_THAT(survey.devices[1].reason,
              "the nearest to the memory: on NUMA node 1, the memory is on "
              "node 1");
  EXPECT_THAT(survey.devices[0].reason,
              AllOf(HasSubstr("farther from the memory than mlx5_1"),
                    HasSubstr("on NUMA node 0")));
  EXPECT_EQ(survey.devices[0].port_taken, 0u);
}

TEST(RdmaDevicesTest, TheCpusTellTheMemorysNodeWhereMemoryMayBeOnSeveral) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0);
  machine.Nic("mlx5_1", kNearB, 1);
  machine.Process("0-1", "8,12-15", "0");
  EXPECT_EQ(machine.Survey().taken, "mlx5_1");
  machine.Process("0-1", "7-8", "0");
  EXPECT_EQ(machine.Survey().memory_node, -1);
  EXPECT_EQ(machine.Survey({"", 1, 0}).taken, "mlx5_1");
}

TEST(RdmaDevicesTest, WithMemoryOnSeveralNodesTheFastestIsTaken) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0);
  machine.Nic("mlx5_1", kNearB, 1, "200 Gb/sec (4X HDR)");
  const RdmaSurvey survey = machine.Survey();
  EXPECT_EQ(survey.taken, "mlx5_1");
  EXPECT_THAT(survey.devices[0].reason,
              HasSubstr("slower than mlx5_1: 12.5 GB/s of 25 GB/s"));
  machine.File(machine.PortPath("mlx5_0") + "/rate", "400 Gb/sec (4X NDR)\n");
  EXPECT_EQ(machine.Survey().taken, "mlx5_0");
}

TEST(RdmaDevicesTest, OfEqualsTheFirstByNameIsTaken) {
  RdmaMachine machine;
  machine.Nic("mlx5_1", kNearB, 0);
  machine.Nic("mlx5_0", kNearA, 0);
  const RdmaSurvey survey = machine.Survey();
  EXPECT_EQ(survey.taken, "mlx5_0");
  EXPECT_THAT(survey.devices[1].reason, HasSubstr("first by name"));
}

TEST(RdmaDevicesTest, TheNicBehindTheGpusSwitchIsTaken) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0, "400 Gb/sec (4X NDR)");
  machine.Nic("mlx5_1", kNearB, 0);
  machine.Gpu("pci0000:80/0000:80:01.0/0000:84:00.0", 0);
  const RdmaSurvey survey = machine.Survey();
  EXPECT_EQ(survey.gpus, 1u);
  EXPECT_EQ(survey.taken, "mlx5_1");
  EXPECT_THAT(survey.devices[1].reason,
              "the nearest to a GPU: behind the same PCI switch");
  EXPECT_THAT(survey.devices[0].reason,
              "farther from a GPU than mlx5_1: on the same NUMA node");
}

TEST(RdmaDevicesTest, TheMemorysNodeComesBeforeTheGpus) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0);
  machine.Nic("mlx5_1", kNearB, 1);
  machine.Gpu("pci0000:80/0000:80:01.0/0000:84:00.0", 1);
  EXPECT_EQ(machine.Survey({"", 0, 0}).taken, "mlx5_0");
}

TEST(RdmaDevicesTest, ADeviceInSoftwareSitsWhereItsInterfaceDoes) {
  RdmaMachine machine;
  machine.Nic("rxe0", kNearA, 0);
  machine.Remove("/sys/class/infiniband/rxe0/device");
  machine.Pci(kNearB, "0x8086", "0x020000", 1);
  machine.Link("/sys/class/net/eth_rxe0/device",
               std::string("/sys/devices/") + kNearB);
  EXPECT_EQ(machine.Survey().devices[0].numa_node, 1);
}

TEST(RdmaDevicesTest, APortThatIsDownIsPassedOverAndNamed) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0);
  machine.Nic("mlx5_1", kNearB, 1);
  machine.File(machine.PortPath("mlx5_0") + "/state", "1: DOWN\n");
  const RdmaSurvey survey = machine.Survey({"", 0, 0});
  EXPECT_EQ(survey.taken, "mlx5_1");
  EXPECT_EQ(survey.devices[0].reason, "port 1 is DOWN");
  ASSERT_EQ(survey.problems.size(), 1u);
  EXPECT_EQ(survey.problems[0].found, "mlx5_0 port 1 is DOWN");
  EXPECT_THAT(survey.problems[0].remedy,
              HasSubstr("ip link set eth_mlx5_0 up"));
}

TEST(RdmaDevicesTest, AnEthernetPortNeedsAGidOfAnAddress) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0);
  const std::string gids = machine.PortPath("mlx5_0") + "/gids";
  machine.Remove(gids + "/1");
  machine.Remove(gids + "/2");
  EXPECT_THAT(machine.Survey().devices[0].reason,
              "port 1 has no GID of an IP address: give eth_mlx5_0 one");
  machine.Remove(gids);
  const RdmaSurvey survey = machine.Survey();
  EXPECT_EQ(survey.devices[0].reason, "port 1 has no GID");
  EXPECT_EQ(survey.taken, "");
  EXPECT_THAT(survey.reason, HasSubstr("none of the 1 RDMA devices"));
}

TEST(RdmaDevicesTest, AnInfiniBandPortNeedsAnInterfaceWithIp) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0);
  const std::string port = machine.PortPath("mlx5_0");
  machine.File(port + "/link_layer", "InfiniBand\n");
  machine.Remove(port + "/gid_attrs");
  machine.Remove(port + "/gids/1");
  machine.Remove(port + "/gids/2");
  EXPECT_THAT(machine.Survey().devices[0].reason, HasSubstr("ib_ipoib"));
  const std::string nets = std::string("/sys/devices/") + kNearA + "/net";
  machine.File(nets + "/ib1/dev_port", "1\n");
  EXPECT_EQ(machine.Survey().taken, "");
  machine.File(nets + "/ib0/dev_port", "0\n");
  EXPECT_EQ(machine.Survey().taken, "mlx5_0");
  EXPECT_EQ(machine.Survey().devices[0].ports[0].netdev, "ib0");
}

TEST(RdmaDevicesTest, TheConfigurationsDeviceIsTakenAndItsCostIsSaid) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0);
  machine.Nic("mlx5_1", kNearB, 1);
  RdmaSurvey survey = machine.Survey({"mlx5_1", 0, 0});
  EXPECT_EQ(survey.taken, "mlx5_1");
  EXPECT_THAT(survey.devices[1].reason,
              AllOf(HasSubstr("named by the configuration"),
                    HasSubstr("farther from the memory than mlx5_0")));
  EXPECT_EQ(survey.devices[0].reason, "the configuration names mlx5_1");
  survey = machine.Survey({"mlx5_0", 0, 0});
  EXPECT_EQ(survey.devices[0].reason, "named by the configuration");
  // With memory on both nodes only the name tells them apart: no cost.
  survey = machine.Survey({"mlx5_1", -1, 0});
  EXPECT_EQ(survey.devices[1].reason, "named by the configuration");
}

TEST(RdmaDevicesTest, ANamedDeviceThatIsOfNoUseIsNotReplaced) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0);
  machine.Nic("mlx5_1", kNearB, 1);
  machine.File(machine.PortPath("mlx5_0") + "/state", "1: DOWN\n");
  EXPECT_EQ(machine.Survey({"mlx5_0", -1, 0}).taken, "");
  EXPECT_THAT(machine.Survey({"mlx5_0", -1, 0}).reason,
              HasSubstr("cannot be used: port 1 is DOWN"));
  EXPECT_EQ(machine.Survey({"mlx5_9", -1, 0}).taken, "");
  EXPECT_THAT(machine.Survey({"mlx5_9", -1, 0}).reason,
              HasSubstr("name one of mlx5_0, mlx5_1"));
}

TEST(RdmaDevicesTest, TheDeviceThatHasTheAddressIsTakenAndItsCostIsSaid) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0);
  machine.Nic("mlx5_1", kNearB, 1);
  machine.SetAddress("mlx5_1", 2);
  RdmaWishes wishes{"", 0, 0, "10.0.0.2"};
  RdmaSurvey survey = machine.Survey(wishes);
  EXPECT_EQ(survey.taken, "mlx5_1");
  EXPECT_EQ(survey.best, "mlx5_0");
  EXPECT_THAT(survey.devices[1].reason,
              AllOf(HasSubstr("has the address that blocks go over, 10.0.0.2"),
                    HasSubstr("; farther from the memory than mlx5_0")));
  EXPECT_THAT(survey.devices[0].reason, HasSubstr("does not have the address"));
  wishes.address = "10.0.0.1";
  survey = machine.Survey(wishes);
  EXPECT_EQ(survey.taken, "mlx5_0");
  EXPECT_EQ(survey.devices[0].reason,
            "has the address that blocks go over, 10.0.0.1");
  // Both: the nearer one.
  machine.SetAddress("mlx5_1", 1);
  survey = machine.Survey(wishes);
  EXPECT_EQ(survey.taken, "mlx5_0");
  EXPECT_THAT(survey.devices[1].reason, HasSubstr("farther from the memory"));
}

TEST(RdmaDevicesTest, OfTwoPortsTheOneWithTheAddressIsTaken) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0);
  RdmaPort port;
  port.number = 2;
  port.state = "ACTIVE";
  port.link_layer = "Ethernet";
  port.bytes_per_second = 1;
  port.gids = {"::ffff:10.0.0.7"};
  machine.verbs[0].ports = {port};
  EXPECT_EQ(machine.Survey({"", 0, 0, "10.0.0.7"}).devices[0].port_taken, 2u);
  EXPECT_EQ(machine.Survey({"", 0, 0, "10.0.0.1"}).devices[0].port_taken, 1u);
  EXPECT_EQ(machine.Survey().devices[0].port_taken, 1u) << "it is faster";
}

TEST(RdmaDevicesTest, AnAddressThatNoDeviceHasIsReachedOverTcp) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0);
  const RdmaSurvey survey = machine.Survey({"", 0, 0, "192.168.1.1"});
  EXPECT_EQ(survey.taken, "");
  EXPECT_EQ(survey.best, "mlx5_0");
  EXPECT_THAT(survey.reason,
              AllOf(HasSubstr("192.168.1.1"), HasSubstr("`address`"),
                    HasSubstr("over TCP")));
  EXPECT_EQ(survey.devices[0].port_taken, 0u);
}

TEST(RdmaDevicesTest, OverInfiniBandTheAddressIsThatOfTheInterface) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0);
  machine.File(machine.PortPath("mlx5_0") + "/link_layer", "InfiniBand\n");
  machine.system.interface_of = [](const std::string& address) {
    if (address == "10.0.0.8") return "eth_mlx5_0.8001";
    return address == "10.0.0.9" ? "eth_mlx5_0" : "eth_mlx5_01";
  };
  EXPECT_EQ(machine.Survey({"", 0, 0, "10.0.0.8"}).taken, "mlx5_0");
  EXPECT_EQ(machine.Survey({"", 0, 0, "10.0.0.9"}).taken, "mlx5_0");
  EXPECT_EQ(machine.Survey({"", 0, 0, "10.0.0.7"}).taken, "");
}

TEST(RdmaDevicesTest, ANamedDeviceMustHaveTheAddressToo) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0);
  machine.Nic("mlx5_1", kNearB, 1);
  machine.SetAddress("mlx5_1", 2);
  EXPECT_EQ(machine.Survey({"mlx5_1", 0, 0, "10.0.0.2"}).taken, "mlx5_1");
  const RdmaSurvey survey = machine.Survey({"mlx5_1", 0, 0, "10.0.0.1"});
  EXPECT_EQ(survey.taken, "");
  EXPECT_THAT(survey.reason,
              AllOf(HasSubstr("mlx5_1"), HasSubstr("does not have the address"),
                    HasSubstr("10.0.0.1")));
}

TEST(RdmaDevicesTest, WhereTcpIsConfiguredNoDeviceIsTaken) {
  RdmaMachine machine;
  machine.Nic("mlx5_0", kNearA, 0);
  const RdmaSurvey survey = machine.Survey({"", 0, 0, "10.0.0.1", true});
  EXPECT_EQ(survey.taken, "");
  EXPECT_THAT(survey.reason, HasSubstr("tcp"));
  EXPECT_EQ(survey.devices[0].reason, survey.reason);
  EXPECT_EQ(survey.devices[0].port_taken, 0u);
}

TEST(RdmaDevicesTest, ThisMachinesInterfacesAreKnownByTheirAddresses) {
  const RdmaSystem system = LinuxRdmaSystem();
  EXPECT_EQ(system.interface_of("127.0.0.1"), "lo");
  EXPECT_EQ(system.interface_of("192.0.2.1"), "") << "of documentation alone";
}

}  // namespace
}  // namespace agentmem
