// The tenant's DRAM as a device reaches it: which extents of the data mapping
// are registered with the device, and for whom.
//
// An extent is registered ahead of its first use (by one thread, the Registrar)
// or at it, and stays so, since registering costs more than a copy. Before
// that, memd is told (ExtentHolds): it gives no extent away that a device may
// write into. When memd wants one back it asks (Retire), and gets it when the
// last copy that uses it has ended; it is not registered ahead again then.
//
//   not registered --HoldAhead--> held --RegisterAhead--> registered, n = 0
//        ^  |                      |                          |
//        |  +-------- Begin -------+------ Begin -------------+
//        |                         v
//        |               registered, used by n --End--> used by n - 1
//        |                          |
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
// first Begin of an extent registers it, 2 to 4 ms of CUDA, unless that was
// done ahead; what is done ahead waits while a Begin registers. Who gives back
// what memd wants waits for the device to let go.
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
  // `extents` of them, at most kExtentsPerHoldMax, from `data_offset` on: all
  // or none. OK: memd gives them to nobody until they are released.
  // FAILED_PRECONDITION: one of them is given away.
  virtual Outcome Hold(Session* session, std::uint64_t data_offset,
                       std::uint64_t extents, const Deadline& deadline) = 0;
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

  // Ahead of use, by one thread. Holds of [first, end), at most
  // kExtentsPerHoldMax, those that nobody has used yet, and that memd neither
  // gave away nor has asked for. Not OK: what of them memd did not answer.
  Outcome HoldAhead(Session* session, std::uint64_t first, std::uint64_t end)
      AGENTMEM_EXCLUDES(mutex_);
  // If it is held and not registered. Waits while a Begin registers.
  Outcome RegisterAhead(Session* session, std::uint64_t extent)
      AGENTMEM_EXCLUDES(mutex_);
  // How many extents were not registered when a Begin came.
  std::uint64_t late() const { return late_.load(std::memory_order_relaxed); }

  // Lets go of up to `extents_max` extents of sessions that are not `current`
  // and are not used. Each costs what the device takes for it.
  void Tidy(const Session* current, std::size_t extents_max)
      AGENTMEM_EXCLUDES(mutex_);
  // Nothing is registered from here on but by Begin. No copy may be under way.
  void ReleaseAll() AGENTMEM_EXCLUDES(mutex_);
  // The device does not end what it has begun, and the holds are about to end:
  // from here on nothing is asked of them.
  void Abandon() AGENTMEM_EXCLUDES(mutex_);
  bool IsAbandoned() AGENTMEM_EXCLUDES(mutex_);

  std::uint64_t registered_bytes() AGENTMEM_EXCLUDES(mutex_);

 private:
  enum class State : std::uint8_t {
    kUnknown,
    kHolding,  // ahead; memd has not answered yet
    kHeld,     // ahead
    kRegistering,
    kRegistered,
    kEnding,
    kStuck,  // the device did not let go: it stays held
  };
  struct Extent {
    State state = State::kUnknown;  // to the device
    bool was_wanted = false;        // by memd, since it was used last
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
    std::uint64_t uses = 0;  // while it has some, it stands in mapped_
    std::uint64_t pending =
        0;  // threads that end or prepare one of its extents
  };

  Mapped* MappedOf(Session* session) AGENTMEM_REQUIRES(mutex_);
  Mapped* Containing(const void* data) AGENTMEM_REQUIRES(mutex_);
  Outcome RegisterExtent(Mapped* mapped, std::uint64_t extent,
                         const Deadline& deadline) AGENTMEM_REQUIRES(mutex_);
  Outcome RegisterNow(Mapped* mapped, std::uint64_t extent,
                      const Deadline& deadline) AGENTMEM_REQUIRES(mutex_);
  // `is_held`: by memd's books already.
  Outcome HoldAndRegister(Session* session, std::uint64_t extent, bool is_held,
                          const Deadline& deadline) AGENTMEM_EXCLUDES(mutex_);
  static bool IsWanted(const Mapped& mapped, std::uint64_t extent);
  // How many from `first` on, and before `end`, may be held ahead.
  static std::uint64_t CountAhead(const Mapped& mapped, std::uint64_t first,
                                  std::uint64_t end);
  Outcome HoldRun(Mapped* mapped, std::uint64_t first, std::uint64_t end)
      AGENTMEM_REQUIRES(mutex_);
  void Unuse(Mapped* mapped, std::uint64_t first, std::uint64_t end,
             Giving giving) AGENTMEM_REQUIRES(mutex_);
  // Gives up the lock meanwhile: what was found under it is looked up anew.
  void UnregisterExtent(Mapped* mapped, std::uint64_t extent)
      AGENTMEM_REQUIRES(mutex_);
  void LetGo(Mapped* mapped, std::uint64_t extent) AGENTMEM_REQUIRES(mutex_);
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
  std::atomic<std::uint64_t> late_ = 0;
  Mutex mutex_;
  // Changes under the lock when an extent is not kHolding, kRegistering or
  // kEnding any more, or no Begin registers. A futex: it is waited for until a
  // deadline.
  std::atomic<std::uint32_t> settled_ = 0;
  std::uint64_t urgent_ AGENTMEM_GUARDED_BY(mutex_) =
      0;  // Begins that register
  bool is_abandoned_ AGENTMEM_GUARDED_BY(mutex_) = false;
  // The current session's, and of earlier ones what copies still use.
  std::vector<std::unique_ptr<Mapped>> mapped_ AGENTMEM_GUARDED_BY(mutex_);
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_DEVICE_MEMORY_H_
