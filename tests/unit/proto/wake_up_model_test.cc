// How memd wakes a client (proto/client_layout.h), explored exhaustively: two
// completions, one waiter that wants both, one sequentially consistent access
// a step, in every order. The kernel's futex compares and goes to sleep in one
// step. Broken variants must be found wrong.
#include <gtest/gtest.h>

#include <compare>
#include <set>
#include <vector>

namespace agentmem {
namespace {

constexpr int kCompletions = 2;

struct Variant {
  bool signal_before_waiters = true;  // memd moves the word, then looks
  bool signal_read_before_look = true;
  bool counted_before_sleep = true;
};

struct State {
  int tail = 0;  // completions
  int signal = 0;
  int waiters = 0;
  bool asleep = false;
  int memd_step = 0;
  bool memd_saw_waiter = false;
  int client_step = 0;
  int client_seen = 0;
  auto operator<=>(const State&) const = default;
};

bool StepMemd(const Variant& variant, State* state) {
  const auto move_signal = [&] { ++state->signal; };
  const auto look = [&] { state->memd_saw_waiter = state->waiters != 0; };
  switch (state->memd_step) {
    case 0:
      if (state->tail == kCompletions) return false;
      ++state->tail;
      break;
    case 1:
      if (variant.signal_before_waiters) {
        move_signal();
      } else {
        look();
      }
      break;
    case 2:
      if (variant.signal_before_waiters) {
        look();
      } else {
        move_signal();
      }
      break;
    default:
      if (state->memd_saw_waiter) state->asleep = false;
      break;
  }
  state->memd_step = (state->memd_step + 1) % 4;
  return true;
}

// Reads the signal, looks for completions, counts itself, sleeps on the signal
// that it read, and begins again: Channel::WaitAll.
bool StepClient(const Variant& variant, State* state) {
  constexpr int kDone = 9;
  const auto read_signal = [&] {
    state->client_seen = state->signal;
    ++state->client_step;
  };
  const auto look = [&] {
    state->client_step =
        state->tail == kCompletions ? kDone : state->client_step + 1;
  };
  const auto count = [&] {
    ++state->waiters;
    ++state->client_step;
  };
  const auto go_to_sleep = [&] {
    state->asleep = state->signal == state->client_seen;
    ++state->client_step;
  };
  switch (state->client_step) {
    case 0:
      variant.signal_read_before_look ? read_signal() : look();
      return true;
    case 1:
      variant.signal_read_before_look ? look() : read_signal();
      return true;
    case 2:
      variant.counted_before_sleep ? count() : go_to_sleep();
      return true;
    case 3:
      variant.counted_before_sleep ? go_to_sleep() : count();
      return true;
    case 4:
      if (state->asleep) return false;
      --state->waiters;
      state->client_step = 0;
      return true;
    default:
      return false;
  }
}

// Is there an order in which the client sleeps on when all is there?
bool CanSleepForEver(const Variant& variant) {
  std::set<State> seen;
  std::vector<State> open = {State{}};
  while (!open.empty()) {
    const State state = open.back();
    open.pop_back();
    if (!seen.insert(state).second) continue;
    State memd = state;
    State client = state;
    const bool memd_moved = StepMemd(variant, &memd);
    const bool client_moved = StepClient(variant, &client);
    if (!memd_moved && !client_moved && state.asleep) return true;
    if (memd_moved) open.push_back(memd);
    if (client_moved) open.push_back(client);
  }
  return false;
}

TEST(CompletionWakeUpModelTest, NoWaiterSleepsOnWhenItsAnswerIsThere) {
  EXPECT_FALSE(CanSleepForEver(Variant{}));
}

TEST(CompletionWakeUpModelTest, LookingForWaitersFirstLosesAWakeUp) {
  Variant variant;
  variant.signal_before_waiters = false;
  EXPECT_TRUE(CanSleepForEver(variant));
}

TEST(CompletionWakeUpModelTest, ReadingTheSignalAfterTheLookLosesAWakeUp) {
  Variant variant;
  variant.signal_read_before_look = false;
  EXPECT_TRUE(CanSleepForEver(variant));
}

TEST(CompletionWakeUpModelTest, CountingTheWaiterTooLateLosesAWakeUp) {
  Variant variant;
  variant.counted_before_sleep = false;
  EXPECT_TRUE(CanSleepForEver(variant));
}

}  // namespace
}  // namespace agentmem
