// memctl region: what its verbs do.
//
// Threads: one call at a time. Errors: those of region_client.h and new_file.h;
//   OUT_OF_RANGE: beyond the region's end; INVALID_ARGUMENT: no input.
// Cost: 4 MiB of memory whatever is moved, and for an export the list of the
//   ranges that the version has; a request to memd for each 4 MiB.
#ifndef AGENTMEM_CLIENT_MEMCTL_REGION_COMMANDS_H_
#define AGENTMEM_CLIENT_MEMCTL_REGION_COMMANDS_H_

#include "absl/status/status.h"
#include "client/memctl/invocation.h"
#include "client/memctl/world.h"

namespace agentmem::memctl {

absl::Status ReadRegion(const Invocation& invocation, const World& world);
// A version of all of the input, or none.
absl::Status WriteRegion(const Invocation& invocation, const World& world);
// The file appears whole, or not at all.
absl::Status ExportRegion(const Invocation& invocation, const World& world);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_REGION_COMMANDS_H_
