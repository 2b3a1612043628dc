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

Outcome KvTransfer::StandBehind(Stream engine) {
  Outcome outcome = parts_.device->Record(engine, &engine_);
  if (outcome.ok()) outcome = parts_.device->Wait(stream_, engine_);
  return outcome;
}

bool KvTransfer::Advance() {
  if (engine_.value() != 0) {
    if (parts_.device->Query(engine_, nullptr) == EventState::kPending) {
      return false;
    }
    engine_ = Event();
  }
  return AdvanceCopies() && EndFence(parts_.device, &fence_);
}

}  // namespace agentmem::client
