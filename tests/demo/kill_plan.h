// When agents are killed, and how: decided ahead, from a seed.
//
// By progress, never by time, so that a slow machine kills as often. Half of
// the victims are killed wherever they are; the other half are asked to pose
// first (agent.h), some of those with a forked child.
//
// Ownership: owns its list. Threads: thread-compatible. Errors: none. Cost:
// O(kills) once.
#ifndef AGENTMEM_TESTS_DEMO_KILL_PLAN_H_
#define AGENTMEM_TESTS_DEMO_KILL_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace agentmem::demo {

enum class KillKind { kAnywhere, kPosed, kPosedWithChild };

class KillPlan {
 public:
  // One kill at a random request of each of `kills` equal parts of the run.
  KillPlan(std::uint32_t kills, std::uint64_t requests, std::uint64_t seed)
      : random_(seed) {
    for (std::uint32_t i = 0; i < kills; ++i) {
      const std::uint64_t begin = requests * i / kills;
      const std::uint64_t end = requests * (i + 1) / kills;
      const std::uint64_t room = end > begin + 1 ? end - begin - 1 : 1;
      at_.push_back(begin + random_() % room);
    }
  }

  // Is one due when so many requests are done?
  bool Due(std::uint64_t requests_done) const {
    return next_ < at_.size() && requests_done >= at_[next_];
  }
  KillKind Take() {
    const std::size_t index = next_++;
    if (index % 2 == 0) return KillKind::kAnywhere;
    return index % 6 == 3 ? KillKind::kPosedWithChild : KillKind::kPosed;
  }
  // Below `count`, which is not 0.
  std::size_t Choose(std::size_t count) { return random_() % count; }

 private:
  std::mt19937_64 random_;
  std::vector<std::uint64_t> at_;  // ascending
  std::size_t next_ = 0;
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_KILL_PLAN_H_
