// The bytes that the demo stores under a key, derived from the key alone.
//
// Whoever reads a block can tell what must be in it without having seen who
// wrote it. The generator is the demo's own: no code is shared with what it
// checks. Length varies with the key too, so that several sizes of slots are
// in use at the same time.
//
// Threads: pure functions. Errors: none. Cost: about 0.3 ns a byte, no
// allocation.
#ifndef AGENTMEM_TESTS_DEMO_CONTENT_H_
#define AGENTMEM_TESTS_DEMO_CONTENT_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace agentmem::demo {

// A block's key as two words, or an object's number and a constant.
struct ContentId {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
};

// SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA 2014).
std::uint64_t Mix(std::uint64_t word);

// From bytes_max / 2 to bytes_max. bytes_max is at least 2.
std::uint64_t ContentLength(const ContentId& id, std::uint64_t bytes_max);

void FillContent(const ContentId& id, std::span<std::byte> bytes);

// How many of `bytes` differ from what FillContent writes.
std::uint64_t MismatchingBytes(const ContentId& id,
                               std::span<const std::byte> bytes);

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_CONTENT_H_
