#include "memd/transport/sim_transport.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace agentmem {

SimTransport::SimTransport(SimNetwork* network, std::uint64_t run,
                           const std::string& address)
    : network_(network), run_(run), address_(address) {
  limits_.provider = "sim";
  limits_.message_bytes_max = network->options_.message_bytes_max;
  limits_.transfers_in_flight = network->options_.transfers_in_flight;
  limits_.messages_follow_writes = network->options_.messages_follow_writes;
}

SimTransport::~SimTransport() { network_->End(run_, SimNetwork::Death::kTold); }

absl::StatusOr<Registered> SimTransport::Register(std::span<char> memory,
                                                  RemoteAccess access) {
  if (memory.empty() || memory.size() > kMemoryStride) {
    return InvalidArgument("memory of " + std::to_string(memory.size()) +
                           " bytes cannot be registered: 1 to " +
                           std::to_string(kMemoryStride) + " can");
  }
  Registered result;
  result.id = MemoryId(static_cast<std::uint32_t>(memories_.size() + 1));
  if (access != RemoteAccess::kNone) {
    result.remote.address = (memories_.size() + 1) * kMemoryStride;
    result.remote.key = network_->Draw(UINT64_MAX);
    result.remote.bytes = memory.size();
  }
  memories_.push_back({memory, access, result.remote});
  return result;
}

absl::StatusOr<LinkId> SimTransport::Connect(const std::string& address) {
  const std::uint64_t peer = network_->FindAddress(address);
  if (peer == 0) {
    return InvalidArgument(
        "\"" + address +
        "\" is not an address of this simulated network: it is to be of the "
        "form sim:NODE:RUN, as a peer's transport gives it");
  }
  const LinkId id(next_link_++);
  Link& link = links_[id.value()];
  link.peer = peer;
  const TimeNs now = network_->now();
  link.ready_at = now + network_->Latency(run_, peer);
  // There and back; a peer that is gone, or never hears of it, shows now.
  SimNetwork::Packet hello = {.from = run_, .to = peer};
  hello.failed = Call(&SimTransport::LoseLink, id);
  network_->Travel(std::move(hello));
  return id;
}

bool SimTransport::Read(const Transfer& transfer) {
  return Post(Verb::kRead, transfer, {});
}

bool SimTransport::Write(const Transfer& transfer) {
  return Post(Verb::kWrite, transfer, {});
}

bool SimTransport::Send(LinkId link, std::span<const char> message,
                        std::uint64_t ticket, TimeNs deadline) {
  AGENTMEM_CHECK(message.size() <= limits_.message_bytes_max);
  Transfer transfer;
  transfer.link = link;
  transfer.length = message.size();
  transfer.ticket = ticket;
  transfer.deadline = deadline;
  return Post(Verb::kSend, transfer, {message.begin(), message.end()});
}

bool SimTransport::Post(Verb verb, const Transfer& transfer,
                        std::vector<char> message) {
  if (network_->Find(run_) == nullptr) return false;
  const auto found = links_.find(transfer.link.value());
  if (found == links_.end()) return false;
  Link& link = found->second;
  if (!link.up || link.in_flight >= limits_.transfers_in_flight) return false;
  if (verb != Verb::kSend) {
    AGENTMEM_CHECK(transfer.memory.value() >= 1 &&
                   transfer.memory.value() <= memories_.size());
    const std::span<char> local = memories_[transfer.memory.value() - 1].bytes;
    AGENTMEM_CHECK(
        transfer.local >= local.data() && transfer.length <= local.size() &&
        transfer.local + transfer.length <= local.data() + local.size());
  }
  const std::uint64_t number = next_operation_++;
  Operation& operation = operations_[number];
  operation.verb = verb;
  if (verb == Verb::kWrite) operation.landed = std::make_shared<bool>(false);
  operation.peer = link.peer;
  operation.transfer = transfer;
  if (network_->Chance(network_->options_.completion_error_rate)) {
    operation.fate = Fate::kFails;
  } else if (network_->Chance(network_->options_.completion_lost_rate)) {
    operation.fate = Fate::kDoneButFails;
  }
  link.operations.insert(number);
  ++link.in_flight;
  ++network_->counters_.operations;
  network_->Trace(SimTrace::Kind::kPost, run_, transfer.ticket,
                  transfer.length);
  if (transfer.deadline != kNoDeadline) {
    network_->Schedule(transfer.deadline,
                       Call(&SimTransport::LoseLinkOf, number));
  }
  if (verb == Verb::kSend) {
    StartMessage(number, &link, std::move(message));
  } else {
    StartTransfer(number, link);
  }
  return true;
}

void SimTransport::StartTransfer(std::uint64_t number, const Link& link) {
  const Operation& operation = operations_.at(number);
  SimNetwork::Packet request = {.from = run_, .to = link.peer};
  request.not_before = link.ready_at;
  request.bytes =
      operation.verb == Verb::kWrite ? operation.transfer.length : 0;
  request.arrived = Call(&SimTransport::CopyAtPeer, number);
  request.failed = Call(&SimTransport::LoseLinkOf, number);
  network_->Travel(std::move(request));
}

void SimTransport::StartMessage(std::uint64_t number, Link* link,
                                std::vector<char> message) {
  const Operation& operation = operations_.at(number);
  SimNetwork* const network = network_;
  const LinkId id = operation.transfer.link;
  const std::uint64_t sequence = link->messages++;
  TimeNs sent_at = network->now();
  if (operation.fate != Fate::kFails) {
    SimNetwork::Packet packet = {.from = run_, .to = link->peer};
    packet.bytes = message.size();
    packet.not_before = link->ready_at;
    packet.arrived = [network, from = run_, to = link->peer, id, sequence,
                      message, writes = WritesBefore(*link)] {
      network->Find(to)->ArriveAfter(writes, from, id, sequence, message);
    };
    packet.failed = Call(&SimTransport::LoseLink, id);
    network->Travel(std::move(packet));
    sent_at = network->runs_[run_ - 1].link_free_at;
  }
  const TimeNs done_at = sent_at + network->Latency(run_, link->peer);
  network->Schedule(done_at, Call(&SimTransport::Complete, number));
}

void SimTransport::Complete(std::uint64_t number) {
  const auto found = operations_.find(number);
  if (found == operations_.end()) return;
  const auto link = links_.find(found->second.transfer.link.value());
  // Once its link is lost it only ever fails, done or not.
  if (link == links_.end() || !link->second.up) return;
  switch (found->second.fate) {
    case Fate::kGood:
      Finish(number, Code::kOk);
      return;
    case Fate::kFails:
      ++network_->counters_.completion_errors;
      break;
    case Fate::kDoneButFails:
      ++network_->counters_.completions_lost;
      break;
  }
  LoseLinkOf(number);
}

void SimTransport::Finish(std::uint64_t number, Code code) {
  const auto found = operations_.find(number);
  const Operation& operation = found->second;
  if (operation.verb == Verb::kWrite && !operation.copied) {
    network_->WriteLate(run_, operation.peer, operation.transfer);
  }
  Happened happened;
  happened.event.kind = TransportEvent::Kind::kDone;
  happened.event.code = code;
  happened.event.link = operation.transfer.link;
  happened.event.ticket = operation.transfer.ticket;
  network_->Trace(SimTrace::Kind::kComplete, run_, operation.transfer.ticket,
                  static_cast<std::uint64_t>(code));
  happened_.push_back(std::move(happened));
  links_.at(operation.transfer.link.value()).operations.erase(number);
  operations_.erase(found);
}

void SimTransport::LoseLinkOf(std::uint64_t number) {
  const auto found = operations_.find(number);
  if (found != operations_.end()) LoseLink(found->second.transfer.link);
}

void SimTransport::LosePeer(std::uint64_t peer) {
  for (const auto& [id, link] : links_) {
    if (link.peer == peer) LoseLink(LinkId(id));
  }
}

void SimTransport::LoseLink(LinkId id) {
  const auto found = links_.find(id.value());
  if (found == links_.end() || !found->second.up) return;
  found->second.up = false;
  if (!found->second.closed) {
    ++network_->counters_.links_lost;
    network_->Trace(SimTrace::Kind::kLinkLost, run_, id.value(), 0);
  }
  const DurationNs wait = network_->Latency(run_, found->second.peer);
  network_->Schedule(network_->now() + wait,
                     [network = network_, run = run_, id] {
                       SimTransport* const self = network->Find(run);
                       if (self != nullptr) self->Flush(id);
                     });
}

void SimTransport::Flush(LinkId id) {
  const auto found = links_.find(id.value());
  if (found == links_.end()) return;  // closed meanwhile, and had nothing
  const Link& link = found->second;
  std::vector<std::uint64_t> left(link.operations.begin(),
                                  link.operations.end());
  for (std::size_t i = left.size(); i > 1; --i) {
    std::swap(left[i - 1], left[network_->Draw(i - 1)]);
  }
  for (const std::uint64_t number : left) Finish(number, Code::kUnavailable);
  if (link.closed) {
    links_.erase(found);
    return;
  }
  Happened happened;
  happened.event.kind = TransportEvent::Kind::kLost;
  happened.event.code = Code::kUnavailable;
  happened.event.link = id;
  happened_.push_back(std::move(happened));
}

void SimTransport::Close(LinkId id) {
  const auto found = links_.find(id.value());
  if (found == links_.end() || found->second.closed) return;
  const bool flushed = !found->second.up && found->second.operations.empty();
  found->second.closed = true;
  if (!flushed) {
    LoseLink(id);
    return;
  }
  links_.erase(found);
}

std::vector<SimTransport::Landed> SimTransport::WritesBefore(
    const Link& link) const {
  std::vector<Landed> writes;
  if (!limits_.messages_follow_writes) return writes;
  for (const std::uint64_t number : link.operations) {
    const Operation& operation = operations_.at(number);
    if (operation.verb == Verb::kWrite && !*operation.landed) {
      writes.push_back(operation.landed);
    }
  }
  return writes;
}

// What it overtook never comes, if its sender or the link has ended.
void SimTransport::ArriveAfter(const std::vector<Landed>& writes,
                               std::uint64_t from, LinkId link,
                               std::uint64_t sequence,
                               const std::vector<char>& message) {
  const bool there = std::all_of(writes.begin(), writes.end(),
                                 [](const Landed& write) { return *write; });
  if (there) return Arrive(from, link, sequence, message);
  const SimTransport* const sender = network_->Find(from);
  if (sender == nullptr) return;
  const auto sent_on = sender->links_.find(link.value());
  if (sent_on == sender->links_.end() || !sent_on->second.up) return;
  network_->Schedule(
      network_->now() + network_->options_.latency_min + 1,
      [network = network_, run = run_, writes, from, link, sequence, message] {
        SimTransport* const self = network->Find(run);
        if (self == nullptr) return;
        self->ArriveAfter(writes, from, link, sequence, message);
      });
}

void SimTransport::Arrive(std::uint64_t from, LinkId link,
                          std::uint64_t sequence,
                          const std::vector<char>& message) {
  if (!network_->options_.messages_in_order) {
    Deliver(from, message);
    return;
  }
  // What overtook a message waits for it: for ever, if that never comes.
  Arrivals& arrivals = arrivals_[{from, link.value()}];
  arrivals.early[sequence] = message;
  while (true) {
    const auto next = arrivals.early.find(arrivals.next);
    if (next == arrivals.early.end()) return;
    Deliver(from, next->second);
    arrivals.early.erase(next);
    ++arrivals.next;
  }
}

void SimTransport::Deliver(std::uint64_t from,
                           const std::vector<char>& message) {
  ++network_->counters_.messages_delivered;
  network_->Trace(SimTrace::Kind::kDeliver, run_, from, message.size());
  Happened happened;
  happened.event.kind = TransportEvent::Kind::kMessage;
  happened.message = message;
  happened_.push_back(std::move(happened));
}

std::size_t SimTransport::Poll(TimeNs now, std::span<TransportEvent> out) {
  AGENTMEM_CHECK(now <= network_->clock_->Now());
  network_->RunDue();
  given_.clear();
  if (network_->Find(run_) == nullptr) return 0;
  std::size_t count = 0;
  while (count < out.size() && !happened_.empty()) {
    Happened& next = happened_.front();
    TransportEvent& event = out[count++];
    event = next.event;
    if (event.kind == TransportEvent::Kind::kMessage) {
      given_.push_back(std::move(next.message));
      event.message = given_.back();
    } else if (event.kind == TransportEvent::Kind::kDone) {
      const auto link = links_.find(event.link.value());
      if (link != links_.end()) --link->second.in_flight;
    }
    happened_.pop_front();
  }
  return count;
}

bool SimTransport::ReadyToWait() {
  network_->RunDue();
  return network_->Find(run_) == nullptr || happened_.empty();
}

}  // namespace agentmem
