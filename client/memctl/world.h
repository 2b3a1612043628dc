// What memctl reads, writes and connects to, passed in.
//
// Ownership: what a World points at outlives it; connections are the caller's.
// Threads: a value. Errors: of the connections: those of their headers.
#ifndef AGENTMEM_CLIENT_MEMCTL_WORLD_H_
#define AGENTMEM_CLIENT_MEMCTL_WORLD_H_

#include <functional>
#include <istream>
#include <memory>
#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "client/memctl/admin_client.h"
#include "client/memctl/agent_client.h"
#include "client/memctl/block_client.h"
#include "client/memctl/region_client.h"
#include "client/memctl/system_view.h"

namespace agentmem::memctl {

// By a tenant's socket; an empty tenant is the user's default one.
template <typename Client>
using TenantConnector = std::function<absl::StatusOr<std::unique_ptr<Client>>(
    const std::string& socket_path, const std::string& tenant,
    DurationNs timeout)>;

struct World {
  std::istream* input = nullptr;
  std::ostream* output = nullptr;
  std::ostream* error = nullptr;
  const SystemView* system = nullptr;
  std::function<absl::StatusOr<std::unique_ptr<AdminClient>>(
      const std::string& socket_path, DurationNs timeout)>
      connect_admin;
  TenantConnector<BlockClient> connect_blocks;
  TenantConnector<AgentClient> connect_agents;
  TenantConnector<RegionClient> connect_regions;
};

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_WORLD_H_
