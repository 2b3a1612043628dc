// Always-on invariant checks.
//
// AGENTMEM_CHECK(condition) ends the process with file, line and condition when
// an invariant of our own code is broken. It is never used on input: what a
// peer, a user or a disk sends is answered with a Status. libagentmem, a guest
// in other people's processes, has it in nothing of its own; in the policy that
// it shares with memd alone.
//
// Threads: any. Cost: one predictable branch.
#ifndef AGENTMEM_BASE_CHECK_H_
#define AGENTMEM_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>

namespace agentmem {

[[noreturn]] inline void CheckFailed(const char* file, int line,
                                     const char* condition) {
  std::fprintf(stderr, "%s:%d: invariant broken: %s\n", file, line, condition);
  std::abort();
}

}  // namespace agentmem

#define AGENTMEM_CHECK(condition)                    \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0)                        \
       : ::agentmem::CheckFailed(__FILE__, __LINE__, #condition))

#endif  // AGENTMEM_BASE_CHECK_H_
