// Room at a peer for blocks to come: reserved before they are put, so that a
// put need not ask and wait before it writes.
//
// How much is kept follows use. The second put of a size within kAheadNs starts
// it; a put that finds none doubles it; room that goes unused for kAheadNs is
// not used any more (the peer takes it back by itself) and halves it.
//
// Ownership: a value. Threads: reactor-only. Errors: none. Cost: O(1).
#ifndef AGENTMEM_MEMD_POOL_ROOM_AHEAD_H_
#define AGENTMEM_MEMD_POOL_ROOM_AHEAD_H_

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "proto/size_class.h"

namespace agentmem {

class RoomAhead {
 public:
  struct Place {
    std::uint64_t offset = 0;
    std::uint64_t generation = 0;
    TimeNs asked_at = 0;
  };
  struct Wanted {
    std::uint8_t size_class = 0;
    std::uint32_t count = 0;
  };

  // For a put that begins. Nothing: it asks for itself.
  std::optional<Place> Take(std::size_t size_class, TimeNs now);
  // What the peer is to be asked for; each of them then Came, or was Refused.
  std::optional<Wanted> Ask();
  void Came(std::uint8_t size_class, const Place& place);
  // It has no room, or did not answer.
  void Refused(const Wanted& wanted, TimeNs now);
  // It knows nothing of them any more.
  void Clear() { *this = RoomAhead(); }

 private:
  struct Size {
    std::deque<Place> kept;  // the oldest first
    std::uint32_t asked = 0;
    std::uint32_t target = 0;
    bool wanting = false;  // in wanting_
    bool used = false;
    TimeNs used_at = 0;
    TimeNs not_before = 0;  // after it was refused
  };

  static std::uint32_t TargetMax(std::size_t size_class);

  std::array<Size, kSizeClasses> sizes_;
  std::vector<std::uint8_t> wanting_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_ROOM_AHEAD_H_
