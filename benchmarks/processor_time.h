// How busy a cluster's daemons are while nobody asks anything of them.
//
// Ownership: none. Threads: thread-compatible. Errors: UNAVAILABLE if a daemon
// has ended. Cost: each waits.
#ifndef AGENTMEM_BENCHMARKS_PROCESSOR_TIME_H_
#define AGENTMEM_BENCHMARKS_PROCESSOR_TIME_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/pool_cluster.h"

namespace agentmem::bench {

// Percent of a core that the busiest one takes for `period_ms`.
absl::StatusOr<double> BusiestFor(const PoolCluster& cluster, int period_ms);

// memd touches the memory that it lends after it has said that it is ready:
// until none does more than a clock tick in half a second, or for 20 s.
absl::Status AwaitQuiet(const PoolCluster& cluster);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_PROCESSOR_TIME_H_
