// Which RDMA port is taken, of those that can be used: see rdma_devices.h for
// the order. Every device gets its reason.
//
// Ownership: values. Threads: pure functions but for what they read of sysfs.
// Errors: none. Cost: some system calls a device.
#ifndef AGENTMEM_MEMD_TRANSPORT_RDMA_CHOICE_H_
#define AGENTMEM_MEMD_TRANSPORT_RDMA_CHOICE_H_

#include <map>
#include <string>

#include "memd/transport/rdma_devices.h"
#include "memd/transport/rdma_sysfs.h"

namespace agentmem {

// Why a port cannot carry traffic; empty: it can.
std::string WhyUnusable(const RdmaPort& port);

// Fills in survey->taken, best and reason, and each device's port_taken and
// reason. `interface`: has the address of `wishes`. `closed`: devices that
// cannot be opened, and why.
void ChooseRdma(const RdmaWishes& wishes, const std::string& interface,
                const RdmaSysfs& sysfs,
                const std::map<std::string, std::string>& closed,
                RdmaSurvey* survey);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TRANSPORT_RDMA_CHOICE_H_
