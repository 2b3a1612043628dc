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
  std::unique_ptr<FabricInbox> inbox(new FabricInbox());
  AGENTMEM_ASSIGN_OR_RETURN(
      inbox->buffer_,
      domain->MakeBuffer(kBuffers * FabricLink::kMessageBytesMax));
  AGENTMEM_ASSIGN_OR_RETURN(inbox->endpoint_,
                            FabricEndpoint::Open(domain, kCompletions));
  static_assert(offsetof(Receive, context) == 0);
  inbox->receives_.resize(kBuffers);
  inbox->unposted_.reserve(kBuffers);
  for (std::uint32_t i = 0; i < kBuffers; ++i) {
    inbox->TakeBack(i);
  }
  inbox->PostTakenBack();
  if (!inbox->all_posted()) {
    return Unavailable("the network takes fewer than " +
                       std::to_string(kBuffers) + " buffers for messages");
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
    const ssize_t posted = fi_recv(
        endpoint_->get(),
        buffer_.bytes.get() + index * FabricLink::kMessageBytesMax,
        FabricLink::kMessageBytesMax, fi_mr_desc(buffer_.registration.get()),
        FI_ADDR_UNSPEC, &receives_[index].context);
    if (posted != 0) return;
    receives_[index].posted = true;
    unposted_.pop_back();
  }
}

}  // namespace agentmem
