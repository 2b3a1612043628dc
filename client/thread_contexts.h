// Each thread's context in a client: the session it reads through, and the pin
// table that is its own there.
//
// Current() is the first step of every get: a thread-local lookup and a look at
// whether the client has a newer session. A thread takes a pin table when it
// first comes and gives it back when it ends. When all kThreadTables are taken,
// a thread has none and works with holds.
//
// Ownership: a thread owns its context; the context holds a reference to its
// session, a pin table in use holds another. Threads: thread-safe. Lock order:
// Process, then this mutex. Errors: Current answers null on a thread whose
// thread-local objects have ended. Cost: Current: no system call, lock or
// allocation, but for a thread's first call and after a reconnection.
#ifndef AGENTMEM_CLIENT_THREAD_CONTEXTS_H_
#define AGENTMEM_CLIENT_THREAD_CONTEXTS_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/mutex.h"
#include "client/process.h"
#include "client/session.h"

namespace agentmem::client {

class Channel;

struct ThreadContext {
  std::uint64_t client_id = 0;
  Session* session = nullptr;  // a reference
  PinTable* pins = nullptr;    // null: holds only
  // Of the session, here to be near.
  IndexReader index;
  const char* data = nullptr;
  std::uint64_t data_bytes = 0;
};

// The context that a thread used last.
struct ThreadCache {
  std::uint64_t client_id;  // 0: none
  ThreadContext* context;
};
extern __thread ThreadCache t_cache
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

class ThreadContexts {
 public:
  ThreadContexts(Process* process, Channel* channel,
                 const std::atomic<Session*>* current);
  // No other thread may be in a call.
  ~ThreadContexts();

  ThreadContext* Current() {
    ThreadContext* context = t_cache.context;
    if (__builtin_expect(t_cache.client_id == client_id_ &&
                             context->session == current_session_->load(
                                                     std::memory_order_acquire),
                         1)) {
      return context;
    }
    return Attach();
  }

  // A pin of `table`, by any thread.
  void ReleasePin(PinTable* table, int pin) {
    const ThreadContext* context = t_cache.context;
    if (__builtin_expect(
            t_cache.client_id == client_id_ && context->pins == table, 1)) {
      table->shared->pins[pin].store(0, std::memory_order_release);
      table->MarkFree(pin);
      return;
    }
    ReturnPin(table, pin);
  }

  // Owner: takes in what others returned; true if that freed a pin.
  bool CollectReturned(PinTable* table) AGENTMEM_EXCLUDES(mutex_);
  // For a context without a table: another thread may have left one.
  void TryTakeTable(ThreadContext* context) AGENTMEM_EXCLUDES(mutex_);
  // Process only: the thread of `context` ends; all threads' contexts end.
  void Detach(ThreadContext* context) AGENTMEM_EXCLUDES(mutex_);
  void DetachAll() AGENTMEM_EXCLUDES(mutex_);

  std::uint64_t client_id() const { return client_id_; }

 private:
  ThreadContext* Attach();
  void ReturnPin(PinTable* table, int pin) AGENTMEM_EXCLUDES(mutex_);
  void TakeTable(ThreadContext* context) AGENTMEM_REQUIRES(mutex_);
  void LeaveSession(ThreadContext* context) AGENTMEM_REQUIRES(mutex_);
  // The table has no owner and no pins left.
  static void Recycle(PinTable* table);

  Process* const process_;
  Channel* const channel_;
  const std::atomic<Session*>* const current_session_;
  std::uint64_t client_id_;  // set once, by the constructor
  Mutex mutex_;
  std::vector<ThreadContext*> contexts_ AGENTMEM_GUARDED_BY(mutex_);
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_THREAD_CONTEXTS_H_
