// This program, started once more with an option that says what it is to be,
// and a socket to talk to it: a process that has not inherited a thing.
//
// Ownership: the caller waits for the process; it is killed when the thread
// that started it ends. Threads: thread-compatible. Errors: errno's.
// Cost: fork and exec.
#ifndef AGENTMEM_BENCHMARKS_SELF_PROCESS_H_
#define AGENTMEM_BENCHMARKS_SELF_PROCESS_H_

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace agentmem::bench {

// Of the socket in the process.
inline constexpr int kSelfSocket = 3;

struct SelfProcess {
  pid_t pid = -1;
  UniqueFd socket;
};

absl::StatusOr<SelfProcess> StartSelf(const std::string& option,
                                      const std::string& value);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_SELF_PROCESS_H_
