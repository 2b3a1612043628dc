#include "memd/agents/page_bytes.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace agentmem {
namespace {

// The length of `bytes` without the zeros at its end.
std::size_t LengthWithoutZeros(std::span<const char> bytes) {
  std::size_t length = bytes.size();
  std::uint64_t word = 0;
  while (length >= sizeof(word)) {
    std::memcpy(&word, bytes.data() + length - sizeof(word), sizeof(word));
    if (word != 0) break;
    length -= sizeof(word);
  }
  while (length > 0 && bytes[length - 1] == 0) --length;
  return length;
}

}  // namespace

std::uint32_t PackUnits(std::span<const char, kPageBytes> page,
                        std::uint16_t units, std::string* to) {
  // From the last unit down: those of zeros at the end are not copied at all.
  std::size_t last_bytes = 0;
  std::uint32_t end = kPageUnits;
  for (; end > 0; --end) {
    if ((units >> (end - 1) & 1) == 0) continue;
    last_bytes =
        LengthWithoutZeros(page.subspan((end - 1) * kUnitBytes, kUnitBytes));
    if (last_bytes != 0) break;
  }
  const std::size_t before = to->size();
  for (std::uint32_t unit = 0; unit < end; ++unit) {
    if ((units >> unit & 1) == 0) continue;
    to->append(page.data() + unit * kUnitBytes,
               unit + 1 == end ? last_bytes : kUnitBytes);
  }
  return static_cast<std::uint32_t>(to->size() - before);
}

void UnpackPiece(const Piece& piece, std::span<const char> bytes,
                 std::span<char, kPageBytes> page) {
  AGENTMEM_CHECK(bytes.size() == piece.bytes &&
                 piece.bytes <= BytesOfUnits(piece.units));
  for (std::uint32_t unit = 0; unit < kPageUnits; ++unit) {
    if ((piece.units >> unit & 1) == 0) continue;
    char* const to = page.data() + unit * kUnitBytes;
    const std::size_t have = std::min<std::size_t>(bytes.size(), kUnitBytes);
    if (have != 0) std::memcpy(to, bytes.data(), have);
    if (have != kUnitBytes) std::memset(to + have, 0, kUnitBytes - have);
    bytes = bytes.subspan(have);
  }
}

}  // namespace agentmem
