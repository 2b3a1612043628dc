// KV blocks as FP8 (cuda/fp8_block.h) on their way: pieces are collected, and
// posted in as few batches as the device's descriptors allow.
//
// Ownership: borrows the device and the cache. Threads: thread-compatible.
// Errors: the device's; RESOURCE_EXHAUSTED: its kernels had all descriptors up
// to the deadline. After an error some may be posted, and what was collected is
// not. Cost: a post a batch; allocates until it has seen its longest batch.
#ifndef AGENTMEM_CLIENT_KV_FP8_H_
#define AGENTMEM_CLIENT_KV_FP8_H_

#include <cstdint>
#include <span>
#include <vector>

#include "client/deadline.h"
#include "client/kv_cache.h"
#include "cuda/device.h"
#include "cuda/fp8_block.h"
#include "proto/outcome.h"

namespace agentmem::client {

// `plain` with blocks of FP8. INVALID_ARGUMENT: its elements are of another
// type than those that become FP8, or a block has more pages than a device's
// kernel takes; FAILED_PRECONDITION: the device runs no kernels.
Outcome Compress(const DeviceProperties& properties, const KvCache& plain,
                 KvCache* compressed);

class KvFp8Post {
 public:
  KvFp8Post(Device* device, const KvCache& cache, Direction direction,
            Stream stream);

  // Layers [first, first + count) of a block with these pages.
  Outcome Add(std::uint32_t first, std::uint32_t count,
              std::span<const std::uint32_t> pages, char* block,
              const Deadline& deadline);
  // Posts what was added. Nothing is left of it, whatever the outcome.
  Outcome Flush(const Deadline& deadline);

 private:
  Device* const device_;
  const KvCache& cache_;
  const Direction direction_;
  const Stream stream_;
  std::vector<Fp8Piece> pieces_;
  std::vector<std::uint32_t> pages_;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_KV_FP8_H_
