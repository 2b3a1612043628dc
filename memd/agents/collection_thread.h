// The thread that collects a tenant's garbage (memd/agents/collector.h): when
// there is some, at most once in a while, at the lowest priority.
//
// Ownership: owns the thread; borrows the rest. Its end waits for the thread,
// which needs the reactor for as long as it runs: Stop, and until ended() the
// reactor goes on. Threads: Stop and ended from any. Errors: in the log.
// Cost: nothing without garbage; a port during a round.
#ifndef AGENTMEM_MEMD_AGENTS_COLLECTION_THREAD_H_
#define AGENTMEM_MEMD_AGENTS_COLLECTION_THREAD_H_

#include <atomic>
#include <thread>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "memd/agents/agent_session.h"
#include "memd/store/block_store.h"

namespace agentmem {

class CollectionThread {
 public:
  CollectionThread(TenantAgents* tenant, PortSource* ports, BlockStore* store,
                   const Clock* clock, DurationNs every);
  ~CollectionThread();

  void Stop();
  bool ended() const { return ended_.load(); }

 private:
  void Run();
  absl::Status Round();

  TenantAgents* const tenant_;
  PortSource* const ports_;
  BlockStore* const store_;
  const Clock* const clock_;
  const DurationNs every_;
  const UniqueFd wake_;
  bool by_age_ = false;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_COLLECTION_THREAD_H_
