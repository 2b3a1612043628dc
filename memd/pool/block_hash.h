// XXH3-64 as fast as this processor can: the same hash by wider instructions
// where there are some.
//
// Ownership: none. Threads: thread-safe. Errors: none. Cost: about 12 GB/s with
// SSE2, twice that with AVX2.
#ifndef AGENTMEM_MEMD_POOL_BLOCK_HASH_H_
#define AGENTMEM_MEMD_POOL_BLOCK_HASH_H_

#include <cstddef>
#include <cstdint>

namespace agentmem {

// Of one build: `state` is an XXH3_state_t.
struct BlockHash {
  std::size_t state_bytes = 0;
  std::uint64_t (*of)(std::uint64_t seed, const char* bytes,
                      std::size_t length) = nullptr;
  void (*begin)(void* state, std::uint64_t seed) = nullptr;
  void (*update)(void* state, const char* bytes, std::size_t length) = nullptr;
  std::uint64_t (*finish)(const void* state) = nullptr;
};

BlockHash PlainBlockHash();
BlockHash Avx2BlockHash();  // where the processor has it, alone

// The best that this processor has.
const BlockHash& FastBlockHash();

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_BLOCK_HASH_H_
