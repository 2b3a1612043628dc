// The KV blocks that the suite `hbm` loads: a model of 8 B parameters with 32
// layers and 8 KV heads of 128 values in 2 bytes, so that 16 tokens of K (or V)
// are a fragment; 16 K tokens are 2 GiB.
#ifndef AGENTMEM_BENCHMARKS_HBM_MODEL_H_
#define AGENTMEM_BENCHMARKS_HBM_MODEL_H_

#include <cstdint>

namespace agentmem::bench {

inline constexpr std::uint32_t kLayers = 32;
inline constexpr std::uint32_t kLayerFragment = 16 * 8 * 128 * 2;

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_HBM_MODEL_H_
