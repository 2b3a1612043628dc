// RDMA and GPU devices.
#include <sys/stat.h>

#include "client/memctl/doctor.h"
#include "client/memctl/proc_text.h"

namespace agentmem::memctl {
namespace {

// "4: ACTIVE" -> "ACTIVE".
std::string Word(const std::string& text) {
  const std::size_t colon = text.find(':');
  return Trim(colon == std::string::npos ? text : text.substr(colon + 1));
}

}  // namespace

Finding CheckRdma(const SystemView& system) {
  const std::string root = "/sys/class/infiniband";
  const std::vector<std::string> devices = system.List(root);
  if (devices.empty()) {
    return {"rdma", Level::kOk, "no device: other nodes are reached over TCP",
            ""};
  }
  Finding finding{"rdma", Level::kOk, "", ""};
  bool active = false;
  for (const std::string& device : devices) {
    for (const std::string& port :
         system.List(root + "/" + device + "/ports")) {
      const std::string path = root + "/" + device + "/ports/" + port;
      const std::string state =
          Word(system.Read(path + "/state").value_or("unknown"));
      const std::string layer =
          Trim(system.Read(path + "/link_layer").value_or("unknown"));
      active = active || state == "ACTIVE";
      if (!finding.value.empty()) finding.value += ", ";
      finding.value += device + "/" + port + " " + state + " " + layer;
    }
  }
  if (!active) {
    finding.level = Level::kNote;
    if (finding.value.empty()) finding.value = "no port on any device";
    finding.remedy =
        "no port is active, so TCP is used: look at the cable and `rdma link`";
  } else if (system.List("/dev/infiniband").empty()) {
    finding.level = Level::kProblem;
    finding.value += ", /dev/infiniband missing";
    finding.remedy =
        "load ib_uverbs, pass /dev/infiniband into the container, and leave "
        "PrivateDevices= out of memd's unit";
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
