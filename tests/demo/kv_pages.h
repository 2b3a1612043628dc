// How the demo's engines keep KV blocks: a model's shape, in pages, in one of
// two orders.
//
// A block is what docs/kv.md says: [layer][plane][token][head][element]. An
// engine has a tensor for each layer, [plane][page][..16 tokens, 4 heads..],
// and a page's part of a plane lies together: a run. Engines differ in what
// comes first in a run, tokens or heads; a block that one stored is loaded by
// the other. All of it is counted here by hand: no code is shared with what it
// checks.
//
// Ownership: none. Threads: pure functions. Errors: none. Cost: copying.
#ifndef AGENTMEM_TESTS_DEMO_KV_PAGES_H_
#define AGENTMEM_TESTS_DEMO_KV_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "tests/demo/content.h"

namespace agentmem::demo {

inline constexpr std::uint32_t kKvLayers = 8;
inline constexpr std::uint32_t kKvPlanes = 2;
inline constexpr std::uint32_t kKvPageTokens = 16;
inline constexpr std::uint32_t kKvHeads = 4;
inline constexpr std::uint32_t kKvHeadBytes = 128;
inline constexpr std::uint32_t kKvBlockPages = 2;
inline constexpr std::uint32_t kKvRunBytes =
    kKvPageTokens * kKvHeads * kKvHeadBytes;
inline constexpr std::uint32_t kKvBlockBytes =
    kKvLayers * kKvPlanes * kKvBlockPages * kKvRunBytes;
static_assert(kKvBlockBytes == 256 << 10);

enum class KvOrder : std::uint8_t { kTokensFirst, kHeadsFirst };

// From one token (or head) to the next in a run.
constexpr std::uint32_t KvTokenStride(KvOrder order) {
  return order == KvOrder::kTokensFirst ? kKvHeads * kKvHeadBytes
                                        : kKvHeadBytes;
}
constexpr std::uint32_t KvHeadStride(KvOrder order) {
  return order == KvOrder::kTokensFirst ? kKvHeadBytes
                                        : kKvPageTokens * kKvHeadBytes;
}

// Run `index` of a block, 0 to kKvRuns - 1, is of this layer, plane and page.
inline constexpr std::uint32_t kKvRuns = kKvBlockBytes / kKvRunBytes;
struct KvRun {
  std::uint32_t layer;
  std::uint32_t plane;
  std::uint32_t page;  // of the block
};
constexpr KvRun KvRunOf(std::uint32_t index) {
  return {index / (kKvPlanes * kKvBlockPages),
          index / kKvBlockPages % kKvPlanes, index % kKvBlockPages};
}

// A block's bytes into its runs, one after the other, and back.
void KvToRuns(KvOrder order, std::span<const std::byte> block,
              std::span<std::byte> runs);
void KvFromRuns(KvOrder order, std::span<const std::byte> runs,
                std::span<std::byte> block);

// What block `number` of an agent holds; also its key's two words.
ContentId KvContentOf(std::uint64_t seed, std::uint32_t agent,
                      std::uint32_t number);

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_KV_PAGES_H_
