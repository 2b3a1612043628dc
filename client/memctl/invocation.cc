#include "client/memctl/invocation.h"

namespace agentmem::memctl {

DurationNs DefaultTimeout(Verb verb) {
  switch (verb) {
    case Verb::kAgentHibernate:
    case Verb::kAgentRevert:
    case Verb::kRegionWrite:
    case Verb::kRegionExport:
      return 60 * kSecondNs;
    default:
      return 5 * kSecondNs;
  }
}

std::string DefaultSocketPath(const Environment& environment) {
  if (!environment.agentmem_socket.empty()) return environment.agentmem_socket;
  if (environment.root) return "/run/agentmem/memd.sock";
  const std::string runtime =
      environment.xdg_runtime_dir.empty()
          ? "/run/user/" + std::to_string(environment.uid)
          : environment.xdg_runtime_dir;
  return runtime + "/agentmem/memd.sock";
}

std::string DefaultStateDirectory(const Environment& environment) {
  if (environment.root) return "/var/lib/agentmem";
  const std::string state = environment.xdg_state_home.empty()
                                ? environment.home + "/.local/state"
                                : environment.xdg_state_home;
  return state + "/agentmem";
}

}  // namespace agentmem::memctl
