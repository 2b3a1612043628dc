#include "memd/agents/block_port.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/status.h"
#include "proto/size_class.h"

namespace agentmem {
namespace {

constexpr int kCloseAttempts = 10000;
// The reactor keeps deadlines on its ticks.
constexpr DurationNs kGraceNs = kSecondNs;

}  // namespace

BlockPort::BlockPort(PortHandle handle)
    : handle_(std::move(handle)), index_(handle_.index) {
  handle_.file.header().thread_table_mask.store(1, std::memory_order_seq_cst);
}

BlockPort::~BlockPort() {
  waiting_.clear();
  // The reactor takes it in order, and then unmaps the ring. Room for it comes
  // by itself: the reactor takes submissions whatever their answers' fate.
  for (int i = 0; !RingHasRoom() && i < kCloseAttempts; ++i) {
    Ring();
    pollfd waited = {handle_.wake.get(), POLLIN, 0};
    ::poll(&waited, 1, 1);
    Poll();
  }
  if (!RingHasRoom()) {
    LogError("a session's port stays open: the reactor takes nothing from it");
    return;
  }
  SubmissionEntry close = {};
  close.op = Op::kClose;
  waiting_.push_back(close);
  Flush();
}

bool BlockPort::TryPin(const Key& key, Pinned* pinned) {
  ThreadTable& table = handle_.file.thread_tables()[0];
  const std::uint64_t hash = HashKey(key);
  for (int attempt = 0; attempt < 4; ++attempt) {
    const IndexReader::Found found = index_.Find(key, hash);
    if (found.kind != EntryKind::kResident) return false;
    std::uint32_t pin = kThreadPins;
    for (std::uint32_t i = 0; i < kThreadPins; ++i) {
      const std::uint32_t candidate = (pin_hint_ + i) % kThreadPins;
      if (table.pins[candidate].load(std::memory_order_relaxed) == 0) {
        pin = candidate;
        break;
      }
    }
    if (pin == kThreadPins) return false;
    pin_hint_ = pin + 1;
    table.pins[pin].exchange(found.slot.value() + 1ULL,
                             std::memory_order_seq_cst);
    if (!index_.StillPublished(found.slot, found.generation)) {
      table.pins[pin].store(0, std::memory_order_release);
      continue;
    }
    const Place place = index_.slot(found.slot).LoadPlace();
    pinned->data = handle_.data + place.data_offset();
    pinned->length = place.length();
    pinned->pin = static_cast<std::int32_t>(pin);
    pinned->slot = found.slot.value();
    pinned->generation = found.generation;
    const std::uint64_t tail = table.note_tail.load(std::memory_order_relaxed);
    table.notes[tail % kThreadNotes].store(
        found.slot.value() | (found.generation << 32),
        std::memory_order_relaxed);
    table.note_tail.store(tail + 1, std::memory_order_release);
    return true;
  }
  return false;
}

BlockPort::Pinned BlockPort::Held(const CompletionEntry& answer) const {
  Pinned held;
  held.slot = answer.slot;
  held.generation = answer.generation;
  held.length = answer.length;
  held.data = handle_.data +
              index_.slot(SlotIndex(answer.slot)).LoadPlace().data_offset();
  return held;
}

void BlockPort::Release(const Pinned& pinned) {
  if (pinned.data == nullptr || pinned.pin == kNotPinned) return;
  if (pinned.pin >= 0) {
    handle_.file.thread_tables()[0].pins[pinned.pin].store(
        0, std::memory_order_release);
    return;
  }
  SubmissionEntry entry = {};
  entry.op = Op::kRelease;
  entry.slot = pinned.slot;
  entry.sequence = pinned.generation;
  Submit(entry, nullptr);
}

bool BlockPort::TakeGrant(std::uint32_t length, Grant* grant) {
  const std::uint32_t wanted = SizeClassBytes(SizeClassOf(length));
  GrantEntry* const entries = handle_.file.grants();
  for (std::uint32_t i = 0; i < kGrantEntries; ++i) {
    const std::uint32_t index = (grant_hint_ + i) % kGrantEntries;
    GrantEntry& entry = entries[index];
    std::uint64_t state = entry.state.load(std::memory_order_acquire);
    if (GrantStateOf(state) != GrantState::kGranted ||
        entry.slot_bytes != wanted) {
      continue;
    }
    const std::uint64_t sequence = GrantSequenceOf(state);
    if (!entry.state.compare_exchange_strong(
            state, PackGrant(sequence, GrantState::kWriting),
            std::memory_order_acq_rel)) {
      continue;
    }
    grant_hint_ = index + 1;
    grant->data = handle_.data + entry.data_offset;
    grant->data_offset = entry.data_offset;
    grant->slot_bytes = entry.slot_bytes;
    grant->entry = index;
    grant->sequence = sequence;
    return true;
  }
  return false;
}

void BlockPort::Abandon(const Grant& grant, std::uint8_t flags) {
  SubmissionEntry entry = {};
  entry.op = Op::kAbandon;
  entry.flags = flags;
  entry.grant = grant.entry;
  entry.sequence = grant.sequence;
  Submit(entry, nullptr);
}

void BlockPort::Fetch(const Key& key, TimeNs deadline, Handler handler) {
  Ask(Op::kFetch, key, deadline, std::move(handler));
}

void BlockPort::Prefetch(const Key& key) {
  Ask(Op::kPrefetch, key, kNoDeadline, [](const CompletionEntry&) {});
}

void BlockPort::Ask(Op op, const Key& key, TimeNs deadline, Handler handler) {
  SubmissionEntry entry = {};
  entry.op = op;
  entry.key = key;
  entry.deadline_ns = deadline;
  Submit(entry, std::move(handler));
}

void BlockPort::Publish(const Grant& grant, const Key& key,
                        std::uint32_t length, Ack ack, std::uint8_t flags,
                        Handler handler) {
  SubmissionEntry entry = {};
  entry.op = Op::kPublish;
  entry.block_class = BlockClass::kState;
  entry.ack = ack;
  entry.flags = flags;
  entry.grant = grant.entry;
  entry.sequence = grant.sequence;
  entry.key = key;
  entry.deadline_ns = kNoDeadline;
  entry.length = length;
  Submit(entry, std::move(handler));
}

void BlockPort::Submit(SubmissionEntry entry, Handler handler) {
  entry.op_id = ++next_id_;
  if (handler) handlers_[entry.op_id] = std::move(handler);
  waiting_.push_back(entry);
  Flush();
}

bool BlockPort::RingHasRoom() const {
  const std::uint64_t head =
      handle_.file.header().submission_head.load(std::memory_order_acquire);
  return submission_tail_ - head < kSubmissionEntries;
}

void BlockPort::Flush() {
  bool any = false;
  while (!waiting_.empty() && RingHasRoom()) {
    std::memcpy(
        static_cast<void*>(
            &handle_.file.submissions()[submission_tail_ % kSubmissionEntries]),
        &waiting_.front(), sizeof(SubmissionEntry));
    waiting_.pop_front();
    ++submission_tail_;
    any = true;
  }
  if (!any) return;
  handle_.file.header().submission_tail.store(submission_tail_,
                                              std::memory_order_seq_cst);
  Ring();
}

void BlockPort::Ring() {
  auto& sleeping = handle_.file.header().memd_sleeping;
  if (sleeping.load(std::memory_order_seq_cst) == 0 ||
      sleeping.exchange(0, std::memory_order_seq_cst) == 0) {
    return;
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t put =
      ::write(handle_.doorbell.get(), &one, sizeof(one));
}

std::size_t BlockPort::Poll() {
  ClientHeader& header = handle_.file.header();
  std::size_t count = 0;
  while (completion_head_ !=
         header.completion_tail.load(std::memory_order_acquire)) {
    CompletionEntry entry;
    std::memcpy(
        static_cast<void*>(&entry),
        &handle_.file.completions()[completion_head_ % kCompletionEntries],
        sizeof(entry));
    ++completion_head_;
    header.completion_head.store(completion_head_, std::memory_order_release);
    ++count;
    auto found = handlers_.find(entry.op_id);
    if (found == handlers_.end()) continue;
    const Handler handler = std::move(found->second);
    handlers_.erase(found);
    handler(entry);
  }
  if (!waiting_.empty()) Flush();
  return count;
}

bool BlockPort::PrepareSleep() {
  ClientHeader& header = handle_.file.header();
  header.waiters.store(1, std::memory_order_seq_cst);
  return completion_head_ ==
             header.completion_tail.load(std::memory_order_seq_cst) &&
         (waiting_.empty() || !RingHasRoom());
}

void BlockPort::Awake() {
  handle_.file.header().waiters.store(0, std::memory_order_seq_cst);
  std::uint64_t count;
  [[maybe_unused]] const ssize_t got =
      ::read(handle_.wake.get(), &count, sizeof(count));
}

bool BlockPort::PollUntil(const std::function<bool()>& done, TimeNs deadline,
                          const Clock& clock) {
  for (;;) {
    Poll();
    if (done()) return true;
    const TimeNs now = clock.Now();
    if (now >= deadline) return false;
    if (PrepareSleep()) {
      pollfd waited = {handle_.wake.get(), POLLIN, 0};
      // A second at most: a deadline may be "never".
      ::poll(&waited, 1,
             static_cast<int>(std::min<DurationNs>(deadline - now, kSecondNs) /
                                  kMillisecondNs +
                              1));
    }
    Awake();
  }
}

namespace {

bool AskForGrant(BlockPort* port, std::uint32_t length, std::uint8_t flags,
                 TimeNs deadline, const Clock& clock, BlockPort::Grant* grant) {
  if (port->TakeGrant(length, grant)) return true;
  const auto answered = std::make_shared<bool>(false);
  SubmissionEntry want = {};
  want.op = Op::kWantGrants;
  want.flags = flags;
  want.length = length;
  want.slot = 4;
  want.deadline_ns = deadline;
  port->Submit(want, [answered](const CompletionEntry&) { *answered = true; });
  // Offers come one by one; the answer is for the first.
  while (!port->TakeGrant(length, grant)) {
    if (*answered) return port->TakeGrant(length, grant);
    if (!port->PollUntil([&] { return *answered; }, deadline + kGraceNs,
                         clock)) {
      return false;
    }
  }
  return true;
}

}  // namespace

bool GrantFor(BlockPort* port, std::uint32_t length, TimeNs deadline,
              const Clock& clock, BlockPort::Grant* grant) {
  return AskForGrant(port, length, 0, deadline, clock, grant);
}

bool GrantToEmpty(BlockPort* port, TimeNs deadline, const Clock& clock,
                  BlockPort::Grant* grant) {
  return AskForGrant(port, kExtentBytes, kWantToEmpty, deadline, clock, grant);
}

absl::Status StatusOf(const CompletionEntry& answer, const std::string& what) {
  const auto code = static_cast<absl::StatusCode>(answer.code);
  const auto number = [](std::uint64_t n) { return std::to_string(n); };
  switch (answer.reason) {
    case Reason::kPoolFull:
      return MakeStatus(
          code, what + ": the pool of " + number(answer.detail[0]) +
                    " bytes is full, " + number(answer.detail[1]) +
                    " of them are pinned, held or granted, most by process " +
                    number(answer.detail[2]));
    case Reason::kStoreQuota:
      return MakeStatus(code, what + ": the store's quota of " +
                                  number(answer.detail[0]) + " bytes is used");
    case Reason::kStoreFailed:
      return MakeStatus(
          code, what + (answer.code == Code::kResourceExhausted
                            ? ": memd's store has no space left; free some, "
                              "and it goes on by itself (memd's log names the "
                              "directory)"
                            : ": memd's store failed; memd's log says where "
                              "and why"));
    case Reason::kRemoteStore: {
      char name[sizeof(answer.detail) + 1] = {};
      std::memcpy(name, answer.detail, sizeof(answer.detail));
      return MakeStatus(
          code, what + ": the store of node " + name +
                    (answer.code == Code::kResourceExhausted
                         ? " has no room; memctl fabric says why"
                         : " does not take or give it; memctl fabric says "
                           "why"));
    }
    case Reason::kCorrupt:
      return MakeStatus(code, what + ": its only copy is corrupt");
    case Reason::kNoSuchBlock:
      return MakeStatus(code, what + ": no such block");
    case Reason::kNoReplica:
      if (answer.detail[0] ==
          static_cast<std::uint64_t>(Code::kResourceExhausted)) {
        return MakeStatus(
            code, what +
                      ": no other node took a copy of it: the memory that they "
                      "export is full; raise [pool] export there, or try again "
                      "when versions that nobody needs are collected (memctl "
                      "fabric shows the peers)");
      }
      return MakeStatus(code, what +
                                  ": no other node took a copy of it: there is "
                                  "none, it is full, or it does not "
                                  "answer; memctl fabric shows the peers");
    case Reason::kPoolFailed:
      return MakeStatus(code, what + ": no node that may have it answers");
    case Reason::kShutdown:
      return MakeStatus(code, what + ": memd is shutting down");
    case Reason::kDeadline:
      return MakeStatus(code, what + ": not in time");
    default:
      return MakeStatus(code, what + ": reason " +
                                  number(static_cast<unsigned>(answer.reason)));
  }
}

}  // namespace agentmem
