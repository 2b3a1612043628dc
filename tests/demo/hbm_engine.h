// A process of the demo that is an inference engine: one a node, with a device
// (the GPU, or the host device where there is none), a paged KV cache in its
// memory, and several agents.
//
// In an agent's turn it loads the agent's blocks into its pages, compares every
// byte there, computes some more and stores them. It says to memd what the
// agent does then: a tool, a human, nothing.
//
// Ownership: owns its client. Threads: one, and libagentmem's that moves blocks
// between HBM and DRAM. Errors: HbmEngineMain's answer is the exit code: 0,
// kMemdIsGone, or 1 after it has told the driver why. Cost: that of the orders.
#ifndef AGENTMEM_TESTS_DEMO_HBM_ENGINE_H_
#define AGENTMEM_TESTS_DEMO_HBM_ENGINE_H_

#include <cstdint>
#include <string>

namespace agentmem::demo {

// As memctl calls the agent.
std::string HbmAgentName(std::uint32_t agent);

int HbmEngineMain(int driver_socket, const std::string& memd_socket_path);

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_HBM_ENGINE_H_
