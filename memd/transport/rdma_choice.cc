#include "memd/transport/rdma_choice.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstdio>
#include <vector>

namespace agentmem {
namespace {

// How far a device is from the nearest GPU.
enum class GpuDistance { kSwitch, kRoot, kNode, kFar };

const char* Name(GpuDistance distance) {
  switch (distance) {
    case GpuDistance::kSwitch:
      return "behind the same PCI switch";
    case GpuDistance::kRoot:
      return "under the same PCI root";
    case GpuDistance::kNode:
      return "on the same NUMA node";
    case GpuDistance::kFar:
      return "on another NUMA node";
  }
  return "";
}

// A device and its best port: one that has the address, if there is one.
struct Candidate {
  RdmaDevice* device = nullptr;
  const RdmaPort* port = nullptr;
  bool addressed = false;
  std::int32_t memory_distance = 0;
  GpuDistance gpu_distance = GpuDistance::kFar;
};

constexpr std::int32_t kDistanceLocal = 10;
constexpr std::int32_t kDistanceUnknown = 255;  // the kernel's farthest

std::string GigabytesText(std::uint64_t bytes_per_second) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.4g GB/s",
                static_cast<double>(bytes_per_second) / 1e9);
  return text;
}

// How many bridges two devices have in common, from the root on.
std::size_t SharedBridges(const std::string& a, const std::string& b) {
  const std::size_t equal = static_cast<std::size_t>(
      std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
  // "/sys/devices/pci0000:00/0000:00:01.0/0000:03:00.0": a root, a bridge.
  std::size_t shared = 0;
  for (std::size_t at = std::string("/sys/devices/").size();
       (at = a.find('/', at)) != std::string::npos && at < equal; ++at) {
    ++shared;
  }
  return shared;
}

GpuDistance DistanceOfGpu(const PciPlace& nic, const PciPlace& gpu) {
  const std::size_t shared = SharedBridges(nic.path, gpu.path);
  if (shared >= 2) return GpuDistance::kSwitch;
  if (shared == 1) return GpuDistance::kRoot;
  return nic.numa_node >= 0 && nic.numa_node == gpu.numa_node
             ? GpuDistance::kNode
             : GpuDistance::kFar;
}

GpuDistance DistanceOfGpus(const PciPlace& nic,
                           const std::vector<PciPlace>& gpus) {
  GpuDistance nearest = GpuDistance::kFar;
  for (const PciPlace& gpu : gpus) {
    nearest = std::min(nearest, DistanceOfGpu(nic, gpu));
  }
  return nearest;
}

std::int32_t DistanceOfMemory(const RdmaSysfs& sysfs, std::int32_t memory_node,
                              std::int32_t device_node) {
  if (memory_node < 0 || sysfs.Nodes() == 1 || memory_node == device_node) {
    return kDistanceLocal;
  }
  const std::int32_t distance = sysfs.Distance(memory_node, device_node);
  return distance < 0 ? kDistanceUnknown : distance;
}

// The address that blocks go over, as ports show it. Over Ethernet it is one of
// the port's GIDs; over InfiniBand it belongs to the port's interface, or to a
// partition of it ("ib0.8001").
class Address {
 public:
  Address(const std::string& text, const std::string& interface)
      : gid_(GidOf(text)), interface_(interface) {}

  bool IsOf(const RdmaPort& port) const {
    if (std::find(port.gids.begin(), port.gids.end(), gid_) !=
        port.gids.end()) {
      return true;
    }
    return !port.netdev.empty() && (interface_ == port.netdev ||
                                    interface_.starts_with(port.netdev + "."));
  }

 private:
  static std::string GidOf(const std::string& text) {
    std::uint8_t gid[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (inet_pton(AF_INET, text.c_str(), gid + 12) == 1 ||
        inet_pton(AF_INET6, text.c_str(), gid) == 1) {
      return GidText(gid);
    }
    return "no address";
  }

  const std::string gid_;
  const std::string interface_;
};

bool HasAddress(const RdmaPort& port) {
  return std::any_of(
      port.gids.begin(), port.gids.end(),
      [](const std::string& gid) { return !gid.starts_with("fe80:"); });
}

std::string OnNode(std::int32_t node) {
  return node < 0 ? "on an unknown NUMA node"
                  : "on NUMA node " + std::to_string(node);
}

// By what `a` comes before `b`; empty: it does not.
struct Verdict {
  std::string taken;        // said of a
  std::string passed_over;  // said of b
  bool matters = true;      // and not by name alone
};

Verdict Compare(const Candidate& a, const Candidate& b,
                const RdmaSurvey& survey) {
  const std::string& winner = a.device->name;
  if (a.memory_distance != b.memory_distance) {
    if (a.memory_distance > b.memory_distance) return {};
    const std::string memory =
        "the memory is on node " + std::to_string(survey.memory_node);
    return {"the nearest to the memory: " + OnNode(a.device->numa_node) + ", " +
                memory,
            "farther from the memory than " + winner + ": " +
                OnNode(b.device->numa_node) + ", " + memory};
  }
  if (a.gpu_distance != b.gpu_distance) {
    if (a.gpu_distance > b.gpu_distance) return {};
    return {std::string("the nearest to a GPU: ") + Name(a.gpu_distance),
            "farther from a GPU than " + winner + ": " + Name(b.gpu_distance)};
  }
  const std::uint64_t a_speed = a.port->bytes_per_second;
  const std::uint64_t b_speed = b.port->bytes_per_second;
  if (a_speed != b_speed) {
    if (a_speed < b_speed) return {};
    return {"the fastest of those as near: " + GigabytesText(a_speed),
            "slower than " + winner + ": " + GigabytesText(b_speed) + " of " +
                GigabytesText(a_speed)};
  }
  if (winner > b.device->name) return {};
  return {"the first by name of those as near and as fast",
          "as near and as fast as " + winner + ", which comes first by name",
          false};
}

bool Before(const Candidate& a, const Candidate& b, const RdmaSurvey& survey) {
  return !Compare(a, b, survey).taken.empty();
}

// The fastest port that can be used, of those with the address if there are
// any; else says why none can.
const RdmaPort* BestPort(const Address& address, RdmaDevice* device) {
  const auto better = [&](const RdmaPort& a, const RdmaPort& b) {
    const bool has = address.IsOf(a);
    return has != address.IsOf(b) ? has
                                  : a.bytes_per_second > b.bytes_per_second;
  };
  const RdmaPort* best = nullptr;
  std::string reason;
  for (const RdmaPort& port : device->ports) {
    const std::string why = WhyUnusable(port);
    if (!why.empty()) {
      reason += (reason.empty() ? "port " : "; port ") +
                std::to_string(port.number) + " " + why;
    } else if (best == nullptr || better(port, *best)) {
      best = &port;
    }
  }
  if (best == nullptr) device->reason = reason.empty() ? "no port" : reason;
  return best;
}

std::vector<Candidate> Candidates(
    const Address& address, const RdmaSysfs& sysfs,
    const std::map<std::string, std::string>& closed, RdmaSurvey* survey) {
  const std::vector<PciPlace> gpus = sysfs.Gpus();
  std::vector<Candidate> candidates;
  for (RdmaDevice& device : survey->devices) {
    if (const auto why = closed.find(device.name); why != closed.end()) {
      device.reason = why->second;
      continue;
    }
    const RdmaPort* const port = BestPort(address, &device);
    if (port == nullptr) continue;
    candidates.push_back(
        {&device, port, address.IsOf(*port),
         DistanceOfMemory(sysfs, survey->memory_node, device.numa_node),
         DistanceOfGpus(sysfs.PlaceOf(device), gpus)});
  }
  return candidates;
}

void Take(const Candidate& candidate, const std::string& reason,
          RdmaSurvey* survey) {
  candidate.device->port_taken = candidate.port->number;
  candidate.device->reason = reason;
  survey->taken = candidate.device->name;
  survey->reason = candidate.device->name + " port " +
                   std::to_string(candidate.port->number) + ": " + reason;
}

// What the configuration's choice costs: nothing, or "; farther from ...".
std::string CostOf(const Candidate& taken,
                   const std::vector<Candidate>& candidates,
                   const RdmaSurvey& survey) {
  for (const Candidate& candidate : candidates) {
    const Verdict verdict = Compare(candidate, taken, survey);
    if (!verdict.taken.empty() && verdict.matters) {
      return "; " + verdict.passed_over;
    }
  }
  return "";
}

// The best of those that have the address; none without it carries anything.
void TakeAddressed(const std::string& address,
                   const std::vector<Candidate>& candidates,
                   RdmaSurvey* survey) {
  const Candidate* taken = nullptr;
  for (const Candidate& candidate : candidates) {
    if (!candidate.addressed) {
      candidate.device->reason =
          "does not have the address that blocks go over, " + address;
    } else if (taken == nullptr || Before(candidate, *taken, *survey)) {
      taken = &candidate;
    }
  }
  if (taken == nullptr) {
    survey->reason = "no RDMA device has the address that blocks go over, " +
                     address +
                     " (`address` in [fabric], else the host of "
                     "`listen`): other nodes are reached over TCP";
    return;
  }
  for (const Candidate& candidate : candidates) {
    if (!candidate.addressed || &candidate == taken) continue;
    candidate.device->reason = Compare(*taken, candidate, *survey).passed_over;
  }
  Take(*taken,
       "has the address that blocks go over, " + address +
           CostOf(*taken, candidates, *survey),
       survey);
}

// The configuration's word is followed, and said if it is not the best one.
void TakeWanted(const RdmaWishes& wishes, std::vector<Candidate> candidates,
                RdmaSurvey* survey) {
  const std::string& wanted = wishes.device;
  const auto named = std::find_if(
      candidates.begin(), candidates.end(),
      [&](const Candidate& c) { return c.device->name == wanted; });
  for (const Candidate& candidate : candidates) {
    candidate.device->reason = "the configuration names " + wanted;
  }
  if (named != candidates.end() && !wishes.address.empty() &&
      !named->addressed) {
    named->device->reason =
        "named by the configuration, and does not have the address that blocks "
        "go over, " +
        wishes.address;
    survey->reason = wanted + " is " + named->device->reason +
                     ": set `address` in [fabric] to one of its own";
    return;
  }
  if (named != candidates.end()) {
    Take(*named,
         "named by the configuration" + CostOf(*named, candidates, *survey),
         survey);
    return;
  }
  std::string names;
  for (const RdmaDevice& device : survey->devices) {
    if (device.name == wanted) {
      survey->reason = "the configuration names " + wanted +
                       ", which cannot be used: " + device.reason;
      return;
    }
    names += (names.empty() ? "" : ", ") + device.name;
  }
  survey->reason = "the configuration names " + wanted +
                   ", which this machine does not have: name one of " + names +
                   ", or none in [fabric] domain";
}

}  // namespace

std::string WhyUnusable(const RdmaPort& port) {
  if (!port.active()) {
    return "is " + (port.state.empty() ? "in an unknown state" : port.state);
  }
  if (port.gids.empty()) return "has no GID";
  // Peers connect by IP addresses (RDMA CM): over Ethernet those are GIDs, over
  // InfiniBand they belong to an IPoIB interface.
  if (port.link_layer == "Ethernet" && !HasAddress(port)) {
    return "has no GID of an IP address: give " +
           (port.netdev.empty() ? "its interface" : port.netdev) + " one";
  }
  if (port.link_layer == "InfiniBand" && port.netdev.empty()) {
    return "has no IP interface: load ib_ipoib, and give it an address";
  }
  return "";
}

namespace {

// Of one candidate at least.
void TakeBest(const Candidate& best, const std::vector<Candidate>& candidates,
              RdmaSurvey* survey) {
  const Candidate* second = nullptr;
  for (const Candidate& candidate : candidates) {
    if (candidate.device == best.device) continue;
    candidate.device->reason = Compare(best, candidate, *survey).passed_over;
    if (second == nullptr || Before(candidate, *second, *survey)) {
      second = &candidate;
    }
  }
  Take(best,
       second == nullptr ? "the only one that can be used"
                         : Compare(best, *second, *survey).taken,
       survey);
}

}  // namespace

void ChooseRdma(const RdmaWishes& wishes, const std::string& interface,
                const RdmaSysfs& sysfs,
                const std::map<std::string, std::string>& closed,
                RdmaSurvey* survey) {
  const std::vector<Candidate> candidates =
      Candidates(Address(wishes.address, interface), sysfs, closed, survey);
  const auto best =
      std::min_element(candidates.begin(), candidates.end(),
                       [&](const Candidate& a, const Candidate& b) {
                         return Before(a, b, *survey);
                       });
  if (best != candidates.end()) survey->best = best->device->name;
  if (wishes.tcp) {
    survey->reason = "the configuration names a provider without RDMA, tcp";
    for (const Candidate& candidate : candidates) {
      candidate.device->reason = survey->reason;
    }
    return;
  }
  if (!wishes.device.empty()) return TakeWanted(wishes, candidates, survey);
  if (candidates.empty()) {
    survey->reason =
        "none of the " + std::to_string(survey->devices.size()) +
        " RDMA devices can be used: other nodes are reached over TCP";
    return;
  }
  if (!wishes.address.empty()) {
    return TakeAddressed(wishes.address, candidates, survey);
  }
  TakeBest(*best, candidates, survey);
}

}  // namespace agentmem
