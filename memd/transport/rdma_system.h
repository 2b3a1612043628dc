// The machine as rdma_devices.h sees it; an interface, so that tests make
// machines up.
//
// Ownership: a value. Threads: any, one at a time. Errors: in what the calls
// return. Cost: `verbs` opens every device.
#ifndef AGENTMEM_MEMD_TRANSPORT_RDMA_SYSTEM_H_
#define AGENTMEM_MEMD_TRANSPORT_RDMA_SYSTEM_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "memd/transport/rdma_devices.h"

namespace agentmem {

// What ibverbs says of a device.
struct VerbsDevice {
  std::string name;
  int error = 0;  // errno of opening it; then nothing follows
  std::vector<RdmaPort> ports;
  bool dmabuf = false;  // its driver takes dma-bufs (another's memory)
};

struct RdmaSystem {
  // In front of /sys, /proc and /dev.
  std::string root;
  std::string kernel_release;                            // "6.1.0-18-amd64"
  std::uint64_t memlock_bytes = RdmaSurvey::kUnlimited;  // RLIMIT_MEMLOCK
  std::function<std::vector<VerbsDevice>()> verbs;
  // The network interface that has the IP address; empty: none has.
  std::function<std::string(const std::string& address)> interface_of;
  // Does libfabric's verbs provider take a GPU's memory (FI_HMEM)? Empty: yes;
  // else why not.
  std::function<std::string()> hmem;
};

// This machine, by ibverbs and libfabric.
RdmaSystem LinuxRdmaSystem();

// Is there a device, and have all that can be opened shared receive queues?
bool DevicesShareReceives();

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TRANSPORT_RDMA_SYSTEM_H_
