// What becomes of faults when memd is gone: a thread that waits for its hang-up
// and then answers in its place.
//
// While memd lives the thread sleeps; it does not read the userfaultfd, which
// memd reads. When memd hangs up:
//   1. whoever waits for a fault that memd had read already touches again.
//   2. a unit that is there and write-protected is unprotected: writers go on.
//   3. a missing page blocks its toucher until the mapping's fault timeout has
//      passed since the hang-up.
//   4. past it, it is poisoned: SIGBUS in that thread alone (Linux 6.6; before,
//      it stays blocked until the region is closed).
//
// The thread holds no lock that a toucher of a region may hold but its own
// list's, under which nobody touches memory of the caller or allocates; it
// allocates nothing, and all its signals are blocked.
//
// Ownership: owns the thread; borrows socket and UserFault, which must outlive
// it; a WatchedRange belongs to its region. Threads: thread-safe. Errors: Start
// says why there is no thread. Cost: one sleeping thread of 256 KiB of stack.
#ifndef AGENTMEM_CLIENT_WATCHDOG_H_
#define AGENTMEM_CLIENT_WATCHDOG_H_

#include <pthread.h>

#include <atomic>
#include <cstdint>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "client/deadline.h"
#include "client/user_fault.h"
#include "proto/outcome.h"

namespace agentmem::client {

// A registered mapping. Does not move while it is watched.
struct WatchedRange {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
  DurationNs fault_timeout_ns = 0;  // kNoDeadline: for ever

  // Of the watchdog.
  bool expired = false;
  WatchedRange* next = nullptr;
  WatchedRange* previous = nullptr;
};

class Watchdog {
 public:
  Watchdog() = default;
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Once.
  Outcome Start(int socket, const UserFault* faults);

  void Add(WatchedRange* range) AGENTMEM_EXCLUDES(mutex_);
  void Remove(WatchedRange* range) AGENTMEM_EXCLUDES(mutex_);

  // Has memd hung up?
  bool memd_is_gone() const { return gone_.load(std::memory_order_acquire); }
  std::uint64_t faults_waiting() const {
    return waiting_.load(std::memory_order_relaxed);
  }
  std::uint64_t faults_poisoned() const {
    return poisoned_.load(std::memory_order_relaxed);
  }

 private:
  static void* Run(void* self);
  void Loop();
  bool AwaitHangUp();
  void WakeAll() AGENTMEM_EXCLUDES(mutex_);
  // Wakes what waits in mappings whose time is over, so that it is seen once
  // more; milliseconds until the next one's is, -1: none.
  int Expire(TimeNs gone_at) AGENTMEM_EXCLUDES(mutex_);
  void AnswerFaults() AGENTMEM_EXCLUDES(mutex_);
  void AnswerFault(const uffd_msg& message) AGENTMEM_EXCLUDES(mutex_);

  int socket_ = -1;
  const UserFault* faults_ = nullptr;
  UniqueFd stop_;
  pthread_t thread_ = {};
  bool started_ = false;
  std::atomic<bool> gone_ = false;
  std::atomic<std::uint64_t> waiting_ = 0;
  std::atomic<std::uint64_t> poisoned_ = 0;

  Mutex mutex_;
  WatchedRange* ranges_ AGENTMEM_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_WATCHDOG_H_
