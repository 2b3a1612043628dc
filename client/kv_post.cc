// Copies of fragments, by the way that is faster for each.
#include <algorithm>

#include "client/kv_transfer.h"
#include "client/kv_wait.h"

namespace agentmem::client {

Outcome PostFragments(Device* device, Direction direction, Stream stream,
                      const SplitRule& rule, std::span<Fragment> fragments) {
  const DeviceProperties& properties = device->properties();
  const FragmentSplit split = SplitBySize(fragments, rule.below);
  CopyBatch batch;
  batch.direction = direction;
  // The larger part of the time first.
  batch.method = CopyMethod::kCopyEngine;
  batch.fragments = split.engine;
  if (!split.engine.empty()) {
    Outcome outcome = device->Copy(batch, stream);
    if (!outcome.ok()) return outcome;
  }
  const std::size_t most =
      std::max<std::size_t>(1, properties.kernel_fragments_max);
  batch.method = rule.small;
  for (std::size_t at = 0; at < split.kernel.size(); at += most) {
    batch.fragments =
        split.kernel.subspan(at, std::min(most, split.kernel.size() - at));
    Outcome outcome = device->Copy(batch, stream);
    if (outcome.code == Code::kResourceExhausted) {
      // Its descriptors are all in use: the engine needs none.
      batch.method = CopyMethod::kCopyEngine;
      outcome = device->Copy(batch, stream);
      batch.method = rule.small;
    }
    if (!outcome.ok()) return outcome;
  }
  return {};
}

Outcome BeginUse(DeviceMemory* memory, Session* session, const void* data,
                 std::uint64_t bytes, const Deadline& deadline) {
  for (;;) {
    Outcome outcome = memory->Begin(session, data, bytes, deadline);
    const bool again = outcome.code == Code::kUnavailable ||
                       outcome.code == Code::kFailedPrecondition;
    if (!again || deadline.Passed() || session->HungUp()) return outcome;
    Channel::Pause();
  }
}

void HoldUp(Device* device, Stream ours, Stream engine, Event* fence) {
  Outcome outcome = device->Record(ours, fence);
  if (outcome.ok()) outcome = device->Wait(engine, *fence);
  if (outcome.ok() || outcome.code == Code::kUnavailable) return;
  WaitForDevice(
      [&] {
        Outcome why;
        return QueryOrRecord(device, ours, fence, &why) != EventState::kPending;
      },
      Deadline::After(kDeviceBrokenNs));
  *fence = Event();
}

}  // namespace agentmem::client
