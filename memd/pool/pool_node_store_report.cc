// PoolNode: what it says to people of the stores that keep its blocks.
#include "memd/pool/pool_node.h"

namespace agentmem {
namespace {

std::string Bytes(std::uint64_t bytes) {
  return std::to_string(bytes) + " bytes";
}

}  // namespace

std::string PoolNode::TextOfStore(const Peer& peer) const {
  const std::string used = Bytes(peer.refusal_used) + " of " +
                           Bytes(peer.refusal_limit) + " are used";
  switch (peer.refusal) {
    case StoreRefusal::kNone:
      return "takes what comes";
    case StoreRefusal::kNotServed:
      return "it serves no other node: set `serve` in [store] there";
    case StoreRefusal::kNoTenant:
      return "the tenant is not configured there: add its [[tenant]]";
    case StoreRefusal::kBudget:
      return "its budget for all blocks, `serve` in [store] there, is used "
             "up: " +
             used;
    case StoreRefusal::kQuota:
      return "the tenant's `store_quota` there is used up: " + used;
    case StoreRefusal::kDiskFull:
      return "its disk is full, at " + peer.card.store_path;
    case StoreRefusal::kNoPlace:
      return "the memory that it lends, through which blocks go, is full of "
             "what may not leave: raise `export` in [pool] there";
    case StoreRefusal::kBusy:
      return "too much is on its way to it";
    case StoreRefusal::kSealing:
      return "only one of the two nodes seals blocks: give both the same "
             "`keys` in [pool]";
    case StoreRefusal::kWrongBytes:
      return "what arrived is not what was sent, or the `keys` in [pool] "
             "differ";
    case StoreRefusal::kOtherBlock:
      return "it has another block of that name";
    case StoreRefusal::kDevice:
      return "its disk failed, at " + peer.card.store_path;
    case StoreRefusal::kDraining:
      return "its memd is shutting down";
  }
  return "for a reason that this memd does not know";
}

std::vector<RemoteStoreSnapshot> PoolNode::SnapshotStores() const {
  std::vector<RemoteStoreSnapshot> stores;
  for (const auto& known : peers_) {
    const Peer& peer = *known;
    const bool named = !store_names_.empty() && IsNamedStore(peer.card.node);
    if (!named && (peer.card.store_bytes == 0 || !store_names_.empty())) {
      continue;
    }
    RemoteStoreSnapshot one;
    one.node = peer.card.node;
    one.serve_bytes = peer.card.store_bytes;
    one.path = peer.card.store_path;
    one.writes = peer.keeps;
    one.bytes_written = peer.bytes_kept;
    one.refused = peer.keeps_refused;
    if (peer.gone || peer.state != PoolPeerState::kUp) {
      one.text = "does not answer";
    } else if (peer.card.store_version != kStoreVersion) {
      one.text =
          "it speaks version " + std::to_string(peer.card.store_version) +
          " of the stores' protocol, this memd speaks version " +
          std::to_string(kStoreVersion) + "; update the older of the two";
    } else if (peer.card.store_bytes == 0) {
      one.text = "it serves no other node: set `serve` in [store] there";
    } else {
      one.reachable = true;
      one.refuses = peer.refusal != StoreRefusal::kNone;
      one.text = TextOfStore(peer);
    }
    stores.push_back(std::move(one));
  }
  for (const std::string& name : store_names_) {
    if (by_node_.contains(name)) continue;
    RemoteStoreSnapshot one;
    one.node = name;
    one.text = "was not met yet";
    stores.push_back(std::move(one));
  }
  return stores;
}

}  // namespace agentmem
