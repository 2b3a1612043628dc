// A client's way to memd: the current session, what is posted to its ring, and
// the answers.
//
// Post writes submissions and rings the doorbell once; WaitAll sleeps until
// their answers are in; Take hands one out. Any thread that waits or posts
// takes all answers off the ring, whoever they are for. memd takes submissions
// in the order in which they were posted: a kFetch behind a kPublish finds its
// block, which is why a client always reads its own posted puts.
//
// Who registers the session's data with a device holds it first, in extents of
// kExtentBytes from data offsets that are multiples of it (HoldExtents). memd
// may ask for one (the retire hook hears of it), and gives it to regions once
// every holder has answered, released, or is dead. The rules of it:
//
//   books     One owner of registrations a channel: to memd, a client holds an
//             extent or does not, however often it asked.
//   order     hold, OK, register ... last copy done, unregister, answer or
//             release. What is registered without a hold, or longer, diverges:
//             the device has pages that nobody else sees there any more.
//   crossing  A retire may be heard before HoldExtents has returned its OK to
//             another thread. So enter the extent into one's books before
//             asking for it, and answer its retire when those say that it is
//             not, or no longer, registered.
//   maybe     After DEADLINE_EXCEEDED or UNAVAILABLE an extent may be held all
//             the same; its retire is then answered as of any that is not
//             registered.
//   idle      Retires are read by threads that post or wait, and by Poll. A
//             client that does none of it does not answer: memd asks others, or
//             lets regions do without; it takes nothing away.
//   end       Unregister before the channel ends, and before the hook goes.
//
// When memd hangs up, the operations in flight end with UNAVAILABLE, and the
// session stays current for reading, until AcquireLive has made a new one.
//
// Ownership: a reference to the current session; what Acquire returns is the
// caller's to Unref. Threads: thread-safe. Errors: UNAVAILABLE when memd is
// gone at the deadline, DEADLINE_EXCEEDED when the ring has no room until then.
// Cost: Post is a lock, and a system call if memd sleeps.
#ifndef AGENTMEM_CLIENT_CHANNEL_H_
#define AGENTMEM_CLIENT_CHANNEL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "client/deadline.h"
#include "client/handshake_client.h"
#include "client/op_table.h"
#include "client/session.h"
#include "proto/outcome.h"

namespace agentmem::client {

enum class Answers { kWanted, kForgotten };

class Channel {
 public:
  explicit Channel(Endpoint endpoint);
  // Tells memd that the client ends, and unmaps every session of it.
  ~Channel();

  // The first connection; tries until the deadline.
  Outcome Connect(const Deadline& deadline);

  const std::atomic<Session*>* current() const { return &current_; }
  Session* Acquire() AGENTMEM_EXCLUDES(mutex_);
  // A session whose memd lives, as far as one can tell: reconnects if need be.
  Outcome AcquireLive(const Deadline& deadline, Session** session);
  // Before the same is asked again of a memd that cannot now; milliseconds.
  static void Pause();

  // Posts entries in order; gives each its op id (in `entries[i].op_id`).
  // *posted of them are posted even if the outcome is not OK.
  Outcome Post(Session* session, std::span<SubmissionEntry> entries,
               Answers answers, const Deadline& deadline, std::size_t* posted)
      AGENTMEM_EXCLUDES(mutex_);
  // As Post of one entry, in the same order, and never waits: without room in
  // the ring it goes out before what is posted later, with the next post or
  // wait of any thread, or Poll. Takes no answers off the ring. A caller bounds
  // what it queues.
  Outcome Queue(Session* session, Answers answers, SubmissionEntry* entry)
      AGENTMEM_EXCLUDES(mutex_);
  // For operations that memd does not answer. Never waits: without room in the
  // ring it goes out with the next post or answer.
  void PostUnanswered(Session* session, SubmissionEntry entry)
      AGENTMEM_EXCLUDES(mutex_);
  void ReleaseHold(Session* session, std::uint32_t slot,
                   std::uint64_t generation);

  // True when the answers of all `entries` are in, or `enough` says so, which
  // is asked after every signal of memd.
  bool WaitAll(Session* session, std::span<const SubmissionEntry> entries,
               const Deadline& deadline,
               const std::function<bool()>& enough = nullptr)
      AGENTMEM_EXCLUDES(mutex_);
  bool WaitOne(Session* session, std::uint64_t id, const Deadline& deadline);
  // Ends `id`: true with its answer, false if there is none yet; it is then
  // forgotten, and a hold that comes late is released.
  bool Take(std::uint64_t id, CompletionEntry* answer)
      AGENTMEM_EXCLUDES(mutex_);
  // channel_extents.cc: what devices have registered.
  // Extents [data_offset, data_offset + count * kExtentBytes), all of them or
  // none, at most kExtentsPerHoldMax. FAILED_PRECONDITION: one of them is lent
  // to regions, or is about to be. INVALID_ARGUMENT: not such extents of the
  // data. UNIMPLEMENTED: a memd that knows no holds.
  Outcome HoldExtents(Session* session, std::uint64_t data_offset,
                      std::uint64_t count, const Deadline& deadline);
  // Never waits. Those that are not held are left out.
  void ReleaseExtents(Session* session, std::uint64_t data_offset,
                      std::uint64_t count);
  // Of every retire of the current session, one call at a time, on whatever
  // thread took it off the ring: so it takes no lock that is held around a call
  // into this channel, and of this channel calls AnswerRetire, ReleaseExtents
  // and ReleaseHold alone. Without a hook retires are answered at once. When
  // SetRetireHook returns, the hook before is not running any more.
  // `session`: whose memd it is of; the call has a reference to it.
  using RetireHook =
      std::function<void(Session* session, std::uint64_t data_offset,
                         std::uint64_t bytes, std::uint64_t token)>;
  void SetRetireHook(RetireHook hook) AGENTMEM_EXCLUDES(mutex_);
  // That extent is not registered any more. Never waits. The hold ends.
  void AnswerRetire(Session* session, std::uint64_t token);
  // A device may write into this client's memory until the process is dead:
  // memd is not told that the client ends.
  void StayUntilDeath() { stays_until_death_ = true; }
  // Takes what is on the ring, and tells the hook.
  void Poll() AGENTMEM_EXCLUDES(mutex_);

  // A put's handle: is there such an operation?
  bool Known(std::uint64_t id) AGENTMEM_EXCLUDES(mutex_);
  std::uint32_t InFlight(Op op) AGENTMEM_EXCLUDES(mutex_);

  const Endpoint& endpoint() const { return endpoint_; }

 private:
  struct Retire {
    std::uint64_t data_offset;
    std::uint64_t bytes;
    std::uint64_t token;
  };

  void Reap() AGENTMEM_REQUIRES(mutex_);
  void NoteRetire(const CompletionEntry& entry) AGENTMEM_REQUIRES(mutex_);
  void PushAnswer(std::uint64_t token) AGENTMEM_REQUIRES(mutex_);
  void ForgetRetires() AGENTMEM_REQUIRES(mutex_);
  // After every Reap, without the mutex.
  void TellRetires() AGENTMEM_EXCLUDES(mutex_);
  void PostClose(Session* session) AGENTMEM_EXCLUDES(mutex_);
  void FlushBacklog() AGENTMEM_REQUIRES(mutex_);
  std::uint32_t Room() const AGENTMEM_REQUIRES(mutex_);
  void Write(const SubmissionEntry& entry) AGENTMEM_REQUIRES(mutex_);
  void PublishTail() AGENTMEM_REQUIRES(mutex_);
  Outcome Gone() const;
  static Outcome NoPlace();
  Outcome PostSome(Session* session, std::span<SubmissionEntry> entries,
                   Answers answers, std::size_t* posted)
      AGENTMEM_EXCLUDES(mutex_);
  bool AllDone(Session* session, std::span<const SubmissionEntry> entries)
      AGENTMEM_EXCLUDES(mutex_);
  void SleepOnSignal(Session* session, std::uint32_t seen,
                     const Deadline& deadline);
  bool IsDead(Session* session) AGENTMEM_EXCLUDES(mutex_);
  void MarkDead(Session* session) AGENTMEM_EXCLUDES(mutex_);
  Outcome Reconnect(const Deadline& deadline) AGENTMEM_EXCLUDES(mutex_);
  Outcome OpenSession(const Deadline& deadline, Session** session);
  void Install(Session* session) AGENTMEM_REQUIRES(mutex_);

  const Endpoint endpoint_;
  SessionSet sessions_;
  std::atomic<Session*> current_ = nullptr;
  std::atomic<TimeNs> checked_alive_at_ = 0;

  Mutex mutex_;
  OpTable ops_ AGENTMEM_GUARDED_BY(mutex_);
  // Submissions for which the ring had no room, in their order.
  std::vector<SubmissionEntry> backlog_ AGENTMEM_GUARDED_BY(mutex_);
  std::uint64_t submission_tail_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  std::uint64_t completion_head_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  bool dead_ AGENTMEM_GUARDED_BY(mutex_) = false;  // the current session
  bool reconnecting_ AGENTMEM_GUARDED_BY(mutex_) = false;
  std::string last_failure_ AGENTMEM_GUARDED_BY(mutex_);
  // While a thread tells, it alone reads the hook, and nobody changes it.
  RetireHook retire_hook_ AGENTMEM_GUARDED_BY(mutex_);
  bool telling_ AGENTMEM_GUARDED_BY(mutex_) = false;
  CondVar told_;
  std::atomic<bool> stays_until_death_ = false;
  // Not told yet. memd has few that are not answered (ExtentHolds).
  std::deque<Retire> retires_ AGENTMEM_GUARDED_BY(mutex_);
  std::atomic<bool> has_retires_ = false;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_CHANNEL_H_
