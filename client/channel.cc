#include "client/channel.h"

#include <poll.h>

#include <algorithm>
#include <cstring>

#include "client/futex.h"

namespace agentmem::client {
namespace {

// The longest sleep without a look at whether memd still lives.
constexpr DurationNs kSleepMax = 50 * kMillisecondNs;
// A post within this time after a look at the socket does without another.
constexpr DurationNs kAliveFor = kMillisecondNs;
// How long a closing client waits for a place in the ring.
constexpr DurationNs kCloseFor = kSecondNs;
// Between two attempts to connect; each attempt of a first Connect, which may
// be refused for as long as it lasts, waits twice as long as the one before.
constexpr int kRetryMs = 2;
constexpr int kRetryMsMax = 256;

}  // namespace

Channel::Channel(Endpoint endpoint) : endpoint_(std::move(endpoint)) {}

Channel::~Channel() {
  Session* session = current_.load(std::memory_order_relaxed);
  if (session == nullptr) return;
  if (!stays_until_death_) PostClose(session);
  session->Disconnect();
  sessions_.EndAll();
}

void Channel::PostClose(Session* session) {
  const Deadline deadline = Deadline::After(kCloseFor);
  const std::atomic<std::uint32_t>& signal =
      session->file().header().completion_signal;
  for (;;) {
    const std::uint32_t seen = signal.load(std::memory_order_seq_cst);
    {
      MutexLock lock(&mutex_);
      if (dead_) return;
      Reap();
      if (backlog_.empty() && Room() != 0) {
        SubmissionEntry close = {};
        close.op = Op::kClose;  // all that is held or waits ends with it
        Write(close);
        PublishTail();
        return;
      }
    }
    if (deadline.Passed()) return;
    SleepOnSignal(session, seen, deadline);
  }
}

void Channel::Pause() { poll(nullptr, 0, kRetryMs); }

Outcome Channel::Connect(const Deadline& deadline) {
  for (int pause_ms = kRetryMs;;
       pause_ms = std::min(2 * pause_ms, kRetryMsMax)) {
    Session* session = nullptr;
    Outcome outcome = OpenSession(deadline, &session);
    if (outcome.ok()) {
      MutexLock lock(&mutex_);
      Install(session);
      return {};
    }
    if (outcome.code != Code::kUnavailable || deadline.Passed()) {
      return outcome;
    }
    const DurationNs left = deadline.Remaining(pause_ms * kMillisecondNs);
    poll(nullptr, 0, static_cast<int>(left / kMillisecondNs) + 1);
  }
}

Outcome Channel::OpenSession(const Deadline& deadline, Session** session) {
  Connection connection;
  Outcome outcome = Handshake(endpoint_, deadline, &connection);
  if (!outcome.ok()) return outcome;
  outcome = Session::Open(std::move(connection), &sessions_, session);
  if (!outcome.ok()) {
    outcome.message =
        "memd at " + endpoint_.socket_path + ": " + outcome.message;
  }
  return outcome;
}

void Channel::Install(Session* session) {
  ClientHeader& header = session->file().header();
  submission_tail_ = header.submission_tail.load(std::memory_order_relaxed);
  completion_head_ = header.completion_head.load(std::memory_order_relaxed);
  dead_ = false;
  checked_alive_at_.store(MonotonicNowNs(), std::memory_order_relaxed);
  current_.store(session, std::memory_order_release);
}

Session* Channel::Acquire() {
  MutexLock lock(&mutex_);
  Session* session = current_.load(std::memory_order_relaxed);
  session->Ref();
  return session;
}

bool Channel::IsDead(Session* session) {
  MutexLock lock(&mutex_);
  return dead_ || session != current_.load(std::memory_order_relaxed);
}

Outcome Channel::AcquireLive(const Deadline& deadline, Session** out) {
  for (;;) {
    Session* session = Acquire();
    if (!IsDead(session)) {
      const TimeNs now = MonotonicNowNs();
      if (now - checked_alive_at_.load(std::memory_order_relaxed) < kAliveFor) {
        *out = session;
        return {};
      }
      if (!session->HungUp()) {
        checked_alive_at_.store(now, std::memory_order_relaxed);
        *out = session;
        return {};
      }
      MarkDead(session);
    }
    session->Unref();
    if (deadline.Passed()) {
      MutexLock lock(&mutex_);
      return Fail(Code::kUnavailable,
                  "memd at " + endpoint_.socket_path + " is gone" +
                      (last_failure_.empty() ? "" : ": " + last_failure_));
    }
    if (Outcome outcome = Reconnect(deadline); !outcome.ok()) return outcome;
  }
}

// OK also when it was in vain but may be tried again.
Outcome Channel::Reconnect(const Deadline& deadline) {
  bool mine = false;
  {
    MutexLock lock(&mutex_);
    if (!dead_) return {};
    if (!reconnecting_) mine = reconnecting_ = true;
  }
  if (!mine) {
    Pause();
    return {};
  }
  Session* session = nullptr;
  Outcome outcome = OpenSession(deadline, &session);
  Session* old = nullptr;
  {
    MutexLock lock(&mutex_);
    reconnecting_ = false;
    if (outcome.ok()) {
      old = current_.load(std::memory_order_relaxed);
      Install(session);
    } else {
      last_failure_ = outcome.message;
    }
  }
  if (old != nullptr) old->Unref();
  if (outcome.code == Code::kUnavailable) {
    Pause();
    return {};
  }
  return outcome;
}

void Channel::MarkDead(Session* session) {
  {
    MutexLock lock(&mutex_);
    if (dead_ || session != current_.load(std::memory_order_relaxed)) return;
    Reap();  // what it answered before it died counts
    dead_ = true;
    backlog_.clear();
    ForgetRetires();
    ops_.AnswerAll(Code::kUnavailable);
  }
  // Its futex word has no other writer any more.
  std::atomic<std::uint32_t>& signal =
      session->file().header().completion_signal;
  signal.fetch_add(1, std::memory_order_seq_cst);
  FutexWakeAll(&signal);
}

std::uint32_t Channel::Room() const {
  const ClientHeader& header =
      current_.load(std::memory_order_relaxed)->file().header();
  const std::uint64_t used =
      submission_tail_ - header.submission_head.load(std::memory_order_acquire);
  return used >= kSubmissionEntries
             ? 0
             : kSubmissionEntries - static_cast<std::uint32_t>(used);
}

void Channel::Write(const SubmissionEntry& entry) {
  Session* session = current_.load(std::memory_order_relaxed);
  session->file().submissions()[submission_tail_ % kSubmissionEntries] = entry;
  ++submission_tail_;
}

void Channel::PublishTail() {
  Session* session = current_.load(std::memory_order_relaxed);
  session->file().header().submission_tail.store(submission_tail_,
                                                 std::memory_order_seq_cst);
  session->RingDoorbell();
}

void Channel::FlushBacklog() {
  if (backlog_.empty()) return;
  const std::size_t count = std::min<std::size_t>(backlog_.size(), Room());
  if (count == 0) return;
  for (std::size_t i = 0; i < count; ++i) Write(backlog_[i]);
  backlog_.erase(backlog_.begin(),
                 backlog_.begin() + static_cast<std::ptrdiff_t>(count));
  PublishTail();
}

void Channel::Reap() {
  Session* session = current_.load(std::memory_order_relaxed);
  ClientHeader& header = session->file().header();
  const std::uint64_t tail =
      header.completion_tail.load(std::memory_order_acquire);
  for (; completion_head_ != tail; ++completion_head_) {
    const CompletionEntry answer =
        session->file().completions()[completion_head_ % kCompletionEntries];
    if (answer.kind == CompletionKind::kExtentRetire) {
      NoteRetire(answer);
      continue;
    }
    const OpRecord record = ops_.Answer(answer);
    if (record.state == OpRecord::State::kForgotten &&
        (record.op == Op::kFetch || record.op == Op::kHold) &&
        answer.code == Code::kOk) {
      SubmissionEntry reply = {};
      reply.op = Op::kRelease;  // a hold that nobody waits for any more
      reply.slot = answer.slot;
      reply.sequence = answer.generation;
      backlog_.push_back(reply);
    }
  }
  header.completion_head.store(completion_head_, std::memory_order_release);
  FlushBacklog();  // memd may have made room without an answer
}

Outcome Channel::Gone() const {
  return Fail(Code::kUnavailable,
              "memd at " + endpoint_.socket_path + " is gone");
}

Outcome Channel::NoPlace() {
  return Fail(Code::kResourceExhausted,
              std::to_string(OpTable::kOpsMax) +
                  " puts were neither waited for nor forgotten; do either");
}

// What the backlog has goes before it. (While there is some, memd may make room
// all the same: it takes entries without the lock.)
Outcome Channel::PostSome(Session* session, std::span<SubmissionEntry> entries,
                          Answers answers, std::size_t* posted) {
  MutexLock lock(&mutex_);
  if (dead_ || session != current_.load(std::memory_order_relaxed)) {
    return Gone();
  }
  Reap();
  const std::size_t count =
      backlog_.empty() ? std::min<std::size_t>(entries.size(), Room()) : 0;
  for (std::size_t i = 0; i < count; ++i) {
    entries[i].op_id =
        ops_.Allocate(entries[i].op, answers == Answers::kForgotten);
    if (entries[i].op_id == 0) {
      PublishTail();
      return NoPlace();
    }
    Write(entries[i]);
    ++*posted;
  }
  if (count != 0) PublishTail();
  return {};
}

Outcome Channel::Post(Session* session, std::span<SubmissionEntry> entries,
                      Answers answers, const Deadline& deadline,
                      std::size_t* posted) {
  *posted = 0;
  std::atomic<std::uint32_t>& signal =
      session->file().header().completion_signal;
  for (;;) {
    const std::uint32_t seen = signal.load(std::memory_order_seq_cst);
    Outcome outcome =
        PostSome(session, entries.subspan(*posted), answers, posted);
    TellRetires();
    if (!outcome.ok() || *posted == entries.size()) return outcome;
    if (deadline.Passed()) {
      return Fail(Code::kDeadlineExceeded,
                  "memd did not make room among the " +
                      std::to_string(kSubmissionEntries) +
                      " places of its request ring in time");
    }
    SleepOnSignal(session, seen, deadline);
  }
}

Outcome Channel::Queue(Session* session, Answers answers,
                       SubmissionEntry* entry) {
  MutexLock lock(&mutex_);
  if (dead_ || session != current_.load(std::memory_order_relaxed)) {
    return Gone();
  }
  entry->op_id = ops_.Allocate(entry->op, answers == Answers::kForgotten);
  if (entry->op_id == 0) return NoPlace();
  backlog_.push_back(*entry);
  FlushBacklog();
  return {};
}

void Channel::PostUnanswered(Session* session, SubmissionEntry entry) {
  MutexLock lock(&mutex_);
  if (dead_ || session != current_.load(std::memory_order_relaxed)) return;
  backlog_.push_back(entry);
  FlushBacklog();
}

void Channel::ReleaseHold(Session* session, std::uint32_t slot,
                          std::uint64_t generation) {
  SubmissionEntry entry = {};
  entry.op = Op::kRelease;
  entry.slot = slot;
  entry.sequence = generation;
  PostUnanswered(session, entry);
}

bool Channel::AllDone(Session* session,
                      std::span<const SubmissionEntry> entries) {
  MutexLock lock(&mutex_);
  if (!dead_ && session == current_.load(std::memory_order_relaxed)) Reap();
  return std::all_of(
      entries.begin(), entries.end(),
      [this](const SubmissionEntry& entry) AGENTMEM_REQUIRES(mutex_) {
        const OpRecord* record = ops_.Find(entry.op_id);
        return record == nullptr || record->state == OpRecord::State::kDone;
      });
}

void Channel::SleepOnSignal(Session* session, std::uint32_t seen,
                            const Deadline& deadline) {
  ClientHeader& header = session->file().header();
  header.waiters.fetch_add(1, std::memory_order_seq_cst);
  // memd may have signalled before it could see this waiter: it then changed
  // the word, and the wait returns at once.
  FutexWait(&header.completion_signal, seen, deadline.Remaining(kSleepMax));
  header.waiters.fetch_sub(1, std::memory_order_seq_cst);
  if (header.completion_signal.load(std::memory_order_seq_cst) == seen &&
      session->HungUp()) {
    MarkDead(session);
  }
}

bool Channel::WaitAll(Session* session,
                      std::span<const SubmissionEntry> entries,
                      const Deadline& deadline,
                      const std::function<bool()>& enough) {
  const std::atomic<std::uint32_t>& signal =
      session->file().header().completion_signal;
  for (;;) {
    const std::uint32_t seen = signal.load(std::memory_order_seq_cst);
    const bool done = AllDone(session, entries);
    TellRetires();
    if (done) return true;
    if (enough != nullptr && enough()) return true;
    if (deadline.Passed()) {
      // Who only ever looks learns of it, too.
      if (!session->HungUp()) return false;
      MarkDead(session);
      return AllDone(session, entries);
    }
    SleepOnSignal(session, seen, deadline);
  }
}

bool Channel::WaitOne(Session* session, std::uint64_t id,
                      const Deadline& deadline) {
  SubmissionEntry entry = {};
  entry.op_id = id;
  return WaitAll(session, {&entry, 1}, deadline);
}

bool Channel::Take(std::uint64_t id, CompletionEntry* answer) {
  MutexLock lock(&mutex_);
  OpRecord* record = ops_.Find(id);
  if (record == nullptr) return false;
  if (record->state != OpRecord::State::kDone) {
    record->state = OpRecord::State::kForgotten;
    return false;
  }
  *answer = record->answer;
  ops_.Free(id);
  return true;
}

bool Channel::Known(std::uint64_t id) {
  MutexLock lock(&mutex_);
  const OpRecord* record = ops_.Find(id);
  return record != nullptr && record->state != OpRecord::State::kForgotten;
}

std::uint32_t Channel::InFlight(Op op) {
  MutexLock lock(&mutex_);
  return ops_.in_flight(op);
}

}  // namespace agentmem::client
