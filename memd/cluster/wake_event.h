// A thread's wait for another thread or for a deadline, whichever is first.
//
// Ownership: owns its eventfd. Threads: thread-safe; one thread waits.
// Errors: none. Cost: a system call.
#ifndef AGENTMEM_MEMD_CLUSTER_WAKE_EVENT_H_
#define AGENTMEM_MEMD_CLUSTER_WAKE_EVENT_H_

#include "base/clock.h"
#include "base/unique_fd.h"

namespace agentmem {

class WakeEvent {
 public:
  WakeEvent();

  void Signal();
  // False: the deadline passed first. A signal is taken by one wait.
  bool Wait(TimeNs deadline);

 private:
  UniqueFd event_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CLUSTER_WAKE_EVENT_H_
