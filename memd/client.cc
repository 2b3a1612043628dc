#include "memd/client.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace agentmem {

Client::Client(ClientIdentity identity, void* file_base, std::uint64_t instance,
               std::vector<ClientId>* signalled, TimeNs now)
    : identity_(std::move(identity)),
      signalled_(signalled),
      file_(file_base),
      connected_at_(now) {
  ClientHeader& header = file_.header();
  header.version = kClientVersion;
  header.header_bytes = sizeof(ClientHeader);
  header.client_id = identity_.id.value();
  header.instance = instance;
  header.start_time = identity_.start_time;
  header.pid = identity_.pid;
  header.magic = kClientMagic;
}

bool Client::HasSubmissions() {
  return !broken_ && file_.header().submission_tail.load(
                         std::memory_order_seq_cst) != submission_head_;
}

std::uint64_t Client::Unreaped() const {
  return completion_tail_ -
         file_.header().completion_head.load(std::memory_order_acquire);
}

bool Client::IsStuck() {
  return HasSubmissions() && Unreaped() + unanswered_ >= kCompletionEntries;
}

bool Client::NextSubmission(SubmissionEntry* entry) {
  if (broken_ || closed) return false;
  ClientHeader& header = file_.header();
  const std::uint64_t tail =
      header.submission_tail.load(std::memory_order_acquire);
  if (tail == submission_head_) return false;
  const std::uint64_t unreaped = Unreaped();
  if (tail - submission_head_ > kSubmissionEntries ||
      unreaped > kCompletionEntries) {
    broken_ = true;
    return false;
  }
  if (unreaped + unanswered_ >= kCompletionEntries) return false;
  std::memcpy(static_cast<void*>(entry),
              &file_.submissions()[submission_head_ % kSubmissionEntries],
              sizeof(*entry));
  ++submission_head_;
  header.submission_head.store(submission_head_, std::memory_order_release);
  ++unanswered_;
  Signal();  // a poster may wait for room in the ring
  return true;
}

void Client::Complete(const CompletionEntry& entry) {
  AGENTMEM_CHECK(unanswered_ > 0);
  --unanswered_;
  Write(entry);
}

bool Client::MayNotify() const {
  if (broken_ || closed) return false;
  const std::uint64_t unreaped = Unreaped();
  // The head is the client's word, and may be a lie.
  return unreaped < kCompletionEntries / 2 &&
         unreaped + unanswered_ < kCompletionEntries;
}

void Client::Notify(const CompletionEntry& entry) { Write(entry); }

void Client::Write(const CompletionEntry& entry) {
  std::memcpy(static_cast<void*>(
                  &file_.completions()[completion_tail_ % kCompletionEntries]),
              &entry, sizeof(entry));
  ++completion_tail_;
  file_.header().completion_tail.store(completion_tail_,
                                       std::memory_order_release);
  Signal();
}

bool Client::Offer(std::uint32_t slot, std::uint64_t data_offset,
                   std::uint8_t size_class, TimeNs now) {
  for (std::uint32_t i = 0; i < kGrantEntries; ++i) {
    const std::uint32_t index = (free_grant_hint_ + i) % kGrantEntries;
    Grant& grant = grants[index];
    if (grant.slot != kNoSlot) continue;
    free_grant_hint_ = index + 1;
    grant.slot = slot;
    grant.size_class = size_class;
    grant.offered_at = now;
    GrantEntry& entry = file_.grants()[index];
    entry.data_offset = data_offset;
    entry.slot_bytes = SizeClassBytes(size_class);
    entry.state.store(PackGrant(grant.sequence, GrantState::kGranted),
                      std::memory_order_release);
    granted_bytes += SizeClassBytes(size_class);
    Signal();
    return true;
  }
  return false;
}

bool Client::HasFreeGrantEntry() const {
  return std::any_of(grants.begin(), grants.end(),
                     [](const Grant& grant) { return grant.slot == kNoSlot; });
}

bool Client::HasOffer(std::uint8_t size_class) const {
  for (std::uint32_t i = 0; i < kGrantEntries; ++i) {
    if (grants[i].slot != kNoSlot && grants[i].size_class == size_class &&
        file_.grants()[i].state.load(std::memory_order_acquire) ==
            PackGrant(grants[i].sequence, GrantState::kGranted)) {
      return true;
    }
  }
  return false;
}

bool Client::Revoke(std::uint32_t index) {
  Grant& grant = grants[index];
  std::uint64_t expected = PackGrant(grant.sequence, GrantState::kGranted);
  if (!file_.grants()[index].state.compare_exchange_strong(
          expected, PackGrant(grant.sequence + 1, GrantState::kFree),
          std::memory_order_acq_rel)) {
    return false;
  }
  granted_bytes -= SizeClassBytes(grant.size_class);
  ++grant.sequence;
  grant.slot = kNoSlot;
  return true;
}

std::uint32_t Client::Settle(std::uint32_t index, std::uint64_t sequence) {
  if (index >= kGrantEntries) return kNoSlot;
  Grant& grant = grants[index];
  if (grant.slot == kNoSlot || grant.sequence != sequence) return kNoSlot;
  const std::uint32_t slot = grant.slot;
  granted_bytes -= SizeClassBytes(grant.size_class);
  ++grant.sequence;
  grant.slot = kNoSlot;
  file_.grants()[index].state.store(
      PackGrant(grant.sequence, GrantState::kFree), std::memory_order_release);
  return slot;
}

void Client::Signal() {
  if (signal_) return;
  signal_ = true;
  signalled_->push_back(identity_.id);
}

bool Client::TakeSignal() {
  signal_ = false;
  ClientHeader& header = file_.header();
  header.completion_signal.fetch_add(1, std::memory_order_seq_cst);
  return header.waiters.load(std::memory_order_seq_cst) != 0;
}

}  // namespace agentmem
