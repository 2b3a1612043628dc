// memctl agent: what its verbs do.
//
// Threads: one call at a time. Errors: those of agent_client.h and
//   region_client.h; FAILED_PRECONDITION: a deletion without --yes.
// Cost: a few requests to memd; `log` keeps the versions that it prints, and
//   `diff` the ranges, in memory.
#ifndef AGENTMEM_CLIENT_MEMCTL_AGENT_COMMANDS_H_
#define AGENTMEM_CLIENT_MEMCTL_AGENT_COMMANDS_H_

#include "absl/status/status.h"
#include "client/memctl/invocation.h"
#include "client/memctl/world.h"

namespace agentmem::memctl {

absl::Status ListAgents(const Invocation& invocation, const World& world);
absl::Status ShowAgent(const Invocation& invocation, const World& world);
absl::Status LogAgent(const Invocation& invocation, const World& world);
absl::Status DiffRegion(const Invocation& invocation, const World& world);
absl::Status RevertRegion(const Invocation& invocation, const World& world);
absl::Status ForkAgent(const Invocation& invocation, const World& world);
absl::Status HibernateAgent(const Invocation& invocation, const World& world);
absl::Status ResumeAgent(const Invocation& invocation, const World& world);
absl::Status ShowHbm(const Invocation& invocation, const World& world);
absl::Status DeleteAgent(const Invocation& invocation, const World& world);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_AGENT_COMMANDS_H_
