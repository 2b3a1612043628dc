// RDMA and GPU devices.
#include <sys/stat.h>

#include <algorithm>

#include "client/memctl/doctor.h"
#include "client/memctl/proc_text.h"

namespace agentmem::memctl {
namespace {

// "4: ACTIVE" -> "ACTIVE".
std::string Word(const std::string& text) {
  const std::size_t colon = text.find(':');
  return Trim(colon == std::string::npos ? text : text.substr(colon + 1));
}

const char kRdmaRoot[] = "/sys/class/infiniband";

struct PortFacts {
  bool active = false;
  bool addressed = true;  // InfiniBand: GIDs do not tell
  std::string text;
};

PortFacts ReadPort(const SystemView& system, const std::string& device,
                   const std::string& port) {
  const std::string path = kRdmaRoot + ("/" + device) + "/ports/" + port;
  const std::string state =
      Word(system.Read(path + "/state").value_or("unknown"));
  const std::string layer =
      Trim(system.Read(path + "/link_layer").value_or("unknown"));
  PortFacts facts{state == "ACTIVE", layer != "Ethernet", state + " " + layer};
  for (const std::string& index : system.List(path + "/gids")) {
    const std::string gid =
        Trim(system.Read(path + "/gids/" + index).value_or(""));
    const bool zero = gid.find_first_not_of("0:") == std::string::npos;
    facts.addressed = facts.addressed || (!zero && gid.rfind("fe80:", 0) != 0);
  }
  if (facts.active && !facts.addressed) facts.text += ", no address";
  return facts;
}

}  // namespace

Finding CheckRdma(const SystemView& system) {
  const std::vector<std::string> devices = system.List(kRdmaRoot);
  if (devices.empty()) {
    return {"rdma", Level::kOk, "no device: other nodes are reached over TCP",
            ""};
  }
  Finding finding{"rdma", Level::kOk, "", ""};
  bool active = false;
  bool addressed = false;
  for (const std::string& device : devices) {
    for (const std::string& port :
         system.List(kRdmaRoot + ("/" + device) + "/ports")) {
      const PortFacts facts = ReadPort(system, device, port);
      active = active || facts.active;
      addressed = addressed || (facts.active && facts.addressed);
      if (!finding.value.empty()) finding.value += ", ";
      finding.value += device + "/" + port + " " + facts.text;
    }
  }
  const std::vector<std::string> files = system.List("/dev/infiniband");
  if (!active) {
    finding.level = Level::kNote;
    if (finding.value.empty()) finding.value = "no port on any device";
    finding.remedy =
        "no port is active, so TCP is used: look at the cable and `rdma link`";
  } else if (files.empty()) {
    finding.level = Level::kProblem;
    finding.value += ", /dev/infiniband missing";
    finding.remedy =
        "load ib_uverbs, pass /dev/infiniband into the container, and leave "
        "PrivateDevices= out of memd's unit";
  } else if (std::find(files.begin(), files.end(), "rdma_cm") == files.end()) {
    finding.level = Level::kProblem;
    finding.value += ", /dev/infiniband/rdma_cm missing";
    finding.remedy =
        "no connection can be made without it: modprobe rdma_ucm, or pass the "
        "device into the container";
  } else if (!addressed) {
    finding.level = Level::kNote;
    finding.remedy =
        "peers connect by IP addresses: give the port's interface one (`rdma "
        "link` names it)";
  }
  return finding;
}

Finding CheckGpu(const SystemView& system) {
  const bool driver = system.Mode("/proc/driver/nvidia").has_value();
  const bool control = system.Mode("/dev/nvidiactl").has_value();
  const bool library = system.Try(Feature::kCudaLibrary) == 0;
  const std::size_t gpus = system.List("/proc/driver/nvidia/gpus").size();
  if (!driver && !control) {
    return {"gpu", Level::kOk, "none: the hbm tier is not used", ""};
  }
  Finding finding{"gpu", Level::kOk,
                  std::to_string(gpus) + " GPUs, driver " +
                      (driver ? "loaded" : "missing") + ", /dev/nvidiactl " +
                      (control ? "present" : "missing") + ", libcuda.so.1 " +
                      (library ? "present" : "missing"),
                  ""};
  if (!control || system.Access("/dev/nvidiactl") != 0) {
    finding.level = Level::kProblem;
    finding.remedy =
        "the GPU's devices cannot be opened: pass /dev/nvidia* into the "
        "container, or add the user to their group";
  } else if (!library) {
    finding.level = Level::kProblem;
    finding.remedy =
        "install the driver's user library (libcuda1), or mount it into the "
        "container";
  }
  return finding;
}

}  // namespace agentmem::memctl
