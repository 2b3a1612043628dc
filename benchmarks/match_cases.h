// The cases of longest-prefix matching, for the suite `block`.
//
// Ownership: none. Threads: one. Errors: what failed. Cost: about a second.
#ifndef AGENTMEM_BENCHMARKS_MATCH_CASES_H_
#define AGENTMEM_BENCHMARKS_MATCH_CASES_H_

#include <cstdint>

#include "absl/status/status.h"
#include "benchmarks/case_result.h"
#include "benchmarks/connection.h"

namespace agentmem::bench {

inline constexpr std::size_t kMatchBlocks = 400;
inline constexpr std::size_t kMatchBytes = 4096;  // of a stored block

// Stores a chain of kMatchBlocks blocks of `block_tokens` tokens, and matches
// it `matches` times in each of `rounds`. Adds two cases: a match, and the same
// for each of its blocks.
absl::Status AddMatchCases(const Connection& connection,
                           std::uint32_t block_tokens, int rounds,
                           std::size_t matches, SuiteResult* result);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_MATCH_CASES_H_
