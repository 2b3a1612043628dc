// PoolNode: peers, their links, and the messages on them.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "memd/pool/message_builder.h"
#include "memd/pool/pool_node.h"
#include "memd/pool/pool_timing.h"

namespace agentmem {

namespace {

// Who has none of these answered puts elsewhere.
bool IsPut(PoolMessage type) {
  return type == PoolMessage::kReserve || type == PoolMessage::kCommit ||
         type == PoolMessage::kStage || type == PoolMessage::kKeep ||
         type == PoolMessage::kPing;
}

}  // namespace

void PoolNode::AddPeer(const PoolPeer& card, TimeNs now) {
  now_ = now;
  if (card.node == options_.node) return;
  const auto known = by_node_.find(card.node);
  std::uint32_t index = 0;
  if (known == by_node_.end()) {
    index = static_cast<std::uint32_t>(peers_.size());
    peers_.push_back(std::make_unique<Peer>());
    by_node_[card.node] = index;
  } else {
    index = known->second;
    Peer* const peer = FindPeer(index);
    const bool same = !peer->gone && peer->card.instance == card.instance &&
                      peer->card.fabric_address == card.fabric_address &&
                      peer->card.token == card.token;
    by_token_.erase(peer->card.token_given);
    if (same && peer->state != PoolPeerState::kDown) {
      peer->card.token_given = card.token_given;
      by_token_[card.token_given] = index;
      return;
    }
    if (peer->linked) Lose(index);
    peer->gone = false;
  }
  Peer* const peer = FindPeer(index);
  if (peer->card.instance != card.instance) {
    peer->refusal = StoreRefusal::kNone;
    peer->refusals_told = 0;
  }
  peer->card = card;
  peer->id = NodeIdOf(card.node);
  by_token_[card.token_given] = index;
  peer->backoff = 0;
  Connect(index);
}

void PoolNode::ExpectMembers(std::vector<std::string> nodes) {
  members_ = std::move(nodes);
  std::erase(members_, options_.node);
  told_of_members_ = true;
}

void PoolNode::RemovePeer(const std::string& node, TimeNs now) {
  now_ = now;
  const auto known = by_node_.find(node);
  if (known == by_node_.end()) return;
  Peer* const peer = FindPeer(known->second);
  peer->gone = true;
  by_token_.erase(peer->card.token_given);
  if (peer->linked) {
    Lose(known->second);
  } else {
    peer->state = PoolPeerState::kDown;
  }
}

void PoolNode::Connect(std::uint32_t index) {
  Peer* const peer = FindPeer(index);
  const auto link = transport_->Connect(peer->card.fabric_address);
  if (!link.ok()) {
    peer->state = PoolPeerState::kDown;
    peer->backoff = kBackoffNsMax;
    peer->retry_at = now_ + peer->backoff;
    LogWarning("node " + peer->card.node + ": " + link.status().ToString());
    return;
  }
  peer->link = *link;
  peer->linked = true;
  peer->state = PoolPeerState::kConnecting;
  peer->connected_at = now_;
  peer->heard_at = now_;
  by_link_[link->value()] = index;
  SendPing(index);
}

// Everything that waits for it goes elsewhere, or fails.
void PoolNode::Lose(std::uint32_t index) {
  Peer* const peer = FindPeer(index);
  if (!peer->linked) return;
  by_link_.erase(peer->link.value());
  transport_->Close(peer->link);
  peer->linked = false;
  const bool was_up = peer->state == PoolPeerState::kUp;
  peer->state = PoolPeerState::kDown;
  if (was_up) peer->lost_at = now_;
  peer->backoff = std::clamp(2 * peer->backoff, kBackoffNsMin, kBackoffNsMax);
  peer->retry_at = now_ + peer->backoff;
  ++peer->losses;
  peer->asked = 0;
  peer->unsent.clear();
  peer->ahead.Clear();

  std::vector<LegRef> legs;
  for (auto& outbox : peer->outbox) {
    legs.insert(legs.end(), outbox.begin(), outbox.end());
    outbox.clear();
  }
  legs.insert(legs.end(), peer->waiting.begin(), peer->waiting.end());
  peer->waiting.clear();
  for (auto request = requests_.begin(); request != requests_.end();) {
    if (request->second.peer != index) {
      ++request;
      continue;
    }
    legs.insert(legs.end(), request->second.legs.begin(),
                request->second.legs.end());
    request = requests_.erase(request);
  }
  if (was_up) Rebuild();
  for (const LegRef& ref : legs) {
    if (!IsCurrent(ref)) continue;
    const Leg& leg = ops_[ref.op].leg[ref.leg];
    if (leg.peer == index && leg.step != Step::kDone &&
        leg.step != Step::kIdle) {
      FailLeg(ref.op, ref.leg, Code::kUnavailable);
    }
  }
}

// Placement is over who is up and lends memory.
void PoolNode::Rebuild() {
  std::vector<tiering::PlacementNode> nodes;
  absl::flat_hash_map<std::string, std::uint32_t> index_of;
  const auto add = [&](const std::string& name, const std::string& rack,
                       std::uint64_t weight, std::uint32_t index) {
    tiering::PlacementNode node;
    node.name = name;
    node.weight = weight;
    node.rack = rack;
    nodes.push_back(node);
    index_of[name] = index;
  };
  if (exports_ != nullptr && exports_->capacity_bytes() != 0) {
    add(options_.node, options_.rack, exports_->capacity_bytes(), kSelf);
  }
  for (std::uint32_t i = 0; i < peers_.size(); ++i) {
    const Peer& peer = *peers_[i];
    if (peer.state == PoolPeerState::kUp && !peer.gone &&
        peer.card.export_bytes != 0) {
      add(peer.card.node, peer.card.rack, peer.card.export_bytes, i);
    }
  }
  placement_ = tiering::Placement(nodes);
  placed_peers_.clear();
  for (const tiering::PlacementNode& node : placement_.nodes()) {
    placed_peers_.push_back(index_of[node.name]);
  }
  places_ = placed_peers_.size();
  places_elsewhere_ = static_cast<std::size_t>(
      std::count_if(placed_peers_.begin(), placed_peers_.end(),
                    [](std::uint32_t peer) { return peer != kSelf; }));
  if (remote_store_) RebuildStores();
  changed_at_ = now_;
  ++changes_;
  repair_backoff_ = 0;
  if (exports_ != nullptr) WantRepair(kRepairSettleNs);
}

void PoolNode::SendPing(std::uint32_t index) {
  Peer* const peer = FindPeer(index);
  peer->pinged_at = now_;
  MessageBuilder message(PoolMessage::kPing, peer->card.token,
                         static_cast<std::uint64_t>(now_));
  PoolPing ping = {};
  ping.instance = options_.instance;
  ping.room_bytes = exports_ == nullptr ? 0 : exports_->room_bytes();
  message.Add(ping);
  transport_->Send(peer->link, message.Finish(), kNoTicket, now_ + kSilentNs);
}

void PoolNode::FlushOutboxes() {
  for (std::uint32_t i = 0; i < peers_.size(); ++i) {
    Peer* const peer = FindPeer(i);
    if (!peer->linked) continue;
    while (!peer->unsent.empty()) {
      if (!transport_->Send(peer->link, peer->unsent.front(), kNoTicket,
                            now_ + kAskNs)) {
        break;
      }
      peer->unsent.pop_front();
    }
    for (const PoolMessage type :
         {PoolMessage::kCommit, PoolMessage::kKeep, PoolMessage::kFind,
          PoolMessage::kReserve, PoolMessage::kStage, PoolMessage::kDrop,
          PoolMessage::kErase}) {
      while (!peer->outbox[OutboxOf(type)].empty() && FlushType(i, type)) {
      }
    }
    FlushAhead(i);
    if (!peer->waiting.empty()) Pump(i);
  }
}

// Behind all that has somebody who waits for it.
void PoolNode::FlushAhead(std::uint32_t index) {
  Peer* const peer = FindPeer(index);
  while (const auto wanted = peer->ahead.Ask()) {
    MessageBuilder message(PoolMessage::kReserve, peer->card.token,
                           next_request_);
    PoolReserve reserve = {};
    reserve.length = SizeClassBytes(wanted->size_class);
    reserve.ahead = 1;
    for (std::uint32_t i = 0; i < wanted->count; ++i) message.Add(reserve);
    Request request;
    request.peer = index;
    request.type = PoolMessage::kReserve;
    request.deadline = now_ + kAskNs;
    request.ahead = *wanted;
    request.asked_at = now_;
    if (!transport_->Send(peer->link, message.Finish(), kNoTicket,
                          request.deadline)) {
      return peer->ahead.Refused(*wanted, now_);
    }
    ++peer->asked;
    requests_[next_request_++] = std::move(request);
  }
}

// So many fit into a message, and into its answer.
std::uint32_t PoolNode::EntriesMax(PoolMessage type) const {
  const std::size_t bytes =
      std::max(EntryBytes(type), EntryBytes(AnswerOf(type)));
  return std::min<std::uint32_t>(
      kPoolEntriesMax, static_cast<std::uint32_t>(
                           (message_bytes_max_ - sizeof(PoolHeader)) / bytes));
}

void PoolNode::AddEntry(MessageBuilder* message, PoolMessage type,
                        const LegRef& ref) {
  Op& op = ops_[ref.op];
  Leg& leg = op.leg[ref.leg];
  const PoolName name = {op.op.tenant, op.op.key};
  switch (type) {
    case PoolMessage::kReserve:
      return message->Add(PoolReserve{name, op.op.length, op.op.block_class,
                                      op.repair, op.op.copies, 0});
    case PoolMessage::kFind:
      return message->Add(name);
    case PoolMessage::kErase:
      return message->Add(StoreErase{name, op.op.block_class, {}});
    case PoolMessage::kStage:
      return message->Add(
          StoreStage{name, op.op.length, op.op.block_class, op.op.durable, 0});
    case PoolMessage::kKeep:
      return message->Add(KeepOf(name, leg, op.op.durable));
    case PoolMessage::kDrop:
      return message->Add(PoolDrop{name, 0});
    default:
      break;
  }
  leg.at.checksum = PoolChecksum(HashOf(&op), leg.at.generation);
  PoolCommit commit = {name,
                       leg.at.generation,
                       leg.at.checksum,
                       op.op.length,
                       op.op.block_class,
                       op.op.copies,
                       leg.ahead,
                       0,
                       {}};
  static_assert(sizeof(commit.seal) == sizeof(leg.at.seal));
  std::memcpy(commit.seal, &leg.at.seal, sizeof(commit.seal));
  message->Add(commit);
}

StoreKeep PoolNode::KeepOf(const PoolName& name, const Leg& leg, bool durable) {
  StoreKeep keep = {name, leg.at.generation, leg.at.checksum, {}, durable, {}};
  static_assert(sizeof(keep.seal) == sizeof(leg.at.seal));
  std::memcpy(&keep.seal, &leg.at.seal, sizeof(keep.seal));
  return keep;
}

bool PoolNode::FlushType(std::uint32_t index, PoolMessage type) {
  Peer* const peer = FindPeer(index);
  std::vector<LegRef>& outbox = peer->outbox[OutboxOf(type)];
  const std::uint64_t id = next_request_++;
  MessageBuilder message(type, peer->card.token, id);
  Request request;
  request.peer = index;
  request.type = type;
  const bool disk_reads = type == PoolMessage::kFind && MayKeep(*peer);
  request.prompt = type != PoolMessage::kKeep && !disk_reads;
  request.deadline = now_ + (request.prompt ? kAskNs
                             : disk_reads   ? kStoreFindNs
                                            : kStoreOpNs);
  const std::size_t entries_max = EntriesMax(type);
  std::size_t taken = 0;
  for (; taken < outbox.size() && request.legs.size() < entries_max; ++taken) {
    const LegRef& ref = outbox[taken];
    if (!IsCurrent(ref)) continue;
    const Leg& leg = ops_[ref.op].leg[ref.leg];
    // (Of others: it has given up on this one.)
    if (leg.peer != index || !leg.Awaits(type)) continue;
    AddEntry(&message, type, ref);
    // Behind bytes that are on their way.
    if (leg.early) request.deadline = now_ + kMoveNs + kAskNs;
    request.legs.push_back(ref);
  }
  if (!request.legs.empty()) {
    if (!transport_->Send(peer->link, message.Finish(), kNoTicket,
                          request.deadline)) {
      return false;  // they stay for the next time
    }
    if (peer->asked == 0 && peer->moving == 0) {
      peer->progress_at = kNoDeadline;
    }
    if (request.prompt) ++peer->asked;
    requests_[id] = std::move(request);
  }
  outbox.erase(outbox.begin(),
               outbox.begin() + static_cast<std::ptrdiff_t>(taken));
  return true;
}

void PoolNode::SendOrKeep(std::uint32_t index, std::string message) {
  Peer* const peer = FindPeer(index);
  if (!peer->linked) return;
  if (peer->unsent.empty() &&
      transport_->Send(peer->link, message, kNoTicket, now_ + kAskNs)) {
    return;
  }
  if (peer->unsent.size() < kUnsentMax) {
    peer->unsent.push_back(std::move(message));
  }
}

void PoolNode::OnMessage(std::span<const char> message) {
  PoolHeader header;
  if (message.size() < sizeof(header)) {
    ++counters_.bad_messages;
    return;
  }
  std::memcpy(&header, message.data(), sizeof(header));
  const auto body = message.subspan(sizeof(header));
  const auto sender = by_token_.find(header.token);
  // Of another version: its Hello was refused, which told both sides so; or, of
  // stores, the asker knows it from the card.
  if (header.magic != kPoolMagic || header.version != VersionOf(header.type) ||
      header.bytes != message.size() || header.count > kPoolEntriesMax ||
      body.size() != header.count * EntryBytes(header.type) ||
      EntryBytes(header.type) == 0 || header.count == 0 ||
      sender == by_token_.end()) {
    ++counters_.bad_messages;
    return;
  }
  const std::uint32_t index = sender->second;
  if (!taking_ && IsPut(header.type)) return;
  switch (header.type) {
    case PoolMessage::kPing:
    case PoolMessage::kReserve:
    case PoolMessage::kCommit:
    case PoolMessage::kFind:
    case PoolMessage::kDrop:
      // Its answer would not fit.
      if (header.count > EntriesMax(header.type)) {
        ++counters_.bad_messages;
        return;
      }
      return Answer(index, header, body);
    case PoolMessage::kStage:
    case PoolMessage::kKeep:
    case PoolMessage::kErase:
      if (header.count > EntriesMax(header.type)) {
        ++counters_.bad_messages;
        return;
      }
      return AnswerStore(index, header, body);
    case PoolMessage::kRevoke:
      return OnRevoke(index, header, body);
    case PoolMessage::kPong:
      return TakePong(index, header, body);
    default:
      return OnAnswer(index, header, body);
  }
}

void PoolNode::TakePong(std::uint32_t index, const PoolHeader& header,
                        std::span<const char> body) {
  Peer* const peer = FindPeer(index);
  const auto asked_at = static_cast<TimeNs>(header.request);
  const auto pong = EntryAt<PoolPing>(body, 0);
  // Of another run, or of no ping at all.
  if (header.count != 1 || pong.instance != peer->card.instance ||
      asked_at > now_) {
    ++counters_.bad_messages;
    return;
  }
  if (!peer->linked || asked_at < peer->connected_at) return;  // too late
  peer->heard_at = now_;
  peer->progress_at = now_;
  peer->room_bytes = pong.room_bytes;
  short_elsewhere_ |=
      peer->room_bytes < peer->card.export_bytes / kNearlyFullPart;
  peer->round_trip_ns = now_ - asked_at;
  if (peer->state != PoolPeerState::kConnecting) return;
  peer->state = PoolPeerState::kUp;
  peer->met = true;
  peer->backoff = 0;
  Rebuild();
}

void PoolNode::OnAnswer(std::uint32_t index, const PoolHeader& header,
                        std::span<const char> body) {
  const auto found = requests_.find(header.request);
  if (found == requests_.end()) return;  // too late
  const std::size_t entries = found->second.ahead.count != 0
                                  ? found->second.ahead.count
                                  : found->second.legs.size();
  if (found->second.peer != index ||
      header.type != AnswerOf(found->second.type) || header.count != entries) {
    ++counters_.bad_messages;
    return;
  }
  const Request request = std::move(found->second);
  requests_.erase(found);
  Peer* const peer = FindPeer(index);
  peer->heard_at = now_;
  peer->progress_at = now_;
  if (request.prompt && peer->asked != 0) --peer->asked;
  if (request.ahead.count != 0) return TakeRoom(request, body);
  for (std::size_t i = 0; i < request.legs.size(); ++i) {
    const LegRef& ref = request.legs[i];
    if (!IsCurrent(ref)) continue;
    const Leg& leg = ops_[ref.op].leg[ref.leg];
    if (leg.peer != index || !leg.Awaits(request.type)) continue;
    switch (request.type) {
      case PoolMessage::kReserve:
        OnReserved(ref.op, ref.leg, EntryAt<PoolReserved>(body, i));
        break;
      case PoolMessage::kFind:
        OnFound(ref.op, ref.leg, EntryAt<PoolFound>(body, i));
        break;
      case PoolMessage::kStage:
        OnStaged(ref.op, ref.leg, EntryAt<StoreStaged>(body, i));
        break;
      case PoolMessage::kKeep:
        OnKept(ref.op, ref.leg, EntryAt<StoreKept>(body, i));
        break;
      case PoolMessage::kCommit:
        OnCommitted(ref.op, ref.leg, EntryAt<PoolDone>(body, i).code);
        break;
      default: {
        // Not there is what was wanted.
        // (What a store keeps for others is none of this node's.)
        const Code code = EntryAt<PoolDone>(body, i).code;
        const bool others = request.type == PoolMessage::kErase &&
                            code == Code::kFailedPrecondition;
        FailLeg(ref.op, ref.leg,
                code == Code::kOk || others ? Code::kNotFound : code);
        break;
      }
    }
  }
}

void PoolNode::TakeRoom(const Request& request, std::span<const char> body) {
  Peer* const peer = FindPeer(request.peer);
  const auto [size_class, count] = request.ahead;
  const std::uint64_t bytes = SizeClassBytes(size_class);
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto reserved = EntryAt<PoolReserved>(body, i);
    const bool lies = reserved.code == Code::kOk &&
                      (bytes > peer->card.export_bytes ||
                       reserved.offset > peer->card.export_bytes - bytes);
    counters_.bad_messages += lies;
    if (reserved.code == Code::kOk && !lies) {
      peer->ahead.Came(
          size_class, {reserved.offset, reserved.generation, request.asked_at});
    } else {
      peer->ahead.Refused({size_class, 1}, now_);
    }
  }
}

void PoolNode::ExpireRequests() {
  std::vector<LegRef> legs;
  for (auto request = requests_.begin(); request != requests_.end();) {
    if (now_ < request->second.deadline) {
      ++request;
      continue;
    }
    Peer* const peer = FindPeer(request->second.peer);
    if (request->second.prompt && peer->asked != 0) --peer->asked;
    if (request->second.ahead.count != 0) {
      peer->ahead.Refused(request->second.ahead, now_);
    }
    legs.insert(legs.end(), request->second.legs.begin(),
                request->second.legs.end());
    request = requests_.erase(request);
  }
  for (const LegRef& ref : legs) {
    if (!IsCurrent(ref)) continue;
    Leg& leg = ops_[ref.op].leg[ref.leg];
    if (leg.step == Step::kMoving) leg.answered = true;  // with UNAVAILABLE
    if (leg.step == Step::kAsking) {
      FailLeg(ref.op, ref.leg, Code::kUnavailable);
    }
  }
}

void PoolNode::TickPeers() {
  for (std::uint32_t i = 0; i < peers_.size(); ++i) {
    Peer* const peer = FindPeer(i);
    if (peer->gone) continue;
    if (!peer->linked) {
      if (now_ >= peer->retry_at) Connect(i);
      continue;
    }
    const bool busy = peer->moving != 0 || peer->asked != 0;
    if (now_ - peer->heard_at > kSilentNs) {
      Lose(i);
      continue;
    }
    if (busy && now_ - peer->progress_at > kStallNs && HasOtherCopy(i)) {
      Lose(i);
      continue;
    }
    if (busy && peer->moving == 0 && peer->pinged_at <= peer->progress_at &&
        now_ - peer->progress_at > kProbeNs) {
      SendPing(i);
    }
    const DurationNs every =
        peer->state == PoolPeerState::kConnecting ? kConnectPingNs : kPingNs;
    if (now_ - peer->pinged_at >= every) SendPing(i);
  }
}

// Of what is asked of the peer, or read from it, is there anything that another
// node may have too?
bool PoolNode::HasOtherCopy(std::uint32_t index) const {
  for (const Op& op : ops_) {
    if (op.sequence == 0 || op.op.kind == PoolOp::Kind::kPut ||
        op.op.kind == PoolOp::Kind::kDrop ||
        op.op.kind == PoolOp::Kind::kKeep ||
        op.op.kind == PoolOp::Kind::kErase) {
      continue;
    }
    const Leg& leg = op.leg[0];
    if (leg.peer == index && (leg.step == Step::kAsking || !leg.still()) &&
        op.candidate_next < op.candidate_count) {
      return true;
    }
  }
  return false;
}

}  // namespace agentmem
