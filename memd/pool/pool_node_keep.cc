// PoolNode: another node's store keeps this one's blocks; and the other side,
// what peers ask of this one's store.
#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "memd/pool/message_builder.h"
#include "memd/pool/pool_node.h"
#include "memd/pool/pool_timing.h"

namespace agentmem {

void PoolNode::ServeStore(ServedStore* store) {
  AGENTMEM_CHECK(exports_ != nullptr);
  server_ = std::make_unique<StoreServer>(exports_, store, sealing_);
}

std::unique_ptr<LentDrain> PoolNode::DrainLent(ServedStore* store) {
  if (exports_ == nullptr) return nullptr;
  return std::make_unique<LentDrain>(exports_, store, sealing_,
                                     [this] { taking_ = false; });
}

void PoolNode::UseRemoteStore(std::vector<std::string> nodes) {
  remote_store_ = true;
  store_names_ = std::move(nodes);
}

bool PoolNode::IsNamedStore(const std::string& node) const {
  return store_names_.empty() ||
         std::find(store_names_.begin(), store_names_.end(), node) !=
             store_names_.end();
}

// Is its store one that may have blocks of other nodes: of this one, or, if it
// has a disk, of any? (A member that is gone had them, and may come back.)
bool PoolNode::MayHaveKept(const Peer& peer) const {
  return peer.card.store_bytes != 0 &&
         peer.card.store_version == kStoreVersion &&
         IsNamedStore(peer.card.node);
}

bool PoolNode::MayKeep(const Peer& peer) const {
  return remote_store_ && !peer.gone && MayHaveKept(peer);
}

void PoolNode::RebuildStores() {
  std::vector<tiering::PlacementNode> nodes;
  absl::flat_hash_map<std::string, std::uint32_t> index_of;
  for (std::uint32_t i = 0; i < peers_.size(); ++i) {
    const Peer& peer = *peers_[i];
    if (peer.state != PoolPeerState::kUp || !MayKeep(peer)) continue;
    tiering::PlacementNode node;
    node.name = peer.card.node;
    node.weight = peer.card.store_bytes;
    nodes.push_back(node);
    index_of[node.name] = i;
  }
  store_placement_ = tiering::Placement(nodes);
  store_peers_.clear();
  for (const tiering::PlacementNode& node : store_placement_.nodes()) {
    store_peers_.push_back(index_of[node.name]);
  }
}

std::uint32_t PoolNode::StoreOf(std::uint32_t group) const {
  std::uint32_t node = 0;
  if (store_placement_.Place(group, {&node, 1}) == 0) return kNobody;
  return store_peers_[node];
}

// First the one that would get it now; it may be in any of them.
void PoolNode::AddStores(Op* op) {
  std::uint32_t hinted = kNobody;
  if (Recall(op->op, &hinted) != nullptr) AddCandidate(op, hinted);
  const std::uint32_t first = StoreOf(op->op.key.group);
  if (first != kNobody) AddCandidate(op, first);
  for (const std::uint32_t peer : store_peers_) AddCandidate(op, peer);
}

// Is there a node that may have a block on its disk, and cannot be asked now?
bool PoolNode::IsAStoreAway() const {
  for (const std::string& name : store_names_) {
    const auto known = by_node_.find(name);
    if (known == by_node_.end() ||
        peers_[known->second]->state != PoolPeerState::kUp) {
      return true;
    }
  }
  for (const auto& peer : peers_) {
    if (MayHaveKept(*peer) &&
        (peer->gone || peer->state != PoolPeerState::kUp)) {
      return true;
    }
  }
  return remote_store_ && store_peers_.empty();
}

// (Sealed already, where blocks are.)
void PoolNode::StartKeep(std::uint32_t index) {
  Op& op = ops_[index];
  op.leg = {};
  const std::uint32_t peer = StoreOf(op.op.key.group);
  if (peer == kNobody) {
    // Whoever was there when it was asked for is away.
    if (op.failed_at != 0 && PutAgain(index)) return;
    return Finish(index, Code::kUnavailable);
  }
  op.legs = 1;
  op.leg[0].peer = peer;
  op.kept_by = peer;
  const std::uint32_t sequence = op.sequence;
  Ask(index, 0, PoolMessage::kStage);
  to_hash_.push_back({index, sequence});
}

void PoolNode::OnStaged(std::uint32_t index, std::uint8_t leg_index,
                        const StoreStaged& staged) {
  Op& op = ops_[index];
  Leg& leg = op.leg[leg_index];
  const Peer& peer = *peers_[leg.peer];
  if (staged.code == Code::kAlreadyExists) {
    FindPeer(leg.peer)->refusal = StoreRefusal::kNone;
    return FinishLeg(index, leg_index, Code::kOk);
  }
  if (staged.code != Code::kOk) {
    return RefusedBy(
        index, leg_index,
        {staged.code, staged.refusal, staged.limit_bytes, staged.used_bytes});
  }
  if (staged.offset > peer.card.export_bytes ||
      op.op.length > peer.card.export_bytes - staged.offset) {
    ++counters_.bad_messages;
    return FailLeg(index, leg_index, Code::kUnavailable);
  }
  leg.at = {staged.offset, staged.generation, 0, op.seal};
  QueueMove(index, leg_index);
}

void PoolNode::OnKept(std::uint32_t index, std::uint8_t leg_index,
                      const StoreKept& kept) {
  const Op& op = ops_[index];
  const Leg& leg = op.leg[leg_index];
  if (kept.code != Code::kOk) {
    return RefusedBy(
        index, leg_index,
        {kept.code, kept.refusal, kept.limit_bytes, kept.used_bytes});
  }
  Peer* const peer = FindPeer(leg.peer);
  ++peer->keeps;
  peer->bytes_kept += op.op.length;
  peer->refusal = StoreRefusal::kNone;
  Remember(op.op, leg);
  FinishLeg(index, leg_index, Code::kOk);
}

void PoolNode::RefusedBy(std::uint32_t index, std::uint8_t leg_index,
                         const StoreVerdict& verdict) {
  Op& op = ops_[index];
  Peer* const peer = FindPeer(op.leg[leg_index].peer);
  // It has lost the place, or cannot take more just now: from the beginning.
  const bool again = verdict.refusal == StoreRefusal::kBusy ||
                     verdict.refusal == StoreRefusal::kDraining ||
                     verdict.code == Code::kNotFound;
  if (again && now_ + kPutAgainNs < op.deadline) {
    op.legs = 0;
    if (op.buffer != nullptr) {
      sealing_->Give(std::exchange(op.buffer, nullptr));
      op.wire = nullptr;
      op.hashed = false;
    }
    put_retries_.push_back({index, op.sequence, now_ + kPutAgainNs});
    return;
  }
  ++peer->keeps_refused;
  // An error has a reason, known or not.
  peer->refusal = verdict.refusal == StoreRefusal::kNone ? StoreRefusal{0xffff}
                                                         : verdict.refusal;
  peer->refusal_limit = verdict.limit_bytes;
  peer->refusal_used = verdict.used_bytes;
  // Once a reason and run of its memd.
  const std::uint32_t bit = 1u << std::min<std::uint32_t>(
                                static_cast<std::uint32_t>(peer->refusal), 31);
  if ((peer->refusals_told & bit) == 0) {
    peer->refusals_told |= bit;
    LogWarning("the store of node " + peer->card.node +
               " does not take a block: " + TextOfStore(*peer));
  }
  const bool known = verdict.code == Code::kResourceExhausted ||
                     verdict.code == Code::kAborted;
  FailLeg(index, leg_index, known ? verdict.code : Code::kUnavailable);
}

void PoolNode::StartErase(std::uint32_t index) {
  Op& op = ops_[index];
  for (const std::uint32_t peer : store_peers_) AddCandidate(&op, peer);
  Forget(op.op);
  op.unreachable = IsAStoreAway();
  op.legs = 1;
  NextCandidate(index, 0);
}

void PoolNode::FinishStore(const Op& op, Code code) {
  PoolStoreDone done;
  done.ticket = op.op.ticket;
  done.code = code;
  done.length = op.op.length;
  std::uint32_t peer =
      op.kept_by != kNobody ? op.kept_by : StoreOf(op.op.key.group);
  for (std::uint32_t i = 0; i < peers_.size() && peer == kNobody; ++i) {
    if (MayHaveKept(*peers_[i])) peer = i;
  }
  if (peer != kNobody) {
    done.node = peers_[peer]->card.node;
  } else if (!store_names_.empty()) {
    done.node = store_names_.front();
  } else {
    done.node = "(no node serves)";
  }
  store_done_.push_back(done);
}

std::size_t PoolNode::TakeStoreDone(std::span<PoolStoreDone> out) {
  std::size_t given = 0;
  while (given < out.size() && !store_done_.empty()) {
    out[given++] = store_done_.front();
    store_done_.pop_front();
  }
  return given;
}

void PoolNode::OnStored(std::uint64_t generation, const StoreVerdict& verdict) {
  server_->OnStored(generation, verdict);
}

void PoolNode::AnswerStore(std::uint32_t index, const PoolHeader& header,
                           std::span<const char> body) {
  const Peer& peer = *peers_[index];
  const StoreServer::Asker asker = {index, peer.card.instance, header.request};
  if (header.type == PoolMessage::kKeep && server_ != nullptr) {
    std::vector<StoreKeep> asked;
    for (std::uint32_t i = 0; i < header.count; ++i) {
      asked.push_back(EntryAt<StoreKeep>(body, i));
    }
    return server_->Keep(asker, asked);  // SendKept answers
  }
  MessageBuilder answer(AnswerOf(header.type), peer.card.token, header.request);
  for (std::uint32_t i = 0; i < header.count; ++i) {
    if (header.type == PoolMessage::kStage) {
      StoreStaged staged = {};
      staged.code = Code::kFailedPrecondition;
      staged.refusal = StoreRefusal::kNotServed;
      answer.Add(
          server_ == nullptr
              ? staged
              : server_->Stage(asker, EntryAt<StoreStage>(body, i), now_));
    } else if (header.type == PoolMessage::kKeep) {
      answer.Add(StoreKept{Code::kFailedPrecondition, StoreRefusal::kNotServed,
                           0, 0, 0});
    } else {
      PoolDone done = {};
      done.code = Code::kFailedPrecondition;
      answer.Add(server_ == nullptr
                     ? done
                     : server_->Erase(EntryAt<StoreErase>(body, i), now_));
    }
  }
  SendOrKeep(index, answer.Finish());
}

void PoolNode::SendKept() {
  server_->Pump();
  for (const StoreServer::Answer& answer : server_->TakeAnswers()) {
    const Peer& peer = *peers_[answer.asker.peer];
    // Another run of it did not ask.
    if (peer.gone || peer.card.instance != answer.asker.instance) continue;
    MessageBuilder message(PoolMessage::kKept, peer.card.token,
                           answer.asker.request);
    for (const StoreKept& kept : answer.kept) message.Add(kept);
    SendOrKeep(answer.asker.peer, message.Finish());
  }
}

}  // namespace agentmem
