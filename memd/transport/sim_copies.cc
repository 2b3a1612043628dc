// What happens to the bytes of a simulated read or write.
#include <cstring>
#include <utility>

#include "memd/transport/sim_transport.h"

namespace agentmem {

void SimTransport::CopyAtPeer(std::uint64_t number) {
  const auto found = operations_.find(number);
  if (found == operations_.end()) return;
  if (found->second.fate == Fate::kFails) {
    CopyPartAndFail(number);
    return;
  }
  const std::uint64_t length = found->second.transfer.length;
  const bool torn = network_->Chance(network_->options_.torn_rate);
  if (!torn || length < 2) {
    if (CopyPiece(number, 0, length)) Answer(number);
    return;
  }
  ++network_->counters_.torn;
  const std::uint64_t middle = 1 + network_->Draw(length - 2);
  std::pair<std::uint64_t, std::uint64_t> first = {0, middle};
  std::pair<std::uint64_t, std::uint64_t> second = {middle, length - middle};
  if (network_->Draw(1) == 0) std::swap(first, second);
  if (!CopyPiece(number, first.first, first.second)) return;
  // It takes another moment before it is whole.
  found->second.copied = false;
  const auto gap =
      static_cast<DurationNs>(1 + network_->Draw(static_cast<std::uint64_t>(
                                      network_->options_.torn_gap_max)));
  network_->Schedule(
      network_->now() + gap, [network = network_, run = run_, number, second] {
        SimTransport* const self = network->Find(run);
        if (self == nullptr || !self->operations_.contains(number)) return;
        if (self->CopyPiece(number, second.first, second.second)) {
          self->Answer(number);
        }
      });
}

void SimTransport::CopyPartAndFail(std::uint64_t number) {
  const std::uint64_t length = operations_.at(number).transfer.length;
  const std::uint64_t part = network_->Draw(length);
  if (part != 0 && CopyPiece(number, 0, part)) {
    operations_.at(number).copied = part == length;
  }
  Answer(number);
}

bool SimTransport::CopyPiece(std::uint64_t number, std::uint64_t offset,
                             std::uint64_t length) {
  Operation& operation = operations_.at(number);
  const Transfer& transfer = operation.transfer;
  const bool write = operation.verb == Verb::kWrite;
  const SimTransport* const peer = network_->Find(operation.peer);
  char* const remote = peer == nullptr ? nullptr
                                       : peer->Resolve(transfer.remote_key,
                                                       transfer.remote_address,
                                                       transfer.length, write);
  if (remote == nullptr) {
    if (peer != nullptr) ++network_->counters_.refused;
    LoseLinkOf(number);
    return false;
  }
  network_->Trace(SimTrace::Kind::kCopy, run_, transfer.ticket, length);
  char* const local = transfer.local;
  if (length != 0 && write) {
    std::memcpy(remote + offset, local + offset, length);
  } else if (length != 0) {
    std::memcpy(local + offset, remote + offset, length);
  }
  operation.copied = true;
  return true;
}

void SimTransport::Answer(std::uint64_t number) {
  const Operation& operation = operations_.at(number);
  if (operation.landed != nullptr && operation.copied) {
    *operation.landed = operation.fate != Fate::kFails;
  }
  SimNetwork::Packet answer = {.from = operation.peer, .to = run_};
  answer.bytes = operation.verb == Verb::kRead ? operation.transfer.length : 0;
  answer.arrived = Call(&SimTransport::Complete, number);
  answer.failed = Call(&SimTransport::LoseLinkOf, number);
  network_->Travel(std::move(answer));
}

char* SimTransport::Resolve(std::uint64_t key, std::uint64_t address,
                            std::uint64_t length, bool write) const {
  const std::uint64_t index = address / kMemoryStride - 1;
  if (index >= memories_.size()) return nullptr;
  const Memory& memory = memories_[index];
  const bool allowed = write ? memory.access == RemoteAccess::kReadWrite
                             : memory.access != RemoteAccess::kNone;
  const std::uint64_t offset = address - memory.remote.address;
  if (!allowed || key != memory.remote.key || offset > memory.bytes.size() ||
      length > memory.bytes.size() - offset) {
    return nullptr;
  }
  return memory.bytes.data() + offset;
}

}  // namespace agentmem
