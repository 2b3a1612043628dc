// The RDMA devices of this machine, for operators: what there is, which one is
// taken and why, and what to change so that more of it works.
//
// sysfs tells what the kernel has, ibverbs what a program can use of it; where
// both speak, ibverbs does. Then, of the ports that can carry traffic:
//
//   1. the one that the configuration names;
//   2. one that has the address which the configuration names;
//   3. the nearest to the memory: by the distance of NUMA nodes;
//   4. the nearest to a GPU, if there is one: behind the same PCI switch, under
//      the same root, on the same NUMA node;
//   5. the fastest; 6. the first by name.
//
// What the configuration names and does not fit, nothing takes the place of:
// then none is taken, and the sentence says why. So it is where it names TCP.
//
// A choice is no promise: libfabric decides what it can open.
//
// Ownership: values. Threads: any, one at a time. Errors: none; a machine
// without devices gives an empty list and a sentence why, what is missing
// stands in `problems`. Cost: opens every device: up to a second; at start.
#ifndef AGENTMEM_MEMD_TRANSPORT_RDMA_DEVICES_H_
#define AGENTMEM_MEMD_TRANSPORT_RDMA_DEVICES_H_

#include <cstdint>
#include <string>
#include <vector>

namespace agentmem {

struct RdmaSystem;

struct RdmaPort {
  std::uint32_t number = 0;
  std::string state;                   // "ACTIVE", "DOWN", "INIT", ...
  std::string link_layer;              // "InfiniBand", "Ethernet"
  std::uint64_t bytes_per_second = 0;  // 0: not known
  std::vector<std::string> gids;       // those that are not zero
  std::string netdev;                  // empty: none

  bool active() const { return state == "ACTIVE"; }
};

// Can the device read and write a GPU's memory?
struct GpuReach {
  bool reaches = false;
  std::string reason;  // by what, or what is missing
};

struct RdmaDevice {
  std::string name;
  std::string pci;              // "0000:3b:00.0"; empty: no PCI device
  std::int32_t numa_node = -1;  // -1: not known
  std::vector<RdmaPort> ports;
  GpuReach gpu;
  std::uint32_t port_taken = 0;  // 0: this device is not
  std::string reason;            // why it was taken, or passed over
};

// What stands in the way, and what to do about it.
struct RdmaProblem {
  std::string found;
  std::string remedy;
};

struct RdmaSurvey {
  static constexpr std::uint64_t kUnlimited = UINT64_MAX;

  std::vector<RdmaDevice> devices;  // by name
  std::string taken;                // a device's name; empty: none
  std::string best;    // which it were without a configuration; empty: none
  std::string reason;  // one sentence: why that, or why none
  std::int32_t memory_node = -1;    // -1: on several, or not known
  std::uint64_t memlock_bytes = 0;  // the limit of this process
  std::uint64_t gpus = 0;
  std::vector<RdmaProblem> problems;
};

struct RdmaWishes {
  std::string device;                  // by the configuration; empty: any
  std::int32_t memory_node = -1;       // of what will be registered; -1: ask
  std::uint64_t registered_bytes = 0;  // how much that will be
  std::string address;                 // that blocks go over; empty: any
  bool tcp = false;                    // and nothing else
};

RdmaSurvey SurveyRdma(const RdmaWishes& wishes, const RdmaSystem& system);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TRANSPORT_RDMA_DEVICES_H_
