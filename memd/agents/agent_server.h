// The agents of all tenants, and the sessions that serve them: a thread a
// process that uses agents.
//
// Ownership: owns sessions and their threads; borrows the rest. Ends after the
// reactor has said Stopped until it was true. Threads: as AgentDoor.
// Errors: a session that cannot start tells its process. Cost: a thread a
// process, of mostly untouched stack, and one a tenant that collects.
#ifndef AGENTMEM_MEMD_AGENTS_AGENT_SERVER_H_
#define AGENTMEM_MEMD_AGENTS_AGENT_SERVER_H_

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/clock.h"
#include "memd/agents/agent_door.h"
#include "memd/agents/agent_session.h"
#include "memd/agents/collection_thread.h"
#include "memd/agents/hbm_ledger.h"
#include "memd/descriptor_budget.h"

namespace agentmem {

class AgentServer final : public AgentDoor {
 public:
  AgentServer(PortSource* ports, RefStore* refs, BlockStore* store,
              const Clock* clock, std::uint64_t instance,
              const HbmRules& hbm_rules)
      : ports_(ports),
        refs_(refs),
        store_(store),
        clock_(clock),
        instance_(instance),
        hbm_(hbm_rules, clock) {}
  ~AgentServer() override;

  // Before the first Adopt.
  void AddTenant(const TenantLimits& limits);

  // Once, after the last AddTenant.
  void StartCollecting(DurationNs every);

  absl::Status Adopt(AgentPeer* peer) override;
  bool Tick() override;
  bool Stopped() override;
  void RoomIsShort(bool here) override;
  EarlyCollections early() const override;
  std::optional<TierSnapshot> Hbm(TenantId tenant) const override {
    return hbm_.Snapshot(tenant);
  }

 private:
  struct Tenant {
    std::unique_ptr<TenantAgents> agents;
    std::uint64_t sessions = 0;
    std::uint64_t sessions_max = 0;
    DescriptorAccount* descriptors = nullptr;
  };
  struct Running {
    DescriptorCharge charge;  // ends after the session
    std::unique_ptr<AgentSession> session;
    Tenant* tenant = nullptr;
    pthread_t thread = {};
    std::atomic<bool> ended{false};
  };
  static void* RunSession(void* running);

  PortSource* const ports_;
  RefStore* const refs_;
  BlockStore* const store_;
  const Clock* const clock_;
  const std::uint64_t instance_;
  HbmLedger hbm_;
  absl::flat_hash_map<std::string, Tenant> tenants_;  // then unchanged
  // The reactor's thread alone.
  std::list<Running> running_;
  std::uint64_t next_token_ = 0;
  bool stopping_ = false;
  std::vector<std::unique_ptr<CollectionThread>> collections_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_AGENT_SERVER_H_
