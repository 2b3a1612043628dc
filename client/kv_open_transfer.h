// A transfer that its owner has in hand and the sweep advances meanwhile, so
// that what has ended gives its blocks back though nobody waits for it.
//
// Ownership: owns the transfer, until Take. Threads: its owner's calls: one at
// a time; AdvanceIfFree: any. Errors: as KvTransfer. Cost: a lock, which the
// sweep holds for a look at the transfer's events, and for what has ended: it
// waits neither for memd nor for other copies meanwhile.
#ifndef AGENTMEM_CLIENT_KV_OPEN_TRANSFER_H_
#define AGENTMEM_CLIENT_KV_OPEN_TRANSFER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "agentmem/agentmem.h"
#include "base/mutex.h"
#include "client/deadline.h"
#include "client/kv_transfer.h"
#include "client/timed_mutex.h"
#include "cuda/device.h"
#include "proto/outcome.h"

namespace agentmem::client {

class KvOpenTransfer {
 public:
  explicit KvOpenTransfer(std::unique_ptr<KvTransfer> transfer)
      : transfer_(std::move(transfer)) {}

  // It advances itself while it waits: the sweep passes it by.
  Outcome Wait(const Deadline& deadline) AGENTMEM_EXCLUDES(mutex_) {
    if (!mutex_.Lock(deadline)) {
      return Fail(Code::kDeadlineExceeded,
                  "what has ended of it is just handed to memd; it goes on");
    }
    Outcome outcome = transfer_->Wait(deadline);
    mutex_.Unlock();
    return outcome;
  }
  Outcome WaitLayer(std::uint32_t layer, Stream stream)
      AGENTMEM_EXCLUDES(mutex_) {
    const Turn turn(&mutex_);
    return transfer_->WaitLayer(layer, stream);
  }
  // They do not change, and stay as long as the transfer.
  std::span<const agentmem_tier> tiers() AGENTMEM_EXCLUDES(mutex_) {
    const Turn turn(&mutex_);
    return transfer_->tiers();
  }
  std::unique_ptr<KvTransfer> Take() AGENTMEM_EXCLUDES(mutex_) {
    const Turn turn(&mutex_);
    return std::move(transfer_);
  }

  // True: there is nothing more to advance.
  bool AdvanceIfFree() AGENTMEM_EXCLUDES(mutex_) {
    if (!mutex_.TryLock()) return false;
    const bool is_done = transfer_ == nullptr || transfer_->Advance();
    mutex_.Unlock();
    return is_done;
  }

 private:
  class AGENTMEM_ANNOTATION(scoped_lockable) Turn {
   public:
    explicit Turn(TimedMutex* mutex)
        AGENTMEM_ANNOTATION(acquire_capability(mutex))
        : mutex_(mutex) {
      while (!mutex->Lock(Deadline::After(UINT64_MAX))) {
      }
    }
    ~Turn() AGENTMEM_ANNOTATION(release_capability()) { mutex_->Unlock(); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    TimedMutex* const mutex_;
  };

  TimedMutex mutex_;
  std::unique_ptr<KvTransfer> transfer_ AGENTMEM_GUARDED_BY(mutex_);
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_KV_OPEN_TRANSFER_H_
