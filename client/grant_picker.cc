#include "client/grant_picker.h"

namespace agentmem::client {

bool GrantPicker::TakeEntry(const Session& session, std::uint32_t index,
                            std::uint64_t state, Grant* grant) {
  GrantEntry& entry = session.file().grants()[index];
  const std::uint64_t sequence = GrantSequenceOf(state);
  if (!entry.state.compare_exchange_strong(
          state, PackGrant(sequence, GrantState::kWriting),
          std::memory_order_acq_rel)) {
    return false;
  }
  grant->entry = index;
  grant->sequence = sequence;
  grant->slot_bytes = entry.slot_bytes;
  grant->data_offset = entry.data_offset;
  // A grant outside the mapping would be memd's mistake; it is left alone.
  return grant->data_offset <= session.data_bytes() &&
         grant->slot_bytes <= session.data_bytes() - grant->data_offset;
}

bool GrantPicker::Take(const Session& session, std::uint64_t length,
                       Waste waste, Grant* grant) {
  const std::size_t size_class = SizeClassOf(length);
  const std::uint32_t exact = SizeClassBytes(size_class);
  const std::uint64_t largest =
      waste == Waste::kAny ? kMaxBlockBytes : 2 * length + 512;
  std::atomic<std::uint32_t>& hint = hints_[size_class];
  const std::uint32_t start = hint.load(std::memory_order_relaxed);
  const GrantEntry* entries = session.file().grants();
  std::uint32_t best = kGrantEntries;
  std::uint32_t best_bytes = 0;
  std::uint64_t best_state = 0;
  for (std::uint32_t i = 0; i < kGrantEntries; ++i) {
    const std::uint32_t index = (start + i) % kGrantEntries;
    const std::uint64_t state =
        entries[index].state.load(std::memory_order_acquire);
    if (GrantStateOf(state) != GrantState::kGranted) continue;
    const std::uint32_t bytes = entries[index].slot_bytes;
    if (bytes == exact) {
      if (!TakeEntry(session, index, state, grant)) continue;
      hint.store((index + 1) % kGrantEntries, std::memory_order_relaxed);
      return true;
    }
    if (bytes < length || bytes > largest) continue;
    if (best == kGrantEntries || bytes < best_bytes) {
      best = index;
      best_bytes = bytes;
      best_state = state;
    }
  }
  return best != kGrantEntries && TakeEntry(session, best, best_state, grant);
}

}  // namespace agentmem::client
