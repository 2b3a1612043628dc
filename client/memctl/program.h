// memctl from its arguments to its exit code, with the world passed in.
//
// Ownership: what World points at outlives the call.
// Threads: one call at a time.
// Errors: the exit code; a sentence on World.error.
// Cost: at most the command's timeout (twice it for `block put`).
#ifndef AGENTMEM_CLIENT_MEMCTL_PROGRAM_H_
#define AGENTMEM_CLIENT_MEMCTL_PROGRAM_H_

#include <functional>
#include <istream>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/memctl/admin_client.h"
#include "client/memctl/block_client.h"
#include "client/memctl/exit_code.h"
#include "client/memctl/invocation.h"
#include "client/memctl/system_view.h"

namespace agentmem::memctl {

struct World {
  std::istream* input = nullptr;
  std::ostream* output = nullptr;
  std::ostream* error = nullptr;
  const SystemView* system = nullptr;
  std::function<absl::StatusOr<std::unique_ptr<AdminClient>>(
      const std::string& socket_path, DurationNs timeout)>
      connect_admin;
  std::function<absl::StatusOr<std::unique_ptr<BlockClient>>(
      const std::string& socket_path, const std::string& tenant,
      DurationNs timeout)>
      connect_blocks;
};

// `arguments` without the program's name.
ExitCode RunMemctl(const std::vector<std::string>& arguments,
                   const Environment& environment, const World& world);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_PROGRAM_H_
