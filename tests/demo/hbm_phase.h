// The demo's agents with KV caches in device memory (--hbm).
//
// Each node has an engine (hbm_engine.h), each engine some of the agents. In
// each round every agent takes a turn: its blocks are loaded and compared, and
// more of them stored. There are more blocks than HBM and DRAM hold, so they
// come from every tier. Then a tool runs; then some agents wait for a human,
// and memctl must show that their HBM is empty by memd's deadline; then these
// reason again, and their blocks must be back in HBM before they are loaded. At
// its end a round may kill an engine in the midst of its copies, or a memd
// (hbm_plan.h); another engine, which keeps its pages in another order, goes on
// with the agents. Before that memctl must show all that was found in HBM.
//
// With several nodes each agent is on another node than in the round before.
// A lone node must have all that it acknowledged as durable. Of several, one
// may be away, and a block of class cache, as KV blocks are, is looked for
// where its key's group has its places and nowhere else: what is not found is
// computed again, and must be the exception.
//
// Ownership: borrows nodes and result; owns the processes. Threads: one, the
// one that constructed it. Errors: OK although things went wrong that the
// result tells; others when the demo cannot go on. Cost: the whole phase.
#ifndef AGENTMEM_TESTS_DEMO_HBM_PHASE_H_
#define AGENTMEM_TESTS_DEMO_HBM_PHASE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "tests/demo/admin_probe.h"
#include "tests/demo/child_process.h"
#include "tests/demo/hbm_plan.h"
#include "tests/demo/hbm_protocol.h"
#include "tests/demo/nodes.h"
#include "tests/demo/options.h"
#include "tests/demo/run_result.h"

namespace agentmem::demo {

class HbmPhase {
 public:
  struct Parts {
    Nodes* nodes;
    int signals;          // signalfd: readable when the user wants to stop
    std::string program;  // the demo's own
  };

  HbmPhase(const DemoOptions& options, const Parts& parts, RunResult* result);

  absl::Status Run();

 private:
  struct Engine {
    std::size_t node = 0;
    std::uint32_t pending = 0;  // orders
    bool striking = false;      // it said kMidCopy, and nothing since
    bool is_quitting = false;
    std::string last_words;
    ChildProcess process;
    UniqueFd socket;
  };
  struct Actor {
    std::uint32_t number = 0;
    std::size_t node = 0;
    std::uint32_t turns = 0;
    std::uint32_t blocks = 0;  // acknowledged as durable
    bool moved = false;        // it was on another node before
    bool is_back = false;      // it has waited, and its blocks came back
  };

  absl::Status Round(std::uint32_t round);
  void Place(Actor* actor);
  absl::Status StartEngines();
  absl::Status StartEngine(std::size_t node);
  // One step of a round each, of all agents.
  void TakeTurns();
  void UseTools();
  void WaitForHumans(std::uint32_t round);
  void Return(const std::vector<Actor*>& waited);
  void Strike(std::uint32_t round);
  void Leave();
  void Quit();
  absl::Status MendNodes();
  void CountHits();
  void AwaitHits();
  void Settle();

  bool IsServed(const Actor& actor) const;
  void Order(const Actor& actor, HbmOrder order);
  HbmOrder LoadOf(const Actor& actor) const;
  // Its newest blocks alone.
  HbmOrder TailOf(const Actor& actor, std::uint64_t blocks) const;
  // Until all orders are done, or those who had them have ended.
  void Await();
  void Step(int timeout_ms);
  void Receive(Engine* engine);
  void Handle(Engine* engine, const HbmEvent& event);
  void StrikeNow(Engine* engine);
  void End(Engine* engine);
  void Ended(Engine* engine, int wait_status);
  // Until `done` says so of what memctl shows, or it took too long.
  using Samples = std::vector<HbmSample>;  // by node
  bool AwaitHbm(const std::function<bool(const Samples&)>& done,
                DurationNs patience);
  absl::StatusOr<Samples> SampleAll();
  static HbmSample::Agent Of(const Samples& samples, const Actor& actor);
  // Those that have done what `wish` says; the others are told as a trouble.
  std::vector<HbmSample::Agent> AwaitWish(const std::vector<Actor*>& actors,
                                          const std::string& wish);
  void Trouble(const Engine& engine, const std::string& text);

  const DemoOptions options_;
  Nodes* const nodes_;
  const int signals_;
  const std::string program_;
  RunResult* const result_;
  HbmResult* const hbm_;
  const HbmPlan plan_;
  const std::uint64_t hbm_bytes_;  // of each engine
  const std::uint32_t append_;     // blocks a turn
  std::deque<Actor> actors_;
  std::vector<Engine> engines_;            // by node
  std::vector<std::uint64_t> hits_shown_;  // of each node, when asked last
  // What its memctl must show: what it showed as its engine began, and what
  // that has found since. (What one found that was killed may never be told.)
  std::vector<std::uint64_t> hits_due_;
  std::uint32_t round_ = 0;
  bool kills_memd_ = false;            // instead of the engine that strikes
  std::optional<std::size_t> killed_;  // node, in this round
  std::optional<std::size_t> down_;    // node, since an earlier one
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_HBM_PHASE_H_
