// From the daemon's plain snapshots to the messages of proto/admin.proto.
//
// Ownership: `to` is the caller's and is overwritten. Threads: pure functions.
// Errors: none. Cost: a copy; allocates.
#ifndef AGENTMEM_MEMD_SERVICE_ADMIN_MESSAGES_H_
#define AGENTMEM_MEMD_SERVICE_ADMIN_MESSAGES_H_

#include "memd/service/snapshot.h"

namespace agentmem {

namespace admin::v1 {
class BlockSnapshot;
class FabricSnapshot;
class NodeSnapshot;
}  // namespace admin::v1

void CopyTo(const NodeSnapshot& from, admin::v1::NodeSnapshot* to);
void CopyTo(const BlockSnapshot& from, admin::v1::BlockSnapshot* to);
// fabric_messages.cc
void CopyTo(const FabricSnapshot& from, admin::v1::FabricSnapshot* to);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_ADMIN_MESSAGES_H_
