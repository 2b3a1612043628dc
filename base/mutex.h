// std::mutex with clang's thread-safety annotations.
//
// Not absl::Mutex: Debian's build of it reports a false race under TSan.
//
// Threads: thread-safe by nature. Errors: none. Cost: that of std::mutex.
#ifndef AGENTMEM_BASE_MUTEX_H_
#define AGENTMEM_BASE_MUTEX_H_

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define AGENTMEM_ANNOTATION(x) __attribute__((x))
#else
#define AGENTMEM_ANNOTATION(x)
#endif

#define AGENTMEM_GUARDED_BY(x) AGENTMEM_ANNOTATION(guarded_by(x))
#define AGENTMEM_REQUIRES(...) \
  AGENTMEM_ANNOTATION(requires_capability(__VA_ARGS__))
#define AGENTMEM_EXCLUDES(...) AGENTMEM_ANNOTATION(locks_excluded(__VA_ARGS__))

// For a function that the analysis cannot follow: two mutexes in an order that
// is decided when it runs.
#define AGENTMEM_NO_ANALYSIS AGENTMEM_ANNOTATION(no_thread_safety_analysis)

namespace agentmem {

class AGENTMEM_ANNOTATION(capability("mutex")) Mutex {
 public:
  void Lock() AGENTMEM_ANNOTATION(acquire_capability()) { mutex_.lock(); }
  void Unlock() AGENTMEM_ANNOTATION(release_capability()) { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class AGENTMEM_ANNOTATION(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex* mutex)
      AGENTMEM_ANNOTATION(acquire_capability(mutex))
      : mutex_(mutex) {
    mutex_->Lock();
  }
  ~MutexLock() AGENTMEM_ANNOTATION(release_capability()) { mutex_->Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex* const mutex_;
};

class CondVar {
 public:
  // Waits for a notification (or a spurious wake-up): use it in a loop.
  void Wait(Mutex* mutex) AGENTMEM_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex->mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }
  void NotifyOne() { condition_.notify_one(); }
  void NotifyAll() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace agentmem

#endif  // AGENTMEM_BASE_MUTEX_H_
