#include "benchmarks/hbm_post.h"

#include <sched.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "benchmarks/hbm_memory.h"
#include "cuda/copy_plan.h"

namespace agentmem::bench {
namespace {

// A few of them fit into a device's ring of descriptors at once.
constexpr std::size_t kBatchFragments = 8192;

}  // namespace

bool IsLost(Device* device, DurationNs deadline_ns) {
  const DeviceProperties& of = device->properties();
  HbmPost last(device, deadline_ns);
  for (const Stream stream : {of.to_host, of.to_device}) {
    if (!last.Record(stream).ok()) return true;
  }
  return !last.Await().ok();
}

Stream HbmPost::StreamOf(Direction direction) const {
  return direction == Direction::kToHost ? device_->properties().to_host
                                         : device_->properties().to_device;
}

absl::Status HbmPost::Record(Stream stream) {
  Event event;
  AGENTMEM_RETURN_IF_ERROR(ToAbsl(device_->Record(stream, &event)));
  pending_.push_back({event, MonotonicNowNs()});
  return absl::OkStatus();
}

absl::Status HbmPost::WaitForNewest(Stream stream) {
  if (pending_.empty()) return absl::OkStatus();
  return ToAbsl(device_->Wait(stream, pending_.back().event));
}

absl::Status HbmPost::Post(const CopyBatch& batch) {
  const Stream stream = StreamOf(batch.direction);
  Outcome posted = device_->Copy(batch, stream);
  while (posted.code == Code::kResourceExhausted && !pending_.empty()) {
    AGENTMEM_RETURN_IF_ERROR(AwaitOldest());
    posted = device_->Copy(batch, stream);
  }
  AGENTMEM_RETURN_IF_ERROR(ToAbsl(posted));
  return Record(stream);
}

absl::Status HbmPost::Copy(Direction direction, CopyMethod method,
                           std::span<const Fragment> fragments) {
  while (!fragments.empty()) {
    const auto run =
        fragments.first(std::min(fragments.size(), kBatchFragments));
    AGENTMEM_RETURN_IF_ERROR(Post({direction, method, run}));
    fragments = fragments.subspan(run.size());
  }
  return absl::OkStatus();
}

absl::Status HbmPost::CopyFp8(Direction direction, const Fp8Shape& shape,
                              std::span<const Fp8Piece> pieces) {
  std::vector<std::uint32_t> pages(kFp8BatchPieces);
  std::iota(pages.begin(), pages.end(), 0);
  while (!pieces.empty()) {
    const std::size_t count =
        std::min<std::size_t>(pieces.size(), kFp8BatchPieces);
    const Fp8Batch fp8 = {shape, pieces.first(count),
                          std::span(pages).first(count)};
    CopyBatch batch;
    batch.direction = direction;
    batch.fp8 = &fp8;
    AGENTMEM_RETURN_IF_ERROR(Post(batch));
    pieces = pieces.subspan(count);
  }
  return absl::OkStatus();
}

absl::Status HbmPost::CopySplit(Direction direction,
                                std::span<Fragment> fragments,
                                const SplitRule& rule) {
  const FragmentSplit split = SplitBySize(fragments, rule.below);
  AGENTMEM_RETURN_IF_ERROR(Copy(direction, rule.small, split.kernel));
  return Copy(direction, CopyMethod::kCopyEngine, split.engine);
}

absl::Status HbmPost::CopyPinned(Direction direction, DeviceAddress device,
                                 std::span<char> host) {
  for (std::uint64_t at = 0; at < host.size(); at += HbmMemory::kChunkBytes) {
    const auto bytes = std::min(HbmMemory::kChunkBytes, host.size() - at);
    const Fragment whole = {device + at, host.data() + at,
                            static_cast<std::uint32_t>(bytes)};
    AGENTMEM_RETURN_IF_ERROR(
        Copy(direction, CopyMethod::kCopyEngine, {&whole, 1}));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> HbmPost::OldestPassed() {
  if (pending_.empty()) return true;
  Outcome why;
  const EventState state = device_->Query(pending_.front().event, &why);
  if (state == EventState::kPending) {
    if (MonotonicNowNs() - pending_.front().posted < deadline_ns_) return false;
    return MakeStatus(absl::StatusCode::kDeadlineExceeded,
                      "the device has not done what was posted " +
                          std::to_string(deadline_ns_ / kMillisecondNs) +
                          " ms ago: it hangs, or is much too slow");
  }
  pending_.pop_front();
  if (state == EventState::kFailed) return ToAbsl(why);
  return true;
}

absl::Status HbmPost::AwaitOldest() {
  while (true) {
    AGENTMEM_ASSIGN_OR_RETURN(const bool passed, OldestPassed());
    if (passed) return absl::OkStatus();
    ::sched_yield();  // the host device's thread may need this processor
  }
}

absl::Status HbmPost::Await() {
  while (!pending_.empty()) AGENTMEM_RETURN_IF_ERROR(AwaitOldest());
  return absl::OkStatus();
}

}  // namespace agentmem::bench
