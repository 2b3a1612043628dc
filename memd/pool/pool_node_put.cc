// PoolNode: putting a block where it belongs, and dropping it there.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "base/status.h"
#include "memd/pool/pool_node.h"
#include "memd/pool/pool_timing.h"

namespace agentmem {

// The bytes as they will lie elsewhere. False: there is no room to seal now.
bool PoolNode::SealPut(std::uint32_t index) {
  Op& op = ops_[index];
  if (sealing_ == nullptr) {
    op.wire = op.op.bytes;
    op.wire_memory = op.op.memory;
    return true;
  }
  // Until it is sealed there is nothing of it that may leave.
  op.buffer = sealing_->Take();
  if (op.buffer == nullptr) return false;
  const absl::Status sealed =
      sealing_->Seal(op.op.tenant, op.op.key, {op.op.bytes, op.op.length},
                     op.buffer, &op.seal);
  // Only OpenSSL's own failure, or a length that Start refuses.
  if (!sealed.ok()) {
    LogError("sealing a block: " + StatusMessage(sealed));
    Finish(index, Code::kInternal);
    return true;
  }
  op.wire = op.buffer;
  op.wire_memory = sealing_->memory();
  return true;
}

std::uint64_t PoolNode::HashOf(Op* op) {
  if (!op->hashed) {
    op->hashed = true;
    op->hash = PieceDigest::Of(PoolSeed(op->op.tenant, op->op.key), op->wire,
                               op->op.length);
  }
  return op->hash;
}

// While reservations are under way.
void PoolNode::HashAhead() {
  while (!to_hash_.empty()) {
    const auto [op, use] = to_hash_.front();
    to_hash_.pop_front();
    if (ops_[op].sequence == use && ops_[op].wire != nullptr) {
      HashOf(&ops_[op]);
    }
  }
}

void PoolNode::StartPut(std::uint32_t index) {
  if (ops_[index].wire == nullptr) {
    const std::uint32_t use = ops_[index].sequence;
    if (!SealPut(index)) return seal_waiters_.push_back({index, use});
    if (ops_[index].sequence != use) return;
  }
  if (ops_[index].op.kind == PoolOp::Kind::kKeep) return StartKeep(index);
  Op& op = ops_[index];
  op.leg = {};
  std::array<std::uint32_t, kLegs> places;
  const std::size_t count = Places(op.op.key.group, op.op.copies, &places);
  if (count < std::min<std::size_t>(op.op.copies, kLegs)) {
    // Whoever was there when it was asked for is away.
    if (count == 0 && op.failed_at == 0) {
      return Finish(index, Code::kUnavailable);
    }
    if (op.failed_at != 0 && PutAgain(index)) return;
  }
  if (count == 0) return Finish(index, Code::kUnavailable);
  op.legs = static_cast<std::uint8_t>(count);
  for (std::uint8_t i = 0; i < count; ++i) op.leg[i].peer = places[i];
  // The remote legs first: their messages are under way while this node copies.
  // The last leg to end finishes the operation, so nothing of it is used after.
  const std::uint32_t sequence = op.sequence;
  for (std::uint8_t i = 0; i < count; ++i) {
    if (places[i] != kSelf) PutThere(index, i);
  }
  to_hash_.push_back({index, sequence});
  for (std::uint8_t i = 0; i < count; ++i) {
    if (places[i] == kSelf && ops_[index].sequence == sequence) {
      PutHere(index, i);
    }
  }
}

void PoolNode::PutThere(std::uint32_t index, std::uint8_t leg_index) {
  Op& op = ops_[index];
  Leg& leg = op.leg[leg_index];
  // Of what repair puts most is there: it asks, and is told so.
  if (op.repair || !FindPeer(leg.peer)->linked) {
    return Ask(index, leg_index, PoolMessage::kReserve);
  }
  const auto place =
      FindPeer(leg.peer)->ahead.Take(SizeClassOf(op.op.length), now_);
  if (!place.has_value()) return Ask(index, leg_index, PoolMessage::kReserve);
  leg.ahead = true;
  leg.asked_at = place->asked_at;
  leg.at = {place->offset, place->generation, 0, op.seal};
  QueueMove(index, leg_index);
}

void PoolNode::PutHere(std::uint32_t index, std::uint8_t leg_index) {
  const PoolOp& put = ops_[index].op;
  ExportPool::Block block;
  block.name = {put.tenant, put.key};
  block.block_class = put.block_class;
  block.length = put.length;
  block.owner = id_;
  block.copies = put.copies;
  Code code = exports_->Reserve(&block, now_);
  if (code == Code::kAlreadyExists) {
    code = Code::kOk;
  } else if (code == Code::kOk) {
    Op& op = ops_[index];
    std::memcpy(exports_->At(block.offset), op.wire, put.length);
    code =
        exports_->Commit(block.name, block.generation,
                         PoolChecksum(HashOf(&op), block.generation), op.seal);
  }
  FinishLeg(index, leg_index, code);
}

void PoolNode::OnReserved(std::uint32_t index, std::uint8_t leg_index,
                          const PoolReserved& reserved) {
  Op& op = ops_[index];
  Leg& leg = op.leg[leg_index];
  if (reserved.code == Code::kAlreadyExists) {
    return FinishLeg(index, leg_index, Code::kOk);
  }
  if (reserved.code != Code::kOk) {
    const bool known = reserved.code == Code::kResourceExhausted ||
                       reserved.code == Code::kAborted;
    return FailLeg(index, leg_index,
                   known ? reserved.code : Code::kUnavailable);
  }
  const Peer& peer = *peers_[leg.peer];
  if (reserved.offset > peer.card.export_bytes ||
      op.op.length > peer.card.export_bytes - reserved.offset) {
    ++counters_.bad_messages;
    return FailLeg(index, leg_index, Code::kUnavailable);
  }
  leg.at = {reserved.offset, reserved.generation, 0, op.seal};
  QueueMove(index, leg_index);
}

void PoolNode::FinishWrite(std::uint32_t index, std::uint8_t leg_index) {
  Op& op = ops_[index];
  if (op.repair) {
    // What was copied may have made room for something else meanwhile.
    const PoolOp& put = op.op;
    const ExportPool::Block* const source =
        exports_->Find({put.tenant, put.key});
    if (source == nullptr || source->generation != op.source_generation ||
        PoolChecksum(PieceDigest::Of(PoolSeed(put.tenant, put.key), put.bytes,
                                     put.length),
                     source->generation) != source->checksum) {
      return FailLeg(index, leg_index, Code::kAborted);
    }
  }
  if (op.op.kind == PoolOp::Kind::kKeep) {
    // A disk takes its time, in which others may seal.
    if (op.buffer != nullptr) {
      sealing_->Give(std::exchange(op.buffer, nullptr));
      op.wire = nullptr;
      op.hashed = false;
    }
    return Ask(index, leg_index, PoolMessage::kKeep);
  }
  Leg& leg = op.leg[leg_index];
  if (!leg.early) return Ask(index, leg_index, PoolMessage::kCommit);
  leg.step = Step::kAsking;
  leg.asking = PoolMessage::kCommit;
  if (leg.answered) OnCommitted(index, leg_index, leg.answer);
}

void PoolNode::OnCommitted(std::uint32_t index, std::uint8_t leg_index,
                           Code code) {
  Op& op = ops_[index];
  Leg& leg = op.leg[leg_index];
  if (leg.step == Step::kMoving) {
    leg.answered = true;
    leg.answer = code;
    return;
  }
  if (code == Code::kNotFound && leg.ahead) {
    // A drop of this block came after the room was reserved.
    leg.ahead = false;
    return Ask(index, leg_index, PoolMessage::kReserve);
  }
  if (code == Code::kOk && !op.repair) Remember(op.op, leg);
  if (code == Code::kOk || code == Code::kAlreadyExists) {
    return FinishLeg(index, leg_index, Code::kOk);
  }
  const bool known = code == Code::kResourceExhausted || code == Code::kAborted;
  FailLeg(index, leg_index, known ? code : Code::kUnavailable);
}

// A node went away under a put: it is begun again where placement names other
// nodes by then. Those that took it say so.
bool PoolNode::PutAgain(std::uint32_t index) {
  Op& op = ops_[index];
  bool away = op.failed_at != 0;
  for (std::uint8_t i = 0; i < op.legs; ++i) {
    const Leg& leg = op.leg[i];
    if (leg.code == Code::kOk || leg.peer == kSelf) continue;
    // An answer that does not come is given up before silence tells why.
    const Peer& peer = *FindPeer(leg.peer);
    away |= peer.state != PoolPeerState::kUp || now_ - peer.heard_at > kDoubtNs;
  }
  if (op.repair || !away) return false;
  if (op.failed_at == 0) op.failed_at = now_;
  const TimeNs at = now_ + kPutAgainNs;
  if (at >= op.deadline || now_ - op.failed_at >= kPutPatienceNs) return false;
  op.legs = 0;
  put_retries_.push_back({index, op.sequence, at});
  return true;
}

void PoolNode::RetryPuts() {
  while (!put_retries_.empty() && put_retries_.front().at <= now_) {
    const PutRetry retry = put_retries_.front();
    put_retries_.pop_front();
    AGENTMEM_CHECK(ops_[retry.op].sequence == retry.sequence);
    StartPut(retry.op);
  }
}

// One after another: those that should have it, and whoever may have it still.
void PoolNode::StartDrop(std::uint32_t index) {
  Op& op = ops_[index];
  if (exports_ != nullptr) {
    exports_->Drop({op.op.tenant, op.op.key}, now_);
  }
  AddPlaces(&op);
  Forget(op.op);
  op.legs = 1;
  NextCandidate(index, 0);
}

}  // namespace agentmem
