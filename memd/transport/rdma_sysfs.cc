#include "memd/transport/rdma_sysfs.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <sstream>

#include "base/unique_fd.h"

namespace agentmem {
namespace {

const char kClass[] = "/sys/class/infiniband/";
const char kNodes[] = "/sys/devices/system/node";
const char kPci[] = "/sys/bus/pci/devices";

constexpr int kCapIpcLock = 14;  // linux/capability.h

std::string Trim(const std::string& text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::int64_t Number(const std::string& text, std::int64_t otherwise,
                    int base = 10) {
  std::int64_t value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() ? value : otherwise;
}

std::int32_t NodeNumber(const std::string& text) {
  return static_cast<std::int32_t>(Number(text, -1));
}

// "0-2,8" -> {0, 1, 2, 8}.
std::set<std::int32_t> ParseList(const std::string& text) {
  std::set<std::int32_t> numbers;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const std::size_t dash = part.find('-');
    const std::int32_t first = NodeNumber(part);
    const std::int32_t last =
        dash == std::string::npos ? first : NodeNumber(part.substr(dash + 1));
    if (first < 0) continue;
    for (std::int32_t i = first; i <= last; ++i) numbers.insert(i);
  }
  return numbers;
}

// "4: ACTIVE" -> "ACTIVE".
std::string Word(const std::string& text) {
  return Trim(text.substr(text.find(':') + 1));
}

// "100 Gb/sec (4X EDR)", "2.5 Gb/sec (1X SDR)".
std::uint64_t BytesPerSecond(const std::string& rate) {
  double gigabits = 0;
  std::istringstream(rate) >> gigabits;
  return gigabits <= 0 ? 0 : static_cast<std::uint64_t>(gigabits * 1e9 / 8);
}

std::string NameOf(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

// "0000:3b:00.0".
bool IsPciAddress(const std::string& name) {
  return name.size() >= 12 && name[name.size() - 2] == '.' &&
         name[name.size() - 5] == ':' && name[name.size() - 8] == ':';
}

}  // namespace

std::string GidText(const std::uint8_t (&gid)[16]) {
  if (std::all_of(gid, gid + 16, [](std::uint8_t b) { return b == 0; })) {
    return "";
  }
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(AF_INET6, gid, text, sizeof(text));
  return text;
}

std::string GidText(const std::string& gid) {
  std::uint8_t bytes[16] = {};
  if (inet_pton(AF_INET6, gid.c_str(), bytes) != 1) return "";
  return GidText(bytes);
}

std::string PciPlace::address() const {
  const std::string name = NameOf(path);
  return IsPciAddress(name) ? name : "";
}

std::string RdmaSysfs::Read(const std::string& path) const {
  const UniqueFd fd(::open((root_ + path).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return "";
  // The longest is /proc/self/status. What sysfs has not is often an error of
  // the read.
  char text[8192];
  const ssize_t length = ::read(fd.get(), text, sizeof(text));
  return length <= 0 ? "" : Trim({text, static_cast<std::size_t>(length)});
}

std::vector<std::string> RdmaSysfs::List(const std::string& path) const {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(root_ + path, error);
  const std::filesystem::directory_iterator end;
  for (; !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool RdmaSysfs::Exists(const std::string& path) const {
  std::error_code error;
  return std::filesystem::exists(root_ + path, error);
}

PciPlace RdmaSysfs::Place(const std::string& path) const {
  std::error_code error;
  const std::string real =
      std::filesystem::canonical(root_ + path, error).string();
  const std::size_t at = real.find("/sys/devices/");
  if (error || at == std::string::npos) return {};
  const std::string node = Read(path + "/numa_node");
  return {real.substr(at), node.empty() ? -1 : NodeNumber(node)};
}

PciPlace RdmaSysfs::PlaceOf(const RdmaDevice& device) const {
  const PciPlace place = Place(kClass + device.name + "/device");
  if (!place.path.empty()) return place;
  // A device in software is where its network interface is.
  for (const RdmaPort& port : device.ports) {
    if (port.netdev.empty()) continue;
    return Place("/sys/class/net/" + port.netdev + "/device");
  }
  return {};
}

std::string RdmaSysfs::Netdev(const std::string& device,
                              const std::string& port) const {
  const std::string ndevs =
      kClass + device + "/ports/" + port + "/gid_attrs/ndevs";
  for (const std::string& index : List(ndevs)) {
    const std::string netdev = Read(ndevs + "/" + index);
    if (!netdev.empty()) return netdev;
  }
  // InfiniBand: GIDs do not belong to the interface; its number tells.
  const std::string nets = kClass + device + "/device/net";
  for (const std::string& netdev : List(nets)) {
    const std::int64_t index =
        Number(Read(nets + "/" + netdev + "/dev_port"), 0);
    if (index + 1 == Number(port, 0)) return netdev;
  }
  return "";
}

RdmaPort RdmaSysfs::Port(const std::string& device,
                         const std::string& port) const {
  const std::string path = kClass + device + "/ports/" + port;
  RdmaPort result;
  result.number = static_cast<std::uint32_t>(Number(port, 0));
  result.state = Word(Read(path + "/state"));
  result.link_layer = Read(path + "/link_layer");
  result.bytes_per_second = BytesPerSecond(Read(path + "/rate"));
  result.netdev = Netdev(device, port);
  std::vector<std::string> indices = List(path + "/gids");
  std::sort(indices.begin(), indices.end(),
            [](const std::string& a, const std::string& b) {
              return Number(a, 0) < Number(b, 0);
            });
  for (const std::string& index : indices) {
    const std::string gid = GidText(Read(path + "/gids/" + index));
    if (gid.empty() || std::find(result.gids.begin(), result.gids.end(), gid) !=
                           result.gids.end()) {
      continue;
    }
    result.gids.push_back(gid);
  }
  return result;
}

std::vector<RdmaDevice> RdmaSysfs::Devices() const {
  std::vector<RdmaDevice> devices;
  for (const std::string& name : List(kClass)) {
    RdmaDevice device;
    device.name = name;
    for (const std::string& port : List(kClass + name + "/ports")) {
      device.ports.push_back(Port(name, port));
    }
    const PciPlace place = PlaceOf(device);
    device.pci = place.address();
    device.numa_node = place.numa_node;
    devices.push_back(std::move(device));
  }
  return devices;
}

std::vector<PciPlace> RdmaSysfs::Gpus() const {
  std::vector<PciPlace> gpus;
  for (const std::string& address : List(kPci)) {
    const std::string path = std::string(kPci) + "/" + address;
    // Display controllers of NVIDIA, with a screen or without.
    if (Read(path + "/vendor") == "0x10de" &&
        Read(path + "/class").starts_with("0x03")) {
      gpus.push_back(Place(path));
    }
  }
  return gpus;
}

std::vector<std::string> RdmaSysfs::NicsWithoutDriver() const {
  std::vector<std::string> addresses;
  for (const std::string& address : List(kPci)) {
    const std::string path = std::string(kPci) + "/" + address;
    if (Read(path + "/vendor") == "0x15b3" &&
        Read(path + "/class").starts_with("0x02") &&
        !Exists(path + "/infiniband")) {
      addresses.push_back(address);
    }
  }
  return addresses;
}

std::size_t RdmaSysfs::Nodes() const {
  return std::max<std::size_t>(
      1, ParseList(Read(std::string(kNodes) + "/online")).size());
}

std::int32_t RdmaSysfs::Distance(std::int32_t from, std::int32_t to) const {
  if (from < 0 || to < 0) return -1;
  // One column for each node that is online, in their order.
  std::istringstream row(
      Read(std::string(kNodes) + "/node" + std::to_string(from) + "/distance"));
  for (const std::int32_t node :
       ParseList(Read(std::string(kNodes) + "/online"))) {
    std::int32_t distance = -1;
    row >> distance;
    if (node == to) return row.fail() ? -1 : distance;
  }
  return -1;
}

std::string RdmaSysfs::StatusField(const std::string& name) const {
  std::istringstream lines(Read("/proc/self/status"));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + ":")) return Trim(line.substr(name.size() + 1));
  }
  return "";
}

std::set<std::int32_t> RdmaSysfs::NodesOfCpus(
    const std::set<std::int32_t>& cpus) const {
  std::set<std::int32_t> nodes;
  for (const std::int32_t node :
       ParseList(Read(std::string(kNodes) + "/online"))) {
    for (const std::int32_t cpu :
         ParseList(Read(std::string(kNodes) + "/node" + std::to_string(node) +
                        "/cpulist"))) {
      if (cpus.contains(cpu)) nodes.insert(node);
    }
  }
  return nodes;
}

std::int32_t RdmaSysfs::MemoryNode() const {
  std::set<std::int32_t> nodes = ParseList(StatusField("Mems_allowed_list"));
  if (nodes.size() != 1) {
    // Memory comes from where the thread runs that touches it first.
    nodes = NodesOfCpus(ParseList(StatusField("Cpus_allowed_list")));
  }
  return nodes.size() == 1 ? *nodes.begin() : -1;
}

bool RdmaSysfs::LocksWithoutLimit() const {
  // The kernel asks for the capability outside of all user namespaces.
  std::int64_t inside = -1;
  std::int64_t outside = -1;
  std::int64_t count = 0;
  std::istringstream(Read("/proc/self/uid_map")) >> inside >> outside >> count;
  const bool first_namespace =
      inside == 0 && outside == 0 && count == 4294967295;
  const std::int64_t effective = Number(StatusField("CapEff"), 0, 16);
  return first_namespace && (effective >> kCapIpcLock & 1) != 0;
}

}  // namespace agentmem
