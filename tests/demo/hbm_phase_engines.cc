// HbmPhase and its engines' processes: orders, events, deaths.
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "agentmem/agentmem.h"
#include "base/status.h"
#include "tests/demo/hbm_engine.h"
#include "tests/demo/hbm_phase.h"
#include "tests/demo/memory_protocol.h"

namespace agentmem::demo {
namespace {

constexpr DurationNs kOrdersNs = 60 * kSecondNs;
// How long an engine may take to notice that its memd is gone.
constexpr DurationNs kOrphansNs = 2 * kSecondNs;
constexpr int kStepMs = 100;

}  // namespace

absl::Status HbmPhase::StartEngines() {
  for (const Engine& engine : engines_) {
    if (engine.process.running() || engine.node == down_) continue;
    AGENTMEM_RETURN_IF_ERROR(StartEngine(engine.node));
  }
  return absl::OkStatus();
}

absl::Status HbmPhase::StartEngine(std::size_t node) {
  Engine& engine = engines_[node];
  HbmSetup setup;
  ++hbm_->engines;
  std::snprintf(setup.name, sizeof(setup.name), "engine-%llu",
                static_cast<unsigned long long>(hbm_->engines));
  setup.seed = options_.seed;
  setup.hbm_bytes = hbm_bytes_;
  setup.order =
      hbm_->engines % 2 == 0 ? KvOrder::kHeadsFirst : KvOrder::kTokensFirst;
  setup.patient = nodes_->count() > 1 ? 1 : 0;
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoStatus("a socket pair for an engine");
  }
  engine.socket = UniqueFd(ends[0]);
  const UniqueFd theirs(ends[1]);
  ChildOptions child;
  child.inherited = {theirs.get()};
  AGENTMEM_ASSIGN_OR_RETURN(engine.process,
                            ChildProcess::Start({program_, "--hbm-engine",
                                                 std::to_string(theirs.get()),
                                                 nodes_->SocketPath(node)},
                                                child));
  if (send(ends[0], &setup, sizeof(setup), MSG_NOSIGNAL) < 0) {
    return ErrnoStatus("a setup for an engine");
  }
  engine.pending = 0;
  engine.striking = false;
  engine.is_quitting = false;
  engine.last_words.clear();
  hits_due_[node] = hits_shown_[node];
  return absl::OkStatus();
}

void HbmPhase::Await() {
  const TimeNs end = MonotonicNowNs() + kOrdersNs;
  TimeNs orphans_end = kNoDeadline;
  while (!result_->interrupted) {
    const bool waits =
        std::any_of(engines_.begin(), engines_.end(), [](const Engine& engine) {
          return engine.process.running() && engine.pending != 0;
        });
    if (!waits) return;
    Step(kStepMs);
    const TimeNs now = MonotonicNowNs();
    // Who has lost its memd may take its time to notice.
    if (killed_.has_value() && orphans_end == kNoDeadline) {
      orphans_end = now + kOrphansNs;
    }
    if (now >= orphans_end && killed_.has_value()) End(&engines_[*killed_]);
    if (now < end) continue;
    for (Engine& engine : engines_) {
      if (!engine.process.running() || engine.pending == 0) continue;
      Trouble(engine, "does not end what it was told");
      End(&engine);
    }
  }
}

void HbmPhase::Step(int timeout_ms) {
  std::vector<pollfd> events = {{signals_, POLLIN, 0}};
  for (const Engine& engine : engines_) {
    const bool runs = engine.process.running();
    events.push_back({runs ? engine.socket.get() : -1, POLLIN, 0});
    events.push_back({runs ? engine.process.pidfd() : -1, POLLIN, 0});
  }
  if (poll(events.data(), events.size(), timeout_ms) <= 0) return;
  result_->interrupted = events[0].revents != 0;
  for (std::size_t i = 0; i < engines_.size(); ++i) {
    Engine& engine = engines_[i];
    if ((events[1 + 2 * i].revents & POLLIN) != 0) Receive(&engine);
    if (events[2 + 2 * i].revents == 0 || !engine.process.running()) continue;
    if (const std::optional<int> exit = engine.process.Wait(0)) {
      Receive(&engine);
      Ended(&engine, *exit);
    }
  }
}

void HbmPhase::Receive(Engine* engine) {
  HbmEvent event;
  while (recv(engine->socket.get(), &event, sizeof(event), MSG_DONTWAIT) ==
         static_cast<ssize_t>(sizeof(event))) {
    Handle(engine, event);
  }
}

void HbmPhase::Handle(Engine* engine, const HbmEvent& event) {
  Actor* const actor =
      event.agent < actors_.size() ? &actors_[event.agent] : &actors_[0];
  switch (event.type) {
    case HbmEventType::kReady:
      hbm_->device = event.text;
      hbm_->budget_bytes = std::max(hbm_->budget_bytes, event.number);
      break;
    case HbmEventType::kNoGpu:
      hbm_->no_gpu = event.text;
      break;
    case HbmEventType::kMidCopy:
      engine->striking = true;
      return StrikeNow(engine);
    case HbmEventType::kLoaded:
      engine->striking = false;
      hbm_->bytes_verified += event.number;
      for (std::size_t tier = 0; tier < kHbmTiers; ++tier) {
        hbm_->hits[tier] += event.hits[tier];
      }
      hits_due_[engine->node] += event.hits[AGENTMEM_TIER_HBM];
      if (std::exchange(actor->moved, false)) ++hbm_->moves;
      if (!actor->is_back) break;
      hbm_->return_blocks += event.blocks;
      hbm_->return_hbm_hits += event.hits[AGENTMEM_TIER_HBM];
      break;
    case HbmEventType::kRecomputed:
      hbm_->recomputed += event.number;
      break;
    case HbmEventType::kStored:
      engine->striking = false;
      actor->blocks = event.blocks;
      break;
    case HbmEventType::kDelayed:
      ++hbm_->delays;
      hbm_->delay_ns_max = std::max(hbm_->delay_ns_max, event.number);
      break;
    case HbmEventType::kMismatch:
      ++hbm_->mismatches;
      return Trouble(*engine, HbmAgentName(event.agent) + ": " + event.text);
    case HbmEventType::kUnavailable:
      engine->last_words = ", " + std::string(event.text);
      break;
    case HbmEventType::kTrouble:
      return Trouble(*engine, HbmAgentName(event.agent) + ": " + event.text);
    case HbmEventType::kDone:
      if (engine->pending != 0) --engine->pending;
      break;
    case HbmEventType::kNone:
      break;
  }
}

void HbmPhase::StrikeNow(Engine* engine) {
  const timespec delay = {0, static_cast<long>(plan_.DelayNs(round_))};
  pollfd answer = {engine->socket.get(), POLLIN, 0};
  ppoll(&answer, 1, &delay, nullptr);
  if (kills_memd_) {
    const absl::Status status = nodes_->Kill(engine->node);
    if (!status.ok()) return result_->Trouble(StatusMessage(status));
    killed_ = engine->node;
    ++hbm_->memd_kills;
    return;
  }
  End(engine);  // what it has still said is heard, no more
  ++hbm_->kills;
  if (engine->striking) ++hbm_->kills_mid_copy;
}

void HbmPhase::End(Engine* engine) {
  engine->pending = 0;
  engine->process = ChildProcess();
  if (engine->socket.valid()) Receive(engine);
}

void HbmPhase::Ended(Engine* engine, int wait_status) {
  engine->pending = 0;
  const bool exited = WIFEXITED(wait_status);
  if (exited && WEXITSTATUS(wait_status) == 0 && engine->is_quitting) return;
  // What needs two nodes may be UNAVAILABLE while one's death is noticed.
  if (killed_.has_value() && exited &&
      WEXITSTATUS(wait_status) == kMemdIsGone) {
    return;
  }
  Trouble(*engine, "its process ended with " + DescribeExit(wait_status) +
                       engine->last_words);
}

void HbmPhase::Trouble(const Engine& engine, const std::string& text) {
  result_->Trouble("the engine on node " + std::to_string(engine.node + 1) +
                   ", round " + std::to_string(round_ + 1) + ": " + text);
}

}  // namespace agentmem::demo
