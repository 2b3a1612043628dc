// A process of the demo that is an agent with working memory.
//
// It opens the agent by its name, compares every byte of its region with what
// its version must hold, changes and commits it some times, telling the driver
// before and after each commit, and ends as its order says - or is killed.
//
// Ownership: owns its client. Threads: one. Errors: MemoryAgentMain's answer is
// the exit code: 0, kMemdIsGone, or 1 after it has told the driver why. Cost:
// that of the order.
#ifndef AGENTMEM_TESTS_DEMO_MEMORY_AGENT_H_
#define AGENTMEM_TESTS_DEMO_MEMORY_AGENT_H_

#include <string>

namespace agentmem::demo {

int MemoryAgentMain(int driver_socket, const std::string& memd_socket_path);

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_MEMORY_AGENT_H_
