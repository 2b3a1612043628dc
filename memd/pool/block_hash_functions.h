// The functions of a BlockHash, for whatever instructions the file that
// includes this is compiled with.
//
// Ownership, Threads, Errors, Cost: as block_hash.h.
#ifndef AGENTMEM_MEMD_POOL_BLOCK_HASH_FUNCTIONS_H_
#define AGENTMEM_MEMD_POOL_BLOCK_HASH_FUNCTIONS_H_

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "memd/pool/block_hash.h"

namespace agentmem {
namespace {

BlockHash MakeBlockHash() {
  BlockHash hash;
  hash.state_bytes = sizeof(XXH3_state_t);
  hash.of = [](std::uint64_t seed, const char* bytes, std::size_t length) {
    return static_cast<std::uint64_t>(
        XXH3_64bits_withSeed(bytes, length, seed));
  };
  hash.begin = [](void* state, std::uint64_t seed) {
    XXH3_64bits_reset_withSeed(static_cast<XXH3_state_t*>(state), seed);
  };
  hash.update = [](void* state, const char* bytes, std::size_t length) {
    XXH3_64bits_update(static_cast<XXH3_state_t*>(state), bytes, length);
  };
  hash.finish = [](const void* state) {
    return static_cast<std::uint64_t>(
        XXH3_64bits_digest(static_cast<const XXH3_state_t*>(state)));
  };
  return hash;
}

}  // namespace
}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_BLOCK_HASH_FUNCTIONS_H_
