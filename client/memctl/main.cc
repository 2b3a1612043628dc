// memctl: the command line of a node's memory.
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "base/clock.h"
#include "client/memctl/linux_system.h"
#include "client/memctl/program.h"

namespace {

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace agentmem::memctl;  // NOLINT: the program's own words
  const Environment environment{::geteuid() == 0,
                                ::geteuid(),
                                Variable("AGENTMEM_SOCKET"),
                                Variable("XDG_RUNTIME_DIR"),
                                Variable("XDG_STATE_HOME"),
                                Variable("HOME")};
  const agentmem::MonotonicClock clock;
  const LinuxSystem system;
  const World world{&std::cin,
                    &std::cout,
                    &std::cerr,
                    &system,
                    [&](const std::string& path, agentmem::DurationNs timeout) {
                      return ConnectAdmin(path, timeout, &clock);
                    },
                    ConnectBlocks,
                    ConnectAgents,
                    ConnectRegions};
  return static_cast<int>(RunMemctl(
      std::vector<std::string>(argv + 1, argv + argc), environment, world));
}
