// Reads a trace, or makes one, and lays it out for the agents.
//
// When no size of blocks is asked for, one is chosen so that all of them
// together are several times the DRAM budget.
//
// Ownership: the region is the caller's. Threads: any. Errors: those of the
// trace: INVALID_ARGUMENT "FILE:LINE: reason", NOT_FOUND; INVALID_ARGUMENT when
// it has no request with blocks. Cost: reads the requests it keeps.
#ifndef AGENTMEM_TESTS_DEMO_WORKLOAD_BUILDER_H_
#define AGENTMEM_TESTS_DEMO_WORKLOAD_BUILDER_H_

#include "absl/status/statusor.h"
#include "tests/demo/options.h"
#include "tests/demo/shared_region.h"
#include "tiering/traces/trace_source.h"

namespace agentmem::demo {

absl::StatusOr<SharedRegion> BuildWorkload(const DemoOptions& options);

// At most `requests` of `source` with blocks; block_bytes 0: chosen.
absl::StatusOr<SharedRegion> LayOutWorkload(tiering::TraceSource* source,
                                            std::uint64_t requests,
                                            const DemoOptions& options);

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_WORKLOAD_BUILDER_H_
