// Kernels on the CPU: the 32 lanes of a warp are fibers of one thread, which
// run one after the other from one of a warp's instructions to the next. A
// kernel that forgets such an instruction, or lets only some lanes come to it,
// is found out: the lanes are not in step otherwise.
//
// Ownership: a runner owns the lanes' stacks. Threads: one runner a thread;
// kernels on several streams run at once. Errors: a kernel that may not go on
// ends, and says why. Cost: two switches a lane and instruction of the warp.
#ifndef AGENTMEM_TESTS_EMULATION_WARP_H_
#define AGENTMEM_TESTS_EMULATION_WARP_H_

#include <driver_types.h>

#include <cstdint>
#include <functional>
#include <string>

namespace agentmem::emulation {

struct ThreadPlace {
  dim3 thread;
  dim3 block;
  dim3 blocks;   // gridDim
  dim3 threads;  // blockDim
};

// Of the lane that calls.
const ThreadPlace& Here();

// The lanes' `value`; all lanes call it.
std::uint32_t Shuffle(std::uint32_t mask, std::uint32_t value,
                      std::uint32_t lane);
std::uint32_t ReduceMax(std::uint32_t mask, std::uint32_t value);
// Ends the kernel, if it may not touch them.
void Touch(const void* memory, std::uint64_t bytes);

// All threads of a grid of one dimension, block by block. The reason why it
// ended early, or empty.
std::string RunGrid(std::uint32_t blocks, std::uint32_t threads,
                    const std::function<void()>& kernel);

}  // namespace agentmem::emulation

#endif  // AGENTMEM_TESTS_EMULATION_WARP_H_
