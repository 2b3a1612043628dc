// What the commands of memctl's command line have in common.
//
// Ownership: `app` owns its commands; invocation and texts outlive parsing.
// Threads: thread-compatible. Errors: found by CLI11 when it parses.
// Cost: allocates.
#ifndef AGENTMEM_CLIENT_MEMCTL_SUBCOMMAND_H_
#define AGENTMEM_CLIENT_MEMCTL_SUBCOMMAND_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "client/memctl/invocation.h"

namespace agentmem::memctl {

extern const char kExitCodes[];

// What options are read into that are not taken as they are.
struct Texts {
  std::string key;
  std::string timeout;  // empty: the command's default
  std::string output = "table";
  std::string block_class = "cache";
  std::string ack = "visible";
  std::vector<std::string> labels;
};

// A command without arguments of its own.
CLI::App* AddCommand(CLI::App* app, const char* name, const char* description,
                     const std::string& footer, Verb verb,
                     Invocation* invocation);
// Examples, then the exit codes.
std::string ExamplesFooter(const std::string& examples);

// A whole number that is not below `least`; bytes, as 4096 or 16MiB.
CLI::Option* AddNumber(CLI::App* command, const char* name,
                       const char* description, std::uint64_t least,
                       std::uint64_t* to);
CLI::Option* AddBytes(CLI::App* command, const char* name,
                      const char* description, std::uint64_t* to);

// agent_command_line.cc, region_command_line.cc.
void AddHbmCommand(CLI::App* app, Invocation* invocation);
void AddAgentCommands(CLI::App* app, Invocation* invocation);
void AddRegionCommands(CLI::App* app, Invocation* invocation, Texts* texts);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_SUBCOMMAND_H_
