// A run's seed: another one each time, and told in a note.
//
// Ownership: none. Threads: thread-compatible. Errors: none. Cost: one read of
// the system's random numbers.
#ifndef AGENTMEM_BENCHMARKS_POOL_SEED_H_
#define AGENTMEM_BENCHMARKS_POOL_SEED_H_

#include <sys/random.h>

#include <cstdint>
#include <string>

#include "benchmarks/case_result.h"

namespace agentmem::bench {

inline std::uint64_t FreshSeed(SuiteResult* result) {
  // (std::random_device would ask for a newer glibc than other machines have.)
  std::uint64_t seed = 0;
  if (::getrandom(&seed, sizeof(seed), 0) != sizeof(seed)) seed = 1;
  result->notes.push_back("random bytes from seed " + std::to_string(seed));
  return seed;
}

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_POOL_SEED_H_
