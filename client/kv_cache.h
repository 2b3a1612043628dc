// An engine's KV cache, and what its blocks are.
//
// Ownership: values; the device's memory is the engine's. Threads: immutable
// once it is shared. Errors: none. Cost: none.
#ifndef AGENTMEM_CLIENT_KV_CACHE_H_
#define AGENTMEM_CLIENT_KV_CACHE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "cuda/device.h"
#include "cuda/fp8_block.h"
#include "cuda/kv_layout.h"

namespace agentmem::client {

// Checked.
struct KvCache {
  KvLayout layout;
  std::vector<DeviceAddress> layers;
  std::vector<DeviceAddress> values;
  std::uint64_t pages = 0;
  std::uint32_t block_pages = 0;  // of a block
  std::uint64_t block_bytes = 0;
  std::optional<Fp8Block> fp8;  // blocks are such; else they are plain

  // 0: plain.
  std::uint64_t tag() const { return fp8.has_value() ? fp8->tag() : 0; }
  KvView view() const { return {layout, layers, pages, values}; }
  // Where in a block a layer's bytes are, with what a reader of it needs.
  struct Range {
    std::uint64_t offset = 0;
    std::uint32_t bytes = 0;
  };
  Range LayerRange(std::uint32_t layer) const {
    if (fp8.has_value()) {
      const Fp8Block::Range range = fp8->LayerRange(layer);
      return {range.offset, static_cast<std::uint32_t>(range.bytes)};
    }
    const std::uint64_t bytes = block_bytes / layout.layers;
    return {layer * bytes, static_cast<std::uint32_t>(bytes)};
  }
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_KV_CACHE_H_
