// The thread that collects a tenant's garbage (memd/agents/collector.h): when
// there is some, at most once in a while, at the lowest priority. Where refs
// are shared it also tells the other nodes what this one uses, and looks what
// they left over: every few rounds, and everywhere when a node came or went, or
// an hour has passed.
//
// Ownership: owns the thread; borrows the rest. Its end waits for the thread,
// which needs the reactor for as long as it runs: Stop, and until ended() the
// reactor goes on. Threads: Stop and ended from any. Errors: in the log.
// Cost: nothing without garbage; a port during a round. Where refs are shared,
// all records of the tenant's agents are read every kLookRounds rounds.
#ifndef AGENTMEM_MEMD_AGENTS_COLLECTION_THREAD_H_
#define AGENTMEM_MEMD_AGENTS_COLLECTION_THREAD_H_

#include <atomic>
#include <cstdint>
#include <thread>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "memd/agents/agent_session.h"
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

 private:
  void Run();
  absl::Status Tick();
  absl::Status Tend(bool look);
  absl::Status Round();

  TenantAgents* const tenant_;
  PortSource* const ports_;
  BlockStore* const store_;
  const Clock* const clock_;
  const DurationNs every_;
  const UniqueFd wake_;
  bool by_age_ = false;
  // Where refs are shared.
  CollectorMemory memory_;
  std::uint64_t ticks_ = 0;
  std::uint64_t epoch_ = 0;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_COLLECTION_THREAD_H_
