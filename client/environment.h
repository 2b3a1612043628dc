// The one place of the library that reads the process's environment.
//
// Threads: thread-safe as long as nobody calls setenv. Errors: none.
// Cost: allocates; only while connecting.
#ifndef AGENTMEM_CLIENT_ENVIRONMENT_H_
#define AGENTMEM_CLIENT_ENVIRONMENT_H_

#include <string>

namespace agentmem::client {

// $AGENTMEM_SOCKET; else as root /run/agentmem/memd.sock; else
// $XDG_RUNTIME_DIR/agentmem/memd.sock; else /run/user/UID/agentmem/memd.sock.
std::string DefaultSocketPath();

// Where what was measured of this machine's devices is kept: as root
// /var/lib/agentmem/copy-crossovers; else in $XDG_STATE_HOME or
// $HOME/.local/state, agentmem/copy-crossovers. Empty: nowhere.
std::string DefaultCrossoverPath();

// The program's name, for `memctl clients`.
std::string DefaultClientName();

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_ENVIRONMENT_H_
