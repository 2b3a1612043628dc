// What memctl shows of the fabric, as render.h does of the node.
//
// Threads: pure functions. Errors: none. Cost: allocates.
#ifndef AGENTMEM_CLIENT_MEMCTL_RENDER_FABRIC_H_
#define AGENTMEM_CLIENT_MEMCTL_RENDER_FABRIC_H_

#include <string>

#include "client/memctl/health.h"
#include "client/memctl/invocation.h"
#include "client/memctl/table.h"
#include "proto/admin.pb.h"

namespace agentmem::memctl {

std::string RenderFabric(const admin::v1::FabricSnapshot& fabric,
                         Output output);

// "connecting", "up", "down".
const char* PeerStateName(int state);

// Rows "health", one a reason.
void AddHealth(const Health& health, Table* facts);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_RENDER_FABRIC_H_
