// KvStore: from the device into DRAM.
#include <algorithm>
#include <utility>

#include "client/kv_transfer.h"
#include "client/kv_wait.h"

namespace agentmem::client {
namespace {

Session* SessionOf(const agentmem_reservation& room) {
  return reinterpret_cast<Session*>(room.opaque[0]);
}

// For room, while copies of ours are under way that will give some back.
constexpr std::uint64_t kRoomNs = 1'000'000;
// Blocks of FP8 whose codes one post makes. The device begins it some
// microseconds after the one before, in which a bus moves a hundredth of this.
constexpr std::uint64_t kCodesBytes = 8u << 20;

}  // namespace

KvStore::KvStore(const KvParts& parts, std::shared_ptr<const KvCache> cache,
                 BlockClass block_class, Ack ack)
    : KvTransfer(parts, std::move(cache), Direction::kToHost),
      block_class_(block_class),
      ack_(ack),
      streams_{stream_, parts.device->properties().gather},
      fp8_(parts.device, *cache_, Direction::kToHost, stream_) {}

// (What is still under way: the device is at its end, its owner saw to it.)
KvStore::~KvStore() {
  for (Moving& moving : moving_) {
    Finish(&moving, EventState::kFailed,
           Fail(Code::kCancelled, "the device was closed"));
  }
  for (const agentmem_put_id put : puts_) parts_.writer->Forget(put);
}

Outcome KvStore::Post(const KvBlocks& blocks, Stream engine,
                      const Deadline& deadline) {
  Outcome outcome = StandBehind(engine, streams());
  for (std::size_t i = 0; i < blocks.keys.size() && outcome.ok(); ++i) {
    outcome =
        Move(blocks.keys[i],
             blocks.pages.subspan(i * cache_->block_pages, cache_->block_pages),
             deadline);
  }
  if (outcome.ok()) {
    outcome = PostCodes(deadline);
  } else {
    EndCodes();
  }
  Note(outcome);
  if (outcome.ok()) return outcome;
  // The engine, told of a failure, uses its pages again: what is copied out of
  // them from here on is nobody's block.
  for (Moving& moving : moving_) moving.is_whole = false;
  if (!moving_.empty()) HoldUpEngine(engine, streams());
  return outcome;
}

// Grants are few: room is there again when copies end and memd hears of it.
Outcome KvStore::Reserve(const Deadline& deadline, agentmem_reservation* room) {
  for (;;) {
    Advance();
    const bool alone = moving_.empty();
    const bool waits = !alone && unposted_ == 0;
    const Deadline soon = Deadline::After(
        waits ? deadline.Remaining(static_cast<DurationNs>(kRoomNs)) : 0);
    Outcome outcome = parts_.writer->Reserve(cache_->block_bytes,
                                             alone ? deadline : soon, room);
    const bool again = outcome.code == Code::kDeadlineExceeded ||
                       outcome.code == Code::kResourceExhausted;
    if (outcome.ok() || !again || alone || deadline.Passed()) return outcome;
    if (unposted_ != 0) {
      outcome = PostCodes(deadline);
      if (!outcome.ok()) return outcome;
      continue;
    }
    const std::size_t before = moving_.size();
    const bool ended = WaitForDevice(
        [this, before] {
          Advance();
          return moving_.size() < before;
        },
        deadline);
    parts_.memory->GiveWanted();
    if (!ended) return outcome;
  }
}

Outcome KvStore::Move(const Key& key, std::span<const std::uint32_t> pages,
                      const Deadline& deadline) {
  Moving moving = {};
  moving.key = key;
  Outcome outcome = Reserve(deadline, &moving.room);
  if (!outcome.ok()) return outcome;
  outcome = BeginUse(parts_.memory, SessionOf(moving.room), moving.room.data,
                     cache_->block_bytes, deadline);
  if (!outcome.ok()) {
    parts_.writer->Abandon(&moving.room);
    return outcome;
  }
  TakeSlot(&moving);
  if (cache_->fp8.has_value()) {
    outcome = AddCodes(pages, &moving, deadline);
    moving_.push_back(moving);
    ++unposted_;
    if (outcome.ok() && unposted_ * cache_->block_bytes >= kCodesBytes) {
      outcome = PostCodes(deadline);
    }
    return outcome;
  }
  outcome = PostCopies(pages, &moving);
  // Without all of them, some may be under way all the same.
  moving.is_whole = outcome.ok();
  (void)parts_.device->Record(stream_, &moving.event);  // or in Advance
  moving_.push_back(moving);
  return outcome;
}

void KvStore::TakeSlot(Moving* moving) {
  if (parts_.pool == nullptr || parts_.keep == nullptr) return;
  HbmNew what;
  what.key = moving->key;
  what.bytes = cache_->block_bytes;
  what.tag = cache_->tag();
  what.block_class = block_class_;
  what.agent = parts_.keep->agent();
  moving->is_filling = parts_.pool->BeginFill(what, HbmCause::kStore,
                                              &moving->slot) == HbmFill::kBegun;
}

void KvStore::EndSlot(const Moving& moving, bool whole) {
  if (!moving.slot.is_there()) return;
  if (moving.is_filling) {
    parts_.pool->EndFill(moving.slot, whole);
  } else {
    parts_.pool->EndUse(moving.slot);
  }
}

Outcome KvStore::PostCopies(std::span<const std::uint32_t> pages,
                            Moving* moving) {
  if (!moving->slot.is_there()) {
    return Gather(pages, static_cast<char*>(moving->room.data),
                  parts_.crossovers->to_host.rule, stream_);
  }
  // (A block that is in the pool already is the one: a key keeps its bytes.)
  if (moving->is_filling) {
    Outcome outcome = GatherInto(pages, moving);
    if (!outcome.ok()) return outcome;
  }
  return CopyWhole(*moving);
}

// Its slot. What is posted to stream_ from here on stands behind it.
Outcome KvStore::GatherInto(std::span<const std::uint32_t> pages,
                            Moving* moving) {
  moving->is_gathered = true;  // some of it, whatever the outcome
  const Stream within = streams_[1];
  Outcome outcome =
      Gather(pages, reinterpret_cast<char*>(moving->slot.at.value()),
             kRuleWithin, within);
  if (outcome.ok()) outcome = parts_.device->Record(within, &moving->gathered);
  if (outcome.ok()) outcome = parts_.device->Wait(stream_, moving->gathered);
  return outcome;
}

// Out of its slot into its room.
Outcome KvStore::CopyWhole(const Moving& moving) {
  Fragment whole;
  whole.device = moving.slot.at;
  whole.host = static_cast<char*>(moving.room.data);
  whole.bytes = static_cast<std::uint32_t>(cache_->block_bytes);
  CopyBatch batch;
  batch.direction = Direction::kToHost;
  batch.fragments = {&whole, 1};
  return parts_.device->Copy(batch, stream_);
}

// Of a block of FP8. Its codes go into its slot, if it has one, else into its
// room.
Outcome KvStore::AddCodes(std::span<const std::uint32_t> pages, Moving* moving,
                          const Deadline& deadline) {
  char* block = static_cast<char*>(moving->room.data);
  Outcome outcome;
  if (moving->is_filling || !moving->slot.is_there()) {
    cache_->fp8->Begin(block);
    if (moving->slot.is_there()) {
      // What the host wrote goes before: codes and scales that it takes along
      // from the room are written over by the kernel behind it.
      fragments_.clear();
      cache_->fp8->AppendBegun(moving->slot.at, block, &fragments_);
      outcome = PostFragments(parts_.device, Direction::kToDevice, stream_,
                              kRuleWithin, fragments_);
      block = reinterpret_cast<char*>(moving->slot.at.value());
    }
    if (outcome.ok()) {
      outcome = fp8_.Add(0, cache_->layout.layers, pages, block, deadline);
    }
  }
  moving->is_whole = outcome.ok();
  return outcome;
}

// Not OK: some of it may be under way all the same.
Outcome KvStore::PostCodes(const Deadline& deadline) {
  Outcome outcome = fp8_.Flush(deadline);
  for (std::size_t i = moving_.size() - unposted_; i < moving_.size(); ++i) {
    if (outcome.ok() && moving_[i].slot.is_there()) {
      outcome = CopyWhole(moving_[i]);
    }
  }
  EndCodes();
  return outcome;
}

// What was added moves from here on, as far as it was posted.
void KvStore::EndCodes() {
  for (; unposted_ != 0; --unposted_) {
    Moving& moving = moving_[moving_.size() - unposted_];
    (void)parts_.device->Record(stream_, &moving.event);  // or in Advance
  }
}

Outcome KvStore::Gather(std::span<const std::uint32_t> pages, char* block,
                        const SplitRule& rule, Stream stream) {
  fragments_.clear();
  const KvView view = cache_->view();
  for (std::uint32_t layer = 0; layer < cache_->layout.layers; ++layer) {
    Outcome outcome = AppendFragments(view, layer, pages, block, &fragments_);
    if (!outcome.ok()) return outcome;
  }
  return PostFragments(parts_.device, Direction::kToHost, stream, rule,
                       fragments_);
}

bool KvStore::AdvanceCopies() {
  while (moving_.size() > unposted_) {
    Moving& moving = moving_.front();
    if (!EndGather(&moving)) return false;
    Outcome why;
    const EventState state =
        QueryOrRecord(parts_.device, stream_, &moving.event, &why);
    if (state == EventState::kPending) return false;
    Finish(&moving, state, why);
    moving_.pop_front();
  }
  return moving_.empty();
}

bool KvStore::EndGather(Moving* moving) {
  if (!moving->is_gathered) return true;
  Outcome why;
  const EventState state =
      QueryOrRecord(parts_.device, streams_[1], &moving->gathered, &why);
  if (state == EventState::kPending) return false;
  moving->is_gathered = false;
  if (state == EventState::kPassed) return true;
  Note(why);
  moving->is_whole = false;
  return true;
}

void KvStore::Finish(Moving* moving, EventState state, const Outcome& why) {
  // Under locks that others need.
  parts_.memory->End(moving->room.data, cache_->block_bytes,
                     DeviceMemory::Giving::kLater);
  const bool whole = state == EventState::kPassed && moving->is_whole;
  if (whole) {
    Publish(moving);
  } else {
    Note(why);
    parts_.writer->Abandon(&moving->room);
  }
  EndSlot(*moving, whole);
}

// At once, so that who asks for it from here on asks behind it.
void KvStore::Publish(Moving* moving) {
  PutRequest request;
  request.key = moving->key;
  request.block_class = block_class_;
  request.ack = ack_;
  request.length = cache_->block_bytes;
  agentmem_put_id put = 0;
  const Outcome outcome =
      parts_.writer->QueuePublish(&moving->room, request, &put);
  if (outcome.ok()) puts_.push_back(put);
  Note(outcome);
}

Outcome KvStore::Wait(const Deadline& deadline) {
  const bool ended = WaitForDevice([this] { return Advance(); }, deadline);
  parts_.memory->GiveWanted();
  if (!ended) {
    return Fail(Code::kDeadlineExceeded, "the device still copies " +
                                             std::to_string(moving_.size()) +
                                             " blocks at the deadline");
  }
  while (!puts_.empty()) {
    const Outcome outcome = parts_.writer->Wait(puts_.back(), deadline);
    if (outcome.code == Code::kDeadlineExceeded) {
      return Fail(outcome.code, std::to_string(puts_.size()) +
                                    " blocks are copied, and memd has not "
                                    "acknowledged them at the deadline");
    }
    puts_.pop_back();
    Note(outcome);
  }
  return outcome_;
}

Outcome KvStore::WaitLayer(std::uint32_t layer, Stream stream) {
  (void)layer, (void)stream;
  return Fail(Code::kFailedPrecondition,
              "a store has no layers to be waited for; it reads the engine's "
              "pages until it is done");
}

}  // namespace agentmem::client
