// PoolNode: what peers ask of this node's export extents, and their repair.
#include <algorithm>

#include "memd/pool/message_builder.h"
#include "memd/pool/pool_node.h"
#include "memd/pool/pool_timing.h"

namespace agentmem {

void PoolNode::Answer(std::uint32_t index, const PoolHeader& header,
                      std::span<const char> body) {
  const Peer& peer = *peers_[index];
  MessageBuilder answer(AnswerOf(header.type), peer.card.token, header.request);
  for (std::uint32_t i = 0; i < header.count; ++i) {
    switch (header.type) {
      case PoolMessage::kPing:
        answer.Add(PoolPing{options_.instance,
                            exports_ == nullptr ? 0 : exports_->room_bytes()});
        break;
      case PoolMessage::kReserve:
        answer.Add(ServeReserve(peer, EntryAt<PoolReserve>(body, i)));
        break;
      case PoolMessage::kCommit:
        answer.Add(ServeCommit(EntryAt<PoolCommit>(body, i)));
        break;
      case PoolMessage::kFind:
        answer.Add(ServeFind(EntryAt<PoolName>(body, i)));
        break;
      default:
        answer.Add(ServeDrop(EntryAt<PoolDrop>(body, i)));
        break;
    }
  }
  SendOrKeep(index, answer.Finish());
}

PoolReserved PoolNode::ServeReserve(const Peer& peer,
                                    const PoolReserve& asked) {
  PoolReserved reserved = {};
  if (exports_ == nullptr) {
    reserved.code = Code::kResourceExhausted;
    return reserved;
  }
  if (!IsValid(asked.block_class)) {
    ++counters_.bad_messages;
    reserved.code = Code::kInvalidArgument;
    return reserved;
  }
  ExportPool::Block block;
  block.name = {asked.name.tenant, asked.name.key};
  block.block_class = asked.block_class;
  block.length = asked.length;
  block.owner = peer.id;
  reserved.code = exports_->Reserve(&block, now_);
  if (reserved.code == Code::kOk) {
    reserved.offset = block.offset;
    reserved.generation = block.generation;
  }
  return reserved;
}

PoolDone PoolNode::ServeCommit(const PoolCommit& asked) {
  PoolDone done = {};
  done.code = exports_ == nullptr
                  ? Code::kNotFound
                  : exports_->Commit({asked.name.tenant, asked.name.key},
                                     asked.generation, asked.checksum);
  return done;
}

PoolFound PoolNode::ServeFind(const PoolName& asked) {
  PoolFound found = {};
  found.code = Code::kNotFound;
  if (exports_ == nullptr) return found;
  const ExportPool::Block* const block =
      exports_->Find({asked.tenant, asked.key});
  if (block == nullptr) return found;
  found.code = Code::kOk;
  found.block_class = block->block_class;
  found.length = block->length;
  found.offset = block->offset;
  found.generation = block->generation;
  found.checksum = block->checksum;
  return found;
}

PoolDone PoolNode::ServeDrop(const PoolDrop& asked) {
  PoolDone done = {};
  done.code = exports_ == nullptr
                  ? Code::kNotFound
                  : exports_->Drop({asked.name.tenant, asked.name.key},
                                   asked.generation);
  return done;
}

// Tells owners what left, so that they do not count on it.
void PoolNode::Revoke() {
  absl::flat_hash_map<std::uint32_t, MessageBuilder> messages;
  const auto send = [this](std::uint32_t index, MessageBuilder* message) {
    SendOrKeep(index, message->Finish());
  };
  for (const ExportPool::Evicted& evicted : exports_->TakeEvicted()) {
    if (evicted.owner == id_) {
      revoked_.push_back(evicted.name);
      continue;
    }
    for (std::uint32_t i = 0; i < peers_.size(); ++i) {
      if (peers_[i]->id != evicted.owner || !peers_[i]->linked) continue;
      const auto [message, made] = messages.try_emplace(
          i, PoolMessage::kRevoke, peers_[i]->card.token, 0);
      message->second.Add(PoolDrop{{evicted.name.tenant, evicted.name.key},
                                   evicted.generation});
      if (message->second.count() == kPoolEntriesMax) {
        send(i, &message->second);
        messages.erase(i);
      }
    }
  }
  for (auto& [index, message] : messages) send(index, &message);
}

void PoolNode::OnRevoke(const PoolHeader& header, std::span<const char> body) {
  for (std::uint32_t i = 0; i < header.count; ++i) {
    const PoolDrop drop = EntryAt<PoolDrop>(body, i);
    revoked_.push_back({drop.name.tenant, drop.name.key});
  }
}

// A walk over what lies here; what others should have too is put there.
void PoolNode::Repair() {
  if (repair_wanted_ && now_ >= repair_at_) {
    repair_wanted_ = false;
    repairing_ = true;
    repair_cursor_ = 0;
    repair_failed_ = 0;
    repair_credit_ = 0;
    repair_credited_at_ = now_;
  }
  if (!repairing_) return;
  const std::uint64_t earned =
      static_cast<std::uint64_t>(now_ - repair_credited_at_) *
      (options_.repair_bytes_per_second >> 10) / (kSecondNs >> 10);
  repair_credit_ = std::min<std::uint64_t>(
      repair_credit_ + earned,
      std::max<std::uint64_t>(options_.repair_bytes_per_second / 10,
                              2 * kMaxBlockBytes));
  repair_credited_at_ = now_;
  for (std::size_t looked = 0; looked < kRepairWalk; ++looked) {
    if (repairs_in_flight_ >= kRepairsInFlightMax || ops_used_ >= kOpsMax ||
        repair_credit_ < kMaxBlockBytes) {
      return;
    }
    repair_cursor_ = exports_->Walk(
        repair_cursor_, 1, [this](const auto& block) { StartRepair(block); });
    if (repair_cursor_ != 0) continue;
    repairing_ = false;
    // Once more, if a node did not take what it should have.
    if (repair_failed_ != 0) {
      repair_wanted_ = true;
      repair_at_ = now_ + kRepairSettleNs;
    }
    return;
  }
}

void PoolNode::StartRepair(const ExportPool::Block& block) {
  const std::size_t copies =
      block.block_class == BlockClass::kState ? kLegs : 1;
  std::array<std::uint32_t, kLegs> places;
  const std::size_t count = Places(block.name.key.group, copies, &places);
  bool here = false;
  for (std::size_t i = 0; i < count; ++i) here |= places[i] == kSelf;
  if (count == 0 || (here && count == 1)) return;

  PoolOp put;
  put.kind = PoolOp::Kind::kPut;
  put.block_class = block.block_class;
  put.tenant = block.name.tenant;
  put.key = block.name.key;
  put.memory = options_.export_memory;
  put.bytes = exports_->At(block.offset);
  put.length = block.length;
  const std::uint32_t index = NewOp(put);
  Op& op = ops_[index];
  op.repair = true;
  op.leaves = !here;
  op.source_generation = block.generation;
  for (std::size_t i = 0; i < count; ++i) {
    if (places[i] != kSelf) op.leg[op.legs++].peer = places[i];
  }
  ++repairs_in_flight_;
  const std::uint8_t legs = op.legs;
  const std::uint32_t sequence = op.sequence;
  for (std::uint8_t i = 0; i < legs && ops_[index].sequence == sequence; ++i) {
    Ask(index, i, PoolMessage::kReserve);
  }
}

void PoolNode::FinishRepair(const Op& op, Code code) {
  --repairs_in_flight_;
  if (code != Code::kOk) {
    ++repair_failed_;
    return;
  }
  std::uint64_t written = 0;
  for (std::uint8_t i = 0; i < op.legs; ++i) written += op.leg[i].moved != 0;
  repair_credit_ -= std::min(repair_credit_, written * op.op.length);
  (op.leaves ? counters_.moved : counters_.repaired) += written;
  if (op.leaves) {
    exports_->Drop({op.op.tenant, op.op.key}, op.source_generation);
  }
}

}  // namespace agentmem
