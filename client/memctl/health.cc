#include "client/memctl/health.h"

#include <set>

#include "base/status.h"
#include "client/memctl/human_text.h"

namespace agentmem::memctl {
namespace {

// So many names stand in a sentence; the others are counted.
constexpr std::size_t kNamesMax = 4;
// A member that left is called down so long, unless it is back: whoever looks
// later has seen it, or meant it.
constexpr DurationNs kLeftShownNs = 600 * kSecondNs;

std::string Join(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kNamesMax; ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  if (names.size() > kNamesMax) {
    text += " and " + std::to_string(names.size() - kNamesMax) + " more";
  }
  return text;
}

void CheckProvider(const admin::v1::FabricSnapshot& fabric, Health* health) {
  if (fabric.provider().empty()) {
    health->reasons.push_back(
        {"no_fabric", "no fabric is open: other nodes' memory is out of reach",
         "look at memd's log, and at the candidates of `memctl fabric`",
         Level::kProblem});
    return;
  }
  if (fabric.rdma()) return;
  std::string why;
  for (const auto& candidate : fabric.candidates()) {
    if (!candidate.rdma() || candidate.taken()) continue;
    why = " (" + candidate.provider() + ": " + candidate.reason() + ")";
    break;
  }
  if (fabric.rdma_asked()) {
    health->reasons.push_back(
        {"no_rdma",
         "RDMA was asked for, and " + fabric.provider() + " is in use" + why,
         "see `memctl fabric` for the devices, and `memctl doctor`",
         Level::kProblem});
  } else if (fabric.fallbacks() > 0 && !fabric.devices().best().empty()) {
    health->reasons.push_back(
        {"no_rdma",
         fabric.devices().best() + " could do RDMA, and " + fabric.provider() +
             " is in use" + why,
         "let [fabric] address be that of the device's interface, or name the "
         "provider that is wanted"});
  }
}

void CheckPeers(const admin::v1::FabricSnapshot& fabric, Health* health) {
  std::vector<std::string> down;
  std::vector<std::string> absent;
  std::set<std::string> known = {fabric.pool().node()};
  for (const auto& peer : fabric.pool().peers()) {
    known.insert(peer.node());
    if (peer.state() == admin::v1::PEER_STATE_DOWN) {
      down.push_back(peer.node() + " (heard " + HumanDuration(peer.heard_ns()) +
                     " ago)");
    } else if (peer.state() != admin::v1::PEER_STATE_UP) {
      absent.push_back(peer.node());
    }
  }
  int left_count = 0;
  for (const auto& member : fabric.cluster().left()) {
    if (member.left_ns() > kLeftShownNs ||
        !known.insert(member.node()).second) {
      continue;
    }
    ++left_count;
    down.push_back(member.node() + " (left the cluster " +
                   HumanDuration(member.left_ns()) + " ago)");
  }
  for (const auto& member : fabric.cluster().members()) {
    if (!known.contains(member.node())) {
      absent.push_back(member.node() + " at " + member.address());
    }
  }
  if (!down.empty()) {
    health->reasons.push_back(
        {"peers_down",
         std::to_string(down.size()) + " of " +
             std::to_string(fabric.pool().peers_size() + left_count) +
             " peers down: " + Join(down),
         "see whether memd runs there, and whether the network carries"});
  }
  if (!absent.empty()) {
    health->reasons.push_back(
        {"peers_not_connected", "not connected: " + Join(absent),
         "see whether memd runs there, and its log for a refused Hello"});
  }
}

// A node without a disk, and those that have its blocks.
void CheckStores(const admin::v1::PoolSnapshot& pool, Health* health) {
  if (!pool.store_remote()) return;
  if (pool.stores_size() == 0) {
    health->reasons.push_back(
        {"store_unreachable",
         "this node has no disk, and no member serves its own: nothing can be "
         "made durable",
         "set `serve` in [store] on a node with a disk", Level::kProblem});
  }
  for (const auto& store : pool.stores()) {
    if (!store.reachable()) {
      health->reasons.push_back(
          {"store_unreachable",
           "the store of node " + store.node() +
               ", where this node's blocks are kept: " + store.text(),
           "see whether memd runs there; what waits for it goes on by itself",
           Level::kProblem});
    } else if (store.refuses()) {
      health->reasons.push_back(
          {"store_refuses",
           "the store of node " + store.node() +
               " takes no more blocks: " + store.text(),
           "make room there; what waits for it is tried again each second"});
    }
  }
}

void CheckCluster(const admin::v1::FabricSnapshot& fabric, Health* health) {
  if (!fabric.cluster().reachable()) {
    health->reasons.push_back(
        {"cluster_unreachable",
         fabric.cluster().kind() +
             " is out of reach: the list of members is of epoch " +
             std::to_string(fabric.cluster().epoch()) +
             ", and what needs agreement is UNAVAILABLE",
         "see whether etcd runs and answers at [cluster] etcd",
         Level::kProblem});
  }
  if (fabric.peers_insecure()) {
    health->reasons.push_back(
        {"peers_insecure",
         "peers are believed what they say: no TLS between nodes",
         "set certificate, key and authority in [cluster], and drop insecure"});
  }
}

}  // namespace

const char* HealthName(Health::State state) {
  switch (state) {
    case Health::State::kOk:
      return "ok";
    case Health::State::kDegraded:
      return "degraded";
    case Health::State::kUnknown:
      return "unknown";
  }
  return "unknown";
}

bool IsAlone(const admin::v1::FabricSnapshot& fabric) {
  return fabric.cluster().kind().empty() || fabric.cluster().kind() == "none";
}

Health HealthOf(const absl::StatusOr<admin::v1::FabricSnapshot>& fabric) {
  Health health;
  if (!fabric.ok()) {
    health.state = Health::State::kUnknown;
    health.reasons.push_back(
        {"not_told", StatusMessage(fabric.status()), "see the message"});
    return health;
  }
  for (const auto& trouble : fabric->troubles()) {
    std::string text = trouble.text();
    if (trouble.since_ns() != 0) {
      text += " (for " + HumanDuration(trouble.since_ns()) + ")";
    }
    health.reasons.push_back(
        {trouble.name(), text, trouble.remedy(), Level::kProblem});
  }
  if (!IsAlone(*fabric)) {
    CheckProvider(*fabric, &health);
    CheckCluster(*fabric, &health);
    CheckPeers(*fabric, &health);
    CheckStores(fabric->pool(), &health);
  }
  for (const std::string& warning : fabric->warnings()) {
    health.reasons.push_back({"warning", warning, "see memd's log"});
  }
  if (!health.reasons.empty()) health.state = Health::State::kDegraded;
  return health;
}

}  // namespace agentmem::memctl
