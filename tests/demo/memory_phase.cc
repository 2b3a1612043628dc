#include "tests/demo/memory_phase.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include "base/status.h"
#include "tests/demo/admin_probe.h"

namespace agentmem::demo {
namespace {

constexpr std::uint64_t kRegionBytesMin = 1 << 20;
constexpr std::uint64_t kRegionBytesMax = 8 << 20;
// A region's share of the DRAM budget: all agents and their forks fit.
constexpr std::uint64_t kRegionShare = 16;
constexpr std::uint32_t kRounds = 8;
constexpr std::uint32_t kCommitsMin = 3;
constexpr std::uint32_t kCommitsMax = 6;
static_assert(kRounds * (kCommitsMax + 1) <= kMemoryVersionsMax);
// A commit takes from a fraction of a millisecond to some tens.
constexpr std::uint64_t kStrikeDelayNsMax = 8 * kMillisecondNs;
constexpr DurationNs kRoundNs = 30 * kSecondNs;
// How long a process may take to notice that memd is gone: twice its fault
// timeout. Those that have not ended by then are killed.
constexpr DurationNs kOrphansNs = 2 * kSecondNs;
constexpr int kStepMs = 100;

// Ends in a page of which there is only a part.
std::uint64_t RegionBytes(std::uint64_t dram_bytes) {
  const std::uint64_t bytes = std::clamp(dram_bytes / kRegionShare >> 20 << 20,
                                         kRegionBytesMin, kRegionBytesMax);
  return bytes + 3 * kMemoryUnitBytes;
}

bool KillsMemd(std::uint32_t round) { return round % 3 == 2; }

MemoryEnding EndingOf(std::uint32_t round, std::uint32_t agent) {
  if (round + 1 == kRounds) return MemoryEnding::kLooksBack;
  switch ((round + agent) % 4) {
    case 1:
      return MemoryEnding::kHibernates;
    case 2:
      return round % 3 == 1 ? MemoryEnding::kForks : MemoryEnding::kQuit;
    default:
      return MemoryEnding::kKilled;
  }
}

}  // namespace

MemoryPhase::MemoryPhase(const DemoOptions& options, const Parts& parts,
                         RunResult* result)
    : options_(options),
      nodes_(parts.nodes),
      signals_(parts.signals),
      program_(parts.program),
      result_(result),
      memory_(&result->memory),
      region_bytes_(RegionBytes(options.dram_bytes)),
      random_(Mix(options.seed + 0x6d656d)),
      pool_hits_(parts.nodes->count()) {
  for (std::uint32_t i = 0; i < options.memory_agents; ++i) {
    Actor& actor = actors_.emplace_back();
    actor.number = i;
    actor.name = "demo-" + std::to_string(i);
  }
}

absl::Status MemoryPhase::Run() {
  std::printf("\nworking memory: %u agents of %llu MiB, %u rounds, %zu %s\n",
              options_.memory_agents,
              static_cast<unsigned long long>(region_bytes_ >> 20), kRounds,
              nodes_->count(), nodes_->count() == 1 ? "node" : "nodes");
  std::fflush(stdout);
  const TimeNs start = MonotonicNowNs();
  absl::Status status;
  for (std::uint32_t round = 0;
       round < kRounds && status.ok() && !result_->interrupted; ++round) {
    status = Round(round);
  }
  memory_->nodes = nodes_->count();
  memory_->agents = actors_.size();
  memory_->seconds = static_cast<double>(MonotonicNowNs() - start) / kSecondNs;
  memory_->done = status.ok() && !result_->interrupted;
  return status;
}

absl::Status MemoryPhase::Round(std::uint32_t round) {
  killed_.reset();
  orphans_end_ns_ = kNoDeadline;
  round_ends_ns_ = MonotonicNowNs() + kRoundNs;
  Plan(round);
  for (Actor& actor : actors_) {
    const std::uint32_t commits =
        kCommitsMin + random_() % (kCommitsMax - kCommitsMin + 1);
    if (actor.ending == MemoryEnding::kKilled || actor.strikes_memd) {
      actor.strike_at = 1 + static_cast<std::uint32_t>(random_() % commits);
    }
    AGENTMEM_RETURN_IF_ERROR(Start(&actor, commits));
  }
  Watch();
  CountPoolHits();
  AGENTMEM_RETURN_IF_ERROR(MendNodes());
  AddForks();
  return absl::OkStatus();
}

// A lone node comes back at once. One of several is missed for a round.
absl::Status MemoryPhase::MendNodes() {
  if (down_.has_value()) {
    AGENTMEM_RETURN_IF_ERROR(nodes_->Start(*down_));
    down_.reset();
  }
  if (killed_.has_value()) {
    if (nodes_->count() == 1) return nodes_->Start(*killed_);
    down_ = killed_;
  }
  for (std::size_t node = 0; node < nodes_->count(); ++node) {
    if (node != down_) AGENTMEM_RETURN_IF_ERROR(nodes_->Check(node));
  }
  return absl::OkStatus();
}

// A node that was killed counts from 0 again.
void MemoryPhase::CountPoolHits() {
  for (std::size_t node = 0; node < nodes_->count(); ++node) {
    std::uint64_t& last = pool_hits_[node];
    if (node == killed_ || node == down_) {
      last = 0;
      continue;
    }
    const auto sample =
        AdminProbe(options_.memctl, nodes_->SocketPath(node)).Sample();
    if (!sample.ok()) {
      result_->Trouble(StatusMessage(sample.status()));
      continue;
    }
    memory_->pool_hits += sample->pool_hits - last;
    last = sample->pool_hits;
  }
}

void MemoryPhase::Plan(std::uint32_t round) {
  const bool kills_memd = options_.recovery && KillsMemd(round);
  for (Actor& actor : actors_) {
    actor.strike_at = 0;
    actor.strikes_memd = false;
    actor.ending =
        kills_memd ? MemoryEnding::kQuit : EndingOf(round, actor.number);
  }
  if (kills_memd) {
    actors_[random_() % actors_.size()].strikes_memd = true;
  }
}

// On the next node that runs.
void MemoryPhase::Place(Actor* actor) {
  const std::size_t before = actor->node;
  if (actor->lives == 0) {
    actor->node = actor->number % nodes_->count();
  } else {
    actor->node = (before + 1) % nodes_->count();
  }
  if (actor->node == down_) actor->node = (actor->node + 1) % nodes_->count();
  actor->moved = actor->lives != 0 && actor->node != before;
}

absl::Status MemoryPhase::Start(Actor* actor, std::uint32_t commits) {
  const auto order = std::make_unique<MemoryOrder>();
  Place(actor);
  ++actor->lives;
  std::snprintf(order->name, sizeof(order->name), "%s", actor->name.c_str());
  std::snprintf(order->fork_name, sizeof(order->fork_name), "%s-f%u",
                actor->name.c_str(), actor->lives);
  order->seed = options_.seed;
  order->region_bytes = region_bytes_;
  order->self = {actor->number, actor->lives};
  order->commits = commits;
  order->ending = actor->ending;
  order->take_over = random_() % 2;
  order->hibernated = actor->hibernated ? 1 : 0;
  order->durable = nodes_->count() > 1 ? 1 : 0;
  const std::vector<MemoryWriter>& writers = actor->journal.writers();
  order->versions = static_cast<std::uint32_t>(writers.size());
  std::copy(writers.begin(), writers.end(), order->writers.begin());

  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoStatus("a socket pair for an agent");
  }
  actor->socket = UniqueFd(ends[0]);
  const UniqueFd theirs(ends[1]);
  ChildOptions child;
  child.inherited = {theirs.get()};
  AGENTMEM_ASSIGN_OR_RETURN(
      actor->process, ChildProcess::Start({program_, "--memory-agent",
                                           std::to_string(theirs.get()),
                                           nodes_->SocketPath(actor->node)},
                                          child));
  if (send(ends[0], order.get(), sizeof(*order), MSG_NOSIGNAL) < 0) {
    return ErrnoStatus("an order to an agent");
  }
  actor->intents = 0;
  actor->resuming = false;
  actor->finished = false;
  actor->last_words.clear();
  actor->hibernated = false;
  ++memory_->processes;
  return absl::OkStatus();
}

void MemoryPhase::Watch() {
  while (Step()) {
    if (result_->interrupted) return KillAll("");
    const TimeNs now = MonotonicNowNs();
    if (now >= orphans_end_ns_) KillOrphans();
    if (now >= round_ends_ns_) return KillAll("a process does not end");
  }
}

bool MemoryPhase::Step() {
  std::vector<pollfd> events = {{signals_, POLLIN, 0}};
  bool running = false;
  for (const Actor& actor : actors_) {
    running = running || actor.process.running();
    const bool alive = actor.process.running();
    events.push_back({alive ? actor.socket.get() : -1, POLLIN, 0});
    events.push_back({actor.process.pidfd(), POLLIN, 0});
  }
  if (!running) return false;
  if (poll(events.data(), events.size(), kStepMs) <= 0) return true;
  result_->interrupted = events[0].revents != 0;
  for (std::size_t i = 0; i < actors_.size(); ++i) {
    Actor& actor = actors_[i];
    if ((events[1 + 2 * i].revents & POLLIN) != 0) Receive(&actor);
    if (events[2 + 2 * i].revents == 0 || !actor.process.running()) continue;
    if (const std::optional<int> exit = actor.process.Wait(0)) {
      Receive(&actor);
      Ended(&actor, *exit);
    }
  }
  return true;
}

void MemoryPhase::Receive(Actor* actor) {
  MemoryEvent event;
  while (recv(actor->socket.get(), &event, sizeof(event), MSG_DONTWAIT) ==
         static_cast<ssize_t>(sizeof(event))) {
    Handle(actor, event);
  }
}

void MemoryPhase::Handle(Actor* actor, const MemoryEvent& event) {
  switch (event.type) {
    case MemoryEventType::kOpened:
      return Opened(actor, event);
    case MemoryEventType::kCompared:
      memory_->bytes_verified += event.number;
      if (std::exchange(actor->resuming, false)) {
        ++memory_->resumes;
        if (actor->moved) ++memory_->moves;
      }
      break;
    case MemoryEventType::kMismatch:
      ++memory_->mismatches;
      return Trouble(*actor, event.version,
                     "a wrong byte at offset " + std::to_string(event.number) +
                         ", " + event.text);
    case MemoryEventType::kIntent:
      actor->journal.Intend({actor->number, actor->lives});
      if (++actor->intents == actor->strike_at) Strike(actor);
      break;
    case MemoryEventType::kAcknowledged:
      ++memory_->commits;
      memory_->commits_durable += event.number;
      actor->journal.Acknowledge(event.number != 0);
      break;
    case MemoryEventType::kDelayed:
      ++memory_->delays;
      memory_->delay_ns_max = std::max(memory_->delay_ns_max, event.number);
      break;
    case MemoryEventType::kHibernated:
      ++memory_->hibernations;
      memory_->hibernated_bytes += event.number;
      actor->hibernated = true;
      break;
    case MemoryEventType::kForked:
      ++memory_->forks;
      forked_.emplace_back(actor->name + "-f" + std::to_string(actor->lives),
                           actor->journal);
      break;
    case MemoryEventType::kUnavailable:
      actor->last_words = ", " + std::string(event.text);
      break;
    case MemoryEventType::kTrouble:
      return Trouble(*actor, event.version, event.text);
    case MemoryEventType::kFinished:
      actor->finished = true;
      break;
    case MemoryEventType::kNone:
      break;
  }
}

void MemoryPhase::Opened(Actor* actor, const MemoryEvent& event) {
  MemoryJournal& journal = actor->journal;
  const std::uint64_t oldest = journal.oldest();
  const std::uint64_t newest = journal.newest();
  const std::uint64_t acknowledged = journal.acknowledged();
  if (!journal.Resumed(event.version)) {
    ++memory_->mismatches;
    return Trouble(*actor, event.version,
                   "opened at this version; right are " +
                       std::to_string(oldest) + " to " +
                       std::to_string(newest));
  }
  if (event.version > acknowledged) ++memory_->commits_rescued;
  if (event.version < acknowledged) {
    memory_->commits_undone += acknowledged - event.version;
  }
  if (event.version == 0) return;
  actor->resuming = true;
  memory_->first_page.Record(static_cast<std::int64_t>(event.number));
}

// Half of the strikes come at once, the others some time into the commit.
void MemoryPhase::Strike(Actor* actor) {
  const auto delay_ns =
      static_cast<long>(random_() % 2 == 0 ? 0 : random_() % kStrikeDelayNsMax);
  const timespec delay = {0, delay_ns};
  pollfd answer = {actor->socket.get(), POLLIN, 0};
  ppoll(&answer, 1, &delay, nullptr);
  if (actor->strikes_memd) return KillNode(actor->node);
  End(actor);  // what it has still said is heard, no more
  ++memory_->kills;
  if (actor->journal.in_flight()) ++memory_->kills_mid_commit;
}

void MemoryPhase::KillNode(std::size_t node) {
  const absl::Status status = nodes_->Kill(node);
  if (!status.ok()) return result_->Trouble(StatusMessage(status));
  killed_ = node;
  ++memory_->memd_kills;
  orphans_end_ns_ = MonotonicNowNs() + kOrphansNs;
  for (Actor& actor : actors_) {
    if (actor.node == node) actor.journal.MemdWasKilled();
  }
}

void MemoryPhase::Ended(Actor* actor, int wait_status) {
  if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0 &&
      actor->finished) {
    return;
  }
  // What needs two nodes may be UNAVAILABLE while one's death is noticed.
  const bool unavailable =
      WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == kMemdIsGone;
  const bool no_memory =
      WIFSIGNALED(wait_status) &&
      (WTERMSIG(wait_status) == SIGBUS || WTERMSIG(wait_status) == SIGSEGV);
  if (killed_.has_value() && unavailable) return;
  if (killed_ == actor->node && no_memory) return;
  Trouble(*actor, actor->journal.newest(),
          "its process on node " + std::to_string(actor->node) +
              " ended with " + DescribeExit(wait_status) +
              (killed_.has_value() ? " (killed in this round: node " +
                                         std::to_string(*killed_) + ")"
                                   : "") +
              actor->last_words);
}

// A process may wait for ever for a page where the kernel cannot end that.
void MemoryPhase::KillOrphans() {
  for (Actor& actor : actors_) {
    if (actor.node == killed_ && actor.process.running()) End(&actor);
  }
  orphans_end_ns_ = kNoDeadline;
}

void MemoryPhase::KillAll(const char* why) {
  for (Actor& actor : actors_) {
    if (!actor.process.running()) continue;
    End(&actor);
    if (*why != '\0') Trouble(actor, actor.journal.newest(), why);
  }
}

void MemoryPhase::End(Actor* actor) {
  actor->strike_at = 0;
  actor->process = ChildProcess();
  Receive(actor);
}

void MemoryPhase::AddForks() {
  for (auto& [name, journal] : std::exchange(forked_, {})) {
    Actor& actor = actors_.emplace_back();
    actor.number = static_cast<std::uint32_t>(actors_.size() - 1);
    actor.name = name;
    actor.journal = std::move(journal);
  }
}

void MemoryPhase::Trouble(const Actor& actor, std::uint64_t version,
                          const std::string& text) {
  result_->Trouble("agent " + actor.name + ", process " +
                   std::to_string(actor.lives) + ", version " +
                   std::to_string(version) + ": " + text);
}

}  // namespace agentmem::demo
