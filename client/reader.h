// Gets blocks: by a pin when they are in DRAM, else through memd.
//
// PinResident is the hot path. For each key: find its slot in the index, put a
// pin into the thread's own table (seq_cst), and look at the slot's generation
// again; if it is still the same, memd will see the pin before it reuses the
// slot (docs/data-path.md). FetchMissing asks memd for the rest in batches;
// what it brings comes held, and the hold becomes a pin where one is free.
//
// Contains and FindTiers look into the index, which knows what this node has
// met. What it does not know they ask memd for, if memd has other nodes to ask;
// it then knows them, too. Both are answers of the moment: no miss is
// remembered, for another node may put the block right after.
//
// Ownership: borrows contexts and channel; spans are the caller's to release.
// Threads: thread-safe. Errors: see agentmem_get.
// Cost: PinResident, and Contains and FindTiers of what the index knows or on a
// node by itself: no system call, allocation, lock or log. Of what it does not
// know: a round trip to memd for each kBatch keys; memd asks others.
#ifndef AGENTMEM_CLIENT_READER_H_
#define AGENTMEM_CLIENT_READER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "agentmem/agentmem.h"
#include "client/channel.h"
#include "client/span.h"
#include "client/thread_contexts.h"
#include "proto/outcome.h"

namespace agentmem::client {

// What happens between the two looks of a pin: nothing, but in tests.
struct Nothing {
  void operator()() const {}
};

class Reader {
 public:
  static constexpr std::size_t kBatch = 128;
  // Contains and a match have no timeout of their caller's. What others have
  // not said by then does not count.
  static constexpr std::uint64_t kOthersNs = 100 * kMillisecondNs;

  Reader(ThreadContexts* contexts, Channel* channel)
      : contexts_(contexts), channel_(channel) {}

  // Returns how many of the blocks were not pinned (their data is null).
  template <typename BetweenLooks = Nothing>
  std::size_t PinResident(const Key* keys, std::size_t count,
                          agentmem_span* spans,
                          BetweenLooks between_looks = {}) {
    ThreadContext* context = contexts_->Current();
    std::size_t missing = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (__builtin_expect(context == nullptr ||
                               !Pin(context, keys[i], &spans[i], between_looks),
                           0)) {
        spans[i] = agentmem_span{};
        ++missing;
      }
    }
    return missing;
  }
  // Gets those that PinResident left out.
  Outcome FetchMissing(const Key* keys, std::size_t count,
                       const Deadline& deadline, agentmem_span* spans);
  Outcome Get(const Key* keys, std::size_t count, const Deadline& deadline,
              agentmem_span* spans) {
    if (PinResident(keys, count, spans) == 0) return {};
    return FetchMissing(keys, count, deadline, spans);
  }

  void Release(agentmem_span* spans, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const SpanKind kind = KindOf(spans[i]);
      if (__builtin_expect(kind == SpanKind::kPin, 1)) {
        contexts_->ReleasePin(TableOf(spans[i]), PinOf(spans[i]));
      } else if (kind == SpanKind::kHold) {
        ReleaseHold(spans[i]);
      }
      spans[i] = agentmem_span{};
    }
  }

  Outcome Hold(agentmem_span* spans, std::size_t count,
               const Deadline& deadline);
  Outcome Contains(const Key* keys, std::size_t count, agentmem_tier* tiers);
  // Has the memd of that session other nodes to ask?
  static bool HasOthers(const Session& session) {
    return (session.welcome().flags & kWelcomeFindsTiers) != 0;
  }
  // As Contains, for who knows that it HasOthers, and until then.
  Outcome FindTiers(const Key* keys, std::size_t count,
                    const Deadline& deadline, agentmem_tier* tiers);
  Outcome Prefetch(const Key* keys, std::size_t count);
  // The class of the block, if the index has it in any tier. Of class state it
  // is only said to be there while memd lives (a system call): what a dead one
  // had in DRAM is gone.
  std::optional<BlockClass> ClassBelow(const Key& key);

 private:
  // A writer may die in the middle, and a reader must not spin for it.
  static constexpr int kPinAttempts = 8;

  struct Failures;
  struct Batch;

  template <typename BetweenLooks>
  bool Pin(ThreadContext* context, const Key& key, agentmem_span* span,
           BetweenLooks& between_looks);
  bool Fill(const ThreadContext& context, SlotIndex index, agentmem_span* span);
  void ReleaseHold(const agentmem_span& span);
  void FailWithoutWaiting(ThreadContext* context, const Key* keys,
                          std::size_t count, const agentmem_span* spans,
                          Failures* failures);
  Outcome Fetch(Batch* batch, const Deadline& deadline);
  bool Accept(Session* session, const CompletionEntry& answer,
              agentmem_span* span);
  Outcome HoldBatch(std::span<agentmem_span*> spans, const Deadline& deadline);
  void FindElsewhere(const Key* keys, std::size_t count,
                     const Deadline& deadline, agentmem_tier* tiers);
  bool AskForTiers(std::span<SubmissionEntry> entries,
                   agentmem_tier* const* tiers, const Deadline& deadline);

  ThreadContexts* const contexts_;
  Channel* const channel_;
};

inline bool Reader::Fill(const ThreadContext& context, SlotIndex index,
                         agentmem_span* span) {
  const Place place = context.index.slot(index).LoadPlace();
  const std::uint64_t offset = place.data_offset();
  const std::uint64_t length = place.length();
  if (__builtin_expect(
          offset > context.data_bytes || length > context.data_bytes - offset,
          0)) {
    return false;
  }
  span->data = context.data + offset;
  span->length = length;
  return true;
}

template <typename BetweenLooks>
bool Reader::Pin(ThreadContext* context, const Key& key, agentmem_span* span,
                 BetweenLooks& between_looks) {
  PinTable* table = context->pins;
  if (__builtin_expect(table == nullptr, 0)) return false;
  const std::uint64_t hash = HashKey(key);
  for (int attempt = 0; attempt < kPinAttempts; ++attempt) {
    const IndexReader::Found found = context->index.Find(key, hash);
    if (found.kind != EntryKind::kResident) return false;
    between_looks();
    const int pin = table->Peek();
    if (__builtin_expect(pin == PinTable::kNone, 0)) {
      if (!contexts_->CollectReturned(table)) return false;
      continue;
    }
    std::atomic<std::uint64_t>& word = table->shared->pins[pin];
    const std::uint32_t slot = found.slot.value();
    word.exchange(static_cast<std::uint64_t>(slot) + 1,
                  std::memory_order_seq_cst);
    if (__builtin_expect(
            context->index.StillPublished(found.slot, found.generation) &&
                Fill(*context, found.slot, span),
            1)) {
      table->MarkTaken(pin);
      SetPin(table, pin, slot, found.generation, span);
      span->tier = AGENTMEM_TIER_DRAM;
      table->Note(slot, found.generation);
      return true;
    }
    word.store(0, std::memory_order_release);
  }
  return false;
}

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_READER_H_
