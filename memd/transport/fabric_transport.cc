#include "memd/transport/fabric_transport.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/status.h"
#include "memd/transport/fabric_inbox.h"
#include "memd/transport/fabric_link.h"

namespace agentmem {
namespace {

// Events that were told are forgotten when they are so many, or all.
constexpr std::size_t kToldEventsMax = 1024;
// What a socket holds is read in some hundred turns at most, and then its end.
constexpr int kCutPollsMax = 10'000;
// More than a queue holds; one that has failed may tell of errors for ever.
constexpr int kDrainReadsMax = 10'000;
// A peer may be why an inbox fails.
constexpr DurationNs kReopenInboxNs = kSecondNs;
// An address: this, the provider's name, a zero byte, the endpoint's name.
constexpr char kAddressVersion = 1;

std::string MakeAddress(const std::string& provider, const std::string& name) {
  return kAddressVersion + provider + '\0' + name;
}

// The endpoint's name in an address of this provider.
absl::StatusOr<std::string> EndpointName(const std::string& address,
                                         const std::string& own_address) {
  const std::size_t own_end = own_address.find('\0');
  const std::size_t end = address.find('\0');
  if (end == std::string::npos || end == 0 || address[0] != kAddressVersion) {
    return InvalidArgument("a peer's fabric address of " +
                           std::to_string(address.size()) +
                           " bytes is none of this version (1)");
  }
  if (address.compare(0, end, own_address, 0, own_end) != 0) {
    return InvalidArgument(
        "a peer's fabric provider is '" +
        address.substr(1, std::min<std::size_t>(end - 1, 32)) +
        "', this node's '" + own_address.substr(1, own_end - 1) +
        "'; give both nodes the same provider");
  }
  if (address.size() != own_address.size()) {
    return InvalidArgument("a peer's fabric address has " +
                           std::to_string(address.size()) + " bytes, not " +
                           std::to_string(own_address.size()));
  }
  return address.substr(end + 1);
}

}  // namespace

FabricTransport::FabricTransport() = default;
FabricTransport::~FabricTransport() {
  for (const auto& [id, link] : links_) {
    if (!link->shut()) ShutAndDrain(link.get());
  }
}

absl::StatusOr<std::unique_ptr<FabricTransport>> FabricTransport::Open(
    const FabricOptions& options) {
  std::unique_ptr<FabricTransport> transport(new FabricTransport());
  AGENTMEM_RETURN_IF_ERROR(transport->OpenObjects(options));
  return transport;
}

absl::Status FabricTransport::OpenProvider(const FabricOffer& offer,
                                           bool by_name) {
  inbox_.reset();
  AGENTMEM_ASSIGN_OR_RETURN(domain_, FabricDomain::Open(offer.info));
  AGENTMEM_ASSIGN_OR_RETURN(inbox_, FabricInbox::Open(domain_.get()));
  if (by_name || domain_->waitable()) return absl::OkStatus();
  return FailedPrecondition(
      "it has nothing to sleep on, and would be looked at all the time");
}

absl::Status FabricTransport::OpenObjects(const FabricOptions& options) {
  // What is offered may not open: then the next one has its turn.
  const bool by_name = options.provider != "auto";
  absl::Status refused;
  FabricCatalog catalog = LibfabricCatalog(options);
  catalog.query = [&, offers = catalog.query](const std::string& provider,
                                              const std::string& domain) {
    FabricOffer offer = offers(provider, domain);
    if (!offer.reason.empty()) return offer;
    const absl::Status opened = OpenProvider(offer, by_name);
    if (!opened.ok()) {
      refused = opened;
      offer.reason = StatusMessage(opened);
    }
    return offer;
  };
  auto choice = ChooseFabric(options, catalog);
  if (!choice.ok()) return by_name && !refused.ok() ? refused : choice.status();
  choice_ = std::move(choice).value();
  AGENTMEM_ASSIGN_OR_RETURN(const std::string name, inbox_->Name());
  address_ = MakeAddress(choice_.provider, name);
  piece_bytes_max_ = choice_.info->ep_attr->max_msg_size;
  if (options.piece_bytes_max != 0) {
    piece_bytes_max_ = std::min(piece_bytes_max_, options.piece_bytes_max);
  }
  // In pieces a write is posted one after another, and a message in between.
  const bool in_order =
      (choice_.info->tx_attr->msg_order & FI_ORDER_SAW) != 0 &&
      (choice_.info->rx_attr->msg_order & FI_ORDER_SAW) != 0 &&
      piece_bytes_max_ >= kMaxBlockBytes;
  // Who wants all pages to be there when memory is registered looks for them
  // then and never again. (FI_MR_LOCAL says less: a device that follows the
  // page tables wants to know of local memory, too.)
  const bool pins = (choice_.info->domain_attr->mr_mode & FI_MR_ALLOCATED) != 0;
  limits_ = {choice_.provider, FabricLink::kMessageBytesMax,
             FabricLink::kTransfersMax, in_order, pins};
  return absl::OkStatus();
}

absl::StatusOr<Registered> FabricTransport::Register(std::span<char> memory,
                                                     RemoteAccess access) {
  return domain_->Register(memory, access);
}

absl::StatusOr<LinkId> FabricTransport::Connect(const std::string& address) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::string name,
                            EndpointName(address, address_));
  const LinkId id(last_link_ + 1);
  AGENTMEM_ASSIGN_OR_RETURN(
      std::unique_ptr<FabricLink> link,
      FabricLink::Open(domain_.get(), id, name, piece_bytes_max_));
  readers_.push_back(link.get());
  links_[id] = std::move(link);
  ++last_link_;
  return id;
}

FabricLink* FabricTransport::Find(LinkId link) {
  const auto found = links_.find(link);
  if (found == links_.end() || found->second->shut()) return nullptr;
  return found->second.get();
}

bool FabricTransport::StartTransfer(bool read, const Transfer& transfer) {
  FabricLink* const link = Find(transfer.link);
  if (link == nullptr || !link->broken().ok()) return false;
  if (transfer.length == 0) {
    TransportEvent event;
    event.link = transfer.link;
    event.ticket = transfer.ticket;
    events_.push_back(event);
    return true;
  }
  if (!link->StartTransfer(read ? FabricKind::kRead : FabricKind::kWrite,
                           transfer)) {
    return false;
  }
  next_deadline_ = std::min(next_deadline_, transfer.deadline);
  NoteBroken(link);
  return true;
}

bool FabricTransport::Read(const Transfer& transfer) {
  return StartTransfer(/*read=*/true, transfer);
}

bool FabricTransport::Write(const Transfer& transfer) {
  return StartTransfer(/*read=*/false, transfer);
}

bool FabricTransport::Send(LinkId id, std::span<const char> message,
                           std::uint64_t ticket, TimeNs deadline) {
  FabricLink* const link = Find(id);
  if (link == nullptr || !link->broken().ok()) return false;
  if (!link->StartSend(message, ticket, deadline)) return false;
  next_deadline_ = std::min(next_deadline_, deadline);
  NoteBroken(link);
  return true;
}

std::size_t FabricTransport::Poll(TimeNs now, std::span<TransportEvent> out) {
  if (!inbox_->broken().ok()) ReopenInbox(now);
  inbox_->PostTakenBack();
  // What was found before goes first; the network is moved on in any case.
  const std::size_t found = events_.size() - next_event_;
  std::size_t room = out.size() - std::min(out.size(), found);
  do {
    const std::size_t read = ReadAll(std::max<std::size_t>(room, 1));
    room -= std::min(room, read);
    if (read == 0) break;
  } while (room > 0);
  // What waited until its deadline is not posted: if this process stood still,
  // nobody expects it any more.
  if (now >= next_deadline_) ExpireOperations(now);
  if (!lost_.empty()) SettleLost();
  // After the completions: they make room, and may tell that a link is lost.
  PostWaiting(now);
  if (!lost_.empty()) SettleLost();
  return Deliver(out);
}

std::size_t FabricTransport::Deliver(std::span<TransportEvent> out) {
  const std::size_t count = std::min(out.size(), events_.size() - next_event_);
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = events_[next_event_ + i];
    if (out[i].kind != TransportEvent::Kind::kMessage) continue;
    // Posted again by the next Poll, and not before.
    inbox_->TakeBack(inbox_->IndexOf(out[i].message));
  }
  next_event_ += count;
  if (next_event_ == events_.size() || next_event_ >= kToldEventsMax) {
    events_.erase(events_.begin(),
                  events_.begin() + static_cast<std::ptrdiff_t>(next_event_));
    next_event_ = 0;
  }
  return count;
}

void FabricTransport::MarkLost(FabricLink* link, const std::string& reason) {
  if (link->ending() ||
      std::find(lost_.begin(), lost_.end(), link) != lost_.end()) {
    return;
  }
  LogWarning("fabric link " + std::to_string(link->id().value()) +
             " is lost: " + reason);
  ++counters_.links_lost;
  lost_.push_back(link);
}

void FabricTransport::PostWaiting(TimeNs now) {
  for (const auto& [id, link] : links_) {
    if (link->ending() || !link->waiting()) continue;
    link->PostWaiting(now);
    NoteBroken(link.get());
  }
}

void FabricTransport::ReopenInbox(TimeNs now) {
  const auto is_message = [](const TransportEvent& event) {
    return event.kind == TransportEvent::Kind::kMessage;
  };
  // (Messages that were not told yet lie in its buffers.)
  if (now < reopen_inbox_at_ ||
      std::any_of(events_.begin() + static_cast<std::ptrdiff_t>(next_event_),
                  events_.end(), is_message)) {
    return;
  }
  reopen_inbox_at_ = now + kReopenInboxNs;
  const std::string cause = StatusMessage(inbox_->broken());
  auto opened = FabricInbox::Open(domain_.get());
  const auto name = opened.ok() ? (*opened)->Name() : opened.status();
  if (!name.ok()) {
    if (!failure_.empty()) return;
    failure_ = "peers' messages do not reach this node any more (" + cause +
               "), and another endpoint for them does not open (" +
               StatusMessage(name.status()) +
               "): its peers will take it for dead; it is tried again, or "
               "restart memd";
    return LogError("fabric: " + failure_);
  }
  LogWarning("fabric: peers' messages did not reach this node any more (" +
             cause +
             "): they will at another address, which peers learn by "
             "their next Hello");
  inbox_ = std::move(opened).value();
  address_ = MakeAddress(choice_.provider, *name);
  failure_.clear();
}

void FabricTransport::NoteBroken(FabricLink* link) {
  if (!link->broken().ok()) MarkLost(link, StatusMessage(link->broken()));
}

void FabricTransport::ExpireOperations(TimeNs now) {
  next_deadline_ = kNoDeadline;
  for (const auto& [id, link] : links_) {
    if (link->shut()) continue;
    if (link->PostedExpired(now)) {
      MarkLost(link.get(), "an operation's deadline has passed");
      continue;
    }
    TransportEvent event;
    bool write = false;
    while (link->ExpireWaiting(now, &event, &write)) {
      events_.push_back(event);
      // (Messages that follow what is not written now must not arrive.)
      if (!link->answered() || write) {
        MarkLost(link.get(), "no answer by an operation's deadline");
        break;
      }
    }
    next_deadline_ = std::min(next_deadline_, link->NextDeadline());
  }
}

void FabricTransport::ShutAndDrain(FabricLink* link) {
  // libfabric 1.17 does not bear, on TCP, that an endpoint is closed while a
  // read's answer has arrived in part: the read is in two of tcp's lists, ends
  // twice, the second time without a context, and RxM follows that null. A read
  // that meets the end of its connection ends once. (What has arrived is
  // dropped: to read it may take milliseconds.)
  if (link->reading() && link->Cut()) {
    for (int i = 0; i < kCutPollsMax && link->reading(); ++i) {
      ReadCompletions(link, kCompletionsAtOnce);
    }
  }
  link->Shut();
  // What it completed is still in the queue, and names its operations.
  for (int i = 0; i < kDrainReadsMax; ++i) {
    if (ReadCompletions(link, kCompletionsAtOnce) == 0) break;
  }
  TransportEvent event;
  while (link->Abandon(&event)) events_.push_back(event);
}

void FabricTransport::SettleLost() {
  while (!lost_.empty()) {
    FabricLink* const link = lost_.back();
    ShutAndDrain(link);
    lost_.erase(std::find(lost_.begin(), lost_.end(), link));
    TransportEvent event;
    event.kind = TransportEvent::Kind::kLost;
    event.code = Code::kUnavailable;
    event.link = link->id();
    events_.push_back(event);
  }
}

void FabricTransport::Close(LinkId id) {
  const auto found = links_.find(id);
  if (found == links_.end()) return;
  FabricLink* const link = found->second.get();
  if (!link->shut()) ShutAndDrain(link);
  std::erase(lost_, link);
  const auto reader = std::find(readers_.begin(), readers_.end(), link);
  if (reader - readers_.begin() < static_cast<std::ptrdiff_t>(next_reader_)) {
    --next_reader_;
  }
  readers_.erase(reader);
  links_.erase(found);
}

std::size_t FabricTransport::CountInbound() const {
  return inbox_->Connections();
}

std::vector<std::string> FabricTransport::Warnings() const {
  std::vector<std::string> warnings;
  if (!failure_.empty()) warnings.push_back(failure_);
  if (!domain_->waitable()) {
    warnings.push_back("the fabric provider " + choice_.provider +
                       " has nothing to sleep on: memd looks at it each "
                       "millisecond, also when nothing happens");
  }
  return warnings;
}

int FabricTransport::wait_fd() const { return domain_->wait_fd(); }

bool FabricTransport::ReadyToWait() {
  return next_event_ == events_.size() && !inbox_->must_post() &&
         lost_.empty() && domain_->ReadyToWait();
}

}  // namespace agentmem
