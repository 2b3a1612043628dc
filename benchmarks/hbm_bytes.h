// The bytes that the suite `hbm` copies, and whether they arrived.
//
// On the device fragment i follows fragment i - 1; on the host it lies at
// another place, so that no fragment has its neighbour beside it on both sides.
// They are posted as the library posts those of a pool's blocks: 2 MiB lie
// together on the host, and each of their fragments anywhere on the device.
// What is in them follows from a seed and from where a word is on the device:
// the check knows no fragment lists, and reads nothing but what arrived.
//
// Ownership: none. Threads: pure. Errors: none. Cost: about a nanosecond a
// word.
#ifndef AGENTMEM_BENCHMARKS_HBM_BYTES_H_
#define AGENTMEM_BENCHMARKS_HBM_BYTES_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cuda/device.h"
#include "cuda/fp8_batch.h"

namespace agentmem::bench {

// What an output holds before a copy: neither side's bytes.
inline constexpr char kPoison = '\x5a';

// In place of a size: a quarter of the bytes in fragments of each of 2 MiB,
// 64 KiB, 16 KiB and 4 KiB, the longest first.
inline constexpr std::uint32_t kMixedFragments = 1;

// Fragment i of `count` (a power of two) lies at this place on the host.
inline std::uint64_t PlaceOf(std::uint64_t i, std::uint64_t count) {
  return i * ((count * 5 / 8) | 1) % count;
}

// One a fragment; `host` and what is at `device` are as long as each other, a
// power of two of fragments (mixed: 8 MiB or more).
std::vector<Fragment> ScatteredFragments(DeviceAddress device,
                                         std::span<char> host,
                                         std::uint32_t fragment_bytes);

// `host` becomes what lies on the device from byte 0 on, in its order there.
void FillInOrder(std::span<char> host, std::uint64_t seed);
// The same, with each fragment at its place on the host.
void FillScattered(std::span<char> host, std::uint64_t seed,
                   std::uint32_t fragment_bytes);

// The first byte of `host` that is not as the one or the other fills it.
std::optional<std::uint64_t> WrongInOrder(std::span<const char> host,
                                          std::uint64_t seed);
std::optional<std::uint64_t> WrongScattered(std::span<const char> host,
                                            std::uint64_t seed,
                                            std::uint32_t fragment_bytes);

// Elements of bfloat16 of any signs and mantissas, of magnitudes from 2^-7 to
// 2, in the order in which they lie on the device.
void FillElements(std::span<char> host, std::uint64_t seed);

// What is wrong with a page of them, whose byte 0 is byte `at` on the device,
// after it was FP8 with these scales, one a head: a scale that is not its
// head's, or an element beyond the bound (cuda/fp8_codec.h).
std::optional<std::string> WrongElements(std::span<const char> page,
                                         std::uint64_t seed, std::uint64_t at,
                                         const Fp8Shape& shape,
                                         const float* scales);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_HBM_BYTES_H_
