#include "memd/transport/fabric_link.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace agentmem {

FabricLink::FabricLink(FabricDomain* domain, LinkId id,
                       std::uint64_t piece_bytes_max)
    : domain_(domain),
      id_(id),
      piece_bytes_max_(piece_bytes_max),
      operations_(kTransfersMax + kSendsMax + kReceives + kTaggedReceives) {
  static_assert(offsetof(Operation, context) == 0);
  for (std::uint32_t i = 0; i < operations_.size(); ++i) {
    Operation& operation = operations_[i];
    if (i < kTransfersMax) {
      operation.next = std::exchange(free_transfer_, i);
    } else if (i < kTransfersMax + kSendsMax) {
      operation.next = std::exchange(free_send_, i);
      operation.kind = FabricKind::kSend;
    } else if (i >= kTransfersMax + kSendsMax + kReceives) {
      operation.kind = FabricKind::kReceiveTagged;
    }
  }
}

absl::StatusOr<std::unique_ptr<FabricLink>> FabricLink::Open(
    FabricDomain* domain, LinkId id, const std::string& peer_name,
    std::uint64_t piece_bytes_max) {
  std::unique_ptr<FabricLink> link(new FabricLink(domain, id, piece_bytes_max));
  AGENTMEM_RETURN_IF_ERROR(link->OpenEndpoint(peer_name));
  return link;
}

absl::Status FabricLink::OpenEndpoint(const std::string& peer_name) {
  constexpr std::uint64_t kMessages = kSendsMax + kReceives + kTaggedReceives;
  AGENTMEM_ASSIGN_OR_RETURN(messages_,
                            domain_->MakeBuffer(kMessages * kMessageBytesMax));
  AGENTMEM_ASSIGN_OR_RETURN(endpoint_,
                            FabricEndpoint::Open(domain_, operations_.size()));
  AGENTMEM_ASSIGN_OR_RETURN(peer_, endpoint_->Insert(peer_name));
  for (std::uint32_t i = 0; i < kMessages; ++i) {
    Operation& operation = operations_[kTransfersMax + i];
    operation.transfer.local = messages_.bytes.get() + i * kMessageBytesMax;
    operation.descriptor = fi_mr_desc(messages_.registration.get());
    if (i >= kSendsMax) DropMessage(kTransfersMax + i);
  }
  return broken_;
}

std::uint32_t FabricLink::Take(std::uint32_t* free) {
  const std::uint32_t index = *free;
  if (index == kNone) return kNone;
  *free = std::exchange(operations_[index].next, kNone);
  return index;
}

void FabricLink::Release(std::uint32_t index, Code code,
                         TransportEvent* event) {
  Operation& operation = operations_[index];
  event->kind = TransportEvent::Kind::kDone;
  event->code = code;
  event->link = id_;
  event->ticket = operation.transfer.ticket;
  operation.state = Operation::State::kFree;
  std::uint32_t* const free =
      index < kTransfersMax ? &free_transfer_ : &free_send_;
  operation.next = std::exchange(*free, index);
}

bool FabricLink::StartTransfer(FabricKind kind, const Transfer& transfer) {
  void* const descriptor =
      domain_->DescriptorOf(transfer.memory, transfer.local, transfer.length);
  const std::uint32_t index = Take(&free_transfer_);
  if (index == kNone) return false;
  Operation& operation = operations_[index];
  operation.kind = kind;
  operation.transfer = transfer;
  operation.descriptor = descriptor;
  operation.done_bytes = 0;
  if (transfer.remote_address + transfer.length < transfer.remote_address) {
    // No peer need be asked.
    operation.state = Operation::State::kFailed;
    broken_ = Unavailable("a request beyond the end of all addresses");
    return true;
  }
  Start(index);
  return true;
}

bool FabricLink::StartSend(std::span<const char> message, std::uint64_t ticket,
                           TimeNs deadline) {
  AGENTMEM_CHECK(message.size() <= kMessageBytesMax);
  const std::uint32_t index = Take(&free_send_);
  if (index == kNone) return false;
  Operation& operation = operations_[index];
  std::memcpy(operation.transfer.local, message.data(), message.size());
  operation.transfer.length = message.size();
  operation.transfer.ticket = ticket;
  operation.transfer.deadline = deadline;
  operation.done_bytes = 0;
  Start(index);
  return true;
}

void FabricLink::Start(std::uint32_t index) {
  // Nothing overtakes what waits; a link in the making is tried by
  // PostWaiting, which knows the time.
  if (waiting() || !answered_ || Post(&operations_[index]) == -FI_EAGAIN) {
    Wait(index);
  }
}

void FabricLink::Wait(std::uint32_t index) {
  Operation& operation = operations_[index];
  operation.state = Operation::State::kWaiting;
  operation.next = kNone;
  if (waiting_first_ == kNone) {
    waiting_first_ = index;
  } else {
    operations_[waiting_last_].next = index;
  }
  waiting_last_ = index;
}

void FabricLink::PostWaiting(TimeNs now) {
  if (!answered_ && tries_ >= kEagerTries && now < next_try_) return;
  while (waiting_first_ != kNone && broken_.ok()) {
    Operation& operation = operations_[waiting_first_];
    const std::uint32_t next = operation.next;
    if (Post(&operation) == -FI_EAGAIN) {
      NoteNotTaken(now);
      return;
    }
    refused_since_ = kNoDeadline;
    waiting_first_ = next;
  }
}

void FabricLink::NoteNotTaken(TimeNs now) {
  ++tries_;
  next_try_ = now + kRetryNs;
  if (!answered_ || posted_ > 0) return;
  refused_since_ = std::min(refused_since_, now);
  if (now - refused_since_ < kGoneNs) return;
  broken_ = Unavailable("its connection ended, and no new one came about");
}

ssize_t FabricLink::PostPiece(Operation* operation) {
  const Transfer& transfer = operation->transfer;
  char* const local = transfer.local + operation->done_bytes;
  operation->piece_bytes =
      std::min(transfer.length - operation->done_bytes, piece_bytes_max_);
  ssize_t result = 0;
  switch (operation->kind) {
    case FabricKind::kRead:
      result = fi_read(endpoint_->get(), local, operation->piece_bytes,
                       operation->descriptor, peer_,
                       transfer.remote_address + operation->done_bytes,
                       transfer.remote_key, &operation->context);
      break;
    case FabricKind::kWrite:
      result = PostWrite(operation);
      break;
    case FabricKind::kSend:
      result = fi_send(endpoint_->get(), local, operation->piece_bytes,
                       operation->descriptor, peer_, &operation->context);
      break;
    case FabricKind::kReceive:
      result =
          fi_recv(endpoint_->get(), transfer.local, kMessageBytesMax,
                  operation->descriptor, FI_ADDR_UNSPEC, &operation->context);
      break;
    case FabricKind::kReceiveTagged:
      result = fi_trecv(endpoint_->get(), transfer.local, kMessageBytesMax,
                        operation->descriptor, FI_ADDR_UNSPEC, /*tag=*/0,
                        /*ignore=*/~std::uint64_t{0}, &operation->context);
      break;
  }
  return result;
}

ssize_t FabricLink::Post(Operation* operation) {
  const FabricKind kind = operation->kind;
  if (kind == FabricKind::kSend && messages_wait_) return -FI_EAGAIN;
  const ssize_t result = PostPiece(operation);
  if (result == -FI_EAGAIN) {
    messages_wait_ = posted_writes_ > 0;
    return result;
  }
  operation->state = Operation::State::kPosted;
  if (!IsReceive(kind)) ++posted_;
  if (kind == FabricKind::kWrite) ++posted_writes_;
  if (result != 0) {
    Unpost(*operation);
    operation->state = Operation::State::kFailed;
    broken_ = FabricStatus("posting an operation", static_cast<int>(result));
  }
  return result;
}

void FabricLink::Unpost(const Operation& operation) {
  if (!IsReceive(operation.kind)) --posted_;
  if (operation.kind == FabricKind::kWrite && --posted_writes_ == 0) {
    messages_wait_ = false;
  }
}

ssize_t FabricLink::PostWrite(Operation* operation) {
  const Transfer& transfer = operation->transfer;
  const iovec from = {transfer.local + operation->done_bytes,
                      operation->piece_bytes};
  const fi_rma_iov to = {transfer.remote_address + operation->done_bytes,
                         operation->piece_bytes, transfer.remote_key};
  fi_msg_rma message = {};
  message.msg_iov = &from;
  message.desc = &operation->descriptor;
  message.iov_count = 1;
  message.addr = peer_;
  message.rma_iov = &to;
  message.rma_iov_count = 1;
  message.context = &operation->context;
  // Complete when the bytes are in the peer's memory, not when they left ours.
  return fi_writemsg(endpoint_->get(), &message,
                     FI_COMPLETION | FI_DELIVERY_COMPLETE);
}

std::optional<std::uint32_t> FabricLink::Find(const void* context) const {
  const auto found = FindContext(operations_, context);
  const bool posted = found.has_value() &&
                      operations_[*found].state == Operation::State::kPosted;
  return posted ? found : std::nullopt;
}

bool FabricLink::Complete(std::uint32_t index, TransportEvent* event) {
  Operation& operation = operations_[index];
  AGENTMEM_CHECK(operation.state == Operation::State::kPosted);
  answered_ = true;
  Unpost(operation);
  operation.done_bytes += operation.piece_bytes;
  if (operation.done_bytes < operation.transfer.length) {
    if (ending() || !broken_.ok()) {
      operation.state = Operation::State::kFailed;
    } else {
      Start(index);
    }
    return false;
  }
  Release(index, Code::kOk, event);
  return true;
}

void FabricLink::Fail(std::uint32_t index, const std::string& why) {
  Operation& operation = operations_[index];
  AGENTMEM_CHECK(operation.state == Operation::State::kPosted);
  // (What waits for posted writes waits on: they have not all completed.)
  operation.state = Operation::State::kFailed;
  if (broken_.ok()) broken_ = Unavailable(why);
}

void FabricLink::NoteStrayError() {
  if (++stray_errors_ < kStrayErrorsMax || !broken_.ok()) return;
  broken_ = Unavailable("the network told of " + std::to_string(stray_errors_) +
                        " errors of nothing that was asked");
}

bool FabricLink::Cut() {
  ending_ = true;
  return endpoint_->Cut();
}

bool FabricLink::reading() const {
  return std::any_of(operations_.begin(), operations_.end(),
                     [](const Operation& operation) {
                       return operation.state == Operation::State::kPosted &&
                              operation.kind == FabricKind::kRead;
                     });
}

void FabricLink::DropMessage(std::uint32_t index) {
  Operation& operation = operations_[index];
  if (ending()) return;
  // One that is not taken back is one less to receive into: the peer that
  // sends to where nobody listens waits.
  const ssize_t result = Post(&operation);
  if (result == -FI_EAGAIN) operation.state = Operation::State::kFree;
}

bool FabricLink::ExpireWaiting(TimeNs now, TransportEvent* event, bool* write) {
  std::uint32_t before = kNone;
  std::uint32_t index = waiting_first_;
  while (index != kNone) {
    Operation& operation = operations_[index];
    // One whose first piece has gone is as posted.
    if (operation.transfer.deadline <= now && operation.done_bytes == 0) break;
    before = std::exchange(index, operation.next);
  }
  if (index == kNone) return false;
  const std::uint32_t next = operations_[index].next;
  (before == kNone ? waiting_first_ : operations_[before].next) = next;
  if (waiting_last_ == index) waiting_last_ = before;
  *write = operations_[index].kind == FabricKind::kWrite;
  Release(index, Code::kDeadlineExceeded, event);
  return true;
}

bool FabricLink::PostedExpired(TimeNs now) const {
  for (const Operation& operation : operations_) {
    const bool begun = operation.state == Operation::State::kPosted ||
                       operation.state == Operation::State::kFailed ||
                       (operation.state == Operation::State::kWaiting &&
                        operation.done_bytes != 0);
    if (begun && operation.transfer.deadline <= now) return true;
  }
  return false;
}

TimeNs FabricLink::NextDeadline() const {
  TimeNs next = kNoDeadline;
  for (const Operation& operation : operations_) {
    if (operation.state == Operation::State::kFree) continue;
    next = std::min(next, operation.transfer.deadline);
  }
  return next;
}

bool FabricLink::Abandon(TransportEvent* event) {
  AGENTMEM_CHECK(shut());
  waiting_first_ = waiting_last_ = kNone;
  for (std::uint32_t i = 0; i < kTransfersMax + kSendsMax; ++i) {
    if (operations_[i].state == Operation::State::kFree) continue;
    Release(i, Code::kUnavailable, event);
    return true;
  }
  return false;
}

}  // namespace agentmem
