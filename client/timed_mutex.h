// A mutex that is waited for until a deadline: for a lock that is held over a
// conversation with memd. Over a futex: the standard's timed mutex is a call
// that ThreadSanitizer of clang 14 does not know.
//
// The word: 0 free, 1 held, 2 held and perhaps waited for.
//
// Ownership: none. Threads: thread-safe; not recursive, not fair. Errors: Lock
// answers false at the deadline. Cost: an exchange when it is free.
#ifndef AGENTMEM_CLIENT_TIMED_MUTEX_H_
#define AGENTMEM_CLIENT_TIMED_MUTEX_H_

#include <atomic>
#include <cstdint>

#include "base/mutex.h"
#include "client/deadline.h"
#include "client/futex.h"

namespace agentmem::client {

class AGENTMEM_ANNOTATION(capability("mutex")) TimedMutex {
 public:
  bool TryLock() AGENTMEM_ANNOTATION(try_acquire_capability(true)) {
    std::uint32_t free = 0;
    return word_.compare_exchange_strong(free, 1, std::memory_order_acquire);
  }
  bool Lock(const Deadline& deadline)
      AGENTMEM_ANNOTATION(try_acquire_capability(true)) {
    if (TryLock()) return true;
    while (word_.exchange(2, std::memory_order_acquire) != 0) {
      if (deadline.Passed()) return false;
      FutexWait(&word_, 2, deadline.Remaining(kSecondNs));
    }
    return true;
  }
  void Unlock() AGENTMEM_ANNOTATION(release_capability()) {
    if (word_.exchange(0, std::memory_order_release) == 2) FutexWakeAll(&word_);
  }

 private:
  std::atomic<std::uint32_t> word_ = 0;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_TIMED_MUTEX_H_
