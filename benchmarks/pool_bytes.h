// Bytes that differ from block to block and run to run, and can be made again
// for comparison: SplitMix64's outputs (Steele, Lea, Flood: Fast Splittable
// Pseudorandom Number Generators, OOPSLA 2014), a stream for each pair of a
// run's seed and a number.
//
// Ownership: none. Threads: any. Errors: none. Cost: about 1 ns a word.
#ifndef AGENTMEM_BENCHMARKS_POOL_BYTES_H_
#define AGENTMEM_BENCHMARKS_POOL_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace agentmem::bench {

class ByteStream {
 public:
  ByteStream(std::uint64_t seed, std::uint64_t number)
      : state_(Mix(seed) ^ Mix(~number)) {}

  // `count` is a multiple of eight.
  void Fill(char* bytes, std::size_t count) {
    for (std::size_t at = 0; at < count; at += sizeof(std::uint64_t)) {
      const std::uint64_t word = Next();
      std::memcpy(bytes + at, &word, sizeof(word));
    }
  }
  // Whether `count` bytes are what Fill would have made of them.
  bool Matches(const char* bytes, std::size_t count) {
    std::uint64_t differences = 0;
    for (std::size_t at = 0; at < count; at += sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes + at, sizeof(word));
      differences |= word ^ Next();
    }
    return differences == 0;
  }

 private:
  static std::uint64_t Mix(std::uint64_t word) {
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
    word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
    return word ^ (word >> 31);
  }
  std::uint64_t Next() { return Mix(state_ += 0x9e3779b97f4a7c15); }

  std::uint64_t state_;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_POOL_BYTES_H_
