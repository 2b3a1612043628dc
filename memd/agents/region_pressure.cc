// Region: pages that leave, and the moment of a commit.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/status.h"
#include "memd/agents/region.h"
#include "proto/size_class.h"

namespace agentmem {
namespace {

// A spill may wait for the store to take what is in its way.
constexpr DurationNs kSpillNs = 5 * kSecondNs;

}  // namespace

std::size_t Region::LetGo(std::size_t pages) {
  if (letting_go_ || mapper_ == nullptr) return 0;
  letting_go_ = true;
  std::vector<std::uint32_t> clean;
  std::vector<std::uint32_t> changed;
  for (std::size_t look = arrivals_.size();
       look > 0 && clean.size() + changed.size() < pages; --look) {
    const Arrival arrival = arrivals_.front();
    const std::uint32_t page = arrival.page;
    arrivals_.pop_front();
    if (!HasArrived(arrival)) continue;
    Page& state = pages_[page];
    if (state.pins != 0 || state.in_flight) {
      arrivals_.push_back(arrival);
      continue;
    }
    if (state.changed == 0 || state.spilled) {
      clean.push_back(page);
    } else {
      changed.push_back(page);
    }
  }
  for (const std::uint32_t page : clean) Punch(page);
  std::size_t gone = clean.size();
  if (!changed.empty() && Spill(changed)) {
    gone += changed.size();
  } else {
    for (const std::uint32_t page : changed) NoteArrival(page);
  }
  letting_go_ = false;
  return gone;
}

// Private blocks of the writer get the pages' bytes; then the pages go.
bool Region::Spill(const std::vector<std::uint32_t>& pages) {
  struct Written {
    std::size_t answered = 0;
    bool failed = false;
  };
  const auto written = std::make_shared<Written>();
  std::size_t asked = 0;
  for (const std::uint32_t page : pages) {
    Page& state = pages_[page];
    const std::uint64_t length = LengthOf(page);
    if (state.writable != 0) {
      if (!mapper_->Protect(OffsetOf(page), length).ok()) {
        written->failed = true;
        break;
      }
      state.writable = 0;
    }
    BlockPort::Grant grant;
    if (!GrantFor(tools_->port, static_cast<std::uint32_t>(length),
                  tools_->clock->Now() + kSpillNs, *tools_->clock, &grant)) {
      written->failed = true;
      break;
    }
    if (!ReadPage(page, grant.data).ok()) {
      tools_->port->Abandon(grant);
      written->failed = true;
      break;
    }
    state.spill = Piece();
    state.keep_spill = false;
    state.spill.key = tools_->new_key();
    state.spill.block_bytes = static_cast<std::uint32_t>(length);
    state.spill.bytes = static_cast<std::uint32_t>(length);
    state.spill.units = kAllUnits;
    state.spill.base = true;
    tools_->port->Publish(grant, state.spill.key,
                          static_cast<std::uint32_t>(length), Ack::kVisible, 0,
                          [written](const CompletionEntry& answer) {
                            ++written->answered;
                            written->failed |= answer.code != Code::kOk;
                          });
    ++asked;
  }
  const bool in_time =
      tools_->port->PollUntil([&] { return written->answered == asked; },
                              tools_->clock->Now() + kSpillNs, *tools_->clock);
  if (!in_time || written->failed) {
    for (std::size_t i = 0; i < asked; ++i) {
      dead_.push_back(pages_[pages[i]].spill.key);
    }
    return false;
  }
  for (const std::uint32_t page : pages) {
    pages_[page].spilled = true;
    Punch(page);
  }
  return true;
}

// The page's content is elsewhere, and it is protected.
void Region::Punch(std::uint32_t page) {
  Page& state = pages_[page];
  if (fallocate(memfd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(OffsetOf(page)),
                static_cast<off_t>(kPageBytes)) != 0) {
    LogError("region " + options_.name + ": giving a page back: " +
             StatusMessage(ErrnoStatus("fallocate")));
  }
  resident_bytes_ -= kPageBytes;
  *tools_->resident_bytes -= kPageBytes;
  tools_->memory->Give(kPageBytes);
  if (!state.spilled) {
    AGENTMEM_CHECK(state.changed == 0);
    pages_.erase(page);
    return;
  }
  state.state = State::kAbsent;
  state.writable = 0;
}

absl::Status Region::ReadPage(std::uint32_t page, char* bytes) const {
  const std::uint64_t length = LengthOf(page);
  std::uint64_t done = 0;
  while (done < length) {
    const ssize_t got = pread(memfd_.get(), bytes + done, length - done,
                              static_cast<off_t>(OffsetOf(page) + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return ErrnoStatus("reading a page of " + options_.name);
    done += static_cast<std::uint64_t>(got);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Region::Captured>> Region::Cut() {
  std::vector<Captured> pages;
  for (const auto& [index, page] : pages_) {
    if (page.changed == 0) continue;
    Captured captured;
    captured.page = index;
    captured.changed = page.changed;
    captured.spilled = page.spilled;
    captured.spill = page.spill;
    pages.push_back(captured);
  }
  std::sort(
      pages.begin(), pages.end(),
      [](const Captured& a, const Captured& b) { return a.page < b.page; });
  // Runs of pages in one call. Nobody's write goes on before EndCut, so what
  // is protected later than the first page belongs to the same moment: each
  // thread stops at its first write to a protected unit, and whatever it wrote
  // before that is in (docs/regions.md).
  for (std::size_t i = 0; i < pages.size();) {
    std::size_t end = i;
    std::uint64_t length = 0;
    while (end < pages.size() && pages[end].page == pages[i].page + (end - i) &&
           pages_[pages[end].page].writable != 0) {
      length += LengthOf(pages[end].page);
      ++end;
    }
    if (end == i) {
      ++i;
      continue;
    }
    AGENTMEM_RETURN_IF_ERROR(mapper_->Protect(OffsetOf(pages[i].page), length));
    i = end;
  }
  for (const Captured& captured : pages) {
    Page& page = pages_[captured.page];
    page.writable = 0;
    page.in_flight = true;
    page.cutting = page.state == State::kResident && !page.spilled;
  }
  return pages;
}

void Region::EndCut(std::uint32_t page) {
  Page& state = pages_[page];
  if (!state.cutting) return;
  state.cutting = false;
  // What is written from here on belongs to the next version.
  state.changed = 0;
  if (state.wanted != 0) AllowWrites(page, std::exchange(state.wanted, 0));
}

std::optional<std::uint32_t> Region::TakeUrgent() {
  while (!urgent_.empty()) {
    const std::uint32_t page = urgent_.front();
    urgent_.pop_front();
    if (pages_[page].cutting) return page;
  }
  return std::nullopt;
}

void Region::Committed(const std::vector<Captured>& pages,
                       std::shared_ptr<const Manifest> version) {
  version_ = std::move(version);
  for (const Captured& captured : pages) {
    auto found = pages_.find(captured.page);
    if (found == pages_.end()) continue;
    Page& page = found->second;
    page.in_flight = false;
    if (!captured.spilled) continue;
    // Its private block is the version's now. Written since it was cut: then
    // the block was declared dead, and is not.
    std::erase(dead_, captured.spill.key);
    if (!page.spilled || !(page.spill.key == captured.spill.key)) continue;
    page.spilled = false;
    page.changed = 0;
    if (page.state == State::kAbsent) pages_.erase(found);
  }
}

void Region::NotCommitted(const std::vector<Captured>& pages, bool unknown) {
  for (const Captured& captured : pages) {
    EndCut(captured.page);
    Page& page = pages_[captured.page];
    if (unknown && captured.spilled) {
      std::erase(dead_, captured.spill.key);
      page.keep_spill = page.spilled && page.spill.key == captured.spill.key;
    }
    page.in_flight = false;
    page.changed |= captured.changed;
  }
}

void Region::MoveTo(std::shared_ptr<const Manifest> version,
                    const std::vector<RangeEntry>& changed) {
  version_ = std::move(version);
  for (const RangeEntry& range : changed) {
    const auto first = static_cast<std::uint32_t>(range.offset / kPageBytes);
    const auto end = static_cast<std::uint32_t>(
        (range.offset + range.bytes + kPageBytes - 1) / kPageBytes);
    for (std::uint32_t page = first; page < end; ++page) {
      auto found = pages_.find(page);
      if (found == pages_.end()) continue;
      if (found->second.state == State::kResident) {
        Punch(page);
      } else if (found->second.state == State::kLost) {
        pages_.erase(found);
      }
    }
  }
}

}  // namespace agentmem
