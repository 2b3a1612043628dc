#include "memd/transport/fabric_provider.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/unique_fd.h"
#include "memd/transport/fabric_handle.h"
#include "memd/transport/rdma_system.h"

namespace agentmem {
namespace {

struct KnownProvider {
  const char* name;
  bool rdma;
  bool ip;  // its addresses are those of IP interfaces
};
// The order of "auto".
constexpr KnownProvider kKnown[] = {
    {"verbs;ofi_rxm", true, true}, {"efa", true, false},
    {"psm3", true, false},         {"opx", true, false},
    {"tcp;ofi_rxm", false, true},
};

struct RefusedProvider {
  const char* core;  // what stands before ";"
  const char* reason;
};
constexpr RefusedProvider kRefused[] = {
    {"sockets", "a read takes it milliseconds"},
    {"udp", "it has no one-sided reads and loses bytes"},
    {"net", "it burns a core while it waits"},
    {"shm", "it takes a wrong key for a right one"},
};

// Tagged messages are never sent, but peers may send them (FabricInbox).
constexpr std::uint64_t kCapabilities = FI_MSG | FI_TAGGED | FI_SEND | FI_RECV |
                                        FI_RMA | FI_READ | FI_WRITE |
                                        FI_REMOTE_READ | FI_REMOTE_WRITE;

std::string CoreOf(const std::string& provider) {
  return provider.substr(0, provider.find(';'));
}

const KnownProvider* FindKnown(const std::string& name) {
  for (const KnownProvider& known : kKnown) {
    if (name == known.name) return &known;
  }
  return nullptr;
}

const RefusedProvider* FindRefused(const std::string& name) {
  for (const RefusedProvider& refused : kRefused) {
    if (CoreOf(name) == refused.core) return &refused;
  }
  return nullptr;
}

std::string FullName(const std::string& name) {
  return name == "verbs" || name == "tcp" ? name + ";ofi_rxm" : name;
}

std::string Join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    text += (text.empty() ? "" : ", ") + word;
  }
  return text;
}

std::vector<std::string> UsableNames(const FabricCatalog& catalog) {
  std::set<std::string> names;
  for (const std::string& name : catalog.names()) {
    if (FindRefused(name) == nullptr) names.insert(name);
  }
  std::vector<std::string> all = {"auto"};
  for (const KnownProvider& known : kKnown) all.emplace_back(known.name);
  for (const std::string& name : names) {
    const bool is_known = std::any_of(
        std::begin(kKnown), std::end(kKnown), [&](const KnownProvider& known) {
          return CoreOf(known.name) == CoreOf(name);
        });
    if (!is_known) all.push_back(name);
  }
  return all;
}

int AddressFamily(const std::string& address) {
  unsigned char bytes[sizeof(in6_addr)];
  if (inet_pton(AF_INET, address.c_str(), bytes) == 1) return AF_INET;
  if (inet_pton(AF_INET6, address.c_str(), bytes) == 1) return AF_INET6;
  return AF_UNSPEC;
}

bool HasAddress(const std::string& address) {
  sockaddr_storage storage = {};
  storage.ss_family = static_cast<sa_family_t>(AddressFamily(address));
  void* const bytes =
      storage.ss_family == AF_INET
          ? static_cast<void*>(
                &reinterpret_cast<sockaddr_in*>(&storage)->sin_addr)
          : &reinterpret_cast<sockaddr_in6*>(&storage)->sin6_addr;
  inet_pton(storage.ss_family, address.c_str(), bytes);
  const UniqueFd socket(
      ::socket(storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return !socket.valid() ||
         ::bind(socket.get(), reinterpret_cast<sockaddr*>(&storage),
                sizeof(storage)) == 0;
}

// What to do when `name` is not there.
std::string Advice(bool rdma) {
  if (!rdma) {
    return "see 'fi_info' for what libfabric offers here, and check the bind "
           "address and the domain";
  }
  return "see 'ibv_devinfo' for this machine's RDMA devices (one must be "
         "PORT_ACTIVE, its interface up with an IP address, and the packages "
         "rdma-core and ibverbs-providers installed), or allow TCP";
}

std::string AddressText(const fi_info& info) {
  char text[INET6_ADDRSTRLEN] = "";
  if (info.src_addr == nullptr) return text;
  if (info.addr_format == FI_SOCKADDR_IN) {
    inet_ntop(AF_INET, &static_cast<sockaddr_in*>(info.src_addr)->sin_addr,
              text, sizeof(text));
  } else if (info.addr_format == FI_SOCKADDR_IN6) {
    inet_ntop(AF_INET6, &static_cast<sockaddr_in6*>(info.src_addr)->sin6_addr,
              text, sizeof(text));
  }
  return text;
}

bool IsLoopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1";
}

std::shared_ptr<fi_info> MakeHints(const FabricOptions& options,
                                   const std::string& provider,
                                   const std::string& domain, bool ip) {
  std::shared_ptr<fi_info> hints(fi_allocinfo(), fi_freeinfo);
  hints->caps = kCapabilities;
  hints->mode = FI_CONTEXT | FI_CONTEXT2;
  hints->ep_attr->type = FI_EP_RDM;
  hints->domain_attr->mr_mode =
      FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
  hints->domain_attr->threading = FI_THREAD_DOMAIN;
  hints->domain_attr->control_progress = FI_PROGRESS_MANUAL;
  hints->domain_attr->data_progress = FI_PROGRESS_MANUAL;
  hints->domain_attr->resource_mgmt = FI_RM_ENABLED;
  hints->fabric_attr->prov_name = strdup(provider.c_str());
  if (!domain.empty()) {
    hints->domain_attr->name = strdup(domain.c_str());
  }
  if (ip) {
    hints->addr_format = AddressFamily(options.bind_address) == AF_INET6
                             ? FI_SOCKADDR_IN6
                             : FI_SOCKADDR_IN;
  }
  return hints;
}

FabricOffer QueryLibfabric(const FabricOptions& options,
                           const std::string& provider,
                           const std::string& domain) {
  const KnownProvider* const known = FindKnown(provider);
  const bool ip = known == nullptr || known->ip;
  const std::shared_ptr<fi_info> hints =
      MakeHints(options, provider, domain, ip);
  const bool bind = ip && !options.bind_address.empty();
  FabricOffer offer;
  if (bind && !HasAddress(options.bind_address)) {
    offer.reason = "no interface here has the address " + options.bind_address;
    return offer;
  }
  fi_info* found = nullptr;
  const int result = fi_getinfo(
      FI_VERSION(1, 17), bind ? options.bind_address.c_str() : nullptr, nullptr,
      bind ? FI_SOURCE : 0, hints.get(), &found);
  if (result != 0) {
    offer.reason = std::string("libfabric offers none") +
                   (bind ? " on " + options.bind_address : "") +
                   (domain.empty() ? "" : " in " + domain) + ": " +
                   fi_strerror(-result);
    return offer;
  }
  const std::shared_ptr<fi_info> all(found, fi_freeinfo);
  const fi_info* best = nullptr;
  for (const fi_info* info = all.get(); info != nullptr; info = info->next) {
    // A utility layer that was not asked for may stand on top of it.
    if (provider != info->fabric_attr->prov_name) continue;
    if (best == nullptr ||
        (IsLoopback(AddressText(*best)) && !IsLoopback(AddressText(*info)))) {
      best = info;
    }
  }
  if (best == nullptr) {
    offer.reason = "libfabric offers it under other layers alone";
    return offer;
  }
  offer.info.reset(fi_dupinfo(best), fi_freeinfo);
  offer.domain = best->domain_attr->name;
  offer.address = AddressText(*best);
  return offer;
}

std::vector<std::string> LibfabricNames() {
  std::set<std::string> names;
  fi_info* found = nullptr;
  if (fi_getinfo(FI_VERSION(1, 17), nullptr, nullptr, FI_PROV_ATTR_ONLY,
                 nullptr, &found) != 0) {
    return {};
  }
  for (const fi_info* info = found; info != nullptr; info = info->next) {
    const std::string name = info->fabric_attr->prov_name;
    // Layers and hooks that stand on a provider are no providers.
    if (!name.starts_with("ofi_")) names.insert(name);
  }
  fi_freeinfo(found);
  return {names.begin(), names.end()};
}

}  // namespace

FabricCatalog LibfabricCatalog(const FabricOptions& options) {
  return {[options](const std::string& provider, const std::string& domain) {
            return QueryLibfabric(options, provider, domain);
          },
          LibfabricNames};
}

namespace {

// Of the preferred device, if there is one; else of any. `why_not` it was not
// the preferred one.
FabricOffer QueryNearest(const FabricOptions& options,
                         const FabricCatalog& catalog,
                         const KnownProvider& known, std::string* why_not) {
  const std::string& nearest = options.preferred_domain;
  if (nearest.empty() || !options.domain.empty() || !known.rdma || !known.ip) {
    return catalog.query(known.name, options.domain);
  }
  FabricOffer offer = catalog.query(known.name, nearest);
  if (offer.reason.empty()) return offer;
  *why_not =
      nearest + ", which is the nearest, was passed over: " + offer.reason;
  return catalog.query(known.name, options.domain);
}

}  // namespace

absl::Status CheckFabricOptions(const FabricOptions& options,
                                const FabricCatalog& catalog) {
  if (!options.bind_address.empty() &&
      AddressFamily(options.bind_address) == AF_UNSPEC) {
    return InvalidArgument("the fabric's bind address '" +
                           options.bind_address +
                           "' is not an IP address; give that of one of this "
                           "machine's interfaces, or none");
  }
  if (options.provider == "auto") return absl::OkStatus();
  const std::string name = FullName(options.provider);
  if (const RefusedProvider* const refused = FindRefused(name)) {
    return InvalidArgument("the fabric provider '" + options.provider +
                           "' is never used (" + refused->reason +
                           "); use one of: " + Join(UsableNames(catalog)));
  }
  const KnownProvider* const known = FindKnown(name);
  if (known == nullptr) {
    const std::vector<std::string> names = catalog.names();
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      return InvalidArgument(
          "the fabric provider '" + options.provider +
          "' does not exist; use one of: " + Join(UsableNames(catalog)));
    }
  }
  if (options.rdma_required && known != nullptr && !known->rdma) {
    return InvalidArgument("RDMA is required, and the fabric provider '" +
                           options.provider +
                           "' has none; use 'auto' or 'verbs', or do not "
                           "require it");
  }
  return absl::OkStatus();
}

absl::StatusOr<FabricChoice> ChooseFabric(const FabricOptions& options,
                                          const FabricCatalog& catalog) {
  AGENTMEM_RETURN_IF_ERROR(CheckFabricOptions(options, catalog));
  const bool in_order = options.provider == "auto";
  std::vector<KnownProvider> looked_for;
  const std::string name = FullName(options.provider);
  if (in_order) {
    for (const KnownProvider& known : kKnown) {
      if (known.rdma || !options.rdma_required) looked_for.push_back(known);
    }
  } else {
    const KnownProvider* const known = FindKnown(name);
    looked_for.push_back(known ? *known : KnownProvider{name.c_str(), true});
  }

  FabricChoice choice;
  std::string passed_over;
  for (const KnownProvider& known : looked_for) {
    FabricCandidate candidate = {known.name, known.rdma};
    std::string why_not;
    if (!choice.provider.empty()) {
      candidate.reason = choice.provider + " comes before it";
    } else if (FabricOffer offer =
                   QueryNearest(options, catalog, known, &why_not);
               !offer.reason.empty()) {
      candidate.reason = offer.reason;
      passed_over += std::string(passed_over.empty() ? "" : "; ") + known.name +
                     ": " + offer.reason;
    } else {
      candidate.taken = true;
      candidate.reason =
          in_order ? "the first in the order that is there" : "by its name";
      if (!why_not.empty()) candidate.reason += "; " + why_not;
      choice.provider = known.name;
      choice.domain = offer.domain;
      choice.address = offer.address;
      choice.info = std::move(offer.info);
      choice.rdma = known.rdma;
      const bool preferred = options.preferred_domain.empty() ||
                             !options.domain.empty() ||
                             (known.ip && known.rdma && why_not.empty());
      choice.fallbacks = (in_order && !known.rdma) || !preferred ? 1 : 0;
    }
    choice.candidates.push_back(std::move(candidate));
  }
  if (choice.provider.empty()) {
    const bool rdma = looked_for.front().rdma;
    return FailedPrecondition(
        (options.rdma_required
             ? "RDMA is required, and this machine has none that "
               "can be used ("
             : "no fabric provider can be used (") +
        passed_over + "); " + Advice(rdma));
  }
  return choice;
}

namespace {

std::size_t PeersProvidedFor(std::size_t known_at_start) {
  return std::clamp(known_at_start, kFabricPeers, kFabricPeersMax);
}

}  // namespace

std::string TooManyPeers(const std::string& provider, std::size_t members,
                         std::size_t known_at_start) {
  const std::size_t room = PeersProvidedFor(known_at_start);
  if (!provider.starts_with("verbs") || members <= room + 1) return "";
  return "the cluster has " + std::to_string(members) +
         " members, and this node's completion queues are made for " +
         std::to_string(room) +
         " peers: more at once may overrun them. Start memd with "
         "FI_UNIVERSE_SIZE=" +
         std::to_string(members - 1) +
         " in its environment, if the device has 256 queue entries for each "
         "(max_cqe in `ibv_devinfo -v`)";
}

std::vector<std::pair<std::string, std::string>> FabricEnvironment(
    std::size_t peers) {
  std::vector<std::pair<std::string, std::string>> environment = {
      // RxM asks for completion queues of 256 entries for each peer of the
      // universe; many devices have no more than 32767.
      {"FI_UNIVERSE_SIZE", std::to_string(PeersProvidedFor(peers))},
      // Memory is registered once, for good: a cache of registrations would
      // only keep alive what was given up, and watch our page tables (by
      // userfaultfd, which regions use themselves).
      {"FI_MR_CACHE_MAX_COUNT", "0"},
      {"FI_MR_CACHE_MONITOR", "disabled"},
      // RxM gives each endpoint 1024 buffers and more for messages: of the
      // longest that this transport sends (FabricLink::kMessageBytesMax), and
      // not 4096 of them to receive into. A link takes 20 MiB then, not 90.
      {"FI_OFI_RXM_BUFFER_SIZE", "8192"},
      {"FI_OFI_RXM_MSG_RX_SIZE", "128"},
  };
  // A message that nobody has read when its connection ends is read by RxM 1.17
  // then, which posts its buffer again: to the endpoint that it has just freed.
  // A receive queue that all connections share outlives them. (On TCP the end
  // of a connection takes what is unread with it; and small messages are slower
  // this way.)
  if (DevicesShareReceives()) {
    environment.push_back({"FI_OFI_RXM_USE_SRX", "1"});
  }
  return environment;
}

}  // namespace agentmem
