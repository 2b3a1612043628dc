// What nvcc knows and C++ does not, for kernels that the emulation runs: is
// included before each of their sources, which are compiled as C++.
//
// Ownership, threads, errors: warp.h. Cost: a look at each 16-byte access.
#ifndef AGENTMEM_TESTS_EMULATION_KERNEL_LANGUAGE_H_
#define AGENTMEM_TESTS_EMULATION_KERNEL_LANGUAGE_H_

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <utility>

#include "tests/emulation/emulated_gpu.h"
#include "tests/emulation/warp.h"

// The conversions that an H100 does by instructions: cuda_fp8.h has the same
// for the host.
#define AGENTMEM_FP8_BY_INSTRUCTIONS 1

#undef __launch_bounds__
#undef __grid_constant__
#define __launch_bounds__(...)
#define __grid_constant__

#define threadIdx (::agentmem::emulation::Here().thread)
#define blockIdx (::agentmem::emulation::Here().block)
#define gridDim (::agentmem::emulation::Here().blocks)
#define blockDim (::agentmem::emulation::Here().threads)

inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }

template <typename Word>
Word __ldcs(const Word* from) {
  agentmem::emulation::Touch(from, sizeof(Word));
  return *from;
}
template <typename Word>
Word __ldcg(const Word* from) {
  return __ldcs(from);
}
template <typename Word>
void __stcs(Word* to, Word word) {
  agentmem::emulation::Touch(to, sizeof(Word));
  *to = word;
}

inline unsigned __shfl_sync(unsigned mask, unsigned value, unsigned lane) {
  return agentmem::emulation::Shuffle(mask, value, lane);
}
inline float __shfl_sync(unsigned mask, float value, unsigned lane) {
  return __builtin_bit_cast(
      float, agentmem::emulation::Shuffle(
                 mask, __builtin_bit_cast(unsigned, value), lane));
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value) {
  return agentmem::emulation::ReduceMax(mask, value);
}

// The larger of each half.
inline unsigned __vmaxu2(unsigned a, unsigned b) {
  return max(a >> 16, b >> 16) << 16 | max(a & 0xffff, b & 0xffff);
}
// 0xff in each byte that is equal.
inline unsigned __vcmpeq4(unsigned a, unsigned b) {
  unsigned equal = 0;
  for (unsigned i = 0; i < 32; i += 8) {
    if (((a ^ b) >> i & 0xff) == 0) equal |= 0xffu << i;
  }
  return equal;
}

namespace agentmem::emulation {

template <typename... Parameters, typename... Arguments>
cudaError_t LaunchByTypes(const cudaLaunchConfig_t* config,
                          void (*kernel)(Parameters...),
                          Arguments... arguments) {
  return LaunchKernel(*config,
                      [kernel, arguments...] { kernel(arguments...); });
}

}  // namespace agentmem::emulation

// (CUDA's own has the parameters' types no more when it comes to its runtime.)
#define cudaLaunchKernelEx agentmem::emulation::LaunchByTypes

#endif  // AGENTMEM_TESTS_EMULATION_KERNEL_LANGUAGE_H_
