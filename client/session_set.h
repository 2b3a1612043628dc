// The sessions of a client that are still mapped.
//
// A session ends with its last reference; closing the client ends all of them,
// whatever spans are still out.
//
// Ownership: of no session, until EndAll. Threads: thread-safe. Errors: none.
// Cost: a lock; only where sessions begin and end.
#ifndef AGENTMEM_CLIENT_SESSION_SET_H_
#define AGENTMEM_CLIENT_SESSION_SET_H_

#include <unordered_set>

#include "base/mutex.h"

namespace agentmem::client {

class Session;

class SessionSet {
 public:
  void Add(Session* session) {
    MutexLock lock(&mutex_);
    sessions_.insert(session);
  }
  void Remove(Session* session) {
    MutexLock lock(&mutex_);
    sessions_.erase(session);
  }
  // Unmaps them all. Nobody may use one any more.
  void EndAll();

 private:
  Mutex mutex_;
  std::unordered_set<Session*> sessions_ AGENTMEM_GUARDED_BY(mutex_);
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_SESSION_SET_H_
