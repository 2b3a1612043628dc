// Registers the tenant's DRAM with a device ahead of its use, by a thread: the
// first load of an engine that has just started does not register what it
// copies.
//
//   when     the device opens, memd is another one, or a store or load came to
//            memory that was not registered: then once more
//   what     extents that have blocks, by the index; then the first kSpare that
//            have none, as far as memd has touched them, for stores to come
//   how      holds of up to kExtentsPerHoldMax in one request; then one extent
//            after the other, never while a store or load registers what it
//            needs itself. An error ends the round; who needs the memory then
//            registers it
//   not      what memd has asked for since it was used last: that is for others
//
// What is registered must come back when memd asks, also while the engine is
// idle. So the thread listens for that, every kListenNs, for as long as it
// runs.
//
// Bounds: no more memory than has blocks, and kSpare extents; what has blocks
// memd has touched, so registering takes no new memory for it.
//
// Ownership: owns its thread; borrows channel and memory. Threads: Step is the
// thread's, or a test's; the rest is thread-safe. Errors: of Start: without the
// thread all goes as well, and slower. Cost: a look at each slot of the index a
// round, and what the device takes for each extent, 2 to 4 ms; idle, a look at
// the ring 20 times a second.
#ifndef AGENTMEM_CLIENT_REGISTRAR_H_
#define AGENTMEM_CLIENT_REGISTRAR_H_

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "client/channel.h"
#include "client/device_memory.h"
#include "client/session.h"
#include "proto/outcome.h"

namespace agentmem::client {

class Registrar {
 public:
  // As many as memd touches ahead of use.
  static constexpr std::uint64_t kSpare = 8;
  // Regions wait 100 ms for an extent.
  static constexpr DurationNs kListenNs = 50 * kMillisecondNs;

  Registrar(Channel* channel, DeviceMemory* memory)
      : channel_(channel), memory_(memory) {}
  // Asks the thread to stop, and waits for it.
  ~Registrar();
  Registrar(const Registrar&) = delete;
  Registrar& operator=(const Registrar&) = delete;

  // Once.
  Outcome Start();
  void AskToStop();
  // It touches nothing any more. (As long as the device takes for an extent.)
  bool HasStopped() const { return has_stopped_.load(); }

  // Listens, and does what there is to do.
  void Step();

 private:
  static void* Run(void* self);
  void RegisterAll(Session* session);
  static std::vector<bool> FindBlocks(const Session& session);
  // Extents of `wanted`; `most` of them. False: an error, or the end.
  bool RegisterSome(Session* session, const std::vector<bool>& wanted,
                    std::uint64_t most);
  bool RegisterRun(Session* session, std::uint64_t first, std::uint64_t end);

  Channel* const channel_;
  DeviceMemory* const memory_;
  pthread_t thread_ = {};
  bool is_started_ = false;
  std::atomic<std::uint32_t> stop_ = 0;
  std::atomic<bool> has_stopped_ = true;

  // What the last round was for.
  bool has_met_ = false;
  std::uint64_t met_instance_ = 0;
  std::uint64_t met_client_ = 0;
  std::uint64_t late_ = 0;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_REGISTRAR_H_
