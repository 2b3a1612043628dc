#include "client/hbm_moves.h"

#include <algorithm>

#include "client/kv_wait.h"
#include "cuda/fp8_block.h"

namespace agentmem::client {
namespace {

// For room in DRAM; the keeper has other things to do.
constexpr std::uint64_t kRoomNs = 1'000'000;
// For the registration of an extent, and for room in the ring.
constexpr std::uint64_t kRegisterNs = 20'000'000;
constexpr std::uint64_t kPublishNs = 1'000'000'000;
// A memd that is late so often, and never in time between, has no room: one
// that has none lets who asks wait for it. Four in a round of the keeper, and a
// round each 100 ms.
constexpr int kLatesMax = 16;

Session* SessionOf(const agentmem_reservation& room) {
  return reinterpret_cast<Session*>(room.opaque[0]);
}

}  // namespace

HbmMoves::~HbmMoves() {
  for (Down& down : downs_) {
    if (down.put != 0) {
      parts_.writer->Forget(down.put);
    } else {
      parts_.memory->End(down.room.data, down.block.bytes);
      parts_.writer->Abandon(&down.room);
    }
    pool_->EndWrite(down.block, HbmWritten::kNot);
  }
  for (Up& up : ups_) {
    parts_.memory->End(up.span.data, up.span.length);
    parts_.reader->Release(&up.span, 1);
    pool_->EndFill(up.block, false);
  }
}

Outcome HbmMoves::Copy(const HbmBlock& block, const void* host,
                       Direction direction) {
  Fragment whole;
  whole.device = block.at;
  // (Read only, where it is DRAM's own.)
  whole.host = const_cast<char*>(static_cast<const char*>(host));
  whole.bytes = static_cast<std::uint32_t>(block.bytes);
  CopyBatch batch;
  batch.direction = direction;
  batch.fragments = {&whole, 1};
  const DeviceProperties& properties = parts_.device->properties();
  return parts_.device->Copy(
      batch, direction == Direction::kToHost ? properties.down : properties.up);
}

bool HbmMoves::WriteDown(const HbmBlock& block) {
  Down down;
  down.block = block;
  Outcome outcome =
      parts_.writer->Reserve(block.bytes, Deadline::After(kRoomNs), &down.room);
  if (outcome.ok()) {
    outcome = BeginUse(parts_.memory, SessionOf(down.room), down.room.data,
                       block.bytes, Deadline::After(kRegisterNs));
    if (!outcome.ok()) {
      parts_.writer->Abandon(&down.room);
      outcome.code = Code::kUnavailable;  // it is not for want of room
    }
  }
  if (!outcome.ok()) {
    return EndDown(down, outcome) == HbmWritten::kNoRoom &&
           block.block_class == BlockClass::kCache;
  }
  down.is_whole = Copy(block, down.room.data, Direction::kToHost).ok();
  (void)parts_.device->Record(parts_.device->properties().down, &down.event);
  down_bytes_ += block.bytes;
  downs_.push_back(down);
  return true;
}

HbmMoves::Read HbmMoves::BringUp(const HbmPool::Remembered& what,
                                 HbmAgent agent) {
  Up up;
  if (parts_.reader->PinResident(&what.key, 1, &up.span) != 0) {
    return parts_.reader->ClassBelow(what.key).has_value() ? Read::kLater
                                                           : Read::kDone;
  }
  HbmNew wanted;
  wanted.key = what.key;
  wanted.bytes = up.span.length;
  wanted.tag = Fp8TagOf(static_cast<const char*>(up.span.data), up.span.length);
  wanted.block_class = what.block_class;
  wanted.agent = agent;
  const HbmFill fill =
      pool_->BeginFill(wanted, HbmCause::kBringBack, &up.block);
  if (fill != HbmFill::kBegun) {
    parts_.reader->Release(&up.span, 1);
    if (fill == HbmFill::kThere) pool_->EndUse(up.block);
    if (fill == HbmFill::kTaken) return Read::kLater;
    return fill == HbmFill::kNoRoom ? Read::kNoRoom : Read::kDone;
  }
  const Outcome outcome =
      BeginUse(parts_.memory, TableOf(up.span)->session, up.span.data,
               up.span.length, Deadline::After(kRegisterNs));
  if (!outcome.ok()) {
    parts_.reader->Release(&up.span, 1);
    pool_->EndFill(up.block, false);
    return Read::kLater;
  }
  up.is_whole = Copy(up.block, up.span.data, Direction::kToDevice).ok();
  (void)parts_.device->Record(parts_.device->properties().up, &up.event);
  up.agent = agent;
  ++reads_[agent];
  up_bytes_ += up.block.bytes;
  ups_.push_back(up);
  return Read::kDone;
}

std::size_t HbmMoves::reads(HbmAgent agent) const {
  const auto found = reads_.find(agent);
  return found == reads_.end() ? 0 : found->second;
}

bool HbmMoves::Advance() {
  std::erase_if(downs_, [this](Down& down) { return AdvanceDown(&down); });
  const Stream stream = parts_.device->properties().up;
  while (!ups_.empty()) {
    Up& up = ups_.front();
    Outcome why;
    const EventState state =
        QueryOrRecord(parts_.device, stream, &up.event, &why);
    if (state == EventState::kPending) break;
    parts_.memory->End(up.span.data, up.span.length);
    parts_.reader->Release(&up.span, 1);
    up_bytes_ -= up.block.bytes;
    if (--reads_[up.agent] == 0) reads_.erase(up.agent);
    pool_->EndFill(up.block, state == EventState::kPassed && up.is_whole);
    ups_.pop_front();
  }
  return downs_.empty() && ups_.empty();
}

bool HbmMoves::AdvanceCopies() {
  waits_for_memd_ = false;
  Advance();
  return ups_.empty() &&
         std::all_of(downs_.begin(), downs_.end(),
                     [](const Down& down) { return down.put != 0; });
}

// True: it has ended.
bool HbmMoves::AdvanceDown(Down* down) {
  if (down->put == 0) {
    Outcome why;
    const EventState state = QueryOrRecord(
        parts_.device, parts_.device->properties().down, &down->event, &why);
    if (state == EventState::kPending) return false;
    const Outcome published = Publish(down, state);
    if (!published.ok()) {
      down_bytes_ -= down->block.bytes;
      EndDown(*down, published);
      return true;
    }
  }
  const Outcome outcome = parts_.writer->Wait(down->put, Deadline::After(0));
  if (outcome.code == Code::kDeadlineExceeded) return false;
  down_bytes_ -= down->block.bytes;
  EndDown(*down, outcome);
  return true;
}

// OK: `put` tells of it.
Outcome HbmMoves::Publish(Down* down, EventState state) {
  parts_.memory->End(down->room.data, down->block.bytes);
  if (state != EventState::kPassed || !down->is_whole) {
    parts_.writer->Abandon(&down->room);
    return Fail(Code::kInternal, "a copy failed");
  }
  PutRequest request;
  request.key = down->block.key;
  request.block_class = down->block.block_class;
  request.ack = Ack::kVisible;
  request.length = down->block.bytes;
  // One is waited for, not each behind it.
  const bool waits = waits_for_memd_ && lates_ == 0;
  return parts_.writer->Publish(&down->room, request,
                                Deadline::After(waits ? kPublishNs : 0),
                                &down->put);
}

HbmWritten HbmMoves::EndDown(const Down& down, const Outcome& outcome) {
  HbmWritten written = HbmWritten::kNot;
  const bool is_late = outcome.code == Code::kDeadlineExceeded;
  lates_ = is_late ? std::min(lates_ + 1, kLatesMax) : 0;
  if (outcome.ok()) {
    written = HbmWritten::kBelow;
  } else if (outcome.code == Code::kResourceExhausted || lates_ == kLatesMax) {
    written = HbmWritten::kNoRoom;
  }
  if (written == HbmWritten::kNot) ++failures_;
  pool_->EndWrite(down.block, written);
  return written;
}

}  // namespace agentmem::client
