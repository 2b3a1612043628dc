// AgentSession: which pages leave when a tenant's memory is full. The coldest
// agents' first (tiering/warmth.h), in whatever process they are.
#include <algorithm>
#include <utility>
#include <vector>

#include "memd/agents/agent_session.h"
#include "tiering/warmth.h"

namespace agentmem {
namespace {

using tiering::Warmth;

// Colder than all: of a session that has nothing to let go.
constexpr std::uint8_t kNothing = 0xff;
// Of one agent's pages, before the others' turn comes.
constexpr std::size_t kPagesPerRound = 16;
// For another process: each round costs both of them a wake-up.
constexpr std::size_t kPagesForOthers = 64;
// Before others are asked again who were of no help.
constexpr DurationNs kAskAgainNs = 20 * kMillisecondNs;
// A process that is colder may be busy; then our own pages leave.
constexpr DurationNs kColderNs = 20 * kMillisecondNs;
// Pages that could not leave are looked at again.
constexpr DurationNs kNothingNs = 100 * kMillisecondNs;

}  // namespace

std::vector<AgentSession::WarmRegion> AgentSession::ByWarmth(TimeNs now) {
  std::vector<WarmRegion> all;
  for (const auto& [handle, mapped] : regions_) {
    MutexLock lock(&mapped->state->mutex);
    all.push_back(
        {tiering::WarmthOf(mapped->state->hint, mapped->state->hint_at, now),
         mapped->region.get()});
  }
  std::sort(all.begin(), all.end(),
            [](const auto& a, const auto& b) { return a.warmth < b.warmth; });
  return all;
}

bool AgentSession::MakeRoom() {
  if (making_room_) return false;
  making_room_ = true;
  bool made = false;
  const TimeNs now = clock_->Now();
  const std::vector<WarmRegion> own = ByWarmth(now);
  if (!AskColder(own.empty() ? Warmth::kWorking : own.front().warmth, now)) {
    for (const WarmRegion& warm : own) {
      made = warm.region->LetGo(kPagesPerRound) != 0;
      if (made) break;
    }
    if (!made) AskOthersForRoom();
  }
  making_room_ = false;
  return made;
}

// True: a process with colder memory was asked, and what waits here is tried
// again when it answers. At most kColderNs; so long as it has not answered,
// nobody else is asked.
bool AgentSession::AskColder(Warmth own, TimeNs now) {
  if (colder_asked_ != 0) return now - colder_asked_ < kColderNs;
  AgentSession* coldest = nullptr;
  const auto look = [&](AgentSession* session) {
    if (session == this) return;
    const std::uint8_t its = session->coldest_.load();
    if (its >= (coldest == nullptr ? static_cast<std::uint8_t>(own)
                                   : coldest->coldest_.load())) {
      return;
    }
    coldest = session;
  };
  const auto answered = [](AgentSession* asker) {
    asker->colder_asked_ = 0;
    asker->retry_at_ = 0;
  };
  // (Under the lock that keeps the session.)
  tenant_->ForEachSession(look, [&] {
    if (coldest == nullptr) return;
    coldest->Post([tenant = tenant_, token = token_, own,
                   answered](AgentSession* session) {
      session->GiveRoom(own);
      tenant->PostTo(token, answered);
    });
    colder_asked_ = now;
  });
  return coldest != nullptr;
}

// They let pages go in their own time; what waits here is tried again.
void AgentSession::AskOthersForRoom() {
  const TimeNs now = clock_->Now();
  if (now < ask_again_) return;
  ask_again_ = now + kAskAgainNs;
  tenant_->ForEachSession([this](AgentSession* session) {
    if (session != this) session->WantRoom();
  });
}

void AgentSession::WantRoom() {
  if (!room_wanted_.exchange(true)) Wake();
}

// For whom nobody is colder.
void AgentSession::GiveSome() {
  for (const WarmRegion& warm : ByWarmth(clock_->Now())) {
    if (warm.region->LetGo(kPagesPerRound) != 0) return;
  }
}

// For a process whose memory is all of `below` or warmer.
void AgentSession::GiveRoom(Warmth below) {
  const TimeNs now = clock_->Now();
  std::size_t gone = 0;
  for (const WarmRegion& warm : ByWarmth(now)) {
    if (warm.warmth >= below || gone >= kPagesForOthers) break;
    gone += warm.region->LetGo(kPagesForOthers - gone);
  }
  if (gone != 0) return;
  coldest_.store(kNothing);
  publish_at_ = now + kNothingNs;
}

void AgentSession::PublishColdest() {
  const TimeNs now = clock_->Now();
  std::uint8_t coldest = kNothing;
  publish_at_ = kNoDeadline;
  for (const auto& [handle, mapped] : regions_) {
    MutexLock lock(&mapped->state->mutex);
    const tiering::PhaseHint hint = mapped->state->hint;
    const TimeNs said_at = mapped->state->hint_at;
    coldest = std::min(coldest, static_cast<std::uint8_t>(
                                    tiering::WarmthOf(hint, said_at, now)));
    publish_at_ =
        std::min(publish_at_, tiering::NextChange(hint, said_at, now));
  }
  coldest_.store(coldest);
}

}  // namespace agentmem
