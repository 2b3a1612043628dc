// memctl's command line, and its help.
//
// Ownership: values. Threads: pure function (CLI11 inside).
// Errors: in the result: what to print, where, and the exit code.
// Cost: allocates.
#ifndef AGENTMEM_CLIENT_MEMCTL_COMMAND_LINE_H_
#define AGENTMEM_CLIENT_MEMCTL_COMMAND_LINE_H_

#include <optional>
#include <string>
#include <vector>

#include "client/memctl/exit_code.h"
#include "client/memctl/invocation.h"

namespace agentmem::memctl {

struct ParsedCommandLine {
  std::optional<Invocation> invocation;  // nothing: print and leave
  ExitCode exit_code = ExitCode::kOk;
  std::string output;  // for standard output: help, version
  std::string error;   // for standard error
};

// `arguments` without the program's name.
ParsedCommandLine ParseCommandLine(const std::vector<std::string>& arguments,
                                   const Environment& environment);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_COMMAND_LINE_H_
