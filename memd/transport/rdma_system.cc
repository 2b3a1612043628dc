#include "memd/transport/rdma_system.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <infiniband/verbs.h>
#include <net/if.h>
#include <rdma/fabric.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_errno.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "memd/transport/rdma_sysfs.h"

namespace agentmem {
namespace {

std::string StateName(ibv_port_state state) {
  switch (state) {
    case IBV_PORT_DOWN:
      return "DOWN";
    case IBV_PORT_INIT:
      return "INIT";
    case IBV_PORT_ARMED:
      return "ARMED";
    case IBV_PORT_ACTIVE:
      return "ACTIVE";
    case IBV_PORT_ACTIVE_DEFER:
      return "ACTIVE_DEFER";
    default:
      return "";
  }
}

std::string LayerName(std::uint8_t layer) {
  switch (layer) {
    case IBV_LINK_LAYER_INFINIBAND:
      return "InfiniBand";
    case IBV_LINK_LAYER_ETHERNET:
      return "Ethernet";
    default:
      return "";
  }
}

// InfiniBand Architecture Specification, PortInfo: LinkWidthActive and
// LinkSpeedActive. 0: a speed that is younger than this table.
std::uint64_t BytesPerSecond(const ibv_port_attr& port) {
  constexpr struct {
    std::uint8_t bit;
    double value;
  } kLanes[] = {{1, 1}, {2, 4}, {4, 8}, {8, 12}, {16, 2}},
    kGigabits[] = {{1, 2.5}, {2, 5},   {4, 10},  {8, 10},
                   {16, 14}, {32, 25}, {64, 50}, {128, 100}};
  double lanes = 0;
  double gigabits = 0;
  for (const auto& lane : kLanes) {
    if (port.active_width == lane.bit) lanes = lane.value;
  }
  for (const auto& speed : kGigabits) {
    if (port.active_speed == speed.bit) gigabits = speed.value;
  }
  return static_cast<std::uint64_t>(lanes * gigabits * 1e9 / 8);
}

void AddGids(ibv_context* context, const ibv_port_attr& port,
             RdmaPort* result) {
  for (int index = 0; index < port.gid_tbl_len; ++index) {
    ibv_gid_entry entry = {};
    if (ibv_query_gid_ex(context, result->number,
                         static_cast<std::uint32_t>(index), &entry, 0) != 0) {
      continue;  // this index is empty
    }
    const std::string gid = GidText(entry.gid.raw);
    if (!gid.empty() && std::find(result->gids.begin(), result->gids.end(),
                                  gid) == result->gids.end()) {
      result->gids.push_back(gid);
    }
    char name[IF_NAMESIZE] = "";
    if (result->netdev.empty() && entry.ndev_ifindex != 0 &&
        if_indextoname(entry.ndev_ifindex, name) != nullptr) {
      result->netdev = name;
    }
  }
}

// A driver that knows no dma-bufs says so before it looks at the descriptor.
bool TakesDmabuf(ibv_context* context) {
  ibv_pd* const domain = ibv_alloc_pd(context);
  if (domain == nullptr) return false;
  errno = 0;
  ibv_mr* const memory = ibv_reg_dmabuf_mr(domain, 0, 1, 0, -1, 0);
  const int error = errno;
  if (memory != nullptr) ibv_dereg_mr(memory);
  ibv_dealloc_pd(domain);
  return memory != nullptr ||
         (error != EOPNOTSUPP && error != EPROTONOSUPPORT && error != ENOSYS);
}

VerbsDevice Describe(ibv_device* device) {
  VerbsDevice result;
  result.name = ibv_get_device_name(device);
  errno = 0;
  const std::unique_ptr<ibv_context, int (*)(ibv_context*)> context(
      ibv_open_device(device), ibv_close_device);
  ibv_device_attr attributes = {};
  if (context == nullptr || ibv_query_device(context.get(), &attributes) != 0) {
    result.error = errno != 0 ? errno : EIO;
    return result;
  }
  for (int number = 1; number <= attributes.phys_port_cnt; ++number) {
    ibv_port_attr attr = {};
    if (ibv_query_port(context.get(), static_cast<std::uint8_t>(number),
                       &attr) != 0) {
      continue;
    }
    RdmaPort port;
    port.number = static_cast<std::uint32_t>(number);
    port.state = StateName(attr.state);
    port.link_layer = LayerName(attr.link_layer);
    port.bytes_per_second = BytesPerSecond(attr);
    AddGids(context.get(), attr, &port);
    result.ports.push_back(std::move(port));
  }
  result.dmabuf = TakesDmabuf(context.get());
  return result;
}

std::vector<VerbsDevice> ListVerbs() {
  std::vector<VerbsDevice> devices;
  int count = 0;
  ibv_device** const list = ibv_get_device_list(&count);
  if (list == nullptr) return devices;
  for (int i = 0; i < count; ++i) devices.push_back(Describe(list[i]));
  ibv_free_device_list(list);
  return devices;
}

std::string InterfaceOf(const std::string& address) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return "";
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> all(list, ::freeifaddrs);
  for (const ifaddrs* one = all.get(); one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr) continue;
    const int family = one->ifa_addr->sa_family;
    char text[INET6_ADDRSTRLEN] = "";
    if (family == AF_INET) {
      const auto* const in = reinterpret_cast<sockaddr_in*>(one->ifa_addr);
      ::inet_ntop(family, &in->sin_addr, text, sizeof(text));
    } else if (family == AF_INET6) {
      const auto* const in = reinterpret_cast<sockaddr_in6*>(one->ifa_addr);
      ::inet_ntop(family, &in->sin6_addr, text, sizeof(text));
    }
    if (address == text) return one->ifa_name;
  }
  return "";
}

std::string WhyNoHmem() {
  const std::unique_ptr<fi_info, void (*)(fi_info*)> hints(fi_allocinfo(),
                                                           fi_freeinfo);
  hints->caps = FI_MSG | FI_RMA | FI_HMEM;
  hints->mode = FI_CONTEXT | FI_CONTEXT2;
  hints->ep_attr->type = FI_EP_RDM;
  hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR |
                                FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_HMEM;
  hints->fabric_attr->prov_name = strdup("verbs;ofi_rxm");
  fi_info* found = nullptr;
  const int result =
      fi_getinfo(FI_VERSION(1, 17), nullptr, nullptr, 0, hints.get(), &found);
  if (found != nullptr) fi_freeinfo(found);
  if (result == 0) return "";
  return std::string(
             "libfabric's verbs;ofi_rxm offers no FI_HMEM here (is it built "
             "with CUDA?): ") +
         fi_strerror(-result);
}

}  // namespace

RdmaSystem LinuxRdmaSystem() {
  RdmaSystem system;
  utsname kernel = {};
  if (::uname(&kernel) == 0) system.kernel_release = kernel.release;
  rlimit limit = {};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
      limit.rlim_cur != RLIM_INFINITY) {
    system.memlock_bytes = limit.rlim_cur;
  }
  system.verbs = ListVerbs;
  system.interface_of = InterfaceOf;
  system.hmem = WhyNoHmem;
  return system;
}

bool DevicesShareReceives() {
  int count = 0;
  int sharing = 0;
  ibv_device** const list = ibv_get_device_list(&count);
  if (list == nullptr) return false;
  for (int i = 0; i < count; ++i) {
    ibv_context* const context = ibv_open_device(list[i]);
    if (context == nullptr) continue;
    ibv_device_attr attributes = {};
    const bool shares =
        ibv_query_device(context, &attributes) == 0 && attributes.max_srq > 0;
    ibv_close_device(context);
    if (!shares) {
      sharing = 0;
      break;
    }
    ++sharing;
  }
  ibv_free_device_list(list);
  return sharing != 0;
}

}  // namespace agentmem
