#include "client/reader.h"

#include <algorithm>
#include <string>

#include "client/messages.h"
#include "proto/key_text.h"

namespace agentmem::client {
namespace {

// Which of several failures a caller is told of: the worst.
int Severity(Code code) {
  switch (code) {
    case Code::kOk:
      return 0;
    case Code::kNotFound:
      return 1;
    case Code::kDeadlineExceeded:
      return 2;
    case Code::kResourceExhausted:
      return 3;
    case Code::kUnavailable:
      return 4;
    case Code::kDataLoss:
      return 5;
    default:
      return 6;
  }
}

agentmem_tier TierOf(EntryKind kind) {
  switch (kind) {
    case EntryKind::kEmpty:
      break;
    case EntryKind::kResident:
      return AGENTMEM_TIER_DRAM;
    case EntryKind::kInStore:
      return AGENTMEM_TIER_STORE;
    case EntryKind::kInPool:
      return AGENTMEM_TIER_POOL;
  }
  return AGENTMEM_TIER_NONE;
}

// How many of them the index does not know.
std::size_t FindHere(const ThreadContext& context, const Key* keys,
                     std::size_t count, agentmem_tier* tiers) {
  std::size_t unknown = 0;
  for (std::size_t i = 0; i < count; ++i) {
    tiers[i] = TierOf(context.index.Find(keys[i]).kind);
    unknown += tiers[i] == AGENTMEM_TIER_NONE;
  }
  return unknown;
}

}  // namespace

// The worst failure so far, and how many there are.
struct Reader::Failures {
  std::size_t count = 0;
  Key key;
  Outcome worst;

  void Add(const Key& of, Outcome outcome) {
    ++count;
    if (Severity(outcome.code) <= Severity(worst.code)) return;
    key = of;
    worst = std::move(outcome);
  }
  Outcome Sum(std::size_t asked) const {
    if (worst.ok()) return {};
    std::string text = "block " + KeyText(key) + ": " + worst.message;
    if (asked > 1) {
      text += " (" + std::to_string(count) + " of " + std::to_string(asked) +
              " blocks were not obtained)";
    }
    return Fail(worst.code, std::move(text));
  }
};

// Some of the missing blocks, asked for at once.
struct Reader::Batch {
  const Key* keys[kBatch];
  agentmem_span* spans[kBatch];
  SubmissionEntry entries[kBatch];
  std::size_t count = 0;
  bool retry_if_memd_died = true;
  Failures* failures = nullptr;

  void Add(const Key& key, const Deadline& deadline, agentmem_span* span) {
    keys[count] = &key;
    spans[count] = span;
    SubmissionEntry& entry = entries[count];
    entry = SubmissionEntry{};
    entry.op = Op::kFetch;
    entry.key = key;
    entry.deadline_ns = deadline.at();
    ++count;
  }
  void FailAll(const Outcome& outcome) {
    for (std::size_t i = 0; i < count; ++i) failures->Add(*keys[i], outcome);
    count = 0;
  }
};

Outcome Reader::FetchMissing(const Key* keys, std::size_t count,
                             const Deadline& deadline, agentmem_span* spans) {
  Failures failures;
  ThreadContext* context = contexts_->Current();
  // All tables were taken once; one may have been given back.
  if (context != nullptr && context->pins == nullptr) {
    contexts_->TryTakeTable(context);
  }
  if (!deadline.may_wait()) {
    FailWithoutWaiting(context, keys, count, spans, &failures);
    return failures.Sum(count);
  }
  Batch batch;
  batch.failures = &failures;
  for (std::size_t i = 0; i < count; ++i) {
    if (spans[i].data == nullptr) batch.Add(keys[i], deadline, &spans[i]);
    if (batch.count != kBatch && (i + 1 < count || batch.count == 0)) continue;
    while (batch.count != 0) {
      if (Outcome outcome = Fetch(&batch, deadline); !outcome.ok()) {
        batch.FailAll(outcome);
      }
    }
  }
  return failures.Sum(count);
}

// With a timeout of 0 memd is not asked: what the index says is the answer.
// While a put of this client is on its way, "nowhere" is not certain.
void Reader::FailWithoutWaiting(ThreadContext* context, const Key* keys,
                                std::size_t count, const agentmem_span* spans,
                                Failures* failures) {
  const bool certain = channel_->InFlight(Op::kPublish) == 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (spans[i].data != nullptr) continue;
    const EntryKind kind = context == nullptr
                               ? EntryKind::kInStore
                               : context->index.Find(keys[i]).kind;
    if (kind == EntryKind::kResident) {
      failures->Add(keys[i],
                    Fail(Code::kResourceExhausted,
                         "all " + std::to_string(kThreadPins) +
                             " pins of this thread are in use; release or "
                             "hold some, or give a timeout"));
    } else if (kind == EntryKind::kEmpty && certain) {
      failures->Add(keys[i], Fail(Code::kNotFound, "no tier has the block"));
    } else {
      failures->Add(keys[i], Fail(Code::kDeadlineExceeded,
                                  "it is not in DRAM, and the timeout is 0"));
    }
  }
}

// Asks for the batch; what comes back is filled in or counted as a failure.
// What is left in the batch is to be asked for again. Not OK: all of it failed.
Outcome Reader::Fetch(Batch* batch, const Deadline& deadline) {
  Session* session = nullptr;
  if (Outcome outcome = channel_->AcquireLive(deadline, &session);
      !outcome.ok()) {
    return outcome;
  }
  std::size_t posted = 0;
  Outcome outcome = channel_->Post(session, {batch->entries, batch->count},
                                   Answers::kWanted, deadline, &posted);
  channel_->WaitAll(session, {batch->entries, posted}, deadline);
  std::size_t again = 0;
  for (std::size_t i = 0; i < batch->count; ++i) {
    CompletionEntry answer = {};
    Outcome failed = outcome;
    if (i < posted) {
      if (!channel_->Take(batch->entries[i].op_id, &answer)) {
        failed = Fail(Code::kDeadlineExceeded,
                      "memd did not bring it before the deadline");
      } else if (answer.code != Code::kOk) {
        failed = Fail(answer.code, Explain(answer));
      } else if (Accept(session, answer, batch->spans[i])) {
        continue;
      } else {
        failed = Fail(Code::kInternal, "memd named a slot outside its memory");
      }
    }
    if (failed.code == Code::kUnavailable && batch->retry_if_memd_died) {
      batch->keys[again] = batch->keys[i];
      batch->spans[again] = batch->spans[i];
      batch->entries[again] = batch->entries[i];
      ++again;
      continue;
    }
    batch->failures->Add(*batch->keys[i], std::move(failed));
  }
  if (again != 0) batch->retry_if_memd_died = false;
  batch->count = again;
  session->Unref();
  return {};
}

// Takes over the hold that a fetch brought; as a pin, if one is free.
bool Reader::Accept(Session* session, const CompletionEntry& answer,
                    agentmem_span* span) {
  if (answer.slot >= session->index().header().slot_count) return false;
  const SlotIndex index(answer.slot);
  ThreadContext* context = contexts_->Current();
  ThreadContext of_session;
  of_session.index = session->index();
  of_session.data = session->data();
  of_session.data_bytes = session->data_bytes();
  if (!Fill(of_session, index, span)) {
    channel_->ReleaseHold(session, answer.slot, answer.generation);
    return false;
  }
  span->tier = answer.tier;
  if (context != nullptr && context->session == session &&
      context->pins != nullptr) {
    PinTable* table = context->pins;
    const int pin = table->Peek();
    if (pin != PinTable::kNone) {
      std::atomic<std::uint64_t>& word = table->shared->pins[pin];
      word.exchange(static_cast<std::uint64_t>(answer.slot) + 1,
                    std::memory_order_seq_cst);
      if (session->index().StillPublished(index, answer.generation)) {
        table->MarkTaken(pin);
        SetPin(table, pin, answer.slot, answer.generation, span);
        channel_->ReleaseHold(session, answer.slot, answer.generation);
        return true;
      }
      // Unpublished meanwhile: only the hold keeps the bytes.
      word.store(0, std::memory_order_release);
    }
  }
  session->Ref();
  SetHold(session, answer.slot, answer.generation, span);
  return true;
}

void Reader::ReleaseHold(const agentmem_span& span) {
  Session* session = HoldSessionOf(span);
  channel_->ReleaseHold(session, SlotOf(span), GenerationOf(span));
  session->Unref();
}

Outcome Reader::Hold(agentmem_span* spans, std::size_t count,
                     const Deadline& deadline) {
  Outcome first;
  agentmem_span* batch[kBatch];
  std::size_t batched = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (KindOf(spans[i]) == SpanKind::kPin) batch[batched++] = &spans[i];
    if (batched != kBatch && i + 1 < count) continue;
    Outcome outcome = HoldBatch({batch, batched}, deadline);
    if (first.ok()) first = std::move(outcome);
    batched = 0;
  }
  return first;
}

Outcome Reader::HoldBatch(std::span<agentmem_span*> spans,
                          const Deadline& deadline) {
  if (spans.empty()) return {};
  Session* session = channel_->Acquire();
  SubmissionEntry entries[kBatch];
  agentmem_span* asked[kBatch];
  std::size_t count = 0;
  Outcome first;
  for (agentmem_span* span : spans) {
    if (TableOf(*span)->session != session) {
      first =
          Fail(Code::kUnavailable, "the memd that the block came from is gone");
      continue;
    }
    SubmissionEntry& entry = entries[count];
    entry = SubmissionEntry{};
    entry.op = Op::kHold;
    entry.slot = SlotOf(*span);
    entry.sequence = GenerationOf(*span);
    entry.deadline_ns = deadline.at();
    asked[count++] = span;
  }
  std::size_t posted = 0;
  Outcome outcome = channel_->Post(session, {entries, count}, Answers::kWanted,
                                   deadline, &posted);
  if (first.ok()) first = std::move(outcome);
  channel_->WaitAll(session, {entries, posted}, deadline);
  for (std::size_t i = 0; i < posted; ++i) {
    CompletionEntry answer = {};
    Outcome failed;
    if (!channel_->Take(entries[i].op_id, &answer)) {
      failed = Fail(Code::kDeadlineExceeded,
                    "memd did not answer before the deadline");
    } else if (answer.code != Code::kOk) {
      failed = Fail(answer.code, Explain(answer));
    } else {
      PinTable* table = TableOf(*asked[i]);
      const int pin = PinOf(*asked[i]);
      session->Ref();
      SetHold(session, entries[i].slot, entries[i].sequence, asked[i]);
      contexts_->ReleasePin(table, pin);
    }
    if (first.ok()) first = std::move(failed);
  }
  session->Unref();
  // Gets found them in the memory of a memd that is dead, and would again.
  if (first.code == Code::kUnavailable &&
      channel_->AcquireLive(deadline, &session).ok()) {
    session->Unref();
  }
  return first;
}

Outcome Reader::Contains(const Key* keys, std::size_t count,
                         agentmem_tier* tiers) {
  ThreadContext* context = contexts_->Current();
  if (context == nullptr) {
    return Fail(Code::kFailedPrecondition, "this thread is ending");
  }
  if (FindHere(*context, keys, count, tiers) != 0 &&
      HasOthers(*context->session)) {
    FindElsewhere(keys, count, Deadline::After(kOthersNs), tiers);
  }
  return {};
}

Outcome Reader::FindTiers(const Key* keys, std::size_t count,
                          const Deadline& deadline, agentmem_tier* tiers) {
  const ThreadContext* context = contexts_->Current();
  if (context == nullptr) {
    return Fail(Code::kFailedPrecondition, "this thread is ending");
  }
  if (FindHere(*context, keys, count, tiers) != 0) {
    FindElsewhere(keys, count, deadline, tiers);
  }
  return {};
}

// Asks for those whose tier is none yet.
void Reader::FindElsewhere(const Key* keys, std::size_t count,
                           const Deadline& deadline, agentmem_tier* tiers) {
  SubmissionEntry entries[kBatch];
  agentmem_tier* asked[kBatch];
  std::size_t batched = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (tiers[i] == AGENTMEM_TIER_NONE) {
      asked[batched] = &tiers[i];
      SubmissionEntry& entry = entries[batched++];
      entry = SubmissionEntry{};
      entry.op = Op::kFindTier;
      entry.key = keys[i];
      entry.deadline_ns = deadline.at();
    }
    if (batched == 0 || (batched != kBatch && i + 1 < count)) continue;
    if (!AskForTiers({entries, batched}, asked, deadline)) return;
    batched = 0;
  }
}

// False: memd, or those it asked, did not say it of all before the deadline.
// The index is the answer then, as it is while memd is gone.
bool Reader::AskForTiers(std::span<SubmissionEntry> entries,
                         agentmem_tier* const* tiers,
                         const Deadline& deadline) {
  Session* session = channel_->Acquire();
  std::size_t posted = 0;
  bool all =
      channel_->Post(session, entries, Answers::kWanted, deadline, &posted)
          .ok();
  channel_->WaitAll(session, entries.first(posted), deadline);
  for (std::size_t i = 0; i < posted; ++i) {
    CompletionEntry answer = {};
    if (!channel_->Take(entries[i].op_id, &answer)) {
      all = false;
    } else if (answer.code == Code::kOk) {
      *tiers[i] = answer.tier;
    }
  }
  session->Unref();
  return all;
}

std::optional<BlockClass> Reader::ClassBelow(const Key& key) {
  ThreadContext* context = contexts_->Current();
  if (context == nullptr) return std::nullopt;
  const IndexReader::Found found = context->index.Find(key);
  if (found.kind == EntryKind::kEmpty) return std::nullopt;
  if (found.block_class == BlockClass::kState && context->session->HungUp()) {
    return std::nullopt;
  }
  return found.block_class;
}

Outcome Reader::Prefetch(const Key* keys, std::size_t count) {
  ThreadContext* context = contexts_->Current();
  Session* session = nullptr;
  const Deadline now = Deadline::After(0);
  if (Outcome outcome = channel_->AcquireLive(now, &session); !outcome.ok()) {
    return outcome;
  }
  Outcome outcome;
  SubmissionEntry entries[kBatch];
  std::size_t batched = 0;
  for (std::size_t i = 0; i < count && outcome.ok(); ++i) {
    if (context == nullptr ||
        context->index.Find(keys[i]).kind != EntryKind::kResident) {
      SubmissionEntry& entry = entries[batched++];
      entry = SubmissionEntry{};
      entry.op = Op::kPrefetch;
      entry.key = keys[i];
      entry.deadline_ns = kNoDeadline;
    }
    if (batched == 0 || (batched != kBatch && i + 1 < count)) continue;
    std::size_t posted = 0;
    outcome = channel_->Post(session, {entries, batched}, Answers::kForgotten,
                             now, &posted);
    if (outcome.code == Code::kDeadlineExceeded) {
      outcome = Fail(Code::kResourceExhausted,
                     "memd is behind: only the first " +
                         std::to_string(i + 1 - batched + posted) + " of " +
                         std::to_string(count) +
                         " keys were looked at; ask for the rest later");
    }
    batched = 0;
  }
  session->Unref();
  return outcome;
}

}  // namespace agentmem::client
