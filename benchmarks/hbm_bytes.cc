#include "benchmarks/hbm_bytes.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "cuda/fp8_codec.h"

namespace agentmem::bench {
namespace {

constexpr std::uint64_t kWord = sizeof(std::uint64_t);
constexpr std::uint64_t kBlockBytes = 2 << 20;  // that lie together on the host

// SplitMix64 by index: any word can be told without those before it.
std::uint64_t WordAt(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t word = seed + index * 0x9E3779B97F4A7C15u;
  word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9u;
  word = (word ^ (word >> 27)) * 0x94D049BB133111EBu;
  return word ^ (word >> 31);
}

// What PlaceOf multiplies by, turned around: by Newton, modulo 2^64 and so
// modulo each power of two.
std::uint64_t FragmentAt(std::uint64_t place, std::uint64_t count) {
  const std::uint64_t odd = (count * 5 / 8) | 1;
  std::uint64_t inverse = odd;
  for (int i = 0; i < 6; ++i) inverse *= 2 - odd * inverse;
  return place * inverse % count;
}

void FillSpan(char* host, std::uint64_t bytes, std::uint64_t seed,
              std::uint64_t first_word) {
  for (std::uint64_t i = 0; i < bytes / kWord; ++i) {
    const std::uint64_t word = WordAt(seed, first_word + i);
    std::memcpy(host + i * kWord, &word, kWord);
  }
}

std::optional<std::uint64_t> WrongInSpan(const char* host, std::uint64_t bytes,
                                         std::uint64_t seed,
                                         std::uint64_t first_word) {
  for (std::uint64_t i = 0; i < bytes / kWord; ++i) {
    const std::uint64_t word = WordAt(seed, first_word + i);
    if (std::memcmp(host + i * kWord, &word, kWord) == 0) continue;
    std::uint64_t at = i * kWord;
    const char* const right = reinterpret_cast<const char*>(&word);
    while (host[at] == right[at - i * kWord]) ++at;
    return at;
  }
  return std::nullopt;
}

std::uint64_t ElementsAt(std::uint64_t seed, std::uint64_t index) {
  return (WordAt(seed, index) & 0x83ff83ff83ff83ff) | 0x3c003c003c003c00;
}

// A stretch of fragments of one size: on the host they change places within it.
struct Part {
  std::uint64_t at = 0;
  std::uint64_t bytes = 0;
  std::uint32_t fragment_bytes = 0;

  std::uint64_t count() const { return bytes / fragment_bytes; }
};

std::vector<Part> PartsOf(std::uint64_t bytes, std::uint32_t fragment_bytes) {
  if (fragment_bytes != kMixedFragments) return {{0, bytes, fragment_bytes}};
  const std::uint64_t quarter = bytes / 4;
  std::vector<Part> parts;
  for (const std::uint32_t size : {2u << 20, 64u << 10, 16u << 10, 4u << 10}) {
    parts.push_back({parts.size() * quarter, quarter, size});
  }
  return parts;
}

float Bfloat16(std::uint64_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits & 0xffff) << 16);
}

// Four elements of a word each: what was there and what came.
template <typename Visit>
void EachElement(std::span<const char> page, std::uint64_t seed,
                 std::uint64_t at, const Fp8Shape& shape, Visit visit) {
  for (std::uint64_t i = 0; i < page.size() / kWord; ++i) {
    std::uint64_t was = ElementsAt(seed, at / kWord + i);
    std::uint64_t came = 0;
    std::memcpy(&came, page.data() + i * kWord, kWord);
    const std::uint64_t head = i * kWord / shape.head_stride % shape.heads;
    for (int n = 0; n < 4; ++n, was >>= 16, came >>= 16) {
      visit(head, Bfloat16(was), Bfloat16(came));
    }
  }
}

}  // namespace

std::vector<Fragment> ScatteredFragments(DeviceAddress device,
                                         std::span<char> host,
                                         std::uint32_t fragment_bytes) {
  std::vector<Fragment> fragments;
  for (const Part& part : PartsOf(host.size(), fragment_bytes)) {
    const std::uint64_t each = part.fragment_bytes;
    const std::uint64_t of_block =
        std::clamp<std::uint64_t>(kBlockBytes / each, 1, part.count());
    const std::uint64_t blocks = part.count() / of_block;
    for (std::uint64_t i = 0; i < part.count(); ++i) {
      const std::uint64_t block = PlaceOf(i / of_block, blocks);
      const std::uint64_t place = block * of_block + i % of_block;
      fragments.push_back(
          {device + part.at + FragmentAt(place, part.count()) * each,
           host.data() + part.at + place * each, part.fragment_bytes});
    }
  }
  return fragments;
}

void FillInOrder(std::span<char> host, std::uint64_t seed) {
  FillSpan(host.data(), host.size(), seed, 0);
}

void FillScattered(std::span<char> host, std::uint64_t seed,
                   std::uint32_t fragment_bytes) {
  for (const Part& part : PartsOf(host.size(), fragment_bytes)) {
    const std::uint64_t each = part.fragment_bytes;
    for (std::uint64_t place = 0; place < part.count(); ++place) {
      FillSpan(host.data() + part.at + place * each, each, seed,
               (part.at + FragmentAt(place, part.count()) * each) / kWord);
    }
  }
}

void FillElements(std::span<char> host, std::uint64_t seed) {
  for (std::uint64_t i = 0; i < host.size() / kWord; ++i) {
    const std::uint64_t word = ElementsAt(seed, i);
    std::memcpy(host.data() + i * kWord, &word, kWord);
  }
}

std::optional<std::string> WrongElements(std::span<const char> page,
                                         std::uint64_t seed, std::uint64_t at,
                                         const Fp8Shape& shape,
                                         const float* scales) {
  std::vector<float> largest(shape.heads);
  EachElement(page, seed, at, shape, [&](std::uint64_t head, float was, float) {
    largest[head] = std::max(largest[head], std::fabs(was));
  });
  for (std::uint32_t head = 0; head < shape.heads; ++head) {
    if (scales[head] == largest[head] / kFp8Max) continue;
    return "head " + std::to_string(head) + "'s scale is " +
           std::to_string(scales[head]);
  }
  std::optional<std::string> wrong;
  EachElement(
      page, seed, at, shape, [&](std::uint64_t head, float was, float came) {
        const float error = std::fabs(was - came);
        if (error <= std::fabs(was) / 16) return;  // for most of them
        if (error <= Fp8ErrorMax(was, scales[head], shape.type)) return;
        wrong = std::to_string(was) + " came back as " + std::to_string(came) +
                " at scale " + std::to_string(scales[head]);
      });
  return wrong;
}

std::optional<std::uint64_t> WrongInOrder(std::span<const char> host,
                                          std::uint64_t seed) {
  return WrongInSpan(host.data(), host.size(), seed, 0);
}

std::optional<std::uint64_t> WrongScattered(std::span<const char> host,
                                            std::uint64_t seed,
                                            std::uint32_t fragment_bytes) {
  for (const Part& part : PartsOf(host.size(), fragment_bytes)) {
    const std::uint64_t each = part.fragment_bytes;
    for (std::uint64_t place = 0; place < part.count(); ++place) {
      const std::uint64_t at = part.at + place * each;
      const auto wrong = WrongInSpan(
          host.data() + at, each, seed,
          (part.at + FragmentAt(place, part.count()) * each) / kWord);
      if (wrong.has_value()) return at + *wrong;
    }
  }
  return std::nullopt;
}

}  // namespace agentmem::bench
