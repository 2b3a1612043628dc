#include "memd/transport/rdma_devices.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <utility>

#include "memd/transport/rdma_choice.h"
#include "memd/transport/rdma_sysfs.h"
#include "memd/transport/rdma_system.h"

namespace agentmem {
namespace {

const char kDevices[] = "/dev/infiniband";

std::string MebibytesText(std::uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.4g MiB",
                static_cast<double>(bytes) / (1 << 20));
  return text;
}

const VerbsDevice* Find(const std::vector<VerbsDevice>& verbs,
                        const std::string& name) {
  const auto found =
      std::find_if(verbs.begin(), verbs.end(),
                   [&](const VerbsDevice& v) { return v.name == name; });
  return found == verbs.end() ? nullptr : &*found;
}

// What ibverbs knows of a port comes before what sysfs says.
void Overlay(const RdmaPort& verbs, RdmaPort* port) {
  if (!verbs.state.empty()) port->state = verbs.state;
  if (!verbs.link_layer.empty()) port->link_layer = verbs.link_layer;
  if (verbs.bytes_per_second > 0) {
    port->bytes_per_second = verbs.bytes_per_second;
  }
  if (!verbs.gids.empty()) port->gids = verbs.gids;
  if (!verbs.netdev.empty()) port->netdev = verbs.netdev;
}

void Overlay(const VerbsDevice& verbs, RdmaDevice* device) {
  for (const RdmaPort& port : verbs.ports) {
    const auto same = std::find_if(
        device->ports.begin(), device->ports.end(),
        [&](const RdmaPort& p) { return p.number == port.number; });
    if (same == device->ports.end()) {
      device->ports.push_back(port);
    } else {
      Overlay(port, &*same);
    }
  }
}

void Add(RdmaSurvey* survey, const std::string& found,
         const std::string& remedy) {
  survey->problems.push_back({found, remedy});
}

// The machine as a whole: false where no program can open any device.
bool CheckMachine(const RdmaSysfs& sysfs, RdmaSurvey* survey) {
  if (sysfs.List("/sys/class/infiniband_verbs").empty()) {
    Add(survey,
        "no program can reach the RDMA devices: ib_uverbs is not loaded",
        "modprobe ib_uverbs, and name it in /etc/modules-load.d");
    return false;
  }
  if (sysfs.List(kDevices).empty()) {
    Add(survey, "/dev/infiniband is missing for memd",
        "leave PrivateDevices= out of memd's unit, or pass /dev/infiniband "
        "into its container");
    return false;
  }
  if (!sysfs.Exists(std::string(kDevices) + "/rdma_cm")) {
    Add(survey, "no connection can be made: /dev/infiniband/rdma_cm is missing",
        "modprobe rdma_ucm, or pass the device into memd's container");
  }
  return true;
}

void CheckMemlock(const RdmaWishes& wishes, const RdmaSysfs& sysfs,
                  RdmaSurvey* survey) {
  const std::uint64_t wanted = wishes.registered_bytes;
  if (survey->memlock_bytes == RdmaSurvey::kUnlimited ||
      sysfs.LocksWithoutLimit() ||
      (wanted > 0 && survey->memlock_bytes >= wanted)) {
    return;
  }
  Add(survey,
      "memd may lock " + MebibytesText(survey->memlock_bytes) +
          " of memory; RDMA locks what it registers" +
          (wanted > 0 ? ", " + MebibytesText(wanted) : "") +
          ", and fails with ENOMEM beyond the limit",
      "set LimitMEMLOCK=infinity in memd's unit, or `ulimit -l unlimited` in "
      "the shell that starts it");
}

// Why ibverbs cannot open a device; empty: it can.
std::string WhyClosed(const RdmaDevice& device, const VerbsDevice* verbs,
                      bool machine_is_well, RdmaSurvey* survey) {
  if (verbs == nullptr) {
    if (!machine_is_well) return "no program can open it";
    Add(survey, device.name + " is in the kernel, but ibverbs does not list it",
        "install its provider library (Debian: ibverbs-providers)");
    return "ibverbs does not list it";
  }
  if (verbs->error == 0) return "";
  const std::string why =
      std::string("ibverbs cannot open it: ") + std::strerror(verbs->error);
  Add(survey, device.name + ": " + why,
      verbs->error == EACCES || verbs->error == EPERM
          ? "let memd's user open /dev/infiniband/uverbs* (its group, or "
            "DeviceAllow= in memd's unit)"
          : "see dmesg and `ibv_devinfo -d " + device.name + "`");
  return why;
}

void CheckPorts(const RdmaDevice& device, RdmaSurvey* survey) {
  std::string found;
  std::string netdev = "INTERFACE";
  for (const RdmaPort& port : device.ports) {
    const std::string why = WhyUnusable(port);
    if (why.empty()) return;
    found += (found.empty() ? " port " : "; port ") +
             std::to_string(port.number) + " " + why;
    if (!port.netdev.empty()) netdev = port.netdev;
  }
  if (found.empty()) return;
  Add(survey, device.name + found,
      "look at the cable and the switch; then `rdma link`, `ip link set " +
          netdev + " up`, `ip address add ADDRESS dev " + netdev + "`");
}

bool HasDmabufCalls(const std::string& release) {
  unsigned major = 0;
  unsigned minor = 0;
  if (std::sscanf(release.c_str(), "%u.%u", &major, &minor) != 2) return false;
  return std::make_pair(major, minor) >= std::make_pair(5u, 12u);
}

GpuReach FindReach(const VerbsDevice* verbs, const RdmaSystem& system,
                   const RdmaSysfs& sysfs, const std::string& why_no_hmem) {
  if (verbs == nullptr || verbs->error != 0) {
    return {false, "the device cannot be opened"};
  }
  std::string missing;
  const auto miss = [&](bool is_there, const std::string& what) {
    if (!is_there) missing += (missing.empty() ? "" : ", ") + what;
  };
  miss(HasDmabufCalls(system.kernel_release),
       "kernel " + system.kernel_release + " is older than 5.12");
  miss(sysfs.Read("/proc/driver/nvidia/version").find("Open Kernel Module") !=
           std::string::npos,
       "the GPU's driver is not NVIDIA's open one");
  miss(verbs->dmabuf, "the NIC's driver takes none");
  const bool peer_module = sysfs.Exists("/sys/module/nvidia_peermem") ||
                           sysfs.Exists("/sys/module/nv_peer_mem");
  if (!missing.empty() && !peer_module) {
    return {false, "not by dma-buf (" + missing +
                       ") and not by nvidia_peermem (not loaded: modprobe "
                       "nvidia_peermem)"};
  }
  const std::string way = missing.empty() ? "dma-buf" : "nvidia_peermem";
  if (!why_no_hmem.empty()) {
    return {false, "the kernel can, by " + way + ", but " + why_no_hmem};
  }
  return {true, "by " + way};
}

void FindReaches(const std::vector<VerbsDevice>& verbs,
                 const RdmaSystem& system, const RdmaSysfs& sysfs,
                 RdmaSurvey* survey) {
  const std::string why_no_hmem =
      survey->gpus > 0 && system.hmem ? system.hmem() : "";
  for (RdmaDevice& device : survey->devices) {
    device.gpu =
        survey->gpus == 0
            ? GpuReach{false, "this machine has no NVIDIA GPU"}
            : FindReach(Find(verbs, device.name), system, sysfs, why_no_hmem);
  }
}

void ExplainNoDevice(const RdmaWishes& wishes, const RdmaSysfs& sysfs,
                     RdmaSurvey* survey) {
  survey->reason =
      "this machine has no RDMA device (/sys/class/infiniband is empty): other "
      "nodes are reached over TCP";
  if (!wishes.device.empty()) {
    survey->reason += ", and the configuration names " + wishes.device;
  }
  for (const std::string& address : sysfs.NicsWithoutDriver()) {
    Add(survey, "the NIC at " + address + " could do RDMA and is no device",
        "modprobe mlx5_ib (ConnectX-3: mlx4_ib), and see dmesg");
  }
}

}  // namespace

RdmaSurvey SurveyRdma(const RdmaWishes& wishes, const RdmaSystem& system) {
  const RdmaSysfs sysfs(system.root);
  RdmaSurvey survey;
  survey.devices = sysfs.Devices();
  survey.memory_node =
      wishes.memory_node >= 0 ? wishes.memory_node : sysfs.MemoryNode();
  survey.memlock_bytes = system.memlock_bytes;
  survey.gpus = sysfs.Gpus().size();
  if (survey.devices.empty()) {
    ExplainNoDevice(wishes, sysfs, &survey);
    return survey;
  }
  const std::vector<VerbsDevice> verbs =
      system.verbs ? system.verbs() : std::vector<VerbsDevice>();
  const bool machine_is_well = CheckMachine(sysfs, &survey);
  CheckMemlock(wishes, sysfs, &survey);
  std::map<std::string, std::string> closed;
  for (RdmaDevice& device : survey.devices) {
    const VerbsDevice* const found = Find(verbs, device.name);
    const std::string why = WhyClosed(device, found, machine_is_well, &survey);
    if (!why.empty()) {
      closed[device.name] = why;
      continue;
    }
    Overlay(*found, &device);
    CheckPorts(device, &survey);
  }
  FindReaches(verbs, system, sysfs, &survey);
  const std::string interface = wishes.address.empty() || !system.interface_of
                                    ? ""
                                    : system.interface_of(wishes.address);
  ChooseRdma(wishes, interface, sysfs, closed, &survey);
  return survey;
}

}  // namespace agentmem
