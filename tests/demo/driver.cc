#include "tests/demo/driver.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include "base/status.h"

namespace agentmem::demo {
namespace {

using State = AgentHandle::State;

constexpr int kStepMs = 1000;
// Agents that die by themselves: the first few are replaced.
constexpr std::uint64_t kDeathsMax = 10;
constexpr std::uint64_t kSamples = 10;

double Seconds(DurationNs duration) {
  return static_cast<double>(duration) / kSecondNs;
}

}  // namespace

Driver::Driver(const DemoOptions& options, const Parts& parts)
    : options_(options),
      workload_(parts.workload->data()),
      board_(reinterpret_cast<Scoreboard*>(parts.board->data())),
      memd_(parts.memd),
      signals_(parts.signals),
      probe_(options.memctl, parts.memd->socket_path()),
      agents_({parts.program, parts.memd->socket_path(), parts.workload->fd(),
               parts.board->fd()},
              options.agents),
      kills_(options.kills, workload_.header().requests, options.seed),
      progress_(STDOUT_FILENO, workload_.header().requests) {}

absl::Status Driver::Run(RunResult* result) {
  result_ = result;
  started_ns_ = MonotonicNowNs();
  absl::Status status = Work();
  result_->work_seconds = Seconds(MonotonicNowNs() - started_ns_);
  if (status.ok() && !result_->interrupted) {
    QuitAgents();
    Settle();
    if (options_.recovery) status = Recover();
  }
  agents_.CutLifeline();
  for (std::size_t lane = 0; lane < agents_.size(); ++lane) agents_.Kill(lane);
  result_->seconds = Seconds(MonotonicNowNs() - started_ns_);
  return status;
}

absl::Status Driver::Work() {
  working_ = true;
  for (std::uint64_t i = 0; i < workload_.header().requests; ++i) {
    queue_.push_back(i);
  }
  for (std::size_t lane = 0; lane < agents_.size(); ++lane) {
    AGENTMEM_RETURN_IF_ERROR(agents_.Start(lane));
  }
  const TimeNs end =
      started_ns_ + static_cast<DurationNs>(options_.seconds_max) * kSecondNs;
  while (result_->requests_done < workload_.header().requests) {
    if (MonotonicNowNs() >= end) {
      result_->out_of_time = true;
      result_->Trouble("stopped after " + std::to_string(options_.seconds_max) +
                       " s (--seconds-max); " + Describe());
      break;
    }
    KillWhenDue();
    AGENTMEM_RETURN_IF_ERROR(Dispatch());
    AGENTMEM_RETURN_IF_ERROR(Step());
    if (result_->interrupted) break;
    TakeSample();
    progress_.Update(result_->requests_done, Describe(), MonotonicNowNs());
  }
  working_ = false;
  return absl::OkStatus();
}

void Driver::KillWhenDue() {
  while (kills_.Due(result_->requests_done)) {
    const KillKind kind = kills_.Take();
    if (kind == KillKind::kAnywhere) {
      ++kills_owed_;
    } else {
      pose_flags_ = kPoseAtEnd;
      if (kind == KillKind::kPosedWithChild) pose_flags_ |= kForkBeforePose;
    }
  }
}

absl::Status Driver::Dispatch() {
  for (std::size_t lane = 0; lane < agents_.size(); ++lane) {
    if (agents_[lane].state != State::kIdle) continue;
    if (!HandOut(lane)) break;
  }
  std::vector<std::size_t> victims;
  for (std::size_t lane = 0; lane < agents_.size(); ++lane) {
    const AgentHandle& agent = agents_[lane];
    if (agent.state == State::kBusy && !agent.posing) victims.push_back(lane);
  }
  while (kills_owed_ > 0 && !victims.empty()) {
    const std::size_t chosen = kills_.Choose(victims.size());
    AGENTMEM_RETURN_IF_ERROR(KillAgent(victims[chosen]));
    victims.erase(victims.begin() + static_cast<std::ptrdiff_t>(chosen));
    --kills_owed_;
  }
  return absl::OkStatus();
}

// The first request whose conversation is at rest; false: there is none.
bool Driver::HandOut(std::size_t lane) {
  const auto found =
      std::find_if(queue_.begin(), queue_.end(), [this](std::uint64_t request) {
        return !IsTalking(workload_.conversation()[request]);
      });
  if (found == queue_.end()) return false;
  if (!SendWork(lane, *found, pose_flags_)) return true;  // it has just died
  queue_.erase(found);
  agents_[lane].posing = pose_flags_ != 0;
  if ((pose_flags_ & kForkBeforePose) != 0) ++result_->kills_forked;
  pose_flags_ = 0;
  return true;
}

bool Driver::IsTalking(std::uint32_t conversation) {
  for (std::size_t lane = 0; lane < agents_.size(); ++lane) {
    const AgentHandle& agent = agents_[lane];
    if (agent.state == State::kBusy &&
        workload_.conversation()[agent.request] == conversation) {
      return true;
    }
  }
  return false;
}

bool Driver::SendWork(std::size_t lane, std::uint64_t request,
                      std::uint32_t flags) {
  Message message;
  message.type = MessageType::kWork;
  message.number = request;
  message.flags = flags;
  if (!agents_.Send(lane, message)) return false;
  agents_[lane].state = State::kBusy;
  agents_[lane].request = request;
  return true;
}

absl::Status Driver::Step() {
  // Signals, memd, then two of each agent: its socket and its end.
  std::vector<pollfd> events = {{signals_, POLLIN, 0},
                                {memd_->pidfd(), POLLIN, 0}};
  for (std::size_t lane = 0; lane < agents_.size(); ++lane) {
    events.push_back({agents_[lane].socket.get(), POLLIN, 0});
    events.push_back({agents_[lane].process.pidfd(), POLLIN, 0});
  }
  if (poll(events.data(), events.size(), kStepMs) <= 0) {
    return absl::OkStatus();
  }
  if (events[0].revents != 0) {
    result_->interrupted = true;
    return absl::OkStatus();
  }
  if (memd_->running() && events[1].revents != 0) {
    return Unavailable("memd has died; its last words:\n" + memd_->LogTail());
  }
  for (std::size_t lane = 0; lane < agents_.size(); ++lane) {
    if ((events[2 + 2 * lane].revents & POLLIN) != 0) {
      AGENTMEM_RETURN_IF_ERROR(Receive(lane));
    }
    // Killed and replaced just now: the event was its predecessor's.
    const bool same = agents_[lane].process.pidfd() == events[3 + 2 * lane].fd;
    if (same && events[3 + 2 * lane].revents != 0 &&
        agents_[lane].process.Wait(0).has_value()) {
      AGENTMEM_RETURN_IF_ERROR(AgentDied(lane));
    }
  }
  return absl::OkStatus();
}

absl::Status Driver::Receive(std::size_t lane) {
  const int socket = agents_[lane].socket.get();
  Message message;
  while (ReceiveMessage(socket, &message, MSG_DONTWAIT)) {
    const bool posed = message.type == MessageType::kPosed;
    AGENTMEM_RETURN_IF_ERROR(Handle(lane, message));
    if (posed) break;  // it has been replaced
  }
  return absl::OkStatus();
}

absl::Status Driver::Handle(std::size_t lane, const Message& message) {
  AgentHandle& agent = agents_[lane];
  switch (message.type) {
    case MessageType::kReady:
      agent.state = State::kIdle;
      break;
    case MessageType::kDone:
      if (working_) ++result_->requests_done;
      agent.state = State::kIdle;
      break;
    case MessageType::kPosed:
      ++result_->kills_posed;
      return KillAgent(lane);
    case MessageType::kDurable:
      journal_[{message.low, message.high}] = {message.flags, message.length};
      break;
    case MessageType::kProbed:
      result_->resident_while_down += message.number;
      agent.state = State::kIdle;
      break;
    case MessageType::kVerified:
      if (message.number == 1) {
        ++result_->durable_verified;
      } else {
        result_->Trouble("durable, but lost after the restart of memd: " +
                         std::string(message.text));
      }
      agent.state = State::kIdle;
      break;
    case MessageType::kTrouble:
      result_->Trouble("agent " + std::to_string(lane) + ", request " +
                       std::to_string(message.number) + ": " + message.text);
      break;
    default:
      break;
  }
  return absl::OkStatus();
}

absl::Status Driver::AgentDied(std::size_t lane) {
  result_->Trouble("agent " + std::to_string(lane) + " died by itself; " +
                   Describe());
  if (++deaths_ > kDeathsMax) {
    return Unavailable("agents keep dying: " + result_->troubles.front());
  }
  Requeue(lane);
  return agents_.Start(lane);
}

absl::Status Driver::KillAgent(std::size_t lane) {
  const pid_t pid = agents_[lane].process.pid();
  agents_.Kill(lane);
  ++result_->kills;
  MeasureReclaim(pid, MonotonicNowNs());
  Requeue(lane);
  return agents_.Start(lane);
}

// What it sent before it died counts; if that was not its end, do it again.
void Driver::Requeue(std::size_t lane) {
  AgentHandle& agent = agents_[lane];
  agent.state = State::kBusy;
  Message message;
  while (ReceiveMessage(agent.socket.get(), &message, MSG_DONTWAIT)) {
    if (message.type != MessageType::kPosed) (void)Handle(lane, message);
  }
  if (agent.state == State::kBusy) {
    queue_.push_front(agent.request);
    ++result_->requests_redone;
  }
  agent.state = State::kGone;
}

void Driver::TakeSample() {
  const std::uint64_t total = workload_.header().requests;
  const std::uint64_t part = result_->requests_done * kSamples / total;
  if (part < sampled_ + 1 && !result_->samples.empty()) return;
  sampled_ = part;
  const absl::StatusOr<TenantSample> sample = probe_.Sample();
  if (!sample.ok()) return result_->Trouble(StatusMessage(sample.status()));
  result_->samples.push_back(
      {static_cast<double>(result_->requests_done) / static_cast<double>(total),
       Seconds(MonotonicNowNs() - started_ns_), *sample});
}

std::string Driver::Describe() const {
  std::string text =
      std::to_string(board_->Get(Counter::kHitsDram)) + " hits dram, " +
      std::to_string(board_->Get(Counter::kHitsStore)) + " store, " +
      std::to_string(result_->kills) + " kills, " +
      std::to_string(board_->Get(Counter::kMismatches)) + " mismatches";
  return text;
}

}  // namespace agentmem::demo
