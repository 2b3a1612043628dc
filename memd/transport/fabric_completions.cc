// FabricTransport: what the completion queues say.
//
// A queue's completions belong to whoever has its endpoint, and are looked for
// among what it posted. What is not there was brought about by a peer, or by
// the provider for itself: counted, and no more.
#include <algorithm>
#include <array>
#include <string>

#include "base/check.h"
#include "memd/transport/fabric_inbox.h"
#include "memd/transport/fabric_link.h"
#include "memd/transport/fabric_transport.h"

namespace agentmem {

std::size_t FabricTransport::ReadAll(std::size_t max) {
  std::size_t read = 0;
  for (std::size_t i = 0; i < readers_.size() && read < max; ++i) {
    if (next_reader_ >= readers_.size()) next_reader_ = 0;
    FabricLink* const link = readers_[next_reader_++];
    if (link != nullptr && link->shut()) continue;
    read += ReadCompletions(link, max - read);
  }
  return read;
}

std::size_t FabricTransport::ReadCompletions(FabricLink* link,
                                             std::size_t max) {
  fid_cq* const queue =
      link == nullptr ? inbox_->completions() : link->completions();
  std::array<fi_cq_msg_entry, kCompletionsAtOnce> entries;
  const ssize_t read =
      fi_cq_read(queue, entries.data(), std::min(max, entries.size()));
  if (read == -FI_EAVAIL) return OnError(link) ? 1 : 0;
  if (read < 0 && read != -FI_EAGAIN) OnQueueFailed(link, read);
  if (read <= 0) return 0;
  for (ssize_t i = 0; i < read; ++i) {
    if (link == nullptr) {
      OnReceived(entries[i]);
    } else {
      OnCompletion(link, entries[i]);
    }
  }
  return static_cast<std::size_t>(read);
}

void FabricTransport::OnReceived(const fi_cq_msg_entry& entry) {
  const auto index = inbox_->Take(entry.op_context);
  if (!index.has_value()) {
    ++counters_.completions_unknown;
    return;
  }
  if (inbox_->IsTagged(*index)) {
    ++counters_.messages_dropped;
    inbox_->TakeBack(*index);
    // At once: what comes without a buffer is kept by RxM.
    inbox_->PostTakenBack();
    return;
  }
  TransportEvent event;
  event.kind = TransportEvent::Kind::kMessage;
  event.message = inbox_->Bytes(*index, entry.len);
  events_.push_back(event);
}

void FabricTransport::OnCompletion(FabricLink* link,
                                   const fi_cq_msg_entry& entry) {
  const auto index = link->Find(entry.op_context);
  if (!index.has_value()) {
    ++counters_.completions_unknown;
    return;
  }
  if (IsReceive(link->KindOf(*index))) {
    ++counters_.messages_dropped;
    link->DropMessage(*index);
    NoteBroken(link);
    return;
  }
  TransportEvent event;
  if (link->Complete(*index, &event)) events_.push_back(event);
  NoteBroken(link);
}

bool FabricTransport::OnError(FabricLink* link) {
  fi_cq_err_entry error = {};
  const ssize_t read = fi_cq_readerr(
      link == nullptr ? inbox_->completions() : link->completions(), &error, 0);
  if (read < 0 && read != -FI_EAGAIN) OnQueueFailed(link, read);
  if (read <= 0) return false;
  if (error.err == FI_EOVERRUN) {
    OnQueueFailed(link, -error.err);
    return false;
  }
  if (link == nullptr) {
    OnReceiveError(error.op_context);
    return true;
  }
  const auto index = link->Find(error.op_context);
  if (!index.has_value()) {
    ++counters_.completions_unknown;
    link->NoteStrayError();
    NoteBroken(link);
    return true;
  }
  const char* what = "a send: ";
  switch (link->KindOf(*index)) {
    case FabricKind::kReceive:
    case FabricKind::kReceiveTagged:
      ++counters_.messages_dropped;
      link->DropMessage(*index);
      NoteBroken(link);
      return true;
    case FabricKind::kRead:
      what = "a read: ";
      break;
    case FabricKind::kWrite:
      what = "a write: ";
      break;
    case FabricKind::kSend:
      break;
  }
  link->Fail(*index, std::string(what) + fi_strerror(error.err));
  NoteBroken(link);
  return true;
}

// It tells nothing any more, whatever is posted: what it was to tell of ends
// with its endpoint.
void FabricTransport::OnQueueFailed(FabricLink* link, ssize_t error) {
  const absl::Status why =
      FabricStatus("reading its completions", static_cast<int>(error));
  if (link == nullptr) {
    inbox_->Fail(why);
    return;
  }
  link->FailQueue(why);
  NoteBroken(link);
}

// A message that does not fit, or whose sender went away: nobody's fault here,
// and no link's.
void FabricTransport::OnReceiveError(const void* context) {
  const auto index = inbox_->Take(context);
  if (!index.has_value()) {
    ++counters_.completions_unknown;
    inbox_->NoteStrayError();
    return;
  }
  ++counters_.messages_dropped;
  inbox_->TakeBack(*index);
  inbox_->PostTakenBack();
}

}  // namespace agentmem
