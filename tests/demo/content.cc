#include "tests/demo/content.h"

#include <cstring>

namespace agentmem::demo {
namespace {

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15ULL;

std::uint64_t SeedOf(const ContentId& id) {
  return Mix(id.low + kGolden) ^ Mix(Mix(id.high) + 3 * kGolden);
}

std::uint64_t WordAt(std::uint64_t seed, std::uint64_t index) {
  return Mix(seed + (index + 1) * kGolden);
}

}  // namespace

std::uint64_t Mix(std::uint64_t word) {
  word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9ULL;
  word = (word ^ (word >> 27)) * 0x94d049bb133111ebULL;
  return word ^ (word >> 31);
}

std::uint64_t ContentLength(const ContentId& id, std::uint64_t bytes_max) {
  const std::uint64_t half = bytes_max / 2;
  return half + Mix(SeedOf(id) ^ kGolden) % (bytes_max - half + 1);
}

void FillContent(const ContentId& id, std::span<std::byte> bytes) {
  const std::uint64_t seed = SeedOf(id);
  const std::size_t words = bytes.size() / 8;
  for (std::size_t i = 0; i < words; ++i) {
    const std::uint64_t word = WordAt(seed, i);
    std::memcpy(bytes.data() + 8 * i, &word, 8);
  }
  const std::uint64_t last = WordAt(seed, words);
  std::memcpy(bytes.data() + 8 * words, &last, bytes.size() % 8);
}

std::uint64_t MismatchingBytes(const ContentId& id,
                               std::span<const std::byte> bytes) {
  const std::uint64_t seed = SeedOf(id);
  const std::size_t words = bytes.size() / 8;
  std::uint64_t differing = 0;
  for (std::size_t i = 0; i < words; ++i) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data() + 8 * i, 8);
    differing |= word ^ WordAt(seed, i);
  }
  std::uint64_t tail = 0;
  std::uint64_t last = 0;
  const std::uint64_t expected = WordAt(seed, words);
  std::memcpy(&tail, bytes.data() + 8 * words, bytes.size() % 8);
  std::memcpy(&last, &expected, bytes.size() % 8);
  if ((differing | (tail ^ last)) == 0) return 0;

  // Rare: count byte by byte.
  std::uint64_t mismatches = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::uint64_t word = WordAt(seed, i / 8);
    std::byte wanted;
    std::memcpy(&wanted, reinterpret_cast<const char*>(&word) + i % 8, 1);
    if (bytes[i] != wanted) ++mismatches;
  }
  return mismatches;
}

}  // namespace agentmem::demo
