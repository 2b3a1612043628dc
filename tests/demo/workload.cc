#include "tests/demo/workload.h"

#include "tests/demo/content.h"

namespace agentmem::demo {

std::vector<std::uint32_t> Workload::TokensOf(std::uint64_t request) const {
  const std::span<const std::uint32_t> blocks = BlocksOf(request);
  std::vector<std::uint32_t> tokens;
  tokens.reserve(blocks.size() * kBlockTokens);
  for (const std::uint32_t block : blocks) {
    for (std::uint32_t i = 0; i < kBlockTokens; ++i) {
      tokens.push_back(static_cast<std::uint32_t>(
          Mix(Mix(header().seed) + block * std::uint64_t{kBlockTokens} + i)));
    }
  }
  return tokens;
}

}  // namespace agentmem::demo
