// What memctl shows of a node: tables for people, JSON for programs.
//
// JSON keys are stable: they are the field names of proto/admin.proto; bytes
// and nanoseconds are raw integers; ids that are not counted are hex strings.
//
// Threads: pure functions. Errors: none. Cost: allocates.
#ifndef AGENTMEM_CLIENT_MEMCTL_RENDER_H_
#define AGENTMEM_CLIENT_MEMCTL_RENDER_H_

#include <string>
#include <vector>

#include "client/memctl/doctor.h"
#include "client/memctl/health.h"
#include "client/memctl/invocation.h"
#include "proto/admin.pb.h"

namespace agentmem::memctl {

// `tenant`: only of this one; empty: of all.
std::string RenderStatus(const admin::v1::NodeSnapshot& node,
                         const Health& health, Output output);
std::string RenderTiers(const admin::v1::NodeSnapshot& node,
                        const std::string& tenant, Output output);
std::string RenderTenants(const admin::v1::NodeSnapshot& node,
                          const std::string& tenant, Output output);
std::string RenderClients(const admin::v1::NodeSnapshot& node,
                          const std::string& tenant, Output output);
std::string RenderBlocks(const admin::v1::ShowBlockResponse& response,
                         Output output);
std::string RenderFindings(const std::vector<Finding>& findings, Output output);

// What a put or a get to a file did.
struct Transfer {
  Key key;
  std::uint64_t bytes = 0;
  std::string file;
  std::string how;  // the acknowledgement, or the tier
};
std::string RenderPut(const Transfer& put, BlockClass block_class,
                      Output output);
std::string RenderGet(const Transfer& get, Output output);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_RENDER_H_
