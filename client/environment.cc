#include "client/environment.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace agentmem::client {

std::string DefaultSocketPath() {
  const char* chosen = std::getenv("AGENTMEM_SOCKET");
  if (chosen != nullptr && *chosen != '\0') return chosen;
  if (geteuid() == 0) return "/run/agentmem/memd.sock";
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && *runtime != '\0') {
    return std::string(runtime) + "/agentmem/memd.sock";
  }
  return "/run/user/" + std::to_string(geteuid()) + "/agentmem/memd.sock";
}

std::string DefaultCrossoverPath() {
  const std::string file = "/agentmem/copy-crossovers";
  if (geteuid() == 0) return "/var/lib" + file;
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state != nullptr && *state != '\0') return state + file;
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') return "";
  return home + ("/.local/state" + file);
}

std::string DefaultClientName() { return program_invocation_short_name; }

}  // namespace agentmem::client
