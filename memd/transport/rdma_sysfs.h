// What sysfs and /proc tell about RDMA devices and where they sit.
//
// Ownership: a value. Threads: thread-compatible. Errors: what cannot be read
// is empty, -1 or nothing. Cost: some system calls a question.
#ifndef AGENTMEM_MEMD_TRANSPORT_RDMA_SYSFS_H_
#define AGENTMEM_MEMD_TRANSPORT_RDMA_SYSFS_H_

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "memd/transport/rdma_devices.h"

namespace agentmem {

// A device's place on the PCI bus: "/sys/devices/pci0000:00/0000:00:01.0/...".
struct PciPlace {
  std::string path;  // empty: none
  std::int32_t numa_node = -1;

  std::string address() const;  // "0000:3b:00.0"; empty: none
};

class RdmaSysfs {
 public:
  // `root` stands in front of every path.
  explicit RdmaSysfs(std::string root) : root_(std::move(root)) {}

  // Without blanks at both ends; empty: it cannot be read.
  std::string Read(const std::string& path) const;
  std::vector<std::string> List(const std::string& path) const;  // sorted
  bool Exists(const std::string& path) const;

  // All devices of /sys/class/infiniband, with their ports.
  std::vector<RdmaDevice> Devices() const;
  PciPlace PlaceOf(const RdmaDevice& device) const;

  std::vector<PciPlace> Gpus() const;
  // Addresses of NICs that could do RDMA if their driver were loaded.
  std::vector<std::string> NicsWithoutDriver() const;

  std::size_t Nodes() const;  // NUMA nodes; at least 1
  // The kernel's distance of two NUMA nodes, 10 for the same; -1: not known.
  std::int32_t Distance(std::int32_t from, std::int32_t to) const;
  // The node that this process's memory comes from; -1: several.
  std::int32_t MemoryNode() const;
  // May this process lock memory without a limit?
  bool LocksWithoutLimit() const;

 private:
  RdmaPort Port(const std::string& device, const std::string& port) const;
  std::string Netdev(const std::string& device, const std::string& port) const;
  std::string StatusField(const std::string& name) const;
  std::set<std::int32_t> NodesOfCpus(const std::set<std::int32_t>& cpus) const;
  PciPlace Place(const std::string& path) const;

  const std::string root_;
};

// A GID as people write IPv6 addresses: "fe80::1", "::ffff:10.0.0.1". Empty: it
// is zero, or no GID.
std::string GidText(const std::string& gid);
std::string GidText(const std::uint8_t (&gid)[16]);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TRANSPORT_RDMA_SYSFS_H_
