// What memctl shows of blocks in device memory: tables for people, JSON for
// programs.
//
// JSON keys are stable; bytes and nanoseconds are raw integers.
//
// Threads: pure functions. Errors: none. Cost: allocates.
#ifndef AGENTMEM_CLIENT_MEMCTL_RENDER_HBM_H_
#define AGENTMEM_CLIENT_MEMCTL_RENDER_HBM_H_

#include <string>
#include <vector>

#include "client/memctl/agent_client.h"
#include "client/memctl/invocation.h"

namespace agentmem::memctl {

// A row for each process.
std::string RenderHbm(const std::vector<HbmProcessFacts>& processes,
                      Output output);
// A row for each agent in each process.
std::string RenderHbmAgents(const std::vector<HbmProcessFacts>& processes,
                            Output output);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_RENDER_HBM_H_
