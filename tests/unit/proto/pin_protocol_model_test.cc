// The pin and wake-up protocols, explored exhaustively: every interleaving of
// a writer and two readers, one sequentially consistent access a step. Broken
// variants must be found wrong, or the exploration shows nothing.
#include <gtest/gtest.h>

#include <array>
#include <set>
#include <vector>

namespace agentmem {
namespace {

constexpr int kReaders = 2;
constexpr int kWriterTurns = 3;

struct Variant {
  bool second_look = true;
  bool scan_after_unpublish = true;
  bool generation_grows = true;
};

struct Reader {
  int step = 0;
  int attempts = 0;
  int generation = 0;
  auto operator<=>(const Reader&) const = default;
};

// One slot. Readers look for key 1; the writer puts keys 2, 1, 2 in its place.
struct State {
  int entry = 1;       // the key that the index leads to this slot; 0: none
  int generation = 1;  // odd: published
  int key = 1;         // in the slot
  int bytes = 1;       // whose bytes are in it
  std::array<int, kReaders> pins = {};
  std::array<Reader, kReaders> readers = {};
  int writer_step = 0;
  int writer_turn = 0;
  int scanned = 0;
  bool wrong = false;  // a confirmed pin saw other bytes than its key's
  auto operator<=>(const State&) const = default;
};

// False when the reader is done.
bool StepReader(const Variant& variant, int which, State* state) {
  Reader& reader = state->readers[static_cast<std::size_t>(which)];
  int& pin = state->pins[static_cast<std::size_t>(which)];
  switch (reader.step) {
    case 0:
      reader.step = state->entry == 1 ? 1 : 9;
      return true;
    case 1:
      reader.generation = state->generation;
      reader.step = state->generation % 2 == 1 ? 2 : 9;
      return true;
    case 2:
      reader.step = state->key == 1 ? 3 : 9;
      return true;
    case 3:
      pin = 1;
      reader.step = variant.second_look ? 4 : 5;
      return true;
    case 4:
      reader.step = state->generation == reader.generation ? 5 : 7;
      return true;
    case 5:
    case 6:  // twice: they must not change in between either
      state->wrong = state->wrong || state->bytes != 1;
      ++reader.step;
      return true;
    case 7:
      pin = 0;
      reader.step = ++reader.attempts < 2 ? 0 : 9;
      return true;
    default:
      return false;
  }
}

bool StepWriter(const Variant& variant, State* state) {
  if (state->writer_turn == kWriterTurns) return false;
  const int next = state->writer_turn % 2 == 0 ? 2 : 1;
  const auto scan = [&](int from, int then) {
    if (state->pins[static_cast<std::size_t>(state->scanned)] != 0) {
      state->scanned = 0;  // limbo: look again later
      state->writer_step = from;
    } else if (++state->scanned == kReaders) {
      state->scanned = 0;
      state->writer_step = then;
    }
  };
  switch (state->writer_step) {
    case 0:
      if (!variant.scan_after_unpublish) {
        scan(0, 1);
        return true;
      }
      state->writer_step = 1;
      return true;
    case 1:
      state->entry = 0;
      state->writer_step = 2;
      return true;
    case 2:
      state->generation = variant.generation_grows ? state->generation + 1 : 0;
      state->writer_step = variant.scan_after_unpublish ? 3 : 4;
      return true;
    case 3:
      scan(3, 4);
      return true;
    case 4:
      state->bytes = next;
      state->writer_step = 5;
      return true;
    case 5:
      state->key = next;
      state->writer_step = 6;
      return true;
    case 6:
      state->generation = variant.generation_grows ? state->generation + 1 : 1;
      state->writer_step = 7;
      return true;
    default:
      state->entry = next;
      state->writer_step = 0;
      ++state->writer_turn;
      return true;
  }
}

// Is there an interleaving in which a reader sees wrong bytes?
bool CanGoWrong(const Variant& variant, std::size_t* explored) {
  std::set<State> seen;
  std::vector<State> open = {State{}};
  while (!open.empty()) {
    const State state = open.back();
    open.pop_back();
    if (!seen.insert(state).second) continue;
    if (state.wrong) return true;
    for (int which = 0; which <= kReaders; ++which) {
      State next = state;
      const bool moved = which == kReaders ? StepWriter(variant, &next)
                                           : StepReader(variant, which, &next);
      if (moved) open.push_back(next);
    }
  }
  *explored = seen.size();
  return false;
}

TEST(PinProtocolModelTest, NoInterleavingShowsAReaderWrongBytes) {
  std::size_t explored = 0;
  EXPECT_FALSE(CanGoWrong(Variant{}, &explored));
  EXPECT_GT(explored, 10'000u);
}

TEST(PinProtocolModelTest, WithoutTheSecondLookItGoesWrong) {
  Variant variant;
  variant.second_look = false;
  std::size_t explored = 0;
  EXPECT_TRUE(CanGoWrong(variant, &explored));
}

TEST(PinProtocolModelTest, WithTheScanBeforeTheUnpublishItGoesWrong) {
  Variant variant;
  variant.scan_after_unpublish = false;
  std::size_t explored = 0;
  EXPECT_TRUE(CanGoWrong(variant, &explored));
}

TEST(PinProtocolModelTest, WithAGenerationThatComesBackItGoesWrong) {
  Variant variant;
  variant.generation_grows = false;
  std::size_t explored = 0;
  EXPECT_TRUE(CanGoWrong(variant, &explored));
}

// memd goes to sleep while a client posts: is the submission ever left alone?
struct WakeState {
  int tail = 0;
  int sleeping = 0;
  int rings = 0;
  int taken = 0;
  int client_step = 0;
  int memd_step = 0;  // 0 say so, 1 look again, 2 asleep, 3 take
  auto operator<=>(const WakeState&) const = default;
};

bool StepClient(WakeState* state) {
  switch (state->client_step) {
    case 0:
      ++state->tail;
      state->client_step = 1;
      return true;
    case 1:
      state->client_step = state->sleeping == 1 ? 2 : 3;
      state->sleeping = 0;
      return true;
    case 2:
      ++state->rings;
      state->client_step = 3;
      return true;
    default:
      return false;
  }
}

bool StepMemd(bool second_look, WakeState* state) {
  switch (state->memd_step) {
    case 0:
      state->sleeping = 1;
      state->memd_step = second_look ? 1 : 2;
      return true;
    case 1:
      state->memd_step = state->tail != state->taken ? 3 : 2;
      return true;
    case 2:
      if (state->rings == 0) return false;
      --state->rings;
      state->memd_step = 3;
      return true;
    default:
      state->sleeping = 0;
      state->taken = state->tail;
      state->memd_step = 0;
      return true;
  }
}

bool CanBeLeftAlone(bool second_look) {
  std::set<WakeState> seen;
  WakeState awake;
  awake.memd_step = 0;
  std::vector<WakeState> open = {awake};
  while (!open.empty()) {
    const WakeState state = open.back();
    open.pop_back();
    if (!seen.insert(state).second) continue;
    WakeState client = state;
    WakeState memd = state;
    const bool client_moved = StepClient(&client);
    const bool memd_moved = StepMemd(second_look, &memd);
    if (!client_moved && !memd_moved && state.tail != state.taken) return true;
    if (client_moved) open.push_back(client);
    if (memd_moved) open.push_back(memd);
  }
  return false;
}

TEST(WakeUpModelTest, NoSubmissionIsLeftAlone) {
  EXPECT_FALSE(CanBeLeftAlone(true));
}

TEST(WakeUpModelTest, WithoutTheSecondLookOneIs) {
  EXPECT_TRUE(CanBeLeftAlone(false));
}

}  // namespace
}  // namespace agentmem
