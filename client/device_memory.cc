#include "client/device_memory.h"

#include <algorithm>
#include <string>
#include <utility>

#include "client/futex.h"

namespace agentmem::client {
namespace {

constexpr std::uint64_t kHoldNs = 100'000'000;
constexpr std::size_t kAll = SIZE_MAX;

// memd answers in microseconds, and the device in milliseconds: who polls with
// a timeout of 0 gets on, too.
Deadline AtLeastSoon(const Deadline& deadline) {
  const Deadline soon = Deadline::After(kHoldNs);
  return deadline.at() < soon.at() ? soon : deadline;
}

std::uint64_t ExtentsOf(const Session& session) {
  return (session.data_bytes() + kExtentBytes - 1) / kExtentBytes;
}

// The last one may be cut short.
std::span<char> RangeOf(const Session& session, std::uint64_t extent) {
  const std::uint64_t offset = extent * kExtentBytes;
  return {session.data() + offset,
          std::min(kExtentBytes, session.data_bytes() - offset)};
}

bool IsIn(const Session& session, const char* data, std::uint64_t bytes) {
  return data >= session.data() && bytes <= session.data_bytes() &&
         static_cast<std::uint64_t>(data - session.data()) <=
             session.data_bytes() - bytes;
}

}  // namespace

DeviceMemory::~DeviceMemory() { ReleaseAll(); }

void DeviceMemory::ReleaseAll() {
  MutexLock lock(&mutex_);
  while (!mapped_.empty()) {
    Mapped* const mapped = mapped_.back().get();
    if (Drop(mapped, kAll) != 0) continue;
    if (mapped->pending != 0) {  // another thread gives some of it to memd
      AwaitSettled(Deadline::After(UINT64_MAX));
      continue;
    }
    mapped->session->Unref();
    std::erase_if(mapped_,
                  [mapped](const auto& one) { return one.get() == mapped; });
  }
}

void DeviceMemory::Tidy(const Session* current, std::size_t extents_max) {
  MutexLock lock(&mutex_);
  for (std::size_t dropped = 0; dropped < extents_max;) {
    const auto found =
        std::find_if(mapped_.begin(), mapped_.end(), [&](const auto& one) {
          return one->session != current && one->uses == 0;
        });
    if (found == mapped_.end()) return;
    Mapped* const mapped = found->get();
    const std::size_t some = Drop(mapped, extents_max - dropped);
    dropped += some;
    if (some != 0) continue;  // others may have come meanwhile
    mapped->session->Unref();
    mapped_.erase(found);
  }
}

Outcome DeviceMemory::Begin(Session* session, const void* data,
                            std::uint64_t bytes, const Deadline& deadline) {
  MutexLock lock(&mutex_);
  const char* const at = static_cast<const char*>(data);
  if (bytes == 0 || !IsIn(*session, at, bytes)) {
    return Fail(Code::kUnavailable,
                "the memd that these bytes were of is gone");
  }
  Mapped* const mapped = MappedOf(session);
  const std::uint64_t offset = at - session->data();
  const std::uint64_t first = offset / kExtentBytes;
  const std::uint64_t end = (offset + bytes - 1) / kExtentBytes + 1;
  // Used from here on, so that none is given back while another is registered.
  for (std::uint64_t extent = first; extent < end; ++extent) {
    ++mapped->extents[extent].uses;
  }
  mapped->uses += end - first;
  for (std::uint64_t extent = first; extent < end; ++extent) {
    Outcome outcome = RegisterExtent(mapped, extent, deadline);
    if (outcome.ok()) continue;
    Unuse(mapped, first, end, Giving::kNow);
    return outcome;
  }
  return {};
}

void DeviceMemory::End(const void* data, std::uint64_t bytes, Giving giving) {
  MutexLock lock(&mutex_);
  Mapped* const mapped = Containing(data);
  if (mapped == nullptr || bytes == 0) return;
  const std::uint64_t offset =
      static_cast<const char*>(data) - mapped->session->data();
  Unuse(mapped, offset / kExtentBytes, (offset + bytes - 1) / kExtentBytes + 1,
        giving);
}

// (Some may come and go meanwhile; who makes them unused looks, too.)
void DeviceMemory::GiveWanted() {
  MutexLock lock(&mutex_);
  for (std::size_t i = 0; i < mapped_.size(); ++i) {
    if (!mapped_[i]->wishes.empty()) AnswerWishes(mapped_[i].get());
  }
}

void DeviceMemory::Unuse(Mapped* mapped, std::uint64_t first, std::uint64_t end,
                         Giving giving) {
  for (std::uint64_t extent = first; extent < end; ++extent) {
    --mapped->extents[extent].uses;
  }
  mapped->uses -= end - first;
  if (giving == Giving::kNow && !mapped->wishes.empty()) AnswerWishes(mapped);
}

void DeviceMemory::Retire(Session* session, std::uint64_t data_offset,
                          std::uint64_t bytes, std::uint64_t token) {
  MutexLock lock(&mutex_);
  const auto found = std::find_if(
      mapped_.begin(), mapped_.end(),
      [session](const auto& one) { return one->session == session; });
  // What memd names is not trusted to lie in the mapping.
  const std::uint64_t end = ExtentsOf(*session);
  const std::uint64_t first = data_offset / kExtentBytes;
  const std::uint64_t count = bytes / kExtentBytes + 1;
  if (found == mapped_.end() || first >= end || bytes == 0) {
    return holds_->AnswerRetire(session, token);
  }
  const std::uint64_t last =
      (data_offset % kExtentBytes + bytes - 1) / kExtentBytes;
  (*found)->wishes.push_back(
      {first, first + std::min({count, last + 1, end - first}), token});
  AnswerWishes(found->get());
}

std::uint64_t DeviceMemory::registered_bytes() {
  MutexLock lock(&mutex_);
  std::uint64_t bytes = 0;
  for (const auto& mapped : mapped_) {
    for (std::uint64_t i = 0; i < mapped->extents.size(); ++i) {
      const State state = mapped->extents[i].state;
      const bool is_reached = state == State::kRegistered ||
                              state == State::kEnding || state == State::kStuck;
      if (is_reached) bytes += RangeOf(*mapped->session, i).size();
    }
  }
  return bytes;
}

DeviceMemory::Mapped* DeviceMemory::MappedOf(Session* session) {
  for (const auto& mapped : mapped_) {
    if (mapped->session == session) return mapped.get();
  }
  session->Ref();
  mapped_.push_back(std::make_unique<Mapped>());
  mapped_.back()->session = session;
  mapped_.back()->extents.resize(ExtentsOf(*session));
  return mapped_.back().get();
}

DeviceMemory::Mapped* DeviceMemory::Containing(const void* data) {
  for (const auto& mapped : mapped_) {
    if (IsIn(*mapped->session, static_cast<const char*>(data), 1)) {
      return mapped.get();
    }
  }
  return nullptr;
}

Outcome DeviceMemory::RegisterExtent(Mapped* mapped, std::uint64_t extent,
                                     const Deadline& deadline) {
  // (What the device did not let go of, it reaches.)
  const State state = mapped->extents[extent].state;
  if (state == State::kRegistered || state == State::kStuck) return {};
  ++urgent_;
  Outcome outcome = RegisterNow(mapped, extent, deadline);
  --urgent_;
  Settled();
  return outcome;
}

Outcome DeviceMemory::RegisterNow(Mapped* mapped, std::uint64_t extent,
                                  const Deadline& deadline) {
  Extent& state = mapped->extents[extent];
  const auto is_settled = [&state] {
    return state.state != State::kHolding &&
           state.state != State::kRegistering && state.state != State::kEnding;
  };
  if (!is_settled()) {
    const Deadline patience = AtLeastSoon(deadline);
    while (!is_settled()) {
      // (Who registers it may wait for memd longer than this caller does.)
      if (patience.Passed()) {
        return Fail(Code::kDeadlineExceeded,
                    "another thread has not registered this memory with the "
                    "device, or given it back, before the deadline");
      }
      AwaitSettled(patience);
    }
  }
  const bool is_held = state.state == State::kHeld;
  if (!is_held && state.state != State::kUnknown) return {};
  // (A wish that waits for other extents of it: this one is memd's.)
  if (IsWanted(*mapped, extent)) {
    return Fail(Code::kUnavailable,
                "memd takes this memory back just now; try again");
  }
  late_.fetch_add(1, std::memory_order_relaxed);
  state.state = State::kRegistering;
  mutex_.Unlock();
  Outcome outcome = HoldAndRegister(mapped->session, extent, is_held, deadline);
  mutex_.Lock();
  state.state = outcome.ok() ? State::kRegistered : State::kUnknown;
  state.was_wanted = false;
  Settled();
  return outcome;
}

void DeviceMemory::Settled() {
  settled_.fetch_add(1, std::memory_order_seq_cst);
  FutexWakeAll(&settled_);
}

void DeviceMemory::AwaitSettled(const Deadline& deadline) {
  const std::uint32_t seen = settled_.load(std::memory_order_seq_cst);
  mutex_.Unlock();
  FutexWait(&settled_, seen, deadline.Remaining(kSecondNs));
  mutex_.Lock();
}

// memd first: between the two, it could give the extent away.
Outcome DeviceMemory::HoldAndRegister(Session* session, std::uint64_t extent,
                                      bool is_held, const Deadline& deadline) {
  const std::uint64_t offset = extent * kExtentBytes;
  Outcome outcome;
  if (!is_held) {
    outcome = holds_->Hold(session, offset, 1, AtLeastSoon(deadline));
  }
  if (!outcome.ok()) return outcome;
  outcome = device_->Register(RangeOf(*session, extent),
                              Device::Registration::kBegin);
  if (!outcome.ok()) holds_->Release(session, offset);
  return outcome;
}

bool DeviceMemory::IsWanted(const Mapped& mapped, std::uint64_t extent) {
  return std::any_of(mapped.wishes.begin(), mapped.wishes.end(),
                     [extent](const Wish& wish) {
                       return extent >= wish.first && extent < wish.end;
                     });
}

std::uint64_t DeviceMemory::CountAhead(const Mapped& mapped,
                                       std::uint64_t first, std::uint64_t end) {
  std::uint64_t at = first;
  while (at < end && mapped.extents[at].state == State::kUnknown &&
         !mapped.extents[at].was_wanted && !IsWanted(mapped, at)) {
    ++at;
  }
  return at - first;
}

Outcome DeviceMemory::HoldAhead(Session* session, std::uint64_t first,
                                std::uint64_t end) {
  MutexLock lock(&mutex_);
  end = std::min(end, ExtentsOf(*session));
  Mapped* const mapped = MappedOf(session);
  ++mapped->uses;
  ++mapped->pending;
  Outcome outcome;
  std::uint64_t most = end - first;  // at a time
  for (std::uint64_t at = first; at < end && outcome.ok();) {
    const std::uint64_t count =
        CountAhead(*mapped, at, std::min(end, at + most));
    if (count != 0) outcome = HoldRun(mapped, at, at + count);
    if (outcome.code == Code::kFailedPrecondition) {
      // All or none: fewer, until it is known which one is given away.
      outcome = {};
      most = count / 2;
      if (count > 1) continue;
    }
    at += std::max<std::uint64_t>(1, count);
    most = end - first;
  }
  --mapped->uses;
  --mapped->pending;
  Settled();
  return outcome;
}

// They stand in the books before memd is asked: its wish for one may be heard
// by another thread before the answer is.
Outcome DeviceMemory::HoldRun(Mapped* mapped, std::uint64_t first,
                              std::uint64_t end) {
  for (std::uint64_t extent = first; extent < end; ++extent) {
    mapped->extents[extent].state = State::kHolding;
  }
  mutex_.Unlock();
  const Outcome outcome = holds_->Hold(mapped->session, first * kExtentBytes,
                                       end - first, Deadline::After(kHoldNs));
  mutex_.Lock();
  for (std::uint64_t extent = first; extent < end; ++extent) {
    mapped->extents[extent].state =
        outcome.ok() ? State::kHeld : State::kUnknown;
  }
  Settled();
  if (!mapped->wishes.empty()) AnswerWishes(mapped);
  return outcome;
}

Outcome DeviceMemory::RegisterAhead(Session* session, std::uint64_t extent) {
  MutexLock lock(&mutex_);
  Mapped* const mapped = MappedOf(session);
  ++mapped->uses;
  ++mapped->pending;
  while (urgent_ != 0) AwaitSettled(Deadline::After(UINT64_MAX));
  Extent& state = mapped->extents[extent];
  Outcome outcome;
  if (state.state == State::kHeld) {
    state.state = State::kRegistering;
    mutex_.Unlock();
    outcome = device_->Register(RangeOf(*session, extent),
                                Device::Registration::kBegin);
    mutex_.Lock();
    state.state = outcome.ok() ? State::kRegistered : State::kUnknown;
    if (is_abandoned_) return outcome;
    if (!outcome.ok()) holds_->Release(session, extent * kExtentBytes);
    if (!mapped->wishes.empty()) AnswerWishes(mapped);
  }
  --mapped->uses;
  --mapped->pending;
  Settled();
  return outcome;
}

void DeviceMemory::Abandon() {
  MutexLock lock(&mutex_);
  is_abandoned_ = true;
}

bool DeviceMemory::IsAbandoned() {
  MutexLock lock(&mutex_);
  return is_abandoned_;
}

// An extent that the device does not let go of stays held: memd must not give
// it away.
void DeviceMemory::UnregisterExtent(Mapped* mapped, std::uint64_t extent) {
  Extent& state = mapped->extents[extent];
  const std::span<char> range = RangeOf(*mapped->session, extent);
  state.state = State::kEnding;
  ++mapped->uses;
  ++mapped->pending;
  mutex_.Unlock();
  const Outcome outcome = device_->Register(range, Device::Registration::kEnd);
  mutex_.Lock();
  --mapped->uses;
  --mapped->pending;
  state.state = outcome.ok() ? State::kUnknown : State::kStuck;
  Settled();
}

// It is held still.
void DeviceMemory::LetGo(Mapped* mapped, std::uint64_t extent) {
  Extent& state = mapped->extents[extent];
  if (state.state == State::kRegistered)
    return UnregisterExtent(mapped, extent);
  state.state = State::kUnknown;
}

std::optional<std::uint64_t> DeviceMemory::FindWantedUnused(
    const Mapped& mapped) const {
  for (const Wish& wish : mapped.wishes) {
    for (std::uint64_t extent = wish.first; extent < wish.end; ++extent) {
      const Extent& state = mapped.extents[extent];
      const bool is_ours =
          state.state == State::kRegistered || state.state == State::kHeld;
      if (is_ours && state.uses == 0) return extent;
    }
  }
  return std::nullopt;
}

// What another thread is just ending, that one answers.
void DeviceMemory::AnswerWishes(Mapped* mapped) {
  while (const auto extent = FindWantedUnused(*mapped)) {
    LetGo(mapped, *extent);
  }
  std::erase_if(mapped->wishes, [&](const Wish& wish) {
    for (std::uint64_t extent = wish.first; extent < wish.end; ++extent) {
      if (mapped->extents[extent].state != State::kUnknown) return false;
    }
    for (std::uint64_t extent = wish.first; extent < wish.end; ++extent) {
      mapped->extents[extent].was_wanted = true;
    }
    holds_->AnswerRetire(mapped->session, wish.token);
    return true;
  });
}

std::size_t DeviceMemory::Drop(Mapped* mapped, std::size_t extents_max) {
  std::size_t dropped = 0;
  for (std::uint64_t extent = 0; extent < mapped->extents.size(); ++extent) {
    if (dropped == extents_max) break;
    const Extent& state = mapped->extents[extent];
    if (state.uses != 0) continue;
    if (state.state != State::kRegistered && state.state != State::kHeld) {
      continue;
    }
    LetGo(mapped, extent);
    ++dropped;
    if (state.state != State::kUnknown) continue;
    holds_->Release(mapped->session, extent * kExtentBytes);
  }
  return dropped;
}

}  // namespace agentmem::client
