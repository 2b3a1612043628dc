#include "cuda/fast_divisor.h"

#include <gtest/gtest.h>

#include <random>

namespace agentmem {
namespace {

TEST(FastDivisorTest, EachQuotientIsTheProcessors) {
  std::mt19937 random(6);
  for (std::uint32_t i = 0; i < 4000; ++i) {
    // All the small ones, and some of each length.
    std::uint32_t divisor = i + 1;
    if (i >= 2000) divisor = static_cast<std::uint32_t>(random()) >> i % 31 | 1;
    if (i % 2 == 1 && i >= 2000) ++divisor;
    if (divisor == 0 || divisor > 1u << 31) divisor = 1u << 31;
    const FastDivisor fast(divisor);
    for (int n = 0; n < 200; ++n) {
      const auto number = static_cast<std::uint32_t>(random()) >> (1 + n % 31);
      ASSERT_EQ(fast.Quotient(number), number / divisor)
          << number << " by " << divisor;
      // About a multiple, where it would go wrong.
      const std::uint32_t multiple = number / divisor * divisor;
      ASSERT_EQ(fast.Quotient(multiple), multiple / divisor);
      if (multiple == 0) continue;
      ASSERT_EQ(fast.Quotient(multiple - 1), (multiple - 1) / divisor)
          << multiple << " by " << divisor;
    }
    ASSERT_EQ(fast.Quotient(0x7fffffff), 0x7fffffff / divisor) << divisor;
    ASSERT_EQ(fast.Quotient(0), 0u);
  }
}

}  // namespace
}  // namespace agentmem
