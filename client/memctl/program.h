// memctl from its arguments to its exit code, with the world passed in.
//
// Ownership: what World points at outlives the call.
// Threads: one call at a time.
// Errors: the exit code; a sentence on World.error.
// Cost: at most the command's timeout for each request that it makes.
#ifndef AGENTMEM_CLIENT_MEMCTL_PROGRAM_H_
#define AGENTMEM_CLIENT_MEMCTL_PROGRAM_H_

#include <string>
#include <vector>

#include "client/memctl/exit_code.h"
#include "client/memctl/invocation.h"
#include "client/memctl/world.h"

namespace agentmem::memctl {

// `arguments` without the program's name.
ExitCode RunMemctl(const std::vector<std::string>& arguments,
                   const Environment& environment, const World& world);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_PROGRAM_H_
