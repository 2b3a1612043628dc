// The HbmLink to a real memd: an agent connection of its own, so that no
// request of another thread (a commit that waits for a disk) is before it.
//
// The bell is the word of the connection's board that memd names; this process
// adds to it, too, to wake its own thread. Without a connection it is a word of
// its own.
//
// Ownership: owns the connection. Threads: as HbmLink says. Errors: as it says;
// INTERNAL: memd named no word of its board. Cost: a request is two system
// calls and a wait.
#ifndef AGENTMEM_CLIENT_HBM_AGENT_LINK_H_
#define AGENTMEM_CLIENT_HBM_AGENT_LINK_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/mutex.h"
#include "client/agent_link.h"
#include "client/hbm_link.h"
#include "cuda/device.h"

namespace agentmem::client {

class HbmAgentLink final : public HbmLink {
 public:
  HbmAgentLink(Endpoint endpoint, const DeviceProperties& device);

  Outcome Open(std::uint64_t wanted_bytes, const Deadline& deadline,
               std::uint64_t* budget_bytes) override AGENTMEM_EXCLUDES(mutex_);
  Outcome Report(const HbmReport& report, const Deadline& deadline,
                 HbmReply* reply) override AGENTMEM_EXCLUDES(mutex_);
  void Close(const HbmHits& hits) override AGENTMEM_EXCLUDES(mutex_);
  bool IsLost() override AGENTMEM_EXCLUDES(mutex_);
  std::uint32_t Bell() override AGENTMEM_EXCLUDES(mutex_);
  void Sleep(std::uint32_t seen, DurationNs duration_ns) override
      AGENTMEM_EXCLUDES(mutex_);
  void Wake() override AGENTMEM_EXCLUDES(mutex_);

 private:
  using Word = std::atomic<std::uint32_t>;

  // A reference to the connection keeps its board mapped.
  std::shared_ptr<AgentConnection> connection() AGENTMEM_EXCLUDES(mutex_);
  Word* word() AGENTMEM_REQUIRES(mutex_);

  AgentLink link_;
  HbmDevice device_ = {};
  Word own_word_ = 0;
  Mutex mutex_;
  std::shared_ptr<AgentConnection> connection_ AGENTMEM_GUARDED_BY(mutex_);
  Word* word_ AGENTMEM_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_HBM_AGENT_LINK_H_
