#include "cuda/cuda_module.h"

#include "cuda/cuda_device.h"

extern "C" std::uint32_t agentmem_cuda_open(
    std::uint32_t version, std::uint32_t index,
    std::unique_ptr<agentmem::Device>* device, agentmem::Outcome* outcome) {
  if (version == kCudaModuleVersion) {
    *outcome = agentmem::CudaDevice::Open(index, device);
  }
  return kCudaModuleVersion;
}
