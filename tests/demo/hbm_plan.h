// What happens to whom in the rounds of the demo's agents with KV caches in
// device memory: a plan that a seed makes.
//
// Every round: some agents wait for a human in it, at most one engine is killed
// (in the midst of a load, or of a store), and in each third round it is memd
// that is killed instead. Each agent waits at least once and each engine's node
// has a kill in turn.
//
// Ownership: a value. Threads: thread-compatible. Errors: none. Cost: none.
#ifndef AGENTMEM_TESTS_DEMO_HBM_PLAN_H_
#define AGENTMEM_TESTS_DEMO_HBM_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "tests/demo/content.h"
#include "tests/demo/hbm_protocol.h"

namespace agentmem::demo {

class HbmPlan {
 public:
  static constexpr std::uint32_t kRounds = 7;

  struct Kill {
    std::uint32_t agent = 0;  // in whose copies
    HbmStrike strike = HbmStrike::kNever;
    bool memd = false;  // that of its node, and not its engine
  };

  HbmPlan(std::uint64_t seed, std::uint32_t agents, bool kills_memd)
      : seed_(Mix(seed + 0x68626d)), agents_(agents), kills_memd_(kills_memd) {}

  bool WaitsForHuman(std::uint32_t round, std::uint32_t agent) const {
    return (round + agent) % 2 == 0;
  }
  // None in the first round, which has nothing to load, nor in the last, which
  // looks at what all others have left.
  std::optional<Kill> KillOf(std::uint32_t round) const {
    if (round == 0 || round + 1 >= kRounds) return std::nullopt;
    Kill kill;
    kill.agent = static_cast<std::uint32_t>(Mix(seed_ + round) % agents_);
    kill.strike = round % 2 == 0 ? HbmStrike::kInStore : HbmStrike::kInLoad;
    kill.memd = kills_memd_ && round % 3 == 2;
    return kill;
  }
  // From the copies being posted; a batch of them takes a few milliseconds.
  std::uint64_t DelayNs(std::uint32_t round) const {
    const std::uint64_t chance = Mix(seed_ ^ Mix(round));
    return chance % 2 == 0 ? 0 : chance / 2 % kDelayNsMax;
  }
  // Blocks of an agent, so that all of them together are `state_bytes`.
  static std::uint32_t AppendedBlocks(std::uint64_t state_bytes,
                                      std::uint32_t agents) {
    const std::uint64_t blocks =
        state_bytes / (std::uint64_t{agents} * kRounds * kKvBlockBytes);
    return static_cast<std::uint32_t>(blocks == 0 ? 1 : blocks);
  }

 private:
  static constexpr std::uint64_t kDelayNsMax = 2'000'000;

  const std::uint64_t seed_;
  const std::uint32_t agents_;
  const bool kills_memd_;
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_HBM_PLAN_H_
