// The sizes that the suite `tiers` measures, and their names.
#ifndef AGENTMEM_BENCHMARKS_BLOCK_SIZES_H_
#define AGENTMEM_BENCHMARKS_BLOCK_SIZES_H_

#include <array>
#include <cstddef>
#include <string>

namespace agentmem::bench {

inline constexpr std::array<std::size_t, 5> kBlockSizes = {
    4 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20};

// "64KiB", "4MiB".
inline std::string SizeText(std::size_t bytes) {
  return bytes < (1 << 20) ? std::to_string(bytes >> 10) + "KiB"
                           : std::to_string(bytes >> 20) + "MiB";
}

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_BLOCK_SIZES_H_
