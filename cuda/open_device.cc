#include "cuda/open_device.h"

#if AGENTMEM_WITH_CUDA
#include "cuda/cuda_device.h"
#endif

namespace agentmem {

Outcome OpenDevice(std::uint32_t index, std::unique_ptr<Device>* device) {
  device->reset();
#if AGENTMEM_WITH_CUDA
  return CudaDevice::Open(index, device);
#else
  return Fail(Code::kUnavailable,
              "GPU " + std::to_string(index) +
                  ": this agentmem was built without CUDA (nvcc of 12.8 or "
                  "later was not found)");
#endif
}

}  // namespace agentmem
