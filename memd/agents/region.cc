#include "memd/agents/region.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/status.h"
#include "memd/agents/page_bytes.h"

namespace agentmem {
namespace {

// Of a working set. Others' faults stand in the store's queue behind them: no
// more than keeps the disk busy.
constexpr std::size_t kPlannedLoadingMax = 12;
constexpr std::size_t kPlannedAtOnce = 4;  // between two looks for faults
constexpr std::uint64_t kLostLoggedMax = 8;
constexpr std::uint32_t kAheadPagesMin = 4;
constexpr std::uint32_t kAheadPagesMax = 64;

alignas(4096) constexpr std::array<char, kPageBytes> kZeros = {};

// Not what a retry may mend.
bool IsLoss(absl::StatusCode code) {
  return code == absl::StatusCode::kNotFound ||
         code == absl::StatusCode::kDataLoss;
}

// Calls visit(first unit, units) for each run of ones.
template <typename Visit>
void ForEachRun(std::uint16_t mask, Visit visit) {
  std::uint32_t rest = mask;
  while (rest != 0) {
    const int first = std::countr_zero(rest);
    const int count = std::countr_one(rest >> first);
    visit(static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(count));
    rest &= ~(((1U << count) - 1) << first);
  }
}

}  // namespace

Region::Region(Options options, RegionTools* tools, UniqueFd memfd,
               std::shared_ptr<const Manifest> version)
    : options_(std::move(options)),
      tools_(tools),
      memfd_(std::move(memfd)),
      loader_(tools->nodes),
      version_(std::move(version)),
      recording_(version_ != nullptr) {}

Region::~Region() {
  *alive_ = false;
  for (const auto& load : retry_) ReleaseBlocks(load.get());
  for (const auto& load : collected_) ReleaseBlocks(load.get());
  tools_->memory->Give(resident_bytes_);
  *tools_->resident_bytes -= resident_bytes_;
}

void Region::SetMapper(std::unique_ptr<PageMapper> mapper,
                       std::uint64_t address) {
  mapped_ = mapper->reports_writes();
  mapper_ = std::move(mapper);
  address_ = address;
}

std::uint64_t Region::LengthOf(std::uint32_t page) const {
  return std::min<std::uint64_t>(kPageBytes, options_.bytes - OffsetOf(page));
}

std::uint16_t Region::UnitsOf(std::uint32_t page) const {
  return static_cast<std::uint16_t>((1U << (LengthOf(page) / kUnitBytes)) - 1);
}

void Region::OnFault(const PageFault& fault, bool alone) {
  const std::uint64_t offset = fault.address - address_;
  const auto page = static_cast<std::uint32_t>(offset / kPageBytes);
  const std::uint64_t unit = offset % kPageBytes / kUnitBytes;
  const auto bit = static_cast<std::uint16_t>(1U << unit);
  Page& state = pages_[page];
  const bool write = (fault.write || fault.protected_) && !options_.for_reading;
  switch (state.state) {
    case State::kResident:
      if (fault.minor) {
        const std::uint64_t at = OffsetOf(page) + unit * kUnitBytes;
        const absl::Status status = mapper_->Continue(
            at, kUnitBytes, mapped_ && (state.writable & bit) == 0);
        if (!status.ok()) mapper_->Wake(at, kUnitBytes);
      } else if (fault.protected_ && write) {
        AllowWrites(page, bit);
      } else {
        // It came while this was on its way.
        mapper_->Wake(OffsetOf(page), LengthOf(page));
      }
      return;
    case State::kLoading:
      if (write) state.wanted |= bit;
      Await(&state, unit);
      return ReadAhead(page);
    case State::kLost:
      (void)mapper_->Poison(OffsetOf(page), LengthOf(page));
      return;
    case State::kAbsent:
      if (write) state.wanted |= bit;
      Await(&state, unit);
      StartLoad(page, alone ? Why::kTouchedAlone : Why::kTouched);
      return ReadAhead(page);
  }
}

void Region::Await(Page* page, std::uint64_t unit) {
  if (std::exchange(page->awaited, true)) return;
  page->awaited_unit = static_cast<std::uint8_t>(unit);
}

// Pages are touched in their order: those that follow are asked for before
// their turn, the more of them the longer it goes on.
void Region::ReadAhead(std::uint32_t page) {
  if (version_ == nullptr) return;
  const std::uint32_t before = std::exchange(last_fault_, page);
  const bool goes_on = ahead_pages_ != 0 && page > before && page <= ahead_end_;
  if (!goes_on) {
    ahead_pages_ = 0;
    ahead_end_ = page + 1;
    if (page != before + 1) return;
  }
  ahead_end_ = std::max(ahead_end_, page + 1);
  const auto pages = static_cast<std::uint32_t>(
      (options_.bytes + kPageBytes - 1) / kPageBytes);
  const std::uint64_t share = tools_->memory->lent_bytes_max() / 8 / kPageBytes;
  ahead_pages_ = std::clamp<std::uint32_t>(2 * ahead_pages_, kAheadPagesMin,
                                           kAheadPagesMax);
  const auto end = static_cast<std::uint32_t>(std::min<std::uint64_t>(
      {pages, page + 1ULL + ahead_pages_, page + 1 + share}));
  for (; ahead_end_ < end; ++ahead_end_) {
    if (pages_[ahead_end_].state == State::kAbsent) {
      StartLoad(ahead_end_, Why::kTouched);
    }
  }
}

void Region::PlanWorkingSet(WorkingSet pages) {
  planned_ = std::move(pages);
  planned_next_ = 0;
}

bool Region::ReadPlanned() {
  if (touched_.empty() || planned_next_ == planned_.size()) return false;
  // What is read ahead pushes nothing out, neither what was nor what others
  // have: a quarter of the memory stays for what is touched.
  const std::uint64_t bytes_max = tools_->memory->lent_bytes_max();
  if (waiting() || planned_next_ >= bytes_max / 2 / kPageBytes ||
      tools_->memory->used_bytes() > bytes_max / 4 * 3) {
    planned_next_ = planned_.size();
    return false;
  }
  std::size_t asked = 0;
  while (planned_next_ < planned_.size() && asked < kPlannedAtOnce &&
         planned_loading_ < kPlannedLoadingMax) {
    const std::uint32_t page = planned_[planned_next_++];
    if (pages_[page].state != State::kAbsent) continue;
    StartLoad(page, Why::kPlanned);
    ++asked;
  }
  return asked != 0;
}

std::optional<WorkingSet> Region::TakeWorkingSet() {
  if (touched_.empty()) return std::nullopt;
  WorkingSet now = MergeWorkingSets(planned_, std::exchange(touched_, {}));
  // Who reads nearly all of it gains nothing: runs are read ahead anyway.
  if (2 * now.size() > PagesOf(options_.bytes)) now.clear();
  const bool same = now.size() == planned_.size();
  PlanWorkingSet(now);
  if (same) return std::nullopt;
  return now;
}

absl::StatusOr<PageContent> Region::ContentOf(std::uint32_t page) {
  if (version_ == nullptr) return PageContent();
  return version_->Find(page, &loader_);
}

void Region::StartLoad(std::uint32_t page, Why why) {
  const bool touched = why == Why::kTouched || why == Why::kTouchedAlone;
  if (touched && recording_ && touched_.size() <= kWorkingSetPagesMax) {
    touched_.push_back(page);
  }
  Page& state = pages_[page];
  state.state = State::kLoading;
  auto load = std::make_shared<Load>();
  load->page = page;
  load->version = version_;
  if (state.spilled) {
    load->pieces.push_back(state.spill);
  } else {
    absl::StatusOr<PageContent> content = ContentOf(page);
    if (!content.ok()) {
      if (IsLoss(content.status().code())) {
        return Lose(page, content.status());
      }
      NoteFailure(page, content.status());
      retry_.push_back(load);  // the store is busy, or there is no room
      return;
    }
    load->pieces = std::move(content->pieces);
  }
  load->blocks.resize(load->pieces.size());
  std::vector<std::size_t> missing;
  for (std::size_t i = 0; i < load->pieces.size(); ++i) {
    if (load->pieces[i].bytes == 0) continue;  // zeros
    if (!tools_->port->TryPin(load->pieces[i].key, &load->blocks[i])) {
      missing.push_back(i);
    }
  }
  if (why == Why::kPlanned) {
    load->planned = true;
    ++planned_loading_;
  }
  if (missing.empty()) return FinishLoad(load);
  if (why == Why::kTouchedAlone && missing.size() == 1 &&
      ReadAlone(load, missing[0]))
    return;
  load->missing = missing.size();
  for (const std::size_t i : missing) {
    tools_->port->Fetch(load->pieces[i].key, kNoDeadline,
                        [this, alive = alive_, port = tools_->port, load,
                         i](const CompletionEntry& answer) {
                          if (*alive) return OnBlock(load, i, answer);
                          // The region was closed meanwhile: nothing of it is
                          // held.
                          if (answer.code == Code::kOk)
                            port->Release(port->Held(answer));
                          for (BlockPort::Pinned& block : load->blocks) {
                            port->Release(std::exchange(block, {}));
                          }
                        });
  }
}

bool Region::ReadAlone(const std::shared_ptr<Load>& load, std::size_t piece) {
  const std::uint32_t bytes = load->pieces[piece].block_bytes;
  return tools_->lone_reads->Read(
      load->pieces[piece].key, bytes, [&](const char* data) {
        load->blocks[piece].data = data;
        load->blocks[piece].length = bytes;
        load->blocks[piece].pin = BlockPort::kNotPinned;
        FinishLoad(load);
      });
}

void Region::OnBlock(const std::shared_ptr<Load>& load, std::size_t piece,
                     const CompletionEntry& answer) {
  --load->missing;
  if (answer.code == Code::kOk) {
    load->blocks[piece] = tools_->port->Held(answer);
  } else {
    load->failure = answer;
  }
  if (load->missing != 0) return;
  // (Of pages that are touched in their order.)
  if (*tools_->collects && ahead_pages_ != 0) {
    collected_.push_back(load);
  } else {
    FinishLoad(load);
  }
}

// Who waits for one of them finds those behind it there when it goes on, and
// does not stop at each.
void Region::FinishCollected() {
  auto loads = std::exchange(collected_, {});
  std::stable_partition(loads.begin(), loads.end(), [this](const auto& load) {
    return !pages_[load->page].awaited;
  });
  for (const std::shared_ptr<Load>& load : loads) FinishLoad(load);
}

void Region::ReleaseBlocks(Load* load) {
  for (BlockPort::Pinned& block : load->blocks) {
    tools_->port->Release(block);
    block = {};
  }
}

bool Region::TakeRoom() {
  while (!tools_->memory->Take(kPageBytes)) {
    if (letting_go_ || !tools_->make_room()) return false;
  }
  return true;
}

void Region::FinishLoad(const std::shared_ptr<Load>& load) {
  if (std::exchange(load->planned, false)) --planned_loading_;
  if (options_.for_reading && load->version != version_) {
    ReleaseBlocks(load.get());
    return StartLoad(load->page, Why::kAhead);  // MoveTo came in between
  }
  if (load->failure) {
    ReleaseBlocks(load.get());
    const CompletionEntry answer = *std::exchange(load->failure, {});
    const auto code = static_cast<absl::StatusCode>(answer.code);
    if (!IsLoss(code)) {
      NoteFailure(load->page, StatusOf(answer, "a block of it"));
      retry_.push_back(load);  // the store failed: it may be well again
      return;
    }
    return Lose(load->page, StatusOf(answer, "a block of it"));
  }
  for (std::size_t i = 0; i < load->pieces.size(); ++i) {
    if (load->pieces[i].bytes != 0 &&
        load->blocks[i].length != load->pieces[i].block_bytes) {
      ReleaseBlocks(load.get());
      return Lose(load->page, DataLoss("a block of it has another length"));
    }
  }
  if (!TakeRoom()) {
    ReleaseBlocks(load.get());
    retry_.push_back(load);
    return;
  }
  const bool zeros = load->pieces.empty();
  const absl::Status status =
      Appear(*load, zeros ? kZeros.data() : Assemble(*load), zeros);
  ReleaseBlocks(load.get());
  if (!status.ok()) retry_.push_back(load);
}

// The page's bytes: in place when one block has them all.
const char* Region::Assemble(const Load& load) const {
  const std::uint64_t length = LengthOf(load.page);
  if (load.pieces.size() == 1 && load.pieces[0].bytes >= length &&
      load.pieces[0].base) {
    return load.blocks[0].data + load.pieces[0].offset;
  }
  const std::span<char, kPageBytes> page(tools_->scratch, kPageBytes);
  std::memset(page.data(), 0, page.size());
  for (std::size_t i = 0; i < load.pieces.size(); ++i) {
    const Piece& piece = load.pieces[i];
    const char* const bytes =
        piece.bytes == 0 ? nullptr : load.blocks[i].data + piece.offset;
    UnpackPiece(piece, {bytes, piece.bytes}, page);
  }
  return tools_->scratch;
}

// The unit that is waited for first: who waits goes on while the rest is
// copied, which takes longer than everything else about a fault.
absl::Status Region::Install(std::uint32_t page, const char* bytes,
                             std::uint32_t first_unit) {
  const std::uint64_t length = LengthOf(page);
  const std::uint64_t first = first_unit * kUnitBytes;
  const std::uint64_t next = first + kUnitBytes;
  AGENTMEM_RETURN_IF_ERROR(mapper_->Install(OffsetOf(page) + first,
                                            bytes + first, kUnitBytes, true));
  if (next < length) {
    AGENTMEM_RETURN_IF_ERROR(mapper_->Install(
        OffsetOf(page) + next, bytes + next, length - next, true));
  }
  if (first == 0) return absl::OkStatus();
  return mapper_->Install(OffsetOf(page), bytes, first, true);
}

// The room for it was taken.
absl::Status Region::Appear(const Load& load, const char* bytes, bool zeros) {
  const std::uint32_t page = load.page;
  Page& state = pages_[page];
  // New memory is written all over: nothing is gained by asking for each unit.
  const bool open = zeros && state.wanted != 0 && mapped_;
  const absl::Status status =
      mapped_ && state.wanted == 0 && std::exchange(state.awaited, false)
          ? Install(page, bytes, state.awaited_unit)
          : mapper_->Install(OffsetOf(page), bytes, LengthOf(page),
                             mapped_ && !open);
  if (!status.ok()) {
    tools_->memory->Give(kPageBytes);
    if (status.code() != absl::StatusCode::kNotFound) return status;
    // The process or its mapping is gone: nobody waits.
    ++unmapped_;
    if (state.spilled) {
      state.state = State::kAbsent;
    } else {
      pages_.erase(page);
    }
    return absl::OkStatus();
  }
  state.state = State::kResident;
  state.awaited = false;
  resident_bytes_ += kPageBytes;
  *tools_->resident_bytes += kPageBytes;
  NoteArrival(page);
  const std::uint16_t wanted = std::exchange(state.wanted, 0);
  if (open) {
    state.changed = state.writable = UnitsOf(page);
  } else if (wanted != 0 && mapped_) {
    AllowWrites(page, wanted);
  }
  return absl::OkStatus();
}

void Region::NoteArrival(std::uint32_t page) {
  pages_[page].arrival = ++last_arrival_;
  arrivals_.push_back({page, last_arrival_});
  // What left by another way than LetGo stands there until it is looked at.
  constexpr std::uint64_t kStaleMax = 64;
  if (arrivals_.size() > 2 * (resident_bytes_ / kPageBytes) + kStaleMax) {
    std::erase_if(arrivals_, [this](const Arrival& arrival) {
      return !HasArrived(arrival);
    });
  }
}

bool Region::HasArrived(const Arrival& arrival) const {
  const auto found = pages_.find(arrival.page);
  return found != pages_.end() && found->second.state == State::kResident &&
         found->second.arrival == arrival.number;
}

absl::Status Region::LostStatus(std::uint32_t page) const {
  const auto why = lost_.find(page);
  return DataLoss(
      "region " + options_.name +
      (version_ == nullptr
           ? std::string()
           : ", version " + std::to_string(version_->info().number)) +
      ", page at " + std::to_string(OffsetOf(page)) + " is lost" +
      (why == lost_.end() ? std::string() : ": " + why->second));
}

void Region::Lose(std::uint32_t page, const absl::Status& why) {
  pages_[page].state = State::kLost;
  if (++lost_pages_ <= kLostLoggedMax) {
    lost_[page] = StatusMessage(why);
    LogError("agent " + options_.agent + ", " +
             StatusMessage(LostStatus(page)) +
             "; who touches it gets SIGBUS, other pages are readable");
  }
  (void)mapper_->Poison(OffsetOf(page), LengthOf(page));
}

void Region::AllowWrites(std::uint32_t page, std::uint16_t units) {
  Page& state = pages_[page];
  if (state.cutting) {
    state.wanted |= units;
    urgent_.push_back(page);
    return;
  }
  DropSpill(&state);
  state.changed |= units;
  state.writable |= units;
  ForEachRun(units, [&](std::uint32_t first, std::uint32_t count) {
    const std::uint64_t at = OffsetOf(page) + first * kUnitBytes;
    if (!mapper_->Unprotect(at, count * kUnitBytes).ok()) {
      mapper_->Wake(at, count * kUnitBytes);
    }
  });
}

void Region::DropSpill(Page* page) {
  if (!page->spilled) return;
  page->spilled = false;
  if (!std::exchange(page->keep_spill, false)) dead_.push_back(page->spill.key);
}

void Region::Retry() {
  for (const std::shared_ptr<Load>& load : std::exchange(retry_, {})) {
    if (pages_[load->page].state == State::kLoading) {
      StartLoad(load->page, Why::kAhead);
    }
  }
}

std::uint64_t Region::changed_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& [index, page] : pages_) {
    bytes +=
        kUnitBytes * static_cast<std::uint64_t>(std::popcount(page.changed));
  }
  return bytes;
}

// As much as does not push out what others have.
void Region::BringAhead(std::uint64_t offset, std::uint64_t bytes) {
  const std::uint64_t end =
      offset + std::min(bytes, tools_->memory->lent_bytes_max() / 2);
  for (std::uint64_t at = offset / kPageBytes * kPageBytes;
       at < end && !waiting(); at += kPageBytes) {
    const auto page = static_cast<std::uint32_t>(at / kPageBytes);
    if (pages_[page].state == State::kAbsent) StartLoad(page, Why::kAhead);
  }
}

void Region::LetGoRange(std::uint64_t offset, std::uint64_t bytes) {
  const auto first = static_cast<std::uint32_t>(offset / kPageBytes);
  const auto end = static_cast<std::uint32_t>((offset + bytes) / kPageBytes);
  for (std::uint32_t page = first; page < end; ++page) {
    auto found = pages_.find(page);
    if (found == pages_.end()) continue;
    const Page& state = found->second;
    if (state.state == State::kResident && state.pins == 0 &&
        !state.in_flight && (state.changed == 0 || state.spilled)) {
      Punch(page);
    }
  }
}

void Region::Abandon() {
  for (auto& [index, page] : pages_) DropSpill(&page);
}

}  // namespace agentmem
