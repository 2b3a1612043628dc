// The driver's phases behind the requests: Settle and Recover.
#include <poll.h>
#include <sys/wait.h>

#include <algorithm>
#include <optional>

#include "base/status.h"
#include "tests/demo/driver.h"

namespace agentmem::demo {
namespace {

using State = AgentHandle::State;

constexpr DurationNs kReclaimNs = 5 * kSecondNs;
constexpr DurationNs kAgentsNs = 40 * kSecondNs;

}  // namespace

// Includes the time that memctl takes to start and to ask.
void Driver::MeasureReclaim(pid_t pid, TimeNs died) {
  while (true) {
    const auto pids = probe_.ClientPids();
    if (!pids.ok()) return result_->Trouble(StatusMessage(pids.status()));
    const DurationNs since = MonotonicNowNs() - died;
    if (std::find(pids->begin(), pids->end(), pid) == pids->end()) {
      result_->reclaim_ms_max = std::max(
          result_->reclaim_ms_max, static_cast<double>(since) / kMillisecondNs);
      return;
    }
    if (since > kReclaimNs) {
      return result_->Trouble("memd still has a client " + std::to_string(pid) +
                              ", killed 5 s ago");
    }
  }
}

absl::Status Driver::StepUntilIdle(DurationNs patience) {
  const TimeNs end = MonotonicNowNs() + patience;
  while (MonotonicNowNs() < end && !result_->interrupted) {
    bool idle = true;
    for (std::size_t lane = 0; lane < agents_.size(); ++lane) {
      idle = idle && agents_[lane].state == State::kIdle;
    }
    if (idle) return absl::OkStatus();
    AGENTMEM_RETURN_IF_ERROR(Step());
  }
  if (result_->interrupted) return absl::OkStatus();
  return DeadlineExceeded("agents do not answer; " + Describe());
}

void Driver::QuitAgents() {
  for (std::size_t lane = 0; lane < agents_.size(); ++lane) {
    const std::optional<int> exit = agents_.Quit(lane);
    if (!exit.has_value()) {
      result_->Trouble("agent " + std::to_string(lane) +
                       " had to be killed at the end");
    } else if (*exit != 0) {
      result_->Trouble("agent " + std::to_string(lane) + " ended with " +
                       DescribeExit(*exit));
    }
  }
}

// Forked children of killed agents are still alive, with memd's socket open.
void Driver::Settle() {
  const TimeNs end = MonotonicNowNs() + kReclaimNs;
  while (true) {
    const absl::StatusOr<TenantSample> sample = probe_.Sample();
    if (!sample.ok()) return result_->Trouble(StatusMessage(sample.status()));
    result_->at_end = *sample;
    if (sample->Quiet()) return;
    if (MonotonicNowNs() >= end) {
      return result_->Trouble(
          "all agents are gone, but memd still counts " +
          std::to_string(sample->clients) + " clients, granted " +
          std::to_string(sample->granted_bytes) + ", pinned " +
          std::to_string(sample->pinned_bytes) + ", held " +
          std::to_string(sample->held_bytes) + ", limbo " +
          std::to_string(sample->limbo_bytes) + " bytes");
    }
  }
}

absl::Status Driver::Recover() {
  progress_.Say("killing memd; " + std::to_string(journal_.size()) +
                " blocks and objects were acknowledged as durable");
  for (std::size_t lane = 0; lane < agents_.size(); ++lane) {
    AGENTMEM_RETURN_IF_ERROR(agents_.Start(lane));
  }
  AGENTMEM_RETURN_IF_ERROR(StepUntilIdle(kAgentsNs));
  // Something to have in hand: the last requests once more.
  const std::uint64_t requests = workload_.header().requests;
  for (std::size_t lane = 0; lane < agents_.size(); ++lane) {
    SendWork(lane, requests - 1 - lane % requests, 0);
  }
  AGENTMEM_RETURN_IF_ERROR(StepUntilIdle(kAgentsNs));
  if (result_->interrupted) return absl::OkStatus();

  memd_->Kill();
  AGENTMEM_RETURN_IF_ERROR(ProbeWhileDown());
  const TimeNs start = MonotonicNowNs();
  AGENTMEM_RETURN_IF_ERROR(memd_->Start());
  result_->restart_seconds =
      static_cast<double>(MonotonicNowNs() - start) / kSecondNs;
  AGENTMEM_RETURN_IF_ERROR(VerifyDurable());
  QuitAgents();
  return absl::OkStatus();
}

absl::Status Driver::ProbeWhileDown() {
  Message message;
  message.type = MessageType::kProbe;
  for (std::size_t lane = 0; lane < agents_.size(); ++lane) {
    if (agents_.Send(lane, message)) agents_[lane].state = State::kBusy;
  }
  return StepUntilIdle(kAgentsNs);
}

// By the agents that were connected to the killed memd.
absl::Status Driver::VerifyDurable() {
  result_->recovered = true;
  // The journal grows while agents still report; from here on it does not.
  const auto journal = journal_;
  result_->durable_acknowledged = journal.size();
  auto next = journal.begin();
  while (next != journal.end() && !result_->interrupted) {
    for (std::size_t lane = 0; lane < agents_.size(); ++lane) {
      if (agents_[lane].state != State::kIdle || next == journal.end()) {
        continue;
      }
      Message message;
      message.type = MessageType::kVerify;
      message.low = next->first.first;
      message.high = next->first.second;
      message.flags = next->second.first;
      message.length = next->second.second;
      if (!agents_.Send(lane, message)) continue;
      agents_[lane].state = State::kBusy;
      ++next;
    }
    AGENTMEM_RETURN_IF_ERROR(Step());
  }
  return StepUntilIdle(kAgentsNs);
}

}  // namespace agentmem::demo
