// Where its blocks lie: grants, and room that is used again.
#include <cstring>

#include "base/check.h"
#include "tests/unit/client/fake_memd.h"

namespace agentmem {

bool FakeMemd::GrantLocked(Attached* client, std::uint32_t bytes) {
  if (granted_ >= options_.grants_max) return false;
  for (std::uint32_t i = 0; i < kGrantEntries; ++i) {
    GrantEntry& entry = ClientFile(client->base).grants()[i];
    if (GrantStateOf(entry.state.load()) != GrantState::kFree) continue;
    entry.data_offset = Allocate(bytes);
    entry.slot_bytes = bytes;
    entry.state.store(PackGrant(client->sequences[i], GrantState::kGranted),
                      std::memory_order_release);
    ++granted_;
    return true;
  }
  return false;
}

std::uint64_t FakeMemd::Allocate(std::uint64_t bytes) {
  // What was never used first: a while later all of it was.
  const std::uint64_t room = RoomOf(bytes);
  if (allocated_ + room > options_.data_bytes) {
    std::deque<std::uint64_t>& free = free_room_[room];
    AGENTMEM_CHECK(!free.empty());
    const std::uint64_t offset = free.front();
    free.pop_front();
    return offset;
  }
  const std::uint64_t offset = allocated_;
  allocated_ += room;
  return offset;
}

void FakeMemd::FreeRoom(std::uint64_t offset, std::uint64_t bytes) {
  if (options_.reuses_room) free_room_[RoomOf(bytes)].push_back(offset);
}

void FakeMemd::FillData(char fill) {
  std::lock_guard<std::mutex> lock(mutex_);
  AGENTMEM_CHECK(resident_.empty());
  std::memset(data_, fill, options_.data_bytes);
}

}  // namespace agentmem
