// How long the calling thread has run on a processor, in user and kernel.
//
// Ownership: none. Threads: any, each its own time. Errors: none.
// Cost: a system call, some 200 ns.
#ifndef AGENTMEM_BENCHMARKS_THREAD_CLOCK_H_
#define AGENTMEM_BENCHMARKS_THREAD_CLOCK_H_

#include <time.h>

#include "base/clock.h"

namespace agentmem::bench {

inline DurationNs ThreadCpuNs() {
  timespec ran;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ran);
  return ran.tv_sec * kSecondNs + ran.tv_nsec;
}

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_THREAD_CLOCK_H_
