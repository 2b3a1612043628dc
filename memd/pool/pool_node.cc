#include "memd/pool/pool_node.h"

#include <algorithm>

#include "base/check.h"
#include "memd/pool/pool_timing.h"

namespace agentmem {
namespace {

constexpr std::size_t kEventsPerPoll = 64;
constexpr std::size_t kHints = 1 << 16;

// Transfers carry whose they are: op, leg, piece.
std::uint64_t TicketOf(std::uint32_t op, std::uint8_t leg, std::uint8_t piece) {
  return std::uint64_t{op} << 16 | std::uint64_t{leg} << 8 | piece;
}

DurationNs LongestOf(const PoolOp& op) {
  return op.kind == PoolOp::Kind::kKeep ? kStoreOpNs : kPoolOpNs;
}

std::uint32_t PieceBytes(const PoolOp& op, std::uint8_t piece) {
  return op.kind == PoolOp::Kind::kGet ? PieceDigest::LengthOf(op.length, piece)
                                       : op.length;
}

}  // namespace

std::uint64_t PoolNode::NodeIdOf(const std::string& name) {
  return PieceDigest::Of(0, name.data(),
                         static_cast<std::uint32_t>(name.size())) |
         1;  // never 0
}

PoolNode::PoolNode(const PoolNodeOptions& options, Transport* transport,
                   ExportPool* exports)
    : options_(options),
      id_(NodeIdOf(options.node)),
      transport_(transport),
      exports_(exports),
      hints_(kHints),
      events_(kEventsPerPoll) {
  counters_.node = options.node;
  message_bytes_max_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(
      kPoolMessageBytesMax, transport->limits().message_bytes_max));
  AGENTMEM_CHECK(EntriesMax(PoolMessage::kReserve) != 0);
  Rebuild();
}

PoolNode::~PoolNode() = default;

absl::StatusOr<MemoryId> PoolNode::Register(std::span<char> memory) {
  const auto made = transport_->Register(memory, RemoteAccess::kNone);
  if (!made.ok()) return made.status();
  return made->id;
}

bool PoolNode::Submit(const PoolOp& op) {
  if (ops_used_ + done_.size() + store_done_.size() >= kOpsMax) return false;
  submitted_.push_back(NewOp(op));
  return true;
}

// Not by Submit: what time it is there nobody knows, and room that was reserved
// ahead is used by its age.
void PoolNode::StartSubmitted() {
  for (const std::uint32_t index : submitted_) {
    Op& op = ops_[index];
    op.deadline = std::min(op.op.deadline, now_ + LongestOf(op.op));
    Start(index);
  }
  submitted_.clear();
}

std::uint32_t PoolNode::NewOp(const PoolOp& op) {
  if (free_ops_.empty()) {
    free_ops_.push_back(static_cast<std::uint32_t>(ops_.size()));
    ops_.emplace_back();
  }
  const std::uint32_t index = free_ops_.back();
  free_ops_.pop_back();
  Op& made = ops_[index];
  PieceDigest digest = std::move(made.digest);  // its memory is used again
  made = Op();
  made.digest = std::move(digest);
  made.op = op;
  made.sequence = next_sequence_++;
  if (next_sequence_ == 0) next_sequence_ = 1;
  made.deadline = std::min(op.deadline, now_ + LongestOf(op));
  ++ops_used_;
  return index;
}

void PoolNode::Start(std::uint32_t index) {
  const PoolOp& op = ops_[index].op;
  const bool bytes = op.kind == PoolOp::Kind::kPut ||
                     op.kind == PoolOp::Kind::kGet ||
                     op.kind == PoolOp::Kind::kKeep;
  if (bytes && (op.length == 0 || op.length > kMaxBlockBytes)) {
    return Finish(index, Code::kInvalidArgument);
  }
  switch (op.kind) {
    case PoolOp::Kind::kPut:
      ++counters_.puts;
      return StartPut(index);
    case PoolOp::Kind::kGet:
      ++counters_.gets;
      return StartGet(index);
    case PoolOp::Kind::kFind:
      return StartGet(index);
    case PoolOp::Kind::kDrop:
      return StartDrop(index);
    case PoolOp::Kind::kKeep:
      return StartPut(index);  // which seals
    case PoolOp::Kind::kErase:
      return StartErase(index);
  }
}

void PoolNode::Finish(std::uint32_t index, Code code) {
  Op& op = ops_[index];
  for (std::uint8_t i = 0; i < op.legs; ++i) {
    AGENTMEM_CHECK(op.leg[i].still());
  }
  if (op.repair) {
    FinishRepair(op, code);
  } else if (op.op.store) {
    FinishStore(op, code);
  } else {
    PoolCompletion completion;
    completion.ticket = op.op.ticket;
    completion.code = code;
    completion.block_class = op.found.block_class;
    completion.length = op.found.length;
    for (std::uint8_t i = 0; i < op.legs; ++i) {
      const bool made =
          op.leg[i].step == Step::kDone && op.leg[i].code == Code::kOk;
      completion.copies += made;
      completion.elsewhere += made && op.leg[i].peer != kSelf;
    }
    const bool get = op.op.kind == PoolOp::Kind::kGet;
    counters_.gets_not_found += get && code == Code::kNotFound;
    counters_.puts_failed +=
        op.op.kind == PoolOp::Kind::kPut && code != Code::kOk;
    done_.push_back(completion);
  }
  if (op.buffer != nullptr) sealing_->Give(std::exchange(op.buffer, nullptr));
  op.sequence = 0;
  free_ops_.push_back(index);
  --ops_used_;
}

bool PoolNode::IsCurrent(const LegRef& ref) const {
  return ref.op < ops_.size() && ops_[ref.op].sequence == ref.sequence;
}

void PoolNode::Ask(std::uint32_t index, std::uint8_t leg, PoolMessage type) {
  Op& op = ops_[index];
  Leg& asking = op.leg[leg];
  Peer* const peer = FindPeer(asking.peer);
  if (!peer->linked || peer->gone) {
    return FailLeg(index, leg, Code::kUnavailable);
  }
  asking.step = Step::kAsking;
  asking.asking = type;
  if (type == PoolMessage::kReserve || type == PoolMessage::kStage) {
    asking.asked_at = now_;
  }
  peer->outbox[OutboxOf(type)].push_back({index, op.sequence, leg});
}

void PoolNode::QueueMove(std::uint32_t index, std::uint8_t leg) {
  Op& op = ops_[index];
  Leg& moving = op.leg[leg];
  Peer* const peer = FindPeer(moving.peer);
  if (!peer->linked || peer->gone) {
    return FailLeg(index, leg, Code::kUnavailable);
  }
  moving.step = Step::kQueued;
  moving.code = Code::kOk;
  moving.early = false;
  moving.answered = false;
  // (What is written goes in one: nothing is done with its pieces.)
  moving.pieces = op.op.kind == PoolOp::Kind::kGet
                      ? PieceDigest::PiecesOf(op.op.length)
                      : 1;
  moving.posted = 0;
  moving.moved = 0;
  if (op.op.kind == PoolOp::Kind::kGet) {
    op.digest.Begin(PoolSeed(op.op.tenant, op.op.key), op.op.bytes,
                    op.op.length);
  }
  const bool idle = peer->moving == 0 && peer->asked == 0;
  if (idle) peer->progress_at = kNoDeadline;
  peer->waiting.push_back({index, op.sequence, leg});
  Pump(moving.peer);
}

void PoolNode::Pump(std::uint32_t index) {
  Peer* const peer = FindPeer(index);
  while (!peer->waiting.empty()) {
    const LegRef ref = peer->waiting.front();
    if (!IsCurrent(ref) || ops_[ref.op].leg[ref.leg].peer != index ||
        ops_[ref.op].leg[ref.leg].code != Code::kOk) {
      peer->waiting.pop_front();
      continue;
    }
    // This node stood still, and the place may be another block's by now.
    const Leg& leg = ops_[ref.op].leg[ref.leg];
    if (ops_[ref.op].op.kind != PoolOp::Kind::kGet &&
        now_ - leg.asked_at > kPlaceNs) {
      peer->waiting.pop_front();
      FailLeg(ref.op, ref.leg, Code::kUnavailable);
      continue;
    }
    if (!PostMove(ref)) return;
    peer->waiting.pop_front();
  }
}

// Posts the leg's pieces; false when not all of them could be yet.
bool PoolNode::PostMove(const LegRef& ref) {
  Op& op = ops_[ref.op];
  Leg& leg = op.leg[ref.leg];
  Peer* const peer = FindPeer(leg.peer);
  const bool read = op.op.kind == PoolOp::Kind::kGet;
  const std::uint64_t in_flight_max =
      std::max(transport_->limits().transfers_in_flight,
               kMessagesInFlight + 1) -
      kMessagesInFlight;
  const TimeNs deadline =
      std::clamp(op.deadline, now_ + kMoveNsMin, now_ + kMoveNs);
  while (leg.posted < leg.pieces) {
    const std::uint32_t bytes = PieceBytes(op.op, leg.posted);
    if (peer->moving >= in_flight_max ||
        (peer->moving != 0 && peer->moving_bytes + bytes > kMovingBytesMax)) {
      return false;
    }
    const std::uint32_t offset = PieceDigest::OffsetOf(leg.posted);
    Transfer transfer;
    transfer.link = peer->link;
    transfer.memory = read ? op.op.memory : op.wire_memory;
    // (A write only reads from there.)
    transfer.local = (read ? op.op.bytes : const_cast<char*>(op.wire)) + offset;
    transfer.length = bytes;
    transfer.remote_address =
        peer->card.export_address + leg.at.offset + offset;
    transfer.remote_key = peer->card.export_key;
    transfer.ticket = TicketOf(ref.op, ref.leg, leg.posted);
    transfer.deadline = deadline;
    const bool taken =
        read ? transport_->Read(transfer) : transport_->Write(transfer);
    if (!taken) return false;
    leg.step = Step::kMoving;
    ++leg.posted;
    ++peer->moving;
    peer->moving_bytes += bytes;
    (read ? peer->bytes_read : peer->bytes_written) += bytes;
  }
  if (op.op.kind == PoolOp::Kind::kKeep) {
    // While the bytes are on their way.
    leg.at.checksum = PoolChecksum(HashOf(&op), leg.at.generation);
    leg.at.seal = op.seal;
  } else if (!read && !op.repair &&
             transport_->limits().messages_follow_writes) {
    leg.early = true;
    peer->outbox[OutboxOf(PoolMessage::kCommit)].push_back(ref);
  }
  return true;
}

void PoolNode::OnMoved(std::uint64_t ticket, Code code) {
  const auto index = static_cast<std::uint32_t>(ticket >> 16);
  const auto leg_index = static_cast<std::uint8_t>(ticket >> 8);
  const auto piece = static_cast<std::uint8_t>(ticket);
  AGENTMEM_CHECK(index < ops_.size());
  Op& op = ops_[index];
  Leg& leg = op.leg[leg_index];
  AGENTMEM_CHECK(op.sequence != 0 && leg.step == Step::kMoving);
  Peer* const peer = FindPeer(leg.peer);
  --peer->moving;
  peer->moving_bytes -= PieceBytes(op.op, piece);
  ++leg.moved;
  const bool read = op.op.kind == PoolOp::Kind::kGet;
  if (code != Code::kOk) {
    leg.code = code;
  } else {
    peer->progress_at = now_;
    peer->heard_at = now_;
    // (Of sealed bytes their tag tells.)
    if (read && leg.code == Code::kOk && leg.at.seal.format == 0) {
      op.digest.Arrived(piece);
    }
  }
  if (leg.moved != leg.posted ||
      (leg.code == Code::kOk && leg.posted != leg.pieces)) {
    return;
  }
  leg.step = Step::kQueued;  // nothing of it is on the network any more
  if (leg.code != Code::kOk) return FailLeg(index, leg_index, leg.code);
  if (read) return FinishRead(index, leg_index);
  FinishWrite(index, leg_index);
}

// That node did not do it. A leg of which something is on the network waits.
void PoolNode::FailLeg(std::uint32_t index, std::uint8_t leg_index, Code code) {
  Op& op = ops_[index];
  Leg& leg = op.leg[leg_index];
  leg.code = code;
  if (!leg.still()) return;
  switch (op.op.kind) {
    case PoolOp::Kind::kGet:
    case PoolOp::Kind::kFind:
    case PoolOp::Kind::kDrop:
    case PoolOp::Kind::kErase:
      if (code == Code::kDataLoss) {
        op.corrupt = true;
      } else if (code != Code::kNotFound) {
        op.unreachable = true;
      }
      return NextCandidate(index, leg_index);
    case PoolOp::Kind::kPut:
    case PoolOp::Kind::kKeep:
      return FinishLeg(index, leg_index, code);
  }
}

void PoolNode::ExpireOps() {
  for (std::uint32_t index = 0; index < ops_.size(); ++index) {
    const std::uint32_t sequence = ops_[index].sequence;
    if (sequence == 0 || now_ < ops_[index].deadline) continue;
    for (std::uint8_t i = 0; i < ops_[index].legs; ++i) {
      const Step step = ops_[index].leg[i].step;
      if (step == Step::kIdle || step == Step::kDone) continue;
      FailLeg(index, i, Code::kUnavailable);
      if (ops_[index].sequence != sequence) break;
    }
  }
}

void PoolNode::FinishLeg(std::uint32_t index, std::uint8_t leg_index,
                         Code code) {
  Op& op = ops_[index];
  op.leg[leg_index].step = Step::kDone;
  op.leg[leg_index].code = code;
  std::size_t good = 0;
  bool full = false;
  bool refused = false;
  for (std::uint8_t i = 0; i < op.legs; ++i) {
    if (op.leg[i].step != Step::kDone) return;
    good += op.leg[i].code == Code::kOk;
    full |= op.leg[i].code == Code::kResourceExhausted;
    // (Of this node's own memory, its book tells.)
    short_elsewhere_ |= op.leg[i].code == Code::kResourceExhausted &&
                        op.leg[i].peer != kSelf &&
                        op.op.kind == PoolOp::Kind::kPut &&
                        op.op.block_class == BlockClass::kState;
    refused |= op.leg[i].code == Code::kAborted;
  }
  const std::size_t wanted = op.repair ? op.legs : op.op.copies;
  if (good < wanted && !refused && !full && PutAgain(index)) return;
  Finish(index, good >= wanted ? Code::kOk
                : refused      ? Code::kAborted
                : full         ? Code::kResourceExhausted
                               : Code::kUnavailable);
}

void PoolNode::Advance(TimeNs now) {
  if (started_at_ == 0) started_at_ = now;
  const DurationNs away = now - now_;
  now_ = now;
  for (const auto& peer : peers_) {
    if (away > kAwayNs) peer->heard_at += away;
    // Work that came in between two Polls has waited since now.
    if (peer->progress_at == kNoDeadline || away > kAwayNs) {
      peer->progress_at = now;
    }
  }
  NoteConnecting();
  if (away <= kAwayNs) return;
  for (auto& [id, request] : requests_) request.deadline += away;
}

// Links come up by Polls, and are tried again by Ticks. A peer that was tried
// for long is worth no haste.
void PoolNode::NoteConnecting() {
  connecting_ = std::any_of(peers_.begin(), peers_.end(), [](const auto& peer) {
    return peer->state != PoolPeerState::kUp && !peer->gone &&
           peer->backoff < kBackoffNsMax;
  });
}

std::size_t PoolNode::Poll(TimeNs now, std::span<PoolCompletion> out) {
  Advance(now);
  StartSubmitted();
  for (int round = 0; round < kRoundsPerPoll; ++round) {
    const std::size_t count = transport_->Poll(now, events_);
    for (std::size_t i = 0; i < count; ++i) {
      const TransportEvent& event = events_[i];
      switch (event.kind) {
        case TransportEvent::Kind::kDone:
          if (event.ticket != kNoTicket) OnMoved(event.ticket, event.code);
          break;
        case TransportEvent::Kind::kMessage:
          OnMessage(event.message);
          break;
        case TransportEvent::Kind::kLost:
          if (const auto found = by_link_.find(event.link.value());
              found != by_link_.end()) {
            Lose(found->second);
          } else {
            transport_->Close(event.link);
          }
          break;
      }
    }
    activity_ += count;
    if (exports_ != nullptr && repairing_) Repair();
    RetryPuts();
    while (sealing_ != nullptr && !seal_waiters_.empty()) {
      const auto [op, use] = seal_waiters_.front();
      if (ops_[op].sequence == use && !SealPut(op)) break;
      seal_waiters_.pop_front();
      if (ops_[op].sequence == use) StartPut(op);
    }
    if (server_ != nullptr) SendKept();
    FlushOutboxes();
    HashAhead();
    if (count < events_.size()) break;
  }
  std::size_t given = 0;
  while (given < out.size() && !done_.empty()) {
    out[given++] = done_.front();
    done_.pop_front();
  }
  return given;
}

void PoolNode::Tick(TimeNs now) {
  Advance(now);
  ExpireRequests();
  ExpireOps();
  TickPeers();
  if (exports_ != nullptr) {
    exports_->ExpireReservations(now);
    Revoke();
    Repair();
  }
  if (server_ != nullptr) {
    server_->Tick(now);
    SendKept();
  }
  FlushOutboxes();
  NoteConnecting();
}

std::size_t PoolNode::Places(std::uint32_t group, std::size_t copies,
                             std::array<std::uint32_t, kLegs>* out) const {
  std::array<std::uint32_t, kLegs> nodes;
  const std::size_t count =
      placement_.Place(group, std::span(nodes).first(std::min(copies, kLegs)));
  for (std::size_t i = 0; i < count; ++i) {
    (*out)[i] = placed_peers_[nodes[i]];
  }
  return count;
}

PoolNode::Hint& PoolNode::HintOf(const PoolOp& op) {
  return hints_[(HashKey(op.key) ^ op.tenant) % kHints];
}

void PoolNode::Remember(const PoolOp& op, const Leg& leg) {
  if (leg.peer == kSelf) return;
  const Peer& peer = *peers_[leg.peer];
  HintOf(op) = {{op.tenant, op.key}, peer.id, peer.card.instance, leg.at};
}

const PoolNode::Hint* PoolNode::Recall(const PoolOp& op,
                                       std::uint32_t* peer) const {
  const Hint& hint = hints_[(HashKey(op.key) ^ op.tenant) % kHints];
  if (hint.node == 0 || hint.name != ExportPool::Name{op.tenant, op.key}) {
    return nullptr;
  }
  for (std::uint32_t i = 0; i < peers_.size(); ++i) {
    if (peers_[i]->id == hint.node && !peers_[i]->gone &&
        peers_[i]->card.instance == hint.instance &&
        peers_[i]->state == PoolPeerState::kUp) {
      *peer = i;
      return &hint;
    }
  }
  return nullptr;
}

void PoolNode::Forget(const PoolOp& op) {
  Hint& hint = HintOf(op);
  if (hint.name == ExportPool::Name{op.tenant, op.key}) hint.node = 0;
}

}  // namespace agentmem
