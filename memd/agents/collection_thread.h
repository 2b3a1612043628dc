// The thread that collects a tenant's garbage (memd/agents/collector.h): when
// there is some, at most once in a while, at the lowest priority; early when
// copies find no room (collection_pace.h). Where refs
// are shared it also tells the other nodes what this one uses, and looks what
// they left over: every few rounds, and everywhere when a node came or went, or
// an hour has passed.
//
// Ownership: owns the thread; borrows the rest. Its end waits for the thread,
// which needs the reactor for as long as it runs: Stop, and until ended() the
// reactor goes on. Threads: Stop, ended, RoomIsShort and early from any.
// Errors: in the log. Cost: nothing without garbage; a port during a round.
// Where refs are shared, all records of the tenant's agents are read every
// kLookRounds rounds, and twice in each early one. RoomIsShort: a system call,
// if nobody has said so since the last round.
#ifndef AGENTMEM_MEMD_AGENTS_COLLECTION_THREAD_H_
#define AGENTMEM_MEMD_AGENTS_COLLECTION_THREAD_H_

#include <atomic>
#include <cstdint>
#include <optional>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "memd/agents/agent_door.h"
#include "memd/agents/agent_session.h"
#include "memd/agents/collection_pace.h"
#include "memd/agents/collector.h"
#include "memd/store/block_store.h"

namespace agentmem {

class CollectionThread {
 public:
  static constexpr int kLookRounds = 6;
  static constexpr int kEverywhereLooks = 60;

  CollectionThread(TenantAgents* tenant, PortSource* ports, BlockStore* store,
                   const Clock* clock, DurationNs every);
  ~CollectionThread();

  void Stop();
  bool ended() const { return ended_.load(); }
  // Copies find no room; `here`: in what this node lends.
  void RoomIsShort(bool here);
  EarlyCollections early() const { return {rounds_.load(), dropped_.load()}; }

 private:
  void Run();
  void Wake();
  // How many blocks were dropped.
  absl::StatusOr<std::optional<std::uint64_t>> Tick(bool early);
  absl::Status Tend(bool look);
  absl::StatusOr<std::uint64_t> Round();

  TenantAgents* const tenant_;
  PortSource* const ports_;
  BlockStore* const store_;
  const Clock* const clock_;
  CollectionPace pace_;
  const UniqueFd wake_;
  bool by_age_ = false;
  // Where refs are shared.
  CollectorMemory memory_;
  std::uint64_t ticks_ = 0;
  std::uint64_t epoch_ = 0;
  std::atomic<bool> short_ = false;  // of room, since the last round
  std::atomic<bool> short_here_ = false;
  std::atomic<std::uint64_t> rounds_ = 0;   // early ones
  std::atomic<std::uint64_t> dropped_ = 0;  // by them
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_COLLECTION_THREAD_H_
