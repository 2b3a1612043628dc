// Runs the demo: hands out requests, kills agents, keeps the journal of what
// was acknowledged as durable, and holds memd to it.
//
// The phases, in order: Work (all requests, with kills), Settle (all agents
// gone: memd must hold nothing for anybody), Recover (memd is killed; what is
// in DRAM is read meanwhile; memd is started again and everything durable is
// read), End.
//
// Ownership: owns the agents; borrows the rest. Threads: one, the one that
// constructed it. Errors: OK although things went wrong that a result can tell;
// others when the demo cannot go on. Cost: the whole run.
#ifndef AGENTMEM_TESTS_DEMO_DRIVER_H_
#define AGENTMEM_TESTS_DEMO_DRIVER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "tests/demo/admin_probe.h"
#include "tests/demo/agent_pool.h"
#include "tests/demo/kill_plan.h"
#include "tests/demo/memd_process.h"
#include "tests/demo/options.h"
#include "tests/demo/progress.h"
#include "tests/demo/run_result.h"
#include "tests/demo/scoreboard.h"
#include "tests/demo/shared_region.h"
#include "tests/demo/workload.h"

namespace agentmem::demo {

class Driver {
 public:
  struct Parts {
    const SharedRegion* workload;
    const SharedRegion* board;
    MemdProcess* memd;
    int signals;          // signalfd: readable when the user wants to stop
    std::string program;  // the demo's own
  };

  Driver(const DemoOptions& options, const Parts& parts);

  absl::Status Run(RunResult* result);

 private:
  // driver.cc
  absl::Status Work();
  void KillWhenDue();
  absl::Status Dispatch();
  bool HandOut(std::size_t lane);
  bool IsTalking(std::uint32_t conversation);
  bool SendWork(std::size_t lane, std::uint64_t request, std::uint32_t flags);
  // Waits for whatever comes first, and sees to it.
  absl::Status Step();
  absl::Status Receive(std::size_t lane);
  absl::Status Handle(std::size_t lane, const Message& message);
  absl::Status AgentDied(std::size_t lane);
  absl::Status KillAgent(std::size_t lane);
  void Requeue(std::size_t lane);
  void TakeSample();
  std::string Describe() const;

  // driver_phases.cc
  void MeasureReclaim(pid_t pid, TimeNs died);
  absl::Status StepUntilIdle(DurationNs patience);
  void QuitAgents();
  void Settle();
  absl::Status Recover();
  absl::Status ProbeWhileDown();
  absl::Status VerifyDurable();

  const DemoOptions options_;
  const Workload workload_;
  Scoreboard* const board_;
  MemdProcess* const memd_;
  const int signals_;
  const AdminProbe probe_;
  AgentPool agents_;
  KillPlan kills_;
  Progress progress_;
  RunResult* result_ = nullptr;

  TimeNs started_ns_ = 0;
  std::deque<std::uint64_t> queue_;  // requests to do
  std::uint64_t sampled_ = 0;        // tenths of the run
  std::uint32_t pose_flags_ = 0;     // for the next request handed out
  int kills_owed_ = 0;               // wherever a busy agent is
  std::uint64_t deaths_ = 0;         // that nobody here caused
  bool working_ = false;             // requests count
  // Acknowledged as durable: content -> (flags, length).
  std::map<std::pair<std::uint64_t, std::uint64_t>,
           std::pair<std::uint32_t, std::uint64_t>>
      journal_;
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_DRIVER_H_
