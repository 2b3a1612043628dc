#include "cuda/open_device.h"

#include <dlfcn.h>

#include <string>

#include "cuda/cuda_module.h"

// Where it is linked in, it is there.
#pragma weak agentmem_cuda_open

namespace agentmem {
namespace {

constexpr char kModule[] = "libagentmem-cuda.so.0";

using OpenFunction = decltype(&agentmem_cuda_open);

// Beside this library, or else where the system looks. It stays loaded: CUDA's
// runtime has threads and handlers at exit.
void* LoadModule() {
  Dl_info here = {};
  if (dladdr(reinterpret_cast<const void*>(&LoadModule), &here) != 0 &&
      here.dli_fname != nullptr) {
    const std::string path = here.dli_fname;
    const std::string beside =
        path.substr(0, path.find_last_of('/') + 1) + kModule;
    if (path.find('/') != std::string::npos) {
      void* const module = dlopen(beside.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (module != nullptr) return module;
    }
  }
  return dlopen(kModule, RTLD_NOW | RTLD_LOCAL);
}

}  // namespace

Outcome OpenDevice(std::uint32_t index, std::unique_ptr<Device>* device) {
  device->reset();
  const std::string name = "GPU " + std::to_string(index) + ": ";
  OpenFunction open = &agentmem_cuda_open;
  if (open == nullptr) {
    void* const module = LoadModule();
    if (module == nullptr) {
      const char* const why = dlerror();
      return Fail(Code::kUnavailable,
                  name +
                      "this agentmem was built without CUDA (nvcc of 12.8 "
                      "or later), or its library for it is missing: " +
                      (why == nullptr ? kModule : why));
    }
    open = reinterpret_cast<OpenFunction>(dlsym(module, "agentmem_cuda_open"));
    if (open == nullptr) {
      return Fail(Code::kUnavailable,
                  name + kModule + " is none of agentmem's");
    }
  }
  Outcome outcome;
  const std::uint32_t theirs =
      open(kCudaModuleVersion, index, device, &outcome);
  if (theirs != kCudaModuleVersion) {
    return Fail(Code::kFailedPrecondition,
                name + kModule + " is of version " + std::to_string(theirs) +
                    ", and this library of " +
                    std::to_string(kCudaModuleVersion) +
                    ": install both of one agentmem");
  }
  return outcome;
}

}  // namespace agentmem
