#include "client/kv_transfer.h"

#include <utility>

#include "client/kv_wait.h"

namespace agentmem::client {

KvTransfer::KvTransfer(const KvParts& parts,
                       std::shared_ptr<const KvCache> cache,
                       Direction direction)
    : parts_(parts),
      cache_(std::move(cache)),
      stream_(direction == Direction::kToHost
                  ? parts.device->properties().to_host
                  : parts.device->properties().to_device) {}

Outcome KvTransfer::StandBehind(Stream engine, std::span<const Stream> ours) {
  Outcome outcome = parts_.device->Record(engine, &engine_);
  for (const Stream stream : ours) {
    if (outcome.ok()) outcome = parts_.device->Wait(stream, engine_);
  }
  return outcome;
}

void KvTransfer::HoldUpEngine(Stream engine, std::span<const Stream> ours) {
  for (const Stream stream : ours) {
    HoldUp(parts_.device, stream, engine, &fences_.emplace_back());
  }
}

bool KvTransfer::Advance() {
  if (engine_.value() != 0) {
    if (parts_.device->Query(engine_, nullptr) == EventState::kPending) {
      return false;
    }
    engine_ = Event();
  }
  if (!AdvanceCopies()) return false;
  while (!fences_.empty()) {
    if (!EndFence(parts_.device, &fences_.front())) return false;
    fences_.pop_front();
  }
  return true;
}

}  // namespace agentmem::client
