#include "memd/pool/room_ahead.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "memd/pool/pool_timing.h"

namespace agentmem {

std::uint32_t RoomAhead::TargetMax(std::size_t size_class) {
  return std::clamp<std::uint32_t>(
      static_cast<std::uint32_t>(kAheadBytesMax / SizeClassBytes(size_class)),
      1, kAheadCountMax);
}

std::optional<RoomAhead::Place> RoomAhead::Take(std::size_t size_class,
                                                TimeNs now) {
  Size& size = sizes_[size_class];
  bool unused = false;
  while (!size.kept.empty() && now - size.kept.front().asked_at >= kAheadNs) {
    size.kept.pop_front();
    unused = true;
  }
  if (unused) size.target /= 2;
  const bool often = size.used && now - size.used_at < kAheadNs;
  size.used = true;
  size.used_at = now;
  std::optional<Place> place;
  if (!size.kept.empty()) {
    place = size.kept.front();
    size.kept.pop_front();
  } else if (often && size.asked == 0 && now >= size.not_before) {
    size.target = std::clamp(2 * size.target, kAheadCountMin, kAheadCountMax);
  }
  size.target = std::min(size.target, TargetMax(size_class));
  // Half of it at once, so that a message asks for several.
  const std::size_t left = size.kept.size() + size.asked;
  if (often && now >= size.not_before && !size.wanting &&
      left <= size.target / 2 && left < size.target) {
    size.wanting = true;
    wanting_.push_back(static_cast<std::uint8_t>(size_class));
  }
  return place;
}

std::optional<RoomAhead::Wanted> RoomAhead::Ask() {
  if (wanting_.empty()) return std::nullopt;
  const std::uint8_t size_class = wanting_.back();
  wanting_.pop_back();
  Size& size = sizes_[size_class];
  size.wanting = false;
  const auto left = static_cast<std::uint32_t>(size.kept.size()) + size.asked;
  const Wanted wanted = {size_class, size.target - std::min(size.target, left)};
  if (wanted.count == 0) return Ask();
  size.asked += wanted.count;
  return wanted;
}

void RoomAhead::Came(std::uint8_t size_class, const Place& place) {
  Size& size = sizes_[size_class];
  AGENTMEM_CHECK(size.asked != 0);
  --size.asked;
  size.kept.push_back(place);
}

void RoomAhead::Refused(const Wanted& wanted, TimeNs now) {
  Size& size = sizes_[wanted.size_class];
  AGENTMEM_CHECK(size.asked >= wanted.count);
  size.asked -= wanted.count;
  size.target = 0;
  size.not_before = now + kAheadNs;
}

}  // namespace agentmem
