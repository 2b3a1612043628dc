// Division by a number that is known before: a multiplication and a shift,
// where a kernel would spend twenty instructions. (Granlund and Montgomery,
// "Division by invariant integers using multiplication", 1994.)
//
// Ownership: a value. Threads: any. Errors: none: it divides 0 to 2^31 - 1 by 1
// to 2^31. Cost: two instructions and a sum.
#ifndef AGENTMEM_CUDA_FAST_DIVISOR_H_
#define AGENTMEM_CUDA_FAST_DIVISOR_H_

#include <cstdint>

#include "cuda/fp8_math.h"

namespace agentmem {

class FastDivisor {
 public:
  FastDivisor() = default;
  explicit FastDivisor(std::uint32_t divisor) {
    while (1ULL << shift_ < divisor) ++shift_;
    const std::uint64_t above = (1ULL << shift_) - divisor;
    factor_ = static_cast<std::uint32_t>((above << 32) / divisor + 1);
  }

  AGENTMEM_HOST_DEVICE std::uint32_t Quotient(std::uint32_t number) const {
    const auto product =
        static_cast<std::uint32_t>(std::uint64_t{factor_} * number >> 32);
    return (product + number) >> shift_;
  }

 private:
  std::uint32_t factor_ = 1;
  std::uint32_t shift_ = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_FAST_DIVISOR_H_
