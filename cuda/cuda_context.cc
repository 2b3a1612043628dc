#include "cuda/cuda_context.h"

namespace agentmem {
namespace {

Code CodeOf(cudaError_t error) {
  if (IsLoss(error)) return Code::kUnavailable;
  switch (error) {
    case cudaErrorMemoryAllocation:
    case cudaErrorLaunchOutOfResources:
      return Code::kResourceExhausted;
    case cudaErrorInvalidValue:
    case cudaErrorInvalidDevicePointer:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorHostMemoryAlreadyRegistered:
    case cudaErrorHostMemoryNotRegistered:
      return Code::kInvalidArgument;
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
    case cudaErrorStreamCaptureImplicit:
    case cudaErrorCapturedEvent:
      return Code::kFailedPrecondition;
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInitializationError:
    case cudaErrorDevicesUnavailable:
    case cudaErrorSystemNotReady:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorNoKernelImageForDevice:
      return Code::kUnavailable;
    default:
      return Code::kInternal;
  }
}

// A function of the driver; null: it has none.
template <typename Function>
bool Find(const char* name, unsigned version, Function* function) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t error = cudaGetDriverEntryPointByVersion(
      name, &found, version, cudaEnableDefault, &result);
  *function = reinterpret_cast<Function>(found);
  return error == cudaSuccess && result == cudaDriverEntryPointSuccess &&
         found != nullptr;
}

}  // namespace

bool IsLoss(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorMisalignedAddress:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorCudartUnloading:
    case cudaErrorDeviceUninitialized:
    case cudaErrorExternalDevice:
    case cudaErrorContained:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorMpsClientTerminated:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

Outcome CudaFailure(cudaError_t error, const char* call, std::uint64_t bytes,
                    std::uint32_t gpu) {
  cudaGetLastError();  // or the next call would answer this error again
  std::string message = call;
  if (bytes != 0) message += " of " + std::to_string(bytes) + " bytes";
  message += " on GPU " + std::to_string(gpu) + ": " +
             cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")";
  return Fail(CodeOf(error), std::move(message));
}

CudaContext::~CudaContext() {
  if (context_ != nullptr) release_(gpu_);
}

Outcome CudaContext::Retain(std::uint32_t gpu) {
  // The versions are those since when the functions are as they are.
  Retainer retain = nullptr;
  if (!Find("cuDevicePrimaryCtxRetain", 7000, &retain) ||
      !Find("cuDevicePrimaryCtxRelease", 11000, &release_) ||
      !Find("cuCtxPushCurrent", 4000, &push_) ||
      !Find("cuCtxPopCurrent", 4000, &pop_)) {
    return Fail(Code::kUnavailable,
                "the CUDA driver lacks functions of primary contexts");
  }
  CUcontext context = nullptr;
  // A CUdevice is its index (cuDeviceGet answers no other).
  gpu_ = static_cast<CUdevice>(gpu);
  const CUresult result = retain(&context, gpu_);
  if (result != CUDA_SUCCESS) {
    return Fail(result == CUDA_ERROR_OUT_OF_MEMORY ? Code::kResourceExhausted
                                                   : Code::kUnavailable,
                "cuDevicePrimaryCtxRetain on GPU " + std::to_string(gpu) +
                    ": error " + std::to_string(result) + " of the driver");
  }
  context_ = context;
  return {};
}

}  // namespace agentmem
