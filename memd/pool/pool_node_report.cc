// PoolNode: what it says of itself, to operators and to tests.
#include <utility>

#include "memd/pool/pool_node.h"

namespace agentmem {

PoolSnapshot PoolNode::Snapshot(TimeNs now) const {
  PoolSnapshot snapshot = counters_;
  snapshot.queued = ops_used_;
  if (exports_ != nullptr) {
    snapshot.export_bytes = exports_->capacity_bytes();
    snapshot.export_used_bytes = exports_->used_bytes();
    snapshot.export_blocks = exports_->blocks();
    snapshot.export_evictions = exports_->evictions();
    snapshot.reservations_expired = exports_->reservations_expired();
    snapshot.export_refused = exports_->refused();
  }
  for (const auto& peer : peers_) {
    if (peer->gone) continue;
    PoolPeerSnapshot one;
    one.node = peer->card.node;
    one.rack = peer->card.rack;
    one.instance = peer->card.instance;
    one.state = peer->state;
    one.heard_ns = now - peer->heard_at;
    one.export_bytes = peer->card.export_bytes;
    one.room_bytes = peer->room_bytes;
    one.round_trip_ns = peer->round_trip_ns;
    one.bytes_read = peer->bytes_read;
    one.bytes_written = peer->bytes_written;
    one.in_flight = peer->moving;
    one.losses = peer->losses;
    snapshot.peers.push_back(std::move(one));
  }
  if (server_ != nullptr) snapshot.served = server_->Snapshot();
  snapshot.store_remote = remote_store_;
  if (remote_store_) snapshot.stores = SnapshotStores();
  return snapshot;
}

PoolNode::Shortage PoolNode::TakeShortage() {
  Shortage shortage;
  shortage.elsewhere = std::exchange(short_elsewhere_, false);
  if (exports_ != nullptr) {
    const std::uint64_t refused = exports_->refused();
    shortage.here = std::exchange(refused_taken_, refused) != refused;
  }
  return shortage;
}

std::string PoolNode::CheckInvariants() const {
  if (exports_ != nullptr) {
    if (std::string wrong = exports_->CheckInvariants(); !wrong.empty()) {
      return wrong;
    }
  }
  if (server_ != nullptr) {
    if (std::string wrong = server_->CheckInvariants(); !wrong.empty()) {
      return wrong;
    }
  }
  std::size_t used = 0;
  std::vector<std::uint32_t> moving(peers_.size());
  for (const Op& op : ops_) {
    if (op.sequence == 0) continue;
    ++used;
    for (std::uint8_t i = 0; i < op.legs; ++i) {
      const Leg& leg = op.leg[i];
      if (leg.step == Step::kMoving && leg.peer != kSelf) {
        moving[leg.peer] += leg.posted - leg.moved;
      }
    }
  }
  if (used != ops_used_) return "operations in use and their count";
  if (used + free_ops_.size() != ops_.size()) return "free operations";
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    if (moving[i] != peers_[i]->moving) return "transfers under way to a peer";
    if (moving[i] == 0 && peers_[i]->moving_bytes != 0) {
      return "bytes under way to a peer";
    }
  }
  return "";
}

}  // namespace agentmem
