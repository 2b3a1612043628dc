// The demo's working memory: agents that outlive their processes.
//
// In each round every agent gets a new process, which resumes it, compares all
// of its memory, and commits new versions. A round ends each process in
// another way: it quits, hibernates its agent, forks it (the fork takes part
// from the next round on), or is killed in mid-commit; in some rounds memd is
// killed instead. The last round also compares old versions. What may be there
// after a kill: memory_journal.h.
//
// With several nodes, each process of an agent is on another node than the one
// before, and all commits are durable, for other nodes to see. A node that was
// killed stays dead for one more round: its agents wake elsewhere.
//
// Ownership: borrows nodes and result; owns the processes. Threads: one, the
// one that constructed it. Errors: OK although things went wrong that the
// result tells; others when the demo cannot go on. Cost: the whole phase.
#ifndef AGENTMEM_TESTS_DEMO_MEMORY_PHASE_H_
#define AGENTMEM_TESTS_DEMO_MEMORY_PHASE_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "tests/demo/child_process.h"
#include "tests/demo/memory_journal.h"
#include "tests/demo/memory_protocol.h"
#include "tests/demo/nodes.h"
#include "tests/demo/options.h"
#include "tests/demo/run_result.h"

namespace agentmem::demo {

class MemoryPhase {
 public:
  struct Parts {
    Nodes* nodes;
    int signals;          // signalfd: readable when the user wants to stop
    std::string program;  // the demo's own
  };

  MemoryPhase(const DemoOptions& options, const Parts& parts,
              RunResult* result);

  absl::Status Run();

 private:
  // An agent, and the process that has it in this round.
  struct Actor {
    std::uint32_t number = 0;
    std::string name;
    MemoryJournal journal;
    std::uint32_t lives = 0;  // processes so far
    bool hibernated = false;
    std::size_t node = 0;
    bool moved = false;  // it was on another one before

    MemoryEnding ending = MemoryEnding::kQuit;
    std::uint32_t strike_at = 0;  // which of its commits brings the kill; 0: no
    bool strikes_memd = false;
    std::uint32_t intents = 0;
    bool resuming = false;  // opened one that there was, not yet compared
    bool finished = false;
    std::string last_words;
    ChildProcess process;
    UniqueFd socket;
  };

  absl::Status Round(std::uint32_t round);
  void Plan(std::uint32_t round);
  void Place(Actor* actor);
  absl::Status Start(Actor* actor, std::uint32_t commits);
  // Until all processes have ended.
  void Watch();
  bool Step();  // false: nobody runs any more
  void Receive(Actor* actor);
  void Handle(Actor* actor, const MemoryEvent& event);
  void Opened(Actor* actor, const MemoryEvent& event);
  void Strike(Actor* actor);
  void KillNode(std::size_t node);
  void Ended(Actor* actor, int wait_status);
  void KillOrphans();
  void KillAll(const char* why);
  void End(Actor* actor);
  absl::Status MendNodes();
  void CountPoolHits();
  void AddForks();
  void Trouble(const Actor& actor, std::uint64_t version,
               const std::string& text);

  const DemoOptions options_;
  Nodes* const nodes_;
  const int signals_;
  const std::string program_;
  RunResult* const result_;
  MemoryResult* const memory_;
  const std::uint64_t region_bytes_;
  std::mt19937_64 random_;
  std::deque<Actor> actors_;
  std::deque<std::pair<std::string, MemoryJournal>> forked_;  // in this round
  std::optional<std::size_t> killed_;  // node, in this round
  std::optional<std::size_t> down_;    // node, since an earlier one
  TimeNs orphans_end_ns_ = kNoDeadline;
  TimeNs round_ends_ns_ = 0;
  std::vector<std::uint64_t> pool_hits_;  // of each node, when asked last
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_MEMORY_PHASE_H_
