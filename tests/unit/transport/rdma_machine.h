// A machine with RDMA devices that a test makes up: files below a directory.
#ifndef AGENTMEM_TESTS_UNIT_TRANSPORT_RDMA_MACHINE_H_
#define AGENTMEM_TESTS_UNIT_TRANSPORT_RDMA_MACHINE_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "memd/transport/rdma_system.h"

namespace agentmem {

class RdmaMachine {
 public:
  // Two NUMA nodes, no device, everything allowed; memory on both nodes.
  RdmaMachine() {
    std::string name = ::testing::TempDir() + "/rdmaXXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    system.root = name;
    system.kernel_release = "6.1.0-18-amd64";
    system.verbs = [this] { return verbs; };
    const std::string nodes = "/sys/devices/system/node";
    File(nodes + "/online", "0-1\n");
    File(nodes + "/node0/distance", "10 21\n");
    File(nodes + "/node1/distance", "21 10\n");
    File(nodes + "/node0/cpulist", "0-7\n");
    File(nodes + "/node1/cpulist", "8-15\n");
    Process("0-1", "0-15", "0000000000000000");
  }
  ~RdmaMachine() { std::filesystem::remove_all(system.root); }
  RdmaMachine(const RdmaMachine&) = delete;
  RdmaMachine& operator=(const RdmaMachine&) = delete;

  void File(const std::string& path, const std::string& text) {
    const std::filesystem::path file = system.root + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  void Link(const std::string& path, const std::string& target) {
    const std::filesystem::path file = system.root + path;
    std::filesystem::create_directories(file.parent_path());
    std::filesystem::create_directory_symlink(system.root + target, file);
  }
  void Remove(const std::string& path) {
    std::filesystem::remove_all(system.root + path);
  }
  void Process(const std::string& mems, const std::string& cpus,
               const std::string& capabilities) {
    File("/proc/self/status", "Name:\tmemd\nCapEff:\t" + capabilities +
                                  "\nCpus_allowed_list:\t" + cpus +
                                  "\nMems_allowed_list:\t" + mems + "\n");
    File("/proc/self/uid_map", "         0          0 4294967295\n");
  }

  // `place`: below /sys/devices, as "pci0000:00/0000:00:01.0/0000:03:00.0".
  std::string Pci(const std::string& place, const std::string& vendor,
                  const std::string& type, int node) {
    const std::string path = "/sys/devices/" + place;
    File(path + "/vendor", vendor + "\n");
    File(path + "/class", type + "\n");
    File(path + "/numa_node", std::to_string(node) + "\n");
    Link("/sys/bus/pci/devices/" + place.substr(place.rfind('/') + 1), path);
    return path;
  }
  void Gpu(const std::string& place, int node) {
    Pci(place, "0x10de", "0x030200", node);
  }
  // A NIC with one active Ethernet port (10.0.0.1), and ibverbs that can open
  // it.
  void Nic(const std::string& name, const std::string& place, int node,
           const std::string& rate = "100 Gb/sec (4X EDR)") {
    const std::string path = Pci(place, "0x15b3", "0x020000", node);
    const std::string device = path + "/infiniband/" + name;
    const std::string port = device + "/ports/1";
    File(port + "/state", "4: ACTIVE\n");
    File(port + "/link_layer", "Ethernet\n");
    File(port + "/rate", rate + "\n");
    File(port + "/gids/0", "fe80:0000:0000:0000:0000:00ff:fe00:0001\n");
    File(port + "/gids/1", "0000:0000:0000:0000:0000:ffff:0a00:0001\n");
    File(port + "/gids/2", "0000:0000:0000:0000:0000:ffff:0a00:0001\n");
    File(port + "/gids/3", "0000:0000:0000:0000:0000:0000:0000:0000\n");
    File(port + "/gid_attrs/ndevs/0", "eth_" + name + "\n");
    Link(device + "/device", "/sys/devices/" + place);
    Link("/sys/class/infiniband/" + name, device);
    File("/sys/class/infiniband_verbs/uverbs" + name + "/ibdev", name);
    File("/dev/infiniband/uverbs" + name, "");
    File("/dev/infiniband/rdma_cm", "");
    VerbsDevice opened;
    opened.name = name;
    opened.dmabuf = true;
    verbs.push_back(opened);
  }
  std::string PortPath(const std::string& name) const {
    return "/sys/class/infiniband/" + name + "/ports/1";
  }

  // 10.0.0.`last` instead, of 1 to 9.
  void SetAddress(const std::string& name, int last) {
    const std::string gid =
        "0000:0000:0000:0000:0000:ffff:0a00:000" + std::to_string(last) + "\n";
    File(PortPath(name) + "/gids/1", gid);
    File(PortPath(name) + "/gids/2", gid);
  }

  RdmaSurvey Survey(const RdmaWishes& wishes = {}) const {
    return SurveyRdma(wishes, system);
  }

  RdmaSystem system;
  std::vector<VerbsDevice> verbs;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_TRANSPORT_RDMA_MACHINE_H_
