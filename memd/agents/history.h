// A region's versions, newest first, along the links to parents.
//
// Ownership: borrows. Threads: as the source. Errors: DATA_LOSS (a version's
// block is missing, or is another version than its link says; the message names
// number and key), else what the source answered. Cost: one Read a version, of
// its whole block.
#ifndef AGENTMEM_MEMD_AGENTS_HISTORY_H_
#define AGENTMEM_MEMD_AGENTS_HISTORY_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memd/agents/agent_record.h"
#include "memd/agents/manifest.h"
#include "memd/agents/node_loader.h"

namespace agentmem {

// The version that `link`, which names one, leads to.
absl::StatusOr<Manifest> OpenVersion(const VersionLink& link,
                                     NodeSource* source);

// What is not OK ends the walk and is its result.
using VersionVisitor = std::function<absl::Status(const Manifest&)>;

// From `head` down to `oldest_kept`, both included. A fork's history goes on in
// its origin's region, whose numbers are others: the walk ends before the first
// version of another region.
absl::Status ForEachVersion(const VersionLink& head, std::uint64_t oldest_kept,
                            NodeSource* source, const VersionVisitor& visit);

// The number of the oldest version that `retention` keeps, at least
// `oldest_kept` and at most that of `head`. Only kAge reads. A version is as
// old as the time for which it is not the newest any more: what was current an
// hour ago is kept for an hour, however long ago it was written.
absl::StatusOr<std::uint64_t> OldestToKeep(const VersionLink& head,
                                           std::uint64_t oldest_kept,
                                           const Retention& retention,
                                           std::int64_t wall_now_ns,
                                           NodeSource* source);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_HISTORY_H_
