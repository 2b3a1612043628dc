// Copies of any number of fragments, posted in batches as long as the device
// takes well, and waited for: what the device can do. (The library posts a
// batch a block, or a layer of a window: hbm_kv_cases.cc.)
//
// Ownership: borrows the device; whoever owns the memory of the copies frees
// the device's first, which waits. Threads: thread-compatible. Errors: the
// device's; DEADLINE_EXCEEDED: it does not end what it has begun. Cost: Await
// spins, so that it sees the end at once.
#ifndef AGENTMEM_BENCHMARKS_HBM_POST_H_
#define AGENTMEM_BENCHMARKS_HBM_POST_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "cuda/copy_plan.h"
#include "cuda/device.h"
#include "cuda/fp8_batch.h"

namespace agentmem::bench {

// Does the device do nothing any more, or not end what it has begun? Asked with
// an event on each of its streams that must pass by then.
bool IsLost(Device* device, DurationNs deadline_ns = 5 * kSecondNs);

class HbmPost {
 public:
  // Pieces of a batch, which has its pages' numbers from 0 on: a few of them
  // fit into a device's ring of descriptors at once.
  static constexpr std::uint32_t kFp8BatchPieces = 4096;
  // From the post of a batch until it is done: much more than all that a case
  // posts at once takes.
  static constexpr DurationNs kDeadlineNs = 30 * kSecondNs;

  explicit HbmPost(Device* device, DurationNs deadline_ns = kDeadlineNs)
      : device_(device), deadline_ns_(deadline_ns) {}

  absl::Status Copy(Direction direction, CopyMethod method,
                    std::span<const Fragment> fragments);
  // Those below the crossover by kernels, others by the copy engine. Brings
  // `fragments` into another order.
  absl::Status CopySplit(Direction direction, std::span<Fragment> fragments,
                         const SplitRule& rule);
  // All bytes in their order, in copies as long as can be, one call each: what
  // a plain pinned cudaMemcpyAsync gets.
  absl::Status CopyPinned(Direction direction, DeviceAddress device,
                          std::span<char> host);
  // Piece i is of page i % kFp8BatchPieces.
  absl::Status CopyFp8(Direction direction, const Fp8Shape& shape,
                       std::span<const Fp8Piece> pieces);
  // Until all that was posted is done.
  absl::Status Await();
  // Batches that were not seen to be done.
  std::size_t pending() const { return pending_.size(); }
  // Until what was posted first is.
  absl::Status AwaitOldest();
  // Does not wait. Nothing is pending: true. Looked at again and again it ends,
  // by the deadline.
  absl::StatusOr<bool> OldestPassed();

  // One more to be waited for: all that was posted on this stream.
  absl::Status Record(Stream stream);
  // The stream goes on when what was posted last here is done.
  absl::Status WaitForNewest(Stream stream);

 private:
  struct Pending {
    Event event;
    TimeNs posted = 0;
  };

  Stream StreamOf(Direction direction) const;
  // When there is room for it; and an event behind it.
  absl::Status Post(const CopyBatch& batch);

  Device* const device_;
  const DurationNs deadline_ns_;
  std::deque<Pending> pending_;  // oldest first
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_HBM_POST_H_
