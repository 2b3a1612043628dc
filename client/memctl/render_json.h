// The messages of proto/admin.proto as JSON; render.h's other half.
//
// Threads: pure functions. Errors: none; text that is not UTF-8 is replaced.
// Cost: allocates.
#ifndef AGENTMEM_CLIENT_MEMCTL_RENDER_JSON_H_
#define AGENTMEM_CLIENT_MEMCTL_RENDER_JSON_H_

#include <nlohmann/json.hpp>
#include <string>

#include "client/memctl/health.h"
#include "proto/admin.pb.h"
#include "proto/types.h"

namespace agentmem::memctl {

using Json = nlohmann::ordered_json;

Json ToJson(const admin::v1::TierSnapshot& tier);
Json ToJson(const admin::v1::TenantSnapshot& tenant);
Json ToJson(const admin::v1::ClientSnapshot& client);
Json ToJson(const admin::v1::BlockSnapshot& block);
// render_fabric_json.cc
Json ToJson(const admin::v1::FabricSnapshot& fabric);
Json ToJson(const Health& health);
// The node without its tenants and clients, but with their number.
Json ToJson(const admin::v1::NodeSnapshot& node);

Key ToKey(const admin::v1::Key& key);
const char* TierName(int tier);
const char* ClassName(int block_class);
std::string HexId(std::uint64_t id);
// Indented, with a line end.
std::string Dump(const Json& json);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_RENDER_JSON_H_
