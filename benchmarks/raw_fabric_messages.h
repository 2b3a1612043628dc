// What the benchmark and the baseline's processes tell each other.
//
// Ownership: values. Threads: thread-compatible. Errors: none. Cost: none.
#ifndef AGENTMEM_BENCHMARKS_RAW_FABRIC_MESSAGES_H_
#define AGENTMEM_BENCHMARKS_RAW_FABRIC_MESSAGES_H_

#include <cstdint>

#include "benchmarks/raw_fabric_endpoint.h"

namespace agentmem::bench {

struct RawFabricHello {
  RawFabricOptions options;
  std::uint64_t seed;
};

// The answer to a run, and to the hello; `count` doubles follow it.
struct RawFabricAnswer {
  std::uint32_t code;  // of absl
  char message[252];
  std::uint64_t count;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_RAW_FABRIC_MESSAGES_H_
