// Runs a policy over a trace and counts prefix hits.
//
// One tier of a fixed number of blocks, in front of nothing: a block that is
// not there is computed and inserted. A request touches its blocks from the
// first on; its hits end at its first missing block, because a prefix cache
// cannot use what lies behind a hole. Blocks behind the hole that are there
// count as accessed all the same.
//
// Ownership: borrows trace and policy; the policy must be new and must know at
// least capacity_blocks slots. Threads: thread-compatible. Errors: what the
// trace answers; INVALID_ARGUMENT for a capacity of 0; FAILED_PRECONDITION when
// the tier is full and the policy offers no block. Cost: O(1) a reference.
#ifndef AGENTMEM_TIERING_SIM_PREFIX_SIM_H_
#define AGENTMEM_TIERING_SIM_PREFIX_SIM_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "tiering/policy.h"
#include "tiering/traces/trace_source.h"

namespace agentmem::tiering {

struct PrefixSimOptions {
  std::uint32_t capacity_blocks = 0;
  std::uint32_t block_bytes = 1;
  // Write-through decisions are carried out at once; otherwise they are counted
  // and dropped, and no block ever has a copy below.
  bool store_below = false;
};

struct PrefixSimResult {
  std::uint64_t requests = 0;
  std::uint64_t references = 0;
  std::uint64_t prefix_hits = 0;
  std::uint64_t inserts = 0;
  std::uint64_t evictions = 0;
  std::uint64_t write_throughs = 0;

  double HitRatio() const {
    return references == 0 ? 0
                           : static_cast<double>(prefix_hits) /
                                 static_cast<double>(references);
  }
};

absl::StatusOr<PrefixSimResult> RunPrefixSim(const PrefixSimOptions& options,
                                             TraceSource* trace,
                                             Policy* policy);

}  // namespace agentmem::tiering

#endif  // AGENTMEM_TIERING_SIM_PREFIX_SIM_H_
