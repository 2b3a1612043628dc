// PoolNode: reading a block back, or finding out who has it.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "memd/pool/pool_node.h"
#include "memd/pool/pool_timing.h"

namespace agentmem {

void PoolNode::AddCandidate(Op* op, std::uint32_t peer) {
  const auto end = op->candidates.begin() + op->candidate_count;
  if (op->candidate_count < kCandidates &&
      std::find(op->candidates.begin(), end, peer) == end) {
    op->candidates[op->candidate_count++] = peer;
  }
}

// Those that should have it, and the one that had it; not this node.
void PoolNode::AddPlaces(Op* op) {
  std::uint32_t hinted = kNobody;
  if (Recall(op->op, &hinted) != nullptr) AddCandidate(op, hinted);
  std::array<std::uint32_t, kLegs> places;
  const std::size_t count = Places(op->op.key.group, kLegs, &places);
  for (std::size_t i = 0; i < count; ++i) {
    if (places[i] != kSelf) AddCandidate(op, places[i]);
  }
  if (remote_store_) AddStores(op);
  // Not moved yet to where it belongs.
  op->everywhere = now_ - changed_at_ < kWanderNs || !whole();
}

// Is there a member that this node has not met since it started?
bool PoolNode::HasMissingMembers() const {
  if (!options_.expects_members) return false;
  if (!told_of_members_) return true;
  return std::any_of(
      members_.begin(), members_.end(), [this](const std::string& node) {
        const auto known = by_node_.find(node);
        return known == by_node_.end() || !peers_[known->second]->met;
      });
}

// May a node that cannot be asked now have a state block?
bool PoolNode::MayBeElsewhere() const {
  return HasMissingMembers() || IsAStoreAway() ||
         std::any_of(peers_.begin(), peers_.end(), [](const auto& peer) {
           return !peer->gone && peer->card.export_bytes != 0 &&
                  peer->state != PoolPeerState::kUp;
         });
}

// Of what nobody knows the class of: may it be `state`, with a node that cannot
// be asked now? A miss would say that it is nowhere. (A node without a disk
// knows nothing of what it has put before it was started again. One with a disk
// knows its own; it waits for who went away a moment ago, and may be back.)
bool PoolNode::MayBeForgotten(const Op& op) const {
  if (op.op.kind != PoolOp::Kind::kFind) return false;
  if (remote_store_) return MayBeElsewhere();
  return std::any_of(peers_.begin(), peers_.end(), [this](const auto& peer) {
    return !peer->gone && peer->lost_at != 0 && peer->card.export_bytes != 0 &&
           peer->state != PoolPeerState::kUp && now_ - peer->lost_at < kMeetNs;
  });
}

void PoolNode::StartGet(std::uint32_t index) {
  Op& op = ops_[index];
  if (exports_ != nullptr &&
      exports_->Find({op.op.tenant, op.op.key}) != nullptr) {
    AddCandidate(&op, kSelf);
  }
  if (op.op.store) {
    AddStores(&op);
    op.unreachable = IsAStoreAway() || HasMissingMembers();
  }
  AddPlaces(&op);
  op.unreachable |= MayBeForgotten(op);
  if (op.op.block_class == BlockClass::kState) {
    // It is looked for everywhere before it is called lost, and not so called
    // while a node that may have it is away.
    op.everywhere = true;
    op.unreachable |= MayBeElsewhere();
  }
  op.legs = 1;
  NextCandidate(index, 0);
}

std::uint32_t PoolNode::TakeCandidate(Op* op) {
  if (op->candidate_next != op->candidate_count) {
    return op->candidates[op->candidate_next++];
  }
  const auto end = op->candidates.begin() + op->candidate_count;
  while (op->everywhere && op->everywhere_next < peers_.size()) {
    const std::uint32_t peer = op->everywhere_next++;
    if (peers_[peer]->state == PoolPeerState::kUp &&
        peers_[peer]->card.export_bytes != 0 &&
        std::find(op->candidates.begin(), end, peer) == end) {
      return peer;
    }
  }
  return kNobody;
}

void PoolNode::NextCandidate(std::uint32_t index, std::uint8_t leg_index) {
  Op& op = ops_[index];
  Leg& leg = op.leg[leg_index];
  leg = Leg();
  const bool erase = op.op.kind == PoolOp::Kind::kErase;
  const bool drop = op.op.kind == PoolOp::Kind::kDrop || erase;
  if (now_ >= op.deadline) {
    op.unreachable = true;
  } else {
    leg.peer = TakeCandidate(&op);
  }
  if (leg.peer == kNobody && !op.unreachable && !op.corrupt && !op.twice &&
      op.op.block_class == BlockClass::kState && !drop) {
    // It may have gone from one that was asked late to one that was asked
    // early.
    op.twice = true;
    op.candidate_next = 0;
    op.everywhere_next = 0;
    leg.peer = TakeCandidate(&op);
  }
  if (leg.peer == kNobody) {
    leg.step = Step::kDone;
    op.unreachable |= !drop && !op.corrupt && now_ - started_at_ < kMeetNs &&
                      HasMissingMembers();
    // One that went away since the start was passed over.
    op.unreachable |=
        !drop && op.op.block_class == BlockClass::kState && MayBeElsewhere();
    op.unreachable |= MayBeForgotten(op);
    return Finish(index, op.unreachable ? Code::kUnavailable
                         : op.corrupt   ? Code::kDataLoss
                         : drop         ? Code::kOk
                                        : Code::kNotFound);
  }
  if (leg.peer == kSelf) return GetHere(index, leg_index);
  if (drop) {
    return Ask(index, leg_index,
               erase ? PoolMessage::kErase : PoolMessage::kDrop);
  }
  if (op.op.kind == PoolOp::Kind::kGet) {
    std::uint32_t hinted = kNobody;
    const Hint* const hint = Recall(op.op, &hinted);
    if (hint != nullptr && hinted == leg.peer) {
      leg.at = hint->at;
      leg.hinted = true;
      return QueueMove(index, leg_index);
    }
  }
  Ask(index, leg_index, PoolMessage::kFind);
}

void PoolNode::GetHere(std::uint32_t index, std::uint8_t leg_index) {
  Op& op = ops_[index];
  Leg& leg = op.leg[leg_index];
  leg.step = Step::kQueued;
  const ExportPool::Block* const block =
      exports_->Find({op.op.tenant, op.op.key});
  if (block == nullptr) return FailLeg(index, leg_index, Code::kNotFound);
  op.found.block_class = block->block_class;
  op.found.length = block->length;
  if (op.op.kind == PoolOp::Kind::kGet) {
    if (block->length != op.op.length) {
      return FailLeg(index, leg_index, Code::kNotFound);
    }
    std::memcpy(op.op.bytes, exports_->At(block->offset), block->length);
    const std::uint64_t hash = PieceDigest::Of(
        PoolSeed(op.op.tenant, op.op.key), op.op.bytes, op.op.length);
    if (!TakeBytes(
            &op, hash,
            {block->offset, block->generation, block->checksum, block->seal})) {
      ++counters_.corrupt;
      return FailLeg(index, leg_index, Code::kDataLoss);
    }
    ++counters_.gets_local;
  }
  leg.step = Step::kDone;
  Finish(index, Code::kOk);
}

void PoolNode::OnFound(std::uint32_t index, std::uint8_t leg_index,
                       const PoolFound& found) {
  Op& op = ops_[index];
  Leg& leg = op.leg[leg_index];
  if (found.code != Code::kOk) {
    const bool known =
        found.code == Code::kNotFound || found.code == Code::kDataLoss;
    if (found.code == Code::kDataLoss && IsValid(found.block_class)) {
      op.found.block_class = found.block_class;  // of what is lost
    }
    return FailLeg(index, leg_index, known ? found.code : Code::kUnavailable);
  }
  const Peer& peer = *peers_[leg.peer];
  const bool lies = found.length == 0 || found.length > kMaxBlockBytes ||
                    !IsValid(found.block_class) ||
                    found.offset > peer.card.export_bytes ||
                    found.length > peer.card.export_bytes - found.offset;
  if (lies) {
    ++counters_.bad_messages;
    return FailLeg(index, leg_index, Code::kUnavailable);
  }
  leg.at = {found.offset, found.generation, found.checksum, {}};
  std::memcpy(&leg.at.seal, found.seal, sizeof(leg.at.seal));
  if (op.op.kind == PoolOp::Kind::kFind) {
    op.found = found;
    Remember(op.op, leg);
    leg.step = Step::kDone;
    return Finish(index, Code::kOk);
  }
  // Computed anew with another length: not the block that is meant.
  if (found.length != op.op.length) {
    return FailLeg(index, leg_index, Code::kNotFound);
  }
  QueueMove(index, leg_index);
}

bool PoolNode::TakeBytes(Op* op, std::uint64_t hash, const Location& at) {
  const bool sealed = at.seal.format != 0;
  // Who seals takes nothing in the clear: anybody could have put it there.
  if (sealed != (sealing_ != nullptr)) return false;
  if (!sealed) return PoolChecksum(hash, at.generation) == at.checksum;
  return sealing_
      ->Open(op->op.tenant, op->op.key, at.seal, {op->op.bytes, op->op.length})
      .ok();
}

void PoolNode::FinishRead(std::uint32_t index, std::uint8_t leg_index) {
  Op& op = ops_[index];
  Leg& leg = op.leg[leg_index];
  const bool sealed = leg.at.seal.format != 0;
  if (TakeBytes(&op, sealed ? 0 : op.digest.Finish(), leg.at)) {
    Remember(op.op, leg);
    counters_.gets_elsewhere += op.candidate_next > 1 || op.everywhere_next > 0;
    leg.step = Step::kDone;
    return Finish(index, Code::kOk);
  }
  // The place may have got another life between the word and the read.
  if (leg.hinted || !leg.again) {
    ++counters_.stale;
    leg.again = !leg.hinted;
    leg.hinted = false;
    Forget(op.op);
    return Ask(index, leg_index, PoolMessage::kFind);
  }
  ++counters_.corrupt;
  FailLeg(index, leg_index, Code::kDataLoss);
}

}  // namespace agentmem
