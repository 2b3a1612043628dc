// Which fragments go by the copy engine and which by a kernel.
//
// The copy engine (DMA) pays for each fragment and takes no multiprocessor; a
// kernel pays for a launch and takes a few. So small fragments go by a kernel,
// straight or staged (cuda/device.h), large ones by the engine; which of both,
// and where the engine begins to be faster, depends on the machine: it is
// measured on it, for each direction, once (cuda/crossover_file.h keeps it).
//
// The measurement copies the same bytes in fragments of each size of a ladder,
// by each method, both ways, between scratch memory of the device and
// registered memory of the host. On the device no fragment follows its
// neighbour; on the host 64 KiB lie together, as a block's layer does. What it
// takes for a rate is what a caller would see: from before the call of Copy
// until the event has passed; the best of some rounds. A kernel counts as
// faster where it is so by 3%: below that its multiprocessors are worth more to
// whoever computes. From these the rule is taken that loses least over the
// ladder, so that one bad sample does not move it.
//
// Ownership: none is kept: scratch memory is freed and its registration ended
// on every way out. Threads: pure, and the device's. Errors: those of the
// device as they came; RESOURCE_EXHAUSTED: no host memory; DEADLINE_EXCEEDED:
// not even one round within the time; INVALID_ARGUMENT: bounds too small. Cost:
// SplitBySize is linear (and allocates where sizes are mixed). MeasureCrossover
// spins on its events, up to `time_max` (longer if the device does not end what
// was posted to it: memory is not taken from under a copy).
#ifndef AGENTMEM_CUDA_COPY_PLAN_H_
#define AGENTMEM_CUDA_COPY_PLAN_H_

#include <array>
#include <cstdint>
#include <span>

#include "base/clock.h"
#include "cuda/device.h"
#include "proto/outcome.h"

namespace agentmem {

// Fragments of fewer bytes go by the kernel.
inline constexpr std::uint32_t kKernelNever = 0;
inline constexpr std::uint32_t kKernelAlways = UINT32_MAX;

struct SplitRule {
  std::uint32_t below = kKernelNever;      // bytes of those that go by `small`
  CopyMethod small = CopyMethod::kKernel;  // or kStaged

  friend bool operator==(const SplitRule&, const SplitRule&) = default;
};

struct FragmentSplit {
  std::span<const Fragment> kernel;
  std::span<const Fragment> engine;
};

// Each fragment is in one of the two, in its order. Brings `fragments` into
// another one, of which the parts are views.
FragmentSplit SplitBySize(std::span<Fragment> fragments,
                          std::uint32_t crossover_bytes);

// 1 KiB, doubled up to 256 KiB.
inline constexpr std::array<std::uint32_t, 9> kCrossoverLadder = {
    1 << 10,  2 << 10,  4 << 10,   8 << 10,  16 << 10,
    32 << 10, 64 << 10, 128 << 10, 256 << 10};

// In fragments of one size of the ladder; bytes a second.
struct CopyRates {
  std::uint64_t engine = 0;
  std::uint64_t kernel = 0;
  std::uint64_t staged = 0;  // 0: the device stages nothing

  friend bool operator==(const CopyRates&, const CopyRates&) = default;
};

using LadderRates = std::array<CopyRates, kCrossoverLadder.size()>;

// Of one direction.
struct Crossover {
  SplitRule rule;  // below one size of the ladder, or never, or always
  LadderRates rates;

  friend bool operator==(const Crossover&, const Crossover&) = default;
};

struct Crossovers {
  Crossover to_host;
  Crossover to_device;

  const Crossover& of(Direction direction) const {
    return direction == Direction::kToHost ? to_host : to_device;
  }
  friend bool operator==(const Crossovers&, const Crossovers&) = default;
};

// The one that loses least with these rates.
SplitRule RuleOf(const LadderRates& rates);

// Eight of the largest fragments: of fewer, some follow their neighbours.
inline constexpr std::uint64_t kMeasureBytesMin = 2 << 20;

struct MeasureBounds {
  DurationNs time_max = 2 * kSecondNs;
  // Scratch memory on each side, and what one sample copies. A power of two is
  // taken of it.
  std::uint64_t bytes = 16 << 20;
  std::uint32_t rounds = 3;  // fewer if the time ends, but one
};

// `crossovers` is changed when it is OK.
Outcome MeasureCrossover(Device* device, const Clock& clock,
                         const MeasureBounds& bounds, Crossovers* crossovers);

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_COPY_PLAN_H_
