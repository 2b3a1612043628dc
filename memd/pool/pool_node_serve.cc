// PoolNode: what peers ask of this node's export extents.
#include <algorithm>
#include <cstring>

#include "memd/pool/message_builder.h"
#include "memd/pool/pool_node.h"
#include "memd/pool/pool_timing.h"

namespace agentmem {

void PoolNode::Answer(std::uint32_t index, const PoolHeader& header,
                      std::span<const char> body) {
  if (header.type == PoolMessage::kFind) {
    return ServeFinds(index, header, body);
  }
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
        answer.Add(ServeCommit(peer, EntryAt<PoolCommit>(body, i)));
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
  if (asked.ahead != 0) return ServeReserveAhead(peer, asked);
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
  block.copies = std::max<std::uint8_t>(1, asked.copies);
  reserved.code = exports_->Reserve(&block, now_, asked.repair != 0);
  if (reserved.code == Code::kOk) {
    reserved.offset = block.offset;
    reserved.generation = block.generation;
  }
  return reserved;
}

PoolReserved PoolNode::ServeReserveAhead(const Peer& peer,
                                         const PoolReserve& asked) {
  PoolReserved reserved = {};
  ExportPool::Block block;
  block.length = asked.length;
  block.owner = peer.id;
  reserved.code = exports_->ReserveAhead(&block, now_);
  if (reserved.code == Code::kOk) {
    reserved.offset = block.offset;
    reserved.generation = block.generation;
  }
  return reserved;
}

PoolDone PoolNode::ServeCommit(const Peer& peer, const PoolCommit& asked) {
  PoolDone done = {};
  done.code = Code::kNotFound;
  if (exports_ == nullptr) return done;
  const ExportPool::Name name = {asked.name.tenant, asked.name.key};
  if (asked.ahead != 0) {
    ExportPool::Block block;
    block.name = name;
    block.block_class = asked.block_class;
    block.length = asked.length;
    block.generation = asked.generation;
    block.owner = peer.id;
    block.copies = std::max<std::uint8_t>(1, asked.copies);
    done.code = IsValid(asked.block_class) ? exports_->NameReserved(block)
                                           : Code::kInvalidArgument;
    counters_.bad_messages += done.code == Code::kInvalidArgument;
    if (done.code != Code::kOk) return done;
  }
  // Another's, or of this node's own disk, which reads or writes there.
  const ExportPool::Block* const there = exports_->Reserved(asked.generation);
  if (there == nullptr || there->below || there->owner != peer.id) {
    done.code = Code::kNotFound;
    return done;
  }
  SealedHeader seal;
  static_assert(sizeof(seal) == sizeof(asked.seal));
  std::memcpy(&seal, asked.seal, sizeof(seal));
  done.code = exports_->Commit(name, asked.generation, asked.checksum, seal);
  if (done.code == Code::kOk) NoteStray(name);
  return done;
}

// The writer may see other nodes than this one does. Then what it put here, or
// the other copy, is not where this node would look; and no change here will
// ever make a walk of it.
void PoolNode::NoteStray(const ExportPool::Name& name) {
  const bool state = CopiesOf(*exports_->Find(name)) == kLegs;
  std::array<std::uint32_t, kLegs> places;
  const std::size_t count = Places(name.key.group, state ? kLegs : 1, &places);
  const auto end = places.begin() + static_cast<std::ptrdiff_t>(count);
  const bool here = std::find(places.begin(), end, kSelf) != end;
  if (here && (!state || now_ - changed_at_ > kWanderNs)) return;
  if (strays_.size() < kStraysMax) {
    strays_.push_back({name, now_});
  } else {
    WantRepair(kRepairSettleNs);
  }
}

PoolDone PoolNode::ServeDrop(const PoolDrop& asked) {
  PoolDone done = {};
  done.code = exports_ == nullptr
                  ? Code::kNotFound
                  : exports_->Drop({asked.name.tenant, asked.name.key}, now_);
  return done;
}

// Tells owners what left, so that they do not count on it.
void PoolNode::Revoke() {
  absl::btree_map<std::uint32_t, MessageBuilder> messages;  // in one order
  const auto send = [this](std::uint32_t index, MessageBuilder* message) {
    SendOrKeep(index, message->Finish());
  };
  for (const ExportPool::Evicted& evicted : exports_->TakeEvicted()) {
    if (evicted.owner == id_) {
      if (revoked_.size() < kRevokedMax) revoked_.push_back(evicted.name);
      continue;
    }
    for (std::uint32_t i = 0; i < peers_.size(); ++i) {
      if (peers_[i]->id != evicted.owner || !peers_[i]->linked) continue;
      const auto [message, made] = messages.try_emplace(
          i, PoolMessage::kRevoke, peers_[i]->card.token, 0);
      message->second.Add(PoolDrop{{evicted.name.tenant, evicted.name.key},
                                   evicted.generation});
      if (message->second.count() == EntriesMax(PoolMessage::kDrop)) {
        send(i, &message->second);
        messages.erase(i);
      }
    }
  }
  for (auto& [index, message] : messages) send(index, &message);
}

void PoolNode::OnRevoke(std::uint32_t index, const PoolHeader& header,
                        std::span<const char> body) {
  const Peer& peer = *peers_[index];
  for (std::uint32_t i = 0; i < header.count; ++i) {
    const auto drop = EntryAt<PoolDrop>(body, i);
    PoolOp op;
    op.tenant = drop.name.tenant;
    op.key = drop.name.key;
    Hint& hint = HintOf(op);
    if (hint.node == peer.id && hint.at.generation == drop.generation) {
      Forget(op);
    }
    if (revoked_.size() < kRevokedMax) revoked_.push_back({op.tenant, op.key});
  }
}

}  // namespace agentmem
