#include "benchmarks/hbm_post.h"

#include <sched.h>

#include <algorithm>

#include "benchmarks/hbm_memory.h"
#include "cuda/copy_plan.h"

namespace agentmem::bench {
namespace {

// A few of them fit into a device's ring of descriptors at once.
constexpr std::size_t kBatchFragments = 8192;

}  // namespace

Stream HbmPost::StreamOf(Direction direction) const {
  return direction == Direction::kToHost ? device_->properties().to_host
                                         : device_->properties().to_device;
}

absl::Status HbmPost::Record(Stream stream) {
  Event event;
  AGENTMEM_RETURN_IF_ERROR(ToAbsl(device_->Record(stream, &event)));
  pending_.push_back(event);
  return absl::OkStatus();
}

absl::Status HbmPost::WaitForNewest(Stream stream) {
  if (pending_.empty()) return absl::OkStatus();
  return ToAbsl(device_->Wait(stream, pending_.back()));
}

absl::Status HbmPost::Copy(Direction direction, CopyMethod method,
                           std::span<const Fragment> fragments) {
  const Stream stream = StreamOf(direction);
  while (!fragments.empty()) {
    const auto batch =
        fragments.first(std::min(fragments.size(), kBatchFragments));
    const Outcome posted = device_->Copy({direction, method, batch}, stream);
    if (posted.code == Code::kResourceExhausted && !pending_.empty()) {
      AGENTMEM_RETURN_IF_ERROR(AwaitOldest());
      continue;
    }
    AGENTMEM_RETURN_IF_ERROR(ToAbsl(posted));
    AGENTMEM_RETURN_IF_ERROR(Record(stream));
    fragments = fragments.subspan(batch.size());
  }
  return absl::OkStatus();
}

absl::Status HbmPost::CopySplit(Direction direction,
                                std::span<Fragment> fragments,
                                std::uint32_t crossover_bytes) {
  const FragmentSplit split = SplitBySize(fragments, crossover_bytes);
  AGENTMEM_RETURN_IF_ERROR(Copy(direction, CopyMethod::kKernel, split.kernel));
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
  const EventState state = device_->Query(pending_.front(), &why);
  if (state == EventState::kPending) return false;
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
