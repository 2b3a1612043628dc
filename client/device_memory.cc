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
    if (mapped->ending != 0) {  // another thread gives some of it to memd
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
      if (state == State::kUnknown || state == State::kRegistering) continue;
      bytes += RangeOf(*mapped->session, i).size();
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
  Extent& state = mapped->extents[extent];
  const auto is_settled = [&state] {
    return state.state != State::kRegistering && state.state != State::kEnding;
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
  // (What the device did not let go of, it reaches.)
  if (state.state != State::kUnknown) return {};
  const bool is_wanted = std::any_of(
      mapped->wishes.begin(), mapped->wishes.end(), [extent](const Wish& wish) {
        return extent >= wish.first && extent < wish.end;
      });
  // (A wish that waits for other extents of it: this one is memd's.)
  if (is_wanted) {
    return Fail(Code::kUnavailable,
                "memd takes this memory back just now; try again");
  }
  state.state = State::kRegistering;
  mutex_.Unlock();
  Outcome outcome = HoldAndRegister(mapped->session, extent, deadline);
  mutex_.Lock();
  state.state = outcome.ok() ? State::kRegistered : State::kUnknown;
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
                                      const Deadline& deadline) {
  const std::uint64_t offset = extent * kExtentBytes;
  Outcome outcome = holds_->Hold(session, offset, AtLeastSoon(deadline));
  if (!outcome.ok()) return outcome;
  outcome = device_->Register(RangeOf(*session, extent),
                              Device::Registration::kBegin);
  if (!outcome.ok()) holds_->Release(session, offset);
  return outcome;
}

// An extent that the device does not let go of stays held: memd must not give
// it away.
void DeviceMemory::UnregisterExtent(Mapped* mapped, std::uint64_t extent) {
  Extent& state = mapped->extents[extent];
  const std::span<char> range = RangeOf(*mapped->session, extent);
  state.state = State::kEnding;
  ++mapped->uses;
  ++mapped->ending;
  mutex_.Unlock();
  const Outcome outcome = device_->Register(range, Device::Registration::kEnd);
  mutex_.Lock();
  --mapped->uses;
  --mapped->ending;
  state.state = outcome.ok() ? State::kUnknown : State::kStuck;
  Settled();
}

std::optional<std::uint64_t> DeviceMemory::FindWantedUnused(
    const Mapped& mapped) const {
  for (const Wish& wish : mapped.wishes) {
    for (std::uint64_t extent = wish.first; extent < wish.end; ++extent) {
      const Extent& state = mapped.extents[extent];
      if (state.state == State::kRegistered && state.uses == 0) return extent;
    }
  }
  return std::nullopt;
}

// What another thread is just ending, that one answers.
void DeviceMemory::AnswerWishes(Mapped* mapped) {
  while (const auto extent = FindWantedUnused(*mapped)) {
    UnregisterExtent(mapped, *extent);
  }
  std::erase_if(mapped->wishes, [&](const Wish& wish) {
    for (std::uint64_t extent = wish.first; extent < wish.end; ++extent) {
      if (mapped->extents[extent].state != State::kUnknown) return false;
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
    if (state.state != State::kRegistered || state.uses != 0) continue;
    UnregisterExtent(mapped, extent);
    ++dropped;
    if (state.state != State::kUnknown) continue;
    holds_->Release(mapped->session, extent * kExtentBytes);
  }
  return dropped;
}

}  // namespace agentmem::client
