// Which of libfabric's providers carries the traffic, and why.
//
// "auto" goes through a stated order and takes the first that offers what the
// transport needs (messages and one-sided reads and writes between reliable
// datagram endpoints), and that opens:
//
//   verbs;ofi_rxm   InfiniBand, RoCE, iWARP
//   efa psm3 opx    other networks with RDMA of their own
//   tcp;ofi_rxm     any network: a fallback, and counted as one
//
// Never taken, not even by name: sockets (a thousand times slower), udp (loses
// bytes), net (a core burns while it waits), shm (takes any key).
//
// Ownership: FabricChoice shares libfabric's description. Threads: any; one at
// a time. Errors: INVALID_ARGUMENT: options that can never be met;
// FAILED_PRECONDITION: this machine cannot meet them. The message names what
// was looked for and what to do. Cost: libfabric loads its providers at the
// first call, up to a second.
#ifndef AGENTMEM_MEMD_TRANSPORT_FABRIC_PROVIDER_H_
#define AGENTMEM_MEMD_TRANSPORT_FABRIC_PROVIDER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

struct fi_info;

namespace agentmem {

struct FabricOptions {
  // "auto", "verbs", "tcp", or a name of libfabric's, such as "tcp;ofi_rxm".
  std::string provider = "auto";
  // Without RDMA nothing opens, rather than something slower.
  bool rdma_required = false;
  // IP address of the interface that peers reach this node by; empty: the
  // first interface that is not loopback.
  std::string bind_address;
  // libfabric's domain, such as an RDMA device: "mlx5_0". Empty: any.
  std::string domain;
  // Where `domain` is empty: the RDMA device to try before others. Another one,
  // or another network, is a fallback then.
  std::string preferred_domain;
  // One operation of the network carries at most so many bytes; 0: as many as
  // the provider takes.
  std::uint64_t piece_bytes_max = 0;
};

// What one provider offers. `reason`: why it offers nothing; else empty.
struct FabricOffer {
  std::string domain;
  std::string address;  // of the interface, for people
  std::shared_ptr<fi_info> info;
  std::string reason;
};

struct FabricCandidate {
  std::string provider;
  bool rdma = false;
  bool taken = false;
  std::string reason;  // why it was taken, or passed over
};

struct FabricChoice {
  std::string provider;  // libfabric's name
  std::string domain;
  std::string address;
  bool rdma = false;
  std::uint64_t fallbacks = 0;  // 1: no RDMA, or not by what was preferred
  std::vector<FabricCandidate> candidates;
  std::shared_ptr<fi_info> info;
};

// What went wrong on the network so far.
struct FabricCounters {
  std::uint64_t links_lost = 0;
  std::uint64_t messages_dropped = 0;  // too long, or to where none belongs
  // Of nothing that was posted here, such as a peer's write that carries data.
  std::uint64_t completions_unknown = 0;
};

// What there is to choose from: libfabric, or a test's list. A query may find
// out whether what is offered opens, too.
struct FabricCatalog {
  std::function<FabricOffer(const std::string& provider,
                            const std::string& domain)>
      query;
  std::function<std::vector<std::string>()> names;
};
FabricCatalog LibfabricCatalog(const FabricOptions& options);

// INVALID_ARGUMENT: no machine can meet them. Queries nothing.
absl::Status CheckFabricOptions(const FabricOptions& options,
                                const FabricCatalog& catalog);

absl::StatusOr<FabricChoice> ChooseFabric(const FabricOptions& options,
                                          const FabricCatalog& catalog);

// Peers that the inbox's completion queue is made for on verbs, 256 entries
// each: with more of them at once it may overrun, which ends it. 127 of them
// fill the 32767 entries that many devices have at most.
inline constexpr std::size_t kFabricPeers = 64;
inline constexpr std::size_t kFabricPeersMax = 127;

// What main() sets, where the user has not, before the first call to libfabric
// (it reads these once): names and values. Opens each RDMA device, and closes
// it. `peers`: how many are known of.
std::vector<std::pair<std::string, std::string>> FabricEnvironment(
    std::size_t peers = 0);

// So many members are more than the queues were made for: what to do. Empty:
// they are not, or the provider does not care.
std::string TooManyPeers(const std::string& provider, std::size_t members,
                         std::size_t known_at_start);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TRANSPORT_FABRIC_PROVIDER_H_
