// Random numbers that are the same for a seed on every machine.
//
// The standard library's distributions differ between implementations, so the
// few that are needed are made here from SplitMix64 (Steele, Lea, Flood: Fast
// splittable pseudorandom number generators, OOPSLA 2014).
//
// Ownership: a value. Threads: thread-compatible. Errors: none. Cost: O(1), no
// allocation.
#ifndef AGENTMEM_TIERING_TRACES_RANDOM_STREAM_H_
#define AGENTMEM_TIERING_TRACES_RANDOM_STREAM_H_

#include <cmath>
#include <cstdint>
#include <numbers>

namespace agentmem::tiering {

class RandomStream {
 public:
  explicit RandomStream(std::uint64_t seed) : state_(seed) {}

  std::uint64_t Bits() {
    std::uint64_t bits = (state_ += 0x9e3779b97f4a7c15ULL);
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ULL;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebULL;
    return bits ^ (bits >> 31);
  }

  // In [0, 1).
  double Uniform() { return static_cast<double>(Bits() >> 11) * 0x1p-53; }

  // Mean 0, deviation 1 (Box-Muller; the second of the pair is thrown away).
  double Normal() {
    const double radius = std::sqrt(-2 * std::log(1 - Uniform()));
    return radius * std::cos(2 * std::numbers::pi * Uniform());
  }

 private:
  std::uint64_t state_;
};

}  // namespace agentmem::tiering

#endif  // AGENTMEM_TIERING_TRACES_RANDOM_STREAM_H_
