// One memd per state directory: a lock file that says who holds it.
//
// Ownership: holds the lock until destroyed or the process ends, however.
// Threads: thread-compatible. Errors: FAILED_PRECONDITION naming the holder's
// pid. Cost: at start only.
#ifndef AGENTMEM_MEMD_STATE_LOCK_H_
#define AGENTMEM_MEMD_STATE_LOCK_H_

#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace agentmem {

class StateLock {
 public:
  // Makes the directory (0700) if needed and locks it.
  static absl::StatusOr<StateLock> Acquire(const std::string& directory);

 private:
  explicit StateLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STATE_LOCK_H_
