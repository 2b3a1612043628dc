// An agent process of the demo.
//
// It connects to memd, takes requests from the demo one at a time, and tells
// when each is done. Asked to pose, it takes everything into its hands that a
// dying process may leave behind - pins, holds, grants, a reservation written
// half, a put nobody waits for, a forked child - and waits to be killed.
//
// Ownership: owns its client. Threads: one. Errors: AgentMain's answer is the
// exit code: 0 at the demo's wish or end, 1 when memd cannot be reached.
// Cost: that of the requests.
#ifndef AGENTMEM_TESTS_DEMO_AGENT_H_
#define AGENTMEM_TESTS_DEMO_AGENT_H_

#include <cstddef>
#include <string>

namespace agentmem::demo {

struct AgentArguments {
  std::size_t lane = 0;
  // Descriptors, inherited from the demo.
  int demo_socket = -1;
  int workload = -1;
  int board = -1;
  int lifeline = -1;  // its other end closes when the demo is over
  std::string memd_socket_path;
};

int AgentMain(const AgentArguments& arguments);

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_AGENT_H_
