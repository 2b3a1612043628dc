// What the numbers were measured on.
//
// Ownership: a value. Threads: any. Errors: what cannot be read is "unknown" or
// 0. Cost: reads a few files of /proc.
#ifndef AGENTMEM_BENCHMARKS_MACHINE_H_
#define AGENTMEM_BENCHMARKS_MACHINE_H_

#include <cstdint>
#include <string>

namespace agentmem::bench {

struct Machine {
  std::string cpu = "unknown";
  std::uint32_t cores = 0;
  std::string kernel = "unknown";
  std::uint64_t memory_bytes = 0;
};

Machine DescribeMachine();

// What the kernel thinks can still be had without swapping.
std::uint64_t AvailableMemoryBytes();
// Runnable and running tasks over the last minute; other work disturbs.
double LoadAverage();

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_MACHINE_H_
