// Region: what its process asks for by calls, in place of touches.
#include <algorithm>
#include <utility>

#include "base/status.h"
#include "memd/agents/region.h"

namespace agentmem {
namespace {

constexpr std::uint16_t kPinsMax = UINT16_MAX;  // of a page

}  // namespace

absl::Status Region::Populate(std::uint64_t offset, std::uint64_t bytes,
                              bool pin, TimeNs deadline) {
  const auto first = static_cast<std::uint32_t>(offset / kPageBytes);
  const auto end = static_cast<std::uint32_t>(
      (offset + bytes + kPageBytes - 1) / kPageBytes);
  const std::uint64_t unmapped_before = unmapped_;
  std::uint32_t next = first;  // to be asked for
  // Some at a time: what is asked for may not push out what was.
  constexpr std::uint32_t kAhead = 64;
  for (std::uint32_t page = first; page < end; ++page) {
    for (; next < end && next < page + kAhead; ++next) {
      if (pages_[next].state == State::kAbsent) StartLoad(next, Why::kAhead);
    }
    absl::Status status = AwaitPage(page, deadline, unmapped_before);
    if (status.ok() && pin && pages_[page].pins == kPinsMax) {
      status =
          ResourceExhausted("the page at " + std::to_string(OffsetOf(page)) +
                            " has " + std::to_string(kPinsMax) + " pins");
    }
    if (!status.ok()) {
      if (pin) UnpinPages(first, page);
      return status;
    }
    if (pin) ++pages_[page].pins;
  }
  return absl::OkStatus();
}

// For who asks to be told (AwaitPage). A touch waits: it cannot be answered.
void Region::NoteFailure(std::uint32_t page, absl::Status why) {
  if (awaited_page_ != page || !absl::IsUnavailable(why)) return;
  awaited_failure_ = std::move(why);
}

// Until it is resident; it may leave again meanwhile. A tier that fails it from
// here on ends the wait: it is tried again for who touches it.
absl::Status Region::AwaitPage(std::uint32_t page, TimeNs deadline,
                               std::uint64_t unmapped_before) {
  awaited_page_ = page;
  awaited_failure_ = absl::OkStatus();
  for (;;) {
    const bool served = tools_->serve(
        [&] {
          return pages_[page].state != State::kLoading ||
                 !awaited_failure_.ok();
        },
        deadline);
    const State state = pages_[page].state;
    if (state == State::kResident) return absl::OkStatus();
    if (state == State::kLost) return LostStatus(page);
    if (!awaited_failure_.ok()) {
      return MakeStatus(awaited_failure_.code(),
                        "bringing in the page at " +
                            std::to_string(OffsetOf(page)) + " of region " +
                            options_.name + ": " +
                            StatusMessage(awaited_failure_));
    }
    if (unmapped_ != unmapped_before) {
      return FailedPrecondition("region " + options_.name +
                                " is not mapped any more where its process "
                                "said: at " +
                                std::to_string(address_ + OffsetOf(page)));
    }
    if (!served || tools_->clock->Now() >= deadline) {
      return DeadlineExceeded("bringing in the page at " +
                              std::to_string(OffsetOf(page)) + " of region " +
                              options_.name);
    }
    if (state == State::kAbsent) StartLoad(page, Why::kAhead);
  }
}

void Region::Unpin(std::uint64_t offset, std::uint64_t bytes) {
  UnpinPages(static_cast<std::uint32_t>(offset / kPageBytes),
             static_cast<std::uint32_t>((offset + bytes + kPageBytes - 1) /
                                        kPageBytes));
}

void Region::UnpinPages(std::uint32_t first, std::uint32_t end) {
  for (std::uint32_t page = first; page < end; ++page) {
    auto found = pages_.find(page);
    if (found != pages_.end() && found->second.pins != 0) --found->second.pins;
  }
}

absl::Status Region::MarkWritten(std::uint64_t offset, std::uint64_t bytes) {
  for (std::uint64_t at = offset / kUnitBytes * kUnitBytes; at < offset + bytes;
       at += kUnitBytes) {
    const auto page = static_cast<std::uint32_t>(at / kPageBytes);
    auto found = pages_.find(page);
    if (found == pages_.end() || found->second.state != State::kResident) {
      return FailedPrecondition("bytes at " + std::to_string(at) +
                                " were written before they were brought in");
    }
    DropSpill(&found->second);
    found->second.changed |=
        static_cast<std::uint16_t>(1U << at % kPageBytes / kUnitBytes);
  }
  return absl::OkStatus();
}

}  // namespace agentmem
