// Channel: extents that devices have registered.
#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "client/channel.h"
#include "client/messages.h"

namespace agentmem::client {
namespace {

// As memd answers an op that it has never heard of.
bool IsUnknownOp(const CompletionEntry& answer) {
  return answer.code == Code::kInvalidArgument &&
         answer.reason == Reason::kBadField &&
         answer.detail[0] == offsetof(SubmissionEntry, op);
}

SubmissionEntry EntryOf(Op op, std::uint64_t data_offset, std::uint64_t count) {
  SubmissionEntry entry = {};
  entry.op = op;
  entry.sequence = data_offset;
  entry.slot = static_cast<std::uint32_t>(count);
  return entry;
}

}  // namespace

Outcome Channel::HoldExtents(Session* session, std::uint64_t data_offset,
                             std::uint64_t count, const Deadline& deadline) {
  if (count == 0 || count > kExtentsPerHoldMax) {
    return Fail(Code::kInvalidArgument, std::to_string(count) +
                                            " extents to hold; 1 to " +
                                            std::to_string(kExtentsPerHoldMax) +
                                            " are allowed at a time");
  }
  SubmissionEntry entry = EntryOf(Op::kHoldExtents, data_offset, count);
  entry.deadline_ns = deadline.at();
  std::size_t posted = 0;
  if (Outcome outcome =
          Post(session, {&entry, 1}, Answers::kWanted, deadline, &posted);
      !outcome.ok()) {
    return outcome;
  }
  WaitOne(session, entry.op_id, deadline);
  CompletionEntry answer = {};
  if (!Take(entry.op_id, &answer)) {
    return Fail(Code::kDeadlineExceeded,
                "memd has not said before the deadline that the memory is "
                "held for a device");
  }
  if (answer.code == Code::kOk) return {};
  if (IsUnknownOp(answer)) {
    return Fail(Code::kUnimplemented,
                "memd at " + endpoint_.socket_path +
                    " knows no extent holds; update it to this library's "
                    "version");
  }
  if (answer.code == Code::kUnavailable) {
    return Fail(answer.code, "memd at " + endpoint_.socket_path + " is gone");
  }
  return Fail(answer.code, Explain(answer));
}

void Channel::ReleaseExtents(Session* session, std::uint64_t data_offset,
                             std::uint64_t count) {
  while (count != 0) {
    const std::uint64_t some =
        std::min<std::uint64_t>(count, kExtentsPerHoldMax);
    PostUnanswered(session, EntryOf(Op::kReleaseExtents, data_offset, some));
    data_offset += some * kExtentBytes;
    count -= some;
  }
}

void Channel::AnswerRetire(Session* session, std::uint64_t token) {
  PostUnanswered(session, EntryOf(Op::kExtentReleased, token, 0));
}

void Channel::PushAnswer(std::uint64_t token) {
  backlog_.push_back(EntryOf(Op::kExtentReleased, token, 0));
}

void Channel::NoteRetire(const CompletionEntry& entry) {
  // Nobody here registers memory with devices: nothing to wait for.
  if (!retire_hook_) return PushAnswer(entry.detail[2]);
  retires_.push_back({entry.detail[0], entry.detail[1], entry.detail[2]});
  has_retires_.store(true, std::memory_order_release);
}

// Of a session that is over: memd, or what it kept of us, is gone.
void Channel::ForgetRetires() {
  retires_.clear();
  has_retires_.store(false, std::memory_order_release);
}

void Channel::SetRetireHook(RetireHook hook) {
  MutexLock lock(&mutex_);
  while (telling_) told_.Wait(&mutex_);
  retire_hook_ = std::move(hook);
  if (retire_hook_) return;
  for (const Retire& retire : retires_) PushAnswer(retire.token);
  ForgetRetires();
  if (!dead_ && current_.load(std::memory_order_relaxed) != nullptr) {
    FlushBacklog();
  }
}

void Channel::TellRetires() {
  if (!has_retires_.load(std::memory_order_acquire)) return;
  for (;;) {
    Retire retire;
    const RetireHook* hook;
    Session* session;
    {
      MutexLock lock(&mutex_);
      // Who tells now looks once more before it stops.
      if (telling_ || retires_.empty()) return;
      telling_ = true;
      retire = retires_.front();
      retires_.pop_front();
      has_retires_.store(!retires_.empty(), std::memory_order_release);
      hook = &retire_hook_;
      // Its memd's, whatever comes next (ForgetRetires).
      session = current_.load(std::memory_order_relaxed);
      session->Ref();
    }
    (*hook)(session, retire.data_offset, retire.bytes, retire.token);
    session->Unref();
    MutexLock lock(&mutex_);
    telling_ = false;
    told_.NotifyAll();
  }
}

void Channel::Poll() {
  {
    MutexLock lock(&mutex_);
    if (dead_ || current_.load(std::memory_order_relaxed) == nullptr) return;
    Reap();
  }
  TellRetires();
}

}  // namespace agentmem::client
