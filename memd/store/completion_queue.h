// Finished operations on their way to the reactor, with an eventfd that is
// readable exactly while there are some.
//
// Ownership: owns the eventfd. Threads: thread-safe. Errors: none after Open.
// Cost: a mutex; a system call only when the queue becomes empty or stops being
// empty. Both happen under the mutex, so the eventfd and the queue never
// disagree and no wake-up is lost.
#ifndef AGENTMEM_MEMD_STORE_COMPLETION_QUEUE_H_
#define AGENTMEM_MEMD_STORE_COMPLETION_QUEUE_H_

#include <deque>
#include <span>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "memd/store/block_store.h"

namespace agentmem {

class CompletionQueue {
 public:
  CompletionQueue();

  absl::Status Open();  // before anything else
  void Push(std::span<const StoreCompletion> completions);
  std::size_t Pop(std::span<StoreCompletion> out);
  int fd() const { return event_.get(); }

 private:
  UniqueFd event_;  // constant after Open
  Mutex mutex_;
  std::deque<StoreCompletion> queue_ AGENTMEM_GUARDED_BY(mutex_);
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_COMPLETION_QUEUE_H_
