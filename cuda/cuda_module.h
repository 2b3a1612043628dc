// How libagentmem comes to CUDA: one function, in libagentmem-cuda.so beside it
// or linked into the program.
//
// Ownership, Threads, Errors, Cost: as OpenDevice (cuda/open_device.h).
#ifndef AGENTMEM_CUDA_CUDA_MODULE_H_
#define AGENTMEM_CUDA_CUDA_MODULE_H_

#include <cstdint>
#include <memory>

#include "cuda/device.h"
#include "proto/outcome.h"

// Of all that crosses it: Device, Outcome. Changes with them.
inline constexpr std::uint32_t kCudaModuleVersion = 1;

extern "C" {

// Answers the version that it is of; of another one than `version`, that is all
// it does.
[[gnu::visibility("default")]] std::uint32_t agentmem_cuda_open(
    std::uint32_t version, std::uint32_t index,
    std::unique_ptr<agentmem::Device>* device, agentmem::Outcome* outcome);

}  // extern "C"

#endif  // AGENTMEM_CUDA_CUDA_MODULE_H_
