#include "client/writer.h"

#include <cstring>
#include <string>
#include <utility>

#include "client/messages.h"

namespace agentmem::client {
namespace {

// What is asked for ahead, by length: memd goes on granting as slots are used.
std::uint32_t GrantsAhead(std::uint64_t length) {
  if (length <= 64 << 10) return 8;
  if (length <= 1 << 20) return 4;
  return 2;
}
// For a put that does not wait: so long may memd look for room for the next.
constexpr DurationNs kGrantsForLater = 100 * kMillisecondNs;

Outcome CheckLength(std::uint64_t length) {
  if (length >= 1 && length <= kMaxBlockBytes) return {};
  return Fail(Code::kInvalidArgument, "length " + std::to_string(length) +
                                          "; a block has 1 to " +
                                          std::to_string(kMaxBlockBytes) +
                                          " bytes: store more as an object");
}

Outcome Check(const PutRequest& request) {
  if (Outcome outcome = CheckLength(request.length); !outcome.ok()) {
    return outcome;
  }
  if (!IsValid(request.block_class)) {
    return Fail(Code::kInvalidArgument,
                "class " +
                    std::to_string(static_cast<int>(request.block_class)) +
                    "; AGENTMEM_CACHE (1) and AGENTMEM_STATE (2) exist");
  }
  if (!IsValid(request.ack)) {
    return Fail(Code::kInvalidArgument,
                "acknowledgement " +
                    std::to_string(static_cast<int>(request.ack)) +
                    "; AGENTMEM_VISIBLE (1), AGENTMEM_REPLICATED (2) and "
                    "AGENTMEM_DURABLE (3) exist");
  }
  return {};
}

Session* SessionOf(const agentmem_reservation& reservation) {
  return reinterpret_cast<Session*>(reservation.opaque[0]);
}

// (What a publish and an abandon name of it.)
Grant GrantOf(const agentmem_reservation& reservation) {
  Grant grant;
  grant.entry = static_cast<std::uint32_t>(reservation.opaque[1]);
  grant.sequence = reservation.opaque[2];
  return grant;
}

}  // namespace

Outcome Writer::Put(const PutRequest& request, const void* bytes,
                    const Deadline& deadline, agentmem_put_id* id) {
  if (Outcome outcome = Check(request); !outcome.ok()) return outcome;
  if (bytes == nullptr) {
    return Fail(Code::kInvalidArgument, "data is NULL");
  }
  for (;;) {
    Session* session = nullptr;
    if (Outcome outcome = channel_->AcquireLive(deadline, &session);
        !outcome.ok()) {
      return outcome;
    }
    Grant grant;
    Outcome outcome = TakeGrant(session, request.length, deadline, &grant);
    if (outcome.ok()) {
      std::memcpy(session->data() + grant.data_offset, bytes, request.length);
      outcome = PostPublish(session, grant, request, deadline, id);
      if (!outcome.ok()) AbandonGrant(session, grant);
    }
    session->Unref();
    // Nothing was posted: if memd died, or is about to end, the next one gets
    // the bytes.
    if (outcome.code != Code::kUnavailable || deadline.Passed()) {
      return outcome;
    }
    Channel::Pause();
  }
}

Outcome Writer::TakeGrant(Session* session, std::uint64_t length,
                          const Deadline& deadline, Grant* grant) {
  for (;;) {
    if (grants_.Take(*session, length, Waste::kBounded, grant)) return {};
    bool taken = false;
    Outcome outcome = AskForGrants(session, length, deadline, grant, &taken);
    if (taken) return {};
    if (outcome.ok()) continue;  // another thread may be faster, once
    // Rather a slot that is far too large than none.
    if (outcome.code != Code::kUnavailable &&
        grants_.Take(*session, length, Waste::kAny, grant)) {
      return {};
    }
    return outcome;
  }
}

Outcome Writer::AskForGrants(Session* session, std::uint64_t length,
                             const Deadline& deadline, Grant* grant,
                             bool* taken) {
  const bool wait = deadline.may_wait();
  const std::string none =
      "memd has not granted room for " + HumanBytes(length) + " yet";
  if (!wait && channel_->InFlight(Op::kWantGrants) != 0) {
    return Fail(Code::kDeadlineExceeded, none + ", and the timeout is 0");
  }
  SubmissionEntry entry = {};
  entry.op = Op::kWantGrants;
  entry.length = static_cast<std::uint32_t>(length);
  entry.slot = GrantsAhead(length);
  entry.deadline_ns =
      wait ? deadline.at() : Deadline::After(kGrantsForLater).at();
  std::size_t posted = 0;
  if (Outcome outcome = channel_->Post(
          session, {&entry, 1}, wait ? Answers::kWanted : Answers::kForgotten,
          deadline, &posted);
      !outcome.ok()) {
    return outcome;
  }
  if (!wait) {
    return Fail(Code::kDeadlineExceeded,
                none + ", and the timeout is 0; it was asked to");
  }
  // Grants also come without being asked for, where puts ahead of this request
  // used some up; and then memd may have no entry left to answer it with.
  channel_->WaitAll(session, {&entry, 1}, deadline, [&] {
    *taken = grants_.Take(*session, length, Waste::kBounded, grant);
    return *taken;
  });
  CompletionEntry answer = {};
  const bool answered = channel_->Take(entry.op_id, &answer);
  if (*taken) return {};
  if (!answered) {
    return Fail(Code::kDeadlineExceeded, none + " at the deadline");
  }
  if (answer.code != Code::kOk) return Fail(answer.code, Explain(answer));
  return {};
}

SubmissionEntry Writer::PublishOf(const Grant& grant,
                                  const PutRequest& request) {
  SubmissionEntry entry = {};
  entry.op = Op::kPublish;
  entry.block_class = request.block_class;
  entry.ack = request.ack;
  entry.grant = grant.entry;
  entry.sequence = grant.sequence;
  entry.key = request.key;
  // The put's timeout is for room only; its acknowledgement may take longer.
  entry.deadline_ns = kNoDeadline;
  entry.length = static_cast<std::uint32_t>(request.length);
  return entry;
}

Outcome Writer::PostPublish(Session* session, const Grant& grant,
                            const PutRequest& request, const Deadline& deadline,
                            agentmem_put_id* id) {
  SubmissionEntry entry = PublishOf(grant, request);
  std::size_t posted = 0;
  Outcome outcome =
      channel_->Post(session, {&entry, 1},
                     id == nullptr ? Answers::kForgotten : Answers::kWanted,
                     deadline, &posted);
  if (outcome.ok() && id != nullptr) *id = entry.op_id;
  return outcome;
}

void Writer::AbandonGrant(Session* session, const Grant& grant) {
  SubmissionEntry entry = {};
  entry.op = Op::kAbandon;
  entry.grant = grant.entry;
  entry.sequence = grant.sequence;
  channel_->PostUnanswered(session, entry);
}

Outcome Writer::Reserve(std::uint64_t length, const Deadline& deadline,
                        agentmem_reservation* reservation) {
  *reservation = {};
  if (Outcome outcome = CheckLength(length); !outcome.ok()) return outcome;
  for (;;) {
    Session* session = nullptr;
    if (Outcome outcome = channel_->AcquireLive(deadline, &session);
        !outcome.ok()) {
      return outcome;
    }
    Grant grant;
    Outcome outcome = TakeGrant(session, length, deadline, &grant);
    if (outcome.ok()) {
      reservation->data = session->data() + grant.data_offset;
      reservation->capacity = grant.slot_bytes;
      reservation->opaque[0] = reinterpret_cast<std::uint64_t>(session);
      reservation->opaque[1] = grant.entry;
      reservation->opaque[2] = grant.sequence;
      return {};
    }
    session->Unref();
    if (outcome.code != Code::kUnavailable || deadline.Passed()) {
      return outcome;
    }
    Channel::Pause();
  }
}

Outcome Writer::CheckPublish(agentmem_reservation* reservation,
                             const PutRequest& request) {
  if (reservation->data == nullptr) {
    return Fail(Code::kInvalidArgument, "the reservation has ended already");
  }
  Outcome outcome = Check(request);
  if (outcome.ok() && request.length > reservation->capacity) {
    outcome = Fail(Code::kInvalidArgument,
                   "length " + std::to_string(request.length) +
                       "; the reservation has room for " +
                       std::to_string(reservation->capacity) + " bytes");
  }
  if (!outcome.ok()) Abandon(reservation);
  return outcome;
}

// It ends with that, whatever came of it.
Outcome Writer::EndPublish(agentmem_reservation* reservation, Outcome outcome) {
  Session* session = SessionOf(*reservation);
  if (!outcome.ok()) AbandonGrant(session, GrantOf(*reservation));
  if (outcome.code == Code::kUnavailable) {
    outcome.message += "; the bytes of the reservation went with it";
  }
  *reservation = {};
  session->Unref();
  return outcome;
}

Outcome Writer::Publish(agentmem_reservation* reservation,
                        const PutRequest& request, const Deadline& deadline,
                        agentmem_put_id* id) {
  Outcome outcome = CheckPublish(reservation, request);
  if (!outcome.ok()) return outcome;
  return EndPublish(reservation,
                    PostPublish(SessionOf(*reservation), GrantOf(*reservation),
                                request, deadline, id));
}

Outcome Writer::QueuePublish(agentmem_reservation* reservation,
                             const PutRequest& request, agentmem_put_id* id) {
  Outcome outcome = CheckPublish(reservation, request);
  if (!outcome.ok()) return outcome;
  SubmissionEntry entry = PublishOf(GrantOf(*reservation), request);
  outcome = channel_->Queue(SessionOf(*reservation), Answers::kWanted, &entry);
  if (outcome.ok()) *id = entry.op_id;
  return EndPublish(reservation, std::move(outcome));
}

void Writer::Abandon(agentmem_reservation* reservation) {
  if (reservation->data == nullptr) return;
  Session* session = SessionOf(*reservation);
  AbandonGrant(session, GrantOf(*reservation));
  *reservation = {};
  session->Unref();
}

Outcome Writer::Wait(agentmem_put_id id, const Deadline& deadline) {
  if (!channel_->Known(id)) {
    return Fail(Code::kInvalidArgument,
                "put " + std::to_string(id) +
                    " is not one of this client, or has ended");
  }
  Session* session = channel_->Acquire();
  const bool done = channel_->WaitOne(session, id, deadline);
  session->Unref();
  if (!done) {
    return Fail(Code::kDeadlineExceeded,
                "the put is posted; its acknowledgement was not reached in "
                "time");
  }
  CompletionEntry answer = {};
  if (!channel_->Take(id, &answer)) {
    return Fail(Code::kInvalidArgument,
                "put " + std::to_string(id) + " was ended by another thread");
  }
  if (answer.code == Code::kOk) return {};
  // DEADLINE_EXCEEDED would tell the caller to ask again.
  const Code code =
      answer.code == Code::kDeadlineExceeded ? Code::kAborted : answer.code;
  return Fail(code, Explain(answer));
}

void Writer::Forget(agentmem_put_id id) {
  CompletionEntry ignored;
  channel_->Take(id, &ignored);
}

}  // namespace agentmem::client
