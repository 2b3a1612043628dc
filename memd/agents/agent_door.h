// The reactor's way to the agents: it hands over connections that said
// kHelloAgents, once it has found their tenant and their process.
//
// Ownership: Adopt takes the descriptors if it answers OK. Threads: the
// reactor's, which none of it holds up; of Hbm any other. Errors: of Adopt,
// RESOURCE_EXHAUSTED or UNAVAILABLE, for the reactor to tell the process; later
// ones are told by who adopted it.
#ifndef AGENTMEM_MEMD_AGENTS_AGENT_DOOR_H_
#define AGENTMEM_MEMD_AGENTS_AGENT_DOOR_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "memd/service/snapshot.h"
#include "proto/types.h"

namespace agentmem {

struct AgentPeer {
  UniqueFd socket;
  UniqueFd process;  // pidfd
  std::string tenant;
  TenantId tenant_id;
  std::string client_name;
  std::int32_t pid = 0;
  std::uint32_t uid = 0;
};

// Rounds of collection that came early, as there was no room for copies.
struct EarlyCollections {
  std::uint64_t rounds = 0;
  std::uint64_t dropped = 0;  // blocks
};

class AgentDoor {
 public:
  virtual ~AgentDoor() = default;
  virtual absl::Status Adopt(AgentPeer* peer) = 0;
  // Clears away what has ended; true: there is something to clear away yet.
  virtual bool Tick() = 0;
  // No new peers; every agent writes down what it acknowledged. Asked again
  // until it says true.
  virtual bool Stopped() = 0;
  // Blocks that may not leave find no room in other nodes' memory, or
  // (`here`) in what this node lends: there may be garbage.
  virtual void RoomIsShort(bool here) = 0;
  // Of all tenants, since the start.
  virtual EarlyCollections early() const = 0;
  // What the tenant's processes have in device memory, and found there; none,
  // if none has opened any. May wait for who writes it down.
  virtual std::optional<TierSnapshot> Hbm(TenantId tenant) const = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_AGENT_DOOR_H_
