// The ring by which CudaDevice copies staged batches: a kernel between the
// fragments and the ring, DMA between the ring and the host.
//
//   to the device:  DMA stream   [piece 1][piece 2][piece 3]...
//                   the caller's          [scatter 1][scatter 2]...
//
// A piece is as many fragments as a slot of the ring holds, one behind another,
// so that those which lie together on the host are one DMA. The DMA stream
// waits for what the caller's had before the batch; the caller's has all of the
// batch behind it, the DMA too: an event recorded there stands behind both.
//
// Ownership: what it names is CudaDevice's. Threads: one at a time. Errors:
// none. Cost: 12 MiB of device memory.
#ifndef AGENTMEM_CUDA_CUDA_STAGING_H_
#define AGENTMEM_CUDA_CUDA_STAGING_H_

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/device.h"

namespace agentmem {

// Of one direction.
struct CudaStaging {
  // 4 MiB: 75 us of a link of 55 GB/s, for which a piece's calls (a dozen, each
  // of 1 to 2 us) are few; three, so that one is filled, one emptied and one
  // waits.
  static constexpr std::uint64_t kSlotBytes = 4 << 20;
  struct Slot {
    cudaEvent_t filled = nullptr;
    cudaEvent_t emptied = nullptr;
  };

  std::uint64_t ring = 0;
  cudaStream_t stream = nullptr;  // of the DMA
  cudaEvent_t begun = nullptr;    // what stood before the batch
  std::array<Slot, 3> slots;
  std::size_t next = 0;
  std::vector<Fragment> runs;  // of the piece under way

  std::uint64_t at(std::size_t slot) const { return ring + slot * kSlotBytes; }
};

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_CUDA_STAGING_H_
