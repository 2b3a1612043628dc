// What the library knows of its own process: that it has not been forked, and
// which clients live in it.
//
// A page with MADV_WIPEONFORK holds the pointer to the one Process. In a forked
// child the kernel has zeroed it, so the child sees at its first load that what
// it inherited is not its own; if it connects anew, it makes a Process of its
// own, whose mutex no lost thread can hold.
//
// Ownership: lives as long as the process. Threads: thread-safe. Errors: Obtain
// answers null when the kernel has no MADV_WIPEONFORK (before 4.14).
// Cost: Current is two loads.
#ifndef AGENTMEM_CLIENT_PROCESS_H_
#define AGENTMEM_CLIENT_PROCESS_H_

#include <atomic>
#include <cstdint>
#include <unordered_map>

#include "base/mutex.h"

namespace agentmem::client {

class ThreadContexts;
struct ThreadContext;

class Process {
 public:
  using Cell = std::atomic<Process*>;

  // This process's, made at need.
  static Process* Obtain();
  // Null before the first Obtain and in a forked child.
  static Process* Current();
  // Where its pointer stands; does not move.
  static const Cell* cell();

  // A number that no client of this process had before, for `contexts`.
  std::uint64_t Register(ThreadContexts* contexts);
  // Also ends its threads' contexts: a thread that exits now finds them ended.
  void Unregister(std::uint64_t client_id);
  // A client of this number lives.
  bool Knows(std::uint64_t client_id);
  // At a thread's exit: gives its context back if its client still lives.
  void ThreadExits(ThreadContext* context);

 private:
  Process() = default;

  Mutex mutex_;
  std::uint64_t next_client_id_ AGENTMEM_GUARDED_BY(mutex_) = 1;
  std::unordered_map<std::uint64_t, ThreadContexts*> clients_
      AGENTMEM_GUARDED_BY(mutex_);
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_PROCESS_H_
