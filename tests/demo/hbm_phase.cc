#include "tests/demo/hbm_phase.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstdio>

#include "agentmem/agentmem.h"
#include "base/status.h"
#include "tests/demo/hbm_engine.h"

namespace agentmem::demo {
namespace {

// All blocks together, of the DRAM budget.
constexpr std::uint64_t kStateTimes = 4;
// Beyond memd's deadline, which memctl tells: then something is stuck.
constexpr DurationNs kWishNs = 10 * kSecondNs;
// Engines say once a second what they have found.
constexpr DurationNs kHitsNs = 10 * kSecondNs;
constexpr DurationNs kSettleNs = 5 * kSecondNs;
constexpr DurationNs kQuitNs = 10 * kSecondNs;
constexpr int kAskAgainMs = 1;
// The blocks that an agent looks at again when a tool has ended.
constexpr std::uint64_t kTailBlocks = 32;

double Took(const HbmSample::Agent& agent) {
  return static_cast<double>(agent.took_ns) / kMillisecondNs;
}

HbmOrder PhaseOf(std::uint32_t phase) {
  HbmOrder order;
  order.type = HbmOrderType::kPhase;
  order.phase = phase;
  return order;
}

}  // namespace

HbmPhase::HbmPhase(const DemoOptions& options, const Parts& parts,
                   RunResult* result)
    : options_(options),
      nodes_(parts.nodes),
      signals_(parts.signals),
      program_(parts.program),
      result_(result),
      hbm_(&result->hbm),
      plan_(options.seed, options.hbm_agents, options.recovery),
      hbm_bytes_(options.dram_bytes / 2),
      append_(HbmPlan::AppendedBlocks(kStateTimes * options.dram_bytes,
                                      options.hbm_agents)),
      engines_(parts.nodes->count()),
      hits_shown_(parts.nodes->count()),
      hits_due_(parts.nodes->count()) {
  for (std::uint32_t i = 0; i < options.hbm_agents; ++i) {
    actors_.emplace_back().number = i;
  }
  for (std::size_t node = 0; node < engines_.size(); ++node) {
    engines_[node].node = node;
  }
}

absl::Status HbmPhase::Run() {
  std::printf(
      "\nKV caches in HBM: %u agents, %u rounds of %u blocks of %u KiB each, "
      "%llu MiB of HBM an engine, %zu %s\n",
      options_.hbm_agents, HbmPlan::kRounds, append_, kKvBlockBytes >> 10,
      static_cast<unsigned long long>(hbm_bytes_ >> 20), nodes_->count(),
      nodes_->count() == 1 ? "node" : "nodes");
  std::fflush(stdout);
  const TimeNs start = MonotonicNowNs();
  absl::Status status;
  for (round_ = 0;
       round_ < HbmPlan::kRounds && status.ok() && !result_->interrupted;
       ++round_) {
    status = Round(round_);
  }
  if (status.ok() && !result_->interrupted) {
    Quit();
    CountHits();
    Settle();
  }
  for (Engine& engine : engines_) End(&engine);
  hbm_->nodes = nodes_->count();
  hbm_->agents = actors_.size();
  for (const Actor& actor : actors_) hbm_->blocks += actor.blocks;
  hbm_->seconds = static_cast<double>(MonotonicNowNs() - start) / kSecondNs;
  hbm_->done = status.ok() && !result_->interrupted;
  return status;
}

absl::Status HbmPhase::Round(std::uint32_t round) {
  for (Actor& actor : actors_) Place(&actor);
  CountHits();
  AGENTMEM_RETURN_IF_ERROR(StartEngines());
  TakeTurns();
  UseTools();
  WaitForHumans(round);
  AwaitHits();
  Strike(round);
  if (nodes_->count() > 1) Leave();
  return result_->interrupted ? absl::OkStatus() : MendNodes();
}

// On the next node that runs.
void HbmPhase::Place(Actor* actor) {
  const std::size_t before = actor->node;
  if (actor->turns == 0) {
    actor->node = actor->number % nodes_->count();
  } else {
    actor->node = (before + 1) % nodes_->count();
  }
  if (actor->node == down_) actor->node = (actor->node + 1) % nodes_->count();
  actor->moved = actor->turns != 0 && actor->node != before;
}

bool HbmPhase::IsServed(const Actor& actor) const {
  return engines_[actor.node].process.running() && actor.node != killed_;
}

void HbmPhase::Order(const Actor& actor, HbmOrder order) {
  Engine& engine = engines_[actor.node];
  if (!engine.process.running()) return;
  order.agent = actor.number;
  order.may_miss = nodes_->count() > 1 ? 1 : 0;
  // One that has just ended is noticed by Step.
  if (send(engine.socket.get(), &order, sizeof(order), MSG_NOSIGNAL) > 0) {
    ++engine.pending;
  }
}

HbmOrder HbmPhase::LoadOf(const Actor& actor) const {
  HbmOrder order;
  order.type = HbmOrderType::kLoad;
  order.blocks = actor.blocks;
  return order;
}

HbmOrder HbmPhase::TailOf(const Actor& actor, std::uint64_t blocks) const {
  HbmOrder order = LoadOf(actor);
  order.blocks =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(actor.blocks, blocks));
  order.first = actor.blocks - order.blocks;
  return order;
}

void HbmPhase::TakeTurns() {
  for (Actor& actor : actors_) {
    HbmOrder order = LoadOf(actor);
    order.type = HbmOrderType::kTurn;
    order.append = append_;
    ++actor.turns;
    Order(actor, order);
  }
  Await();
}

void HbmPhase::UseTools() {
  for (const Actor& actor : actors_) {
    Order(actor, PhaseOf(AGENTMEM_TOOL));
    Order(actor, TailOf(actor, kTailBlocks));
    Order(actor, PhaseOf(AGENTMEM_REASONING));
  }
  Await();
}

void HbmPhase::WaitForHumans(std::uint32_t round) {
  const auto before = SampleAll();
  if (!before.ok()) return result_->Trouble(StatusMessage(before.status()));
  std::vector<Actor*> waiting;
  for (Actor& actor : actors_) {
    // Who has nothing in HBM shows nothing by leaving it.
    if (!plan_.WaitsForHuman(round, actor.number) || !IsServed(actor) ||
        Of(*before, actor).bytes == 0) {
      continue;
    }
    Order(actor, PhaseOf(AGENTMEM_HUMAN_WAIT));
    waiting.push_back(&actor);
  }
  Await();
  hbm_->human_waits += waiting.size();
  for (const HbmSample::Agent& left : AwaitWish(waiting, "empty")) {
    ++hbm_->emptied;
    if (left.is_late) ++hbm_->emptied_late;
    hbm_->emptied_ms_max = std::max(hbm_->emptied_ms_max, Took(left));
  }
  Return(waiting);
}

void HbmPhase::Return(const std::vector<Actor*>& waited) {
  for (const Actor* actor : waited) {
    Order(*actor, PhaseOf(AGENTMEM_REASONING));
  }
  Await();
  hbm_->returns += waited.size();
  const std::vector<HbmSample::Agent> back = AwaitWish(waited, "bring_back");
  for (const HbmSample::Agent& agent : back) {
    if (agent.bytes != 0) ++hbm_->returned;
    hbm_->returned_ms_max = std::max(hbm_->returned_ms_max, Took(agent));
  }
  for (Actor* actor : waited) {
    actor->is_back = true;
    const std::string name = HbmAgentName(actor->number);
    const auto found = std::find_if(
        back.begin(), back.end(),
        [&](const HbmSample::Agent& agent) { return agent.name == name; });
    // Of all that it has, HBM had and has the newest.
    if (found != back.end()) {
      Order(*actor, TailOf(*actor, found->bytes / kKvBlockBytes));
    }
  }
  Await();
  for (Actor* actor : waited) actor->is_back = false;
}

std::vector<HbmSample::Agent> HbmPhase::AwaitWish(
    const std::vector<Actor*>& actors, const std::string& wish) {
  std::vector<HbmSample::Agent> done;
  std::vector<Actor*> left = actors;
  AwaitHbm(
      [&](const Samples& samples) {
        std::erase_if(left, [&](const Actor* actor) {
          const HbmSample::Agent now = Of(samples, *actor);
          const bool empty = now.bytes == 0;
          if (now.wish != wish || now.is_open) return false;
          if (wish == "empty" && !empty) return false;
          done.push_back(now);
          return true;
        });
        return left.empty();
      },
      kWishNs);
  for (const Actor* actor : left) {
    Trouble(engines_[actor->node], HbmAgentName(actor->number) +
                                       " has not done in 10 s what its " +
                                       "phase asks of it: " + wish);
  }
  return done;
}

// The one that is to be struck first, so that it is in the midst of it.
void HbmPhase::Strike(std::uint32_t round) {
  const std::optional<HbmPlan::Kill> kill = plan_.KillOf(round);
  if (!kill.has_value() || result_->interrupted) return;
  kills_memd_ = kill->memd;
  const Actor& victim = actors_[kill->agent];
  HbmOrder order = LoadOf(victim);
  order.type = HbmOrderType::kTurn;
  order.append = append_;
  order.strike = kill->strike;
  Order(victim, order);
  for (const Actor& actor : actors_) {
    if (&actor != &victim) Order(actor, LoadOf(actor));
  }
  Await();
}

void HbmPhase::Leave() {
  for (const Actor& actor : actors_) {
    HbmOrder order;
    order.type = HbmOrderType::kLeave;
    if (IsServed(actor)) Order(actor, order);
  }
  Await();
}

void HbmPhase::Quit() {
  for (Engine& engine : engines_) {
    if (!engine.process.running()) continue;
    engine.is_quitting = true;
    const HbmOrder order;  // kQuit
    send(engine.socket.get(), &order, sizeof(order), MSG_NOSIGNAL);
    const std::optional<int> exit = engine.process.Wait(kQuitNs);
    if (!exit.has_value()) {
      Trouble(engine, "had to be killed at the end");
      continue;
    }
    Receive(&engine);
    Ended(&engine, *exit);
  }
}

// A lone node comes back at once. One of several is missed for a round.
absl::Status HbmPhase::MendNodes() {
  if (down_.has_value()) {
    AGENTMEM_RETURN_IF_ERROR(nodes_->Start(*down_));
    down_.reset();
  }
  if (killed_.has_value()) {
    End(&engines_[*killed_]);
    hits_shown_[*killed_] = 0;  // it counts from 0 again
    if (nodes_->count() == 1) {
      AGENTMEM_RETURN_IF_ERROR(nodes_->Start(*killed_));
    } else {
      down_ = killed_;
    }
    killed_.reset();
  }
  for (std::size_t node = 0; node < nodes_->count(); ++node) {
    if (node != down_) AGENTMEM_RETURN_IF_ERROR(nodes_->Check(node));
  }
  return absl::OkStatus();
}

void HbmPhase::CountHits() {
  for (std::size_t node = 0; node < nodes_->count(); ++node) {
    if (node == down_) continue;
    const auto sample =
        AdminProbe(options_.memctl, nodes_->SocketPath(node)).Sample();
    if (!sample.ok()) {
      result_->Trouble(StatusMessage(sample.status()));
      continue;
    }
    hbm_->hits_shown += sample->hbm_hits - hits_shown_[node];
    hits_shown_[node] = sample->hbm_hits;
  }
}

// memctl must show all that engines which still run have found.
void HbmPhase::AwaitHits() {
  const auto is_late = [this](const Engine& engine) {
    return engine.process.running() && engine.node != down_ &&
           hits_shown_[engine.node] < hits_due_[engine.node];
  };
  const TimeNs end = MonotonicNowNs() + kHitsNs;
  for (;;) {
    CountHits();
    const auto late = std::find_if(engines_.begin(), engines_.end(), is_late);
    if (late == engines_.end() || result_->interrupted) return;
    if (MonotonicNowNs() >= end) {
      return Trouble(*late, "of " + std::to_string(hits_due_[late->node]) +
                                " hits in HBM on its node memctl shows " +
                                std::to_string(hits_shown_[late->node]));
    }
    Step(kAskAgainMs);
  }
}

// memd must hold nothing for anybody, and know of nothing in HBM.
void HbmPhase::Settle() {
  const bool empty = AwaitHbm(
      [](const Samples& samples) {
        return std::all_of(samples.begin(), samples.end(),
                           [](const HbmSample& now) {
                             return now.processes.empty() && now.agents.empty();
                           });
      },
      kSettleNs);
  if (!empty) {
    result_->Trouble("all engines are gone, but memctl still shows HBM");
  }
  for (std::size_t node = 0; node < nodes_->count(); ++node) {
    if (node == down_) continue;
    const AdminProbe probe(options_.memctl, nodes_->SocketPath(node));
    const TimeNs end = MonotonicNowNs() + kSettleNs;
    while (true) {
      const auto sample = probe.Sample();
      if (!sample.ok()) return result_->Trouble(StatusMessage(sample.status()));
      if (sample->Quiet()) break;
      if (MonotonicNowNs() < end) continue;
      return result_->Trouble("all engines are gone, but memd still counts " +
                              std::to_string(sample->clients) +
                              " clients, held " +
                              std::to_string(sample->held_bytes) + " bytes");
    }
  }
}

// Of the nodes that run; of others nothing.
absl::StatusOr<HbmPhase::Samples> HbmPhase::SampleAll() {
  Samples samples(nodes_->count());
  for (std::size_t node = 0; node < nodes_->count(); ++node) {
    if (node == down_ || node == killed_) continue;
    AGENTMEM_ASSIGN_OR_RETURN(
        samples[node],
        AdminProbe(options_.memctl, nodes_->SocketPath(node)).Hbm());
    for (const HbmSample::Process& process : samples[node].processes) {
      hbm_->budget_bytes = std::max(hbm_->budget_bytes, process.budget_bytes);
      hbm_->allocated_bytes =
          std::max(hbm_->allocated_bytes, process.allocated_bytes);
    }
  }
  return samples;
}

HbmSample::Agent HbmPhase::Of(const Samples& samples, const Actor& actor) {
  return samples[actor.node].Of(HbmAgentName(actor.number));
}

bool HbmPhase::AwaitHbm(const std::function<bool(const Samples&)>& done,
                        DurationNs patience) {
  const TimeNs end = MonotonicNowNs() + patience;
  while (!result_->interrupted) {
    const auto now = SampleAll();
    if (!now.ok()) {
      result_->Trouble(StatusMessage(now.status()));
      return false;
    }
    if (done(*now)) return true;
    if (MonotonicNowNs() >= end) return false;
    Step(kAskAgainMs);
  }
  return true;
}

}  // namespace agentmem::demo
