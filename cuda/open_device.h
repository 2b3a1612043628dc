// The GPU of an index, where agentmem was built with CUDA and there is one.
//
// Ownership: the caller's. Threads: any. Errors: UNAVAILABLE: built without
// CUDA, no driver or one that is too old, no such device; FAILED_PRECONDITION:
// libagentmem-cuda.so of another version; `device` is null then. Cost: the
// first time in a process, loading that library, and a CUDA context.
#ifndef AGENTMEM_CUDA_OPEN_DEVICE_H_
#define AGENTMEM_CUDA_OPEN_DEVICE_H_

#include <cstdint>
#include <memory>

#include "cuda/device.h"
#include "proto/outcome.h"

namespace agentmem {

Outcome OpenDevice(std::uint32_t index, std::unique_ptr<Device>* device);

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_OPEN_DEVICE_H_
