// The ring by which CudaDevice copies staged batches: a kernel between the
// fragments and the ring, DMA between the ring and the host.
//
//   to the device:  DMA stream   [piece 1][piece 2][piece 3]...
//                   the caller's          [scatter 1][scatter 2]...
//
// A piece is as many fragments as a slot of the ring holds, one behind another,
// so that those which lie together on the host are one DMA.
//
// Only on the device's own stream of the direction: so all pieces are in one
// order, and who holds up another stream holds up no DMA. From one batch to the
// next the two streams are not joined, or neither would have work while the
// other has: the library posts batches of one piece. Instead,
//   in:  the DMA waits for what the stream had before, unless that was staged;
//   out: the stream goes on while the DMA runs. An event on it is recorded on
//   the
//        DMA's, behind both, and what else is copied there waits for the DMA.
//
// Ownership: what it names is CudaDevice's. Threads: one at a time. Errors:
// none. Cost: 12 MiB of device memory; of a piece a dozen calls of the driver.
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
  cudaEvent_t joint = nullptr;    // of one stream with the other
  // Out: the DMA has what the stream does not stand behind.
  bool is_apart = false;
  // In: how many posts that were not staged the DMA stands behind.
  std::uint64_t behind = UINT64_MAX;
  std::array<Slot, 3> slots;
  std::size_t next = 0;
  std::vector<Fragment> runs;  // of the piece under way

  std::uint64_t at(std::size_t slot) const { return ring + slot * kSlotBytes; }
};

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_CUDA_STAGING_H_
