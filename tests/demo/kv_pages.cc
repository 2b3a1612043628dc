#include "tests/demo/kv_pages.h"

#include <cstring>

namespace agentmem::demo {
namespace {

constexpr std::uint64_t kKvSalt = 0x6b7662;

// visit(place in the block, place in the runs) of each head's bytes.
template <typename Visit>
void EachHead(KvOrder order, Visit&& visit) {
  std::uint64_t in_block = 0;
  for (std::uint32_t layer = 0; layer < kKvLayers; ++layer) {
    for (std::uint32_t plane = 0; plane < kKvPlanes; ++plane) {
      const std::uint64_t first_run =
          std::uint64_t{layer * kKvPlanes + plane} * kKvBlockPages;
      for (std::uint32_t token = 0; token < kKvBlockPages * kKvPageTokens;
           ++token) {
        const std::uint64_t run = first_run + token / kKvPageTokens;
        for (std::uint32_t head = 0; head < kKvHeads; ++head) {
          visit(in_block, run * kKvRunBytes +
                              token % kKvPageTokens * KvTokenStride(order) +
                              head * KvHeadStride(order));
          in_block += kKvHeadBytes;
        }
      }
    }
  }
}

}  // namespace

void KvToRuns(KvOrder order, std::span<const std::byte> block,
              std::span<std::byte> runs) {
  EachHead(order, [&](std::uint64_t in_block, std::uint64_t in_runs) {
    std::memcpy(&runs[in_runs], &block[in_block], kKvHeadBytes);
  });
}

void KvFromRuns(KvOrder order, std::span<const std::byte> runs,
                std::span<std::byte> block) {
  EachHead(order, [&](std::uint64_t in_block, std::uint64_t in_runs) {
    std::memcpy(&block[in_block], &runs[in_runs], kKvHeadBytes);
  });
}

ContentId KvContentOf(std::uint64_t seed, std::uint32_t agent,
                      std::uint32_t number) {
  const std::uint64_t low = Mix(Mix(seed + kKvSalt) + agent);
  return {low, Mix(low + number)};
}

}  // namespace agentmem::demo
