#include "memd/transport/fabric_inbox.h"

#include <algorithm>
#include <cstddef>

namespace agentmem {
namespace {

// Each buffer's, and those of errors without one.
constexpr std::size_t kCompletions = 2 * FabricInbox::kBuffers;

}  // namespace

absl::StatusOr<std::unique_ptr<FabricInbox>> FabricInbox::Open(
    FabricDomain* domain) {
  constexpr std::uint32_t kReceives = kBuffers + kTaggedBuffers;
  std::unique_ptr<FabricInbox> inbox(new FabricInbox());
  AGENTMEM_ASSIGN_OR_RETURN(
      inbox->buffer_,
      domain->MakeBuffer(kReceives * FabricLink::kMessageBytesMax));
  AGENTMEM_ASSIGN_OR_RETURN(inbox->endpoint_,
                            FabricEndpoint::Open(domain, kCompletions));
  static_assert(offsetof(Receive, context) == 0);
  inbox->receives_.resize(kReceives);
  inbox->unposted_.reserve(kReceives);
  for (std::uint32_t i = 0; i < kReceives; ++i) {
    inbox->TakeBack(i);
  }
  inbox->PostTakenBack();
  if (!inbox->all_posted()) {
    return Unavailable("the network takes fewer than " +
                       std::to_string(kReceives) + " buffers for messages");
  }
  return inbox;
}

std::optional<std::uint32_t> FabricInbox::Take(const void* context) {
  const auto found = FindContext(receives_, context);
  if (!found.has_value() || !receives_[*found].posted) return std::nullopt;
  receives_[*found].posted = false;
  return found;
}

std::span<const char> FabricInbox::Bytes(std::uint32_t index,
                                         std::uint64_t bytes) const {
  AGENTMEM_CHECK(index < kBuffers);
  return {buffer_.bytes.get() + index * FabricLink::kMessageBytesMax,
          std::min(bytes, FabricLink::kMessageBytesMax)};
}

std::uint32_t FabricInbox::IndexOf(std::span<const char> bytes) const {
  return static_cast<std::uint32_t>((bytes.data() - buffer_.bytes.get()) /
                                    FabricLink::kMessageBytesMax);
}

void FabricInbox::PostTakenBack() {
  while (!unposted_.empty()) {
    const std::uint32_t index = unposted_.back();
    const ssize_t result = Post(index);
    refused_ = result != 0;
    if (refused_) {
      if (result != -FI_EAGAIN && broken_.ok()) {
        broken_ = FabricStatus("the network takes no buffer for messages",
                               static_cast<int>(result));
      }
      return;
    }
    receives_[index].posted = true;
    unposted_.pop_back();
  }
}

void FabricInbox::NoteStrayError() {
  if (++stray_errors_ < kStrayErrorsMax || !broken_.ok()) return;
  broken_ = Unavailable("the network lost " + std::to_string(stray_errors_) +
                        " messages together with their buffers");
}

ssize_t FabricInbox::Post(std::uint32_t index) {
  char* const bytes =
      buffer_.bytes.get() + index * FabricLink::kMessageBytesMax;
  void* const descriptor = fi_mr_desc(buffer_.registration.get());
  void* const context = &receives_[index].context;
  if (IsTagged(index)) {
    return fi_trecv(endpoint_->get(), bytes, FabricLink::kMessageBytesMax,
                    descriptor, FI_ADDR_UNSPEC, /*tag=*/0,
                    /*ignore=*/~std::uint64_t{0}, context);
  }
  return fi_recv(endpoint_->get(), bytes, FabricLink::kMessageBytesMax,
                 descriptor, FI_ADDR_UNSPEC, context);
}

}  // namespace agentmem
