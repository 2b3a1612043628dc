// Ports of 127.0.0.1 that were free a moment ago, all at the same time.
//
// Ownership: values. Threads: any. Errors: errno's. Cost: system calls.
#ifndef AGENTMEM_BENCHMARKS_FREE_PORTS_H_
#define AGENTMEM_BENCHMARKS_FREE_PORTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace agentmem::bench {

absl::StatusOr<std::vector<std::uint16_t>> FreePorts(std::size_t count);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_FREE_PORTS_H_
