// The tenant's DRAM as a device reaches it: which extents of the data mapping
// are registered with the device, and for whom.
//
// An extent is registered at its first use and stays so, since registering
// costs more than a copy. Before that, memd is told (ExtentHolds): it gives no
// extent away that a device may write into. When memd wants one back it asks
// (Retire), and gets it when the last copy that uses it has ended.
//
//   not registered --Begin--> registered, used by n --End--> used by n - 1
//        ^                          |
//        +------ Retire, and n = 0 -+
//
// The lock is not held while memd is asked: its wishes arrive on whatever
// thread waits for an answer, that one perhaps. Nor is it while the device
// registers or lets go, which takes milliseconds and waits for its copies.
//
// A session whose memd is gone keeps its extents until the last use of them;
// then Tidy takes them, some at a time.
//
// Ownership: borrows the device and the holds; has a reference to each session
// of which an extent is registered. Threads: thread-safe; no device may use the
// memory any more when it ends. Errors: those of the holds and of
// Device::Register; nothing is used then. Cost: Begin and End: a lock; the
// first Begin of an extent registers it, 2 to 4 ms of CUDA; who gives back what
// memd wants waits for the device to let go.
#ifndef AGENTMEM_CLIENT_DEVICE_MEMORY_H_
#define AGENTMEM_CLIENT_DEVICE_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/mutex.h"
#include "client/deadline.h"
#include "client/session.h"
#include "cuda/device.h"
#include "proto/outcome.h"

namespace agentmem::client {

// What memd is told of. `data_offset`: of an extent in the data mapping.
class ExtentHolds {
 public:
  virtual ~ExtentHolds() = default;
  // OK: memd gives it to nobody until it is released.
  virtual Outcome Hold(Session* session, std::uint64_t data_offset,
                       const Deadline& deadline) = 0;
  virtual void Release(Session* session, std::uint64_t data_offset) = 0;
  // The answer to memd's wish: it is released.
  virtual void AnswerRetire(Session* session, std::uint64_t token) = 0;
};

class DeviceMemory {
 public:
  DeviceMemory(Device* device, ExtentHolds* holds)
      : device_(device), holds_(holds) {}
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // The device may reach [data, data + bytes), which is in `session`'s data,
  // until End of the same. UNAVAILABLE: it is in no mapping of that session:
  // memd was started anew meanwhile.
  Outcome Begin(Session* session, const void* data, std::uint64_t bytes,
                const Deadline& deadline) AGENTMEM_EXCLUDES(mutex_);
  // kLater: what memd wants of it is given back by GiveWanted, which comes
  // next: who holds a lock that others need does not wait for the device.
  enum class Giving : std::uint8_t { kNow, kLater };
  void End(const void* data, std::uint64_t bytes, Giving giving = Giving::kNow)
      AGENTMEM_EXCLUDES(mutex_);
  void GiveWanted() AGENTMEM_EXCLUDES(mutex_);
  // memd wants these extents of `session`.
  void Retire(Session* session, std::uint64_t data_offset, std::uint64_t bytes,
              std::uint64_t token) AGENTMEM_EXCLUDES(mutex_);

  // Lets go of up to `extents_max` extents of sessions that are not `current`
  // and are not used. Each costs what the device takes for it.
  void Tidy(const Session* current, std::size_t extents_max)
      AGENTMEM_EXCLUDES(mutex_);
  // Nothing is registered from here on but by Begin. No copy may be under way.
  void ReleaseAll() AGENTMEM_EXCLUDES(mutex_);

  std::uint64_t registered_bytes() AGENTMEM_EXCLUDES(mutex_);

 private:
  enum class State : std::uint8_t {
    kUnknown,
    kRegistering,
    kRegistered,
    kEnding,
    kStuck,  // the device did not let go: it stays held
  };
  struct Extent {
    State state = State::kUnknown;  // to the device
    std::uint32_t uses = 0;
  };
  struct Wish {               // of memd, not answered yet
    std::uint64_t first = 0;  // extents
    std::uint64_t end = 0;
    std::uint64_t token = 0;
  };
  struct Mapped {
    Session* session = nullptr;
    std::vector<Extent> extents;
    std::vector<Wish> wishes;
    std::uint64_t uses = 0;    // while it has some, it stands in mapped_
    std::uint64_t ending = 0;  // extents that are kEnding
  };

  Mapped* MappedOf(Session* session) AGENTMEM_REQUIRES(mutex_);
  Mapped* Containing(const void* data) AGENTMEM_REQUIRES(mutex_);
  Outcome RegisterExtent(Mapped* mapped, std::uint64_t extent,
                         const Deadline& deadline) AGENTMEM_REQUIRES(mutex_);
  Outcome HoldAndRegister(Session* session, std::uint64_t extent,
                          const Deadline& deadline) AGENTMEM_EXCLUDES(mutex_);
  void Unuse(Mapped* mapped, std::uint64_t first, std::uint64_t end,
             Giving giving) AGENTMEM_REQUIRES(mutex_);
  // Gives up the lock meanwhile: what was found under it is looked up anew.
  void UnregisterExtent(Mapped* mapped, std::uint64_t extent)
      AGENTMEM_REQUIRES(mutex_);
  std::optional<std::uint64_t> FindWantedUnused(const Mapped& mapped) const
      AGENTMEM_REQUIRES(mutex_);
  void AnswerWishes(Mapped* mapped) AGENTMEM_REQUIRES(mutex_);
  void Settled() AGENTMEM_REQUIRES(mutex_);
  // Gives up the lock meanwhile. Returns a second later, too, at most.
  void AwaitSettled(const Deadline& deadline) AGENTMEM_REQUIRES(mutex_);
  // Up to `extents_max`; the answer is how many.
  std::size_t Drop(Mapped* mapped, std::size_t extents_max)
      AGENTMEM_REQUIRES(mutex_);

  Device* const device_;
  ExtentHolds* const holds_;
  Mutex mutex_;
  // Changes under the lock when an extent is not kRegistering or kEnding any
  // more. A futex: it is waited for until a deadline.
  std::atomic<std::uint32_t> settled_ = 0;
  // The current session's, and of earlier ones what copies still use.
  std::vector<std::unique_ptr<Mapped>> mapped_ AGENTMEM_GUARDED_BY(mutex_);
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_DEVICE_MEMORY_H_
