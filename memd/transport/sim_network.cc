#include "memd/transport/sim_network.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "memd/transport/sim_transport.h"

namespace agentmem {
namespace {

// Spreads every bit of the value over the word: SplitMix64's finaliser.
std::uint64_t Mix(std::uint64_t bits) {
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ULL;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebULL;
  return bits ^ (bits >> 31);
}

}  // namespace

SimOptions SimOptions::Rough(std::uint64_t seed) {
  std::mt19937_64 random(seed ^ 0x726f756768ULL);
  // Every other fault is not there at all, so that each is also met alone.
  const auto rate = [&random](double max) {
    const bool there = random() % 2 == 0;
    const double part = static_cast<double>(random() % 1000 + 1) / 1000;
    return there ? part * max : 0.0;
  };
  SimOptions options;
  options.seed = seed;
  options.latency_max =
      options.latency_min +
      static_cast<DurationNs>(random() % (200 * kMicrosecondNs));
  options.bandwidth_bytes_per_s = random() % 2 == 0 ? 0 : 1'000'000'000;
  options.loss_rate = rate(0.05);
  options.loss_stall_rate = rate(0.02);
  options.reorder_rate = rate(0.3);
  options.completion_error_rate = rate(0.005);
  options.completion_lost_rate = rate(0.005);
  options.torn_rate = rate(0.5);
  options.late_write_rate = rate(1);
  options.messages_follow_writes = random() % 4 != 0;
  return options;
}

SimNetwork::SimNetwork(const SimOptions& options, ManualClock* clock)
    : options_(options), clock_(clock), random_(options.seed) {}

SimNetwork::~SimNetwork() {
  for (const Run& run : runs_) AGENTMEM_CHECK(run.transport == nullptr);
}

std::unique_ptr<Transport> SimNetwork::Add(const std::string& node) {
  for (const Run& run : runs_) {
    AGENTMEM_CHECK(run.node != node || run.transport == nullptr);
  }
  const std::uint64_t number = runs_.size() + 1;
  const std::string address = "sim:" + node + ":" + std::to_string(number);
  std::unique_ptr<SimTransport> transport(
      new SimTransport(this, number, address));
  runs_.push_back({node, address, transport.get(), true, 0});
  Trace(SimTrace::Kind::kStart, number, 0, 0);
  return transport;
}

std::uint64_t SimNetwork::LiveRunOf(const std::string& node) const {
  for (std::uint64_t number = runs_.size(); number > 0; --number) {
    if (runs_[number - 1].node == node && Find(number) != nullptr) {
      return number;
    }
  }
  return 0;
}

void SimNetwork::Kill(const std::string& node) {
  const std::uint64_t run = LiveRunOf(node);
  AGENTMEM_CHECK(run != 0);
  End(run, Death::kTold);
}

void SimNetwork::KillQuietly(const std::string& node) {
  const std::uint64_t run = LiveRunOf(node);
  AGENTMEM_CHECK(run != 0);
  End(run, Death::kQuiet);
}

void SimNetwork::PowerOff(const std::string& node) {
  const std::uint64_t run = LiveRunOf(node);
  AGENTMEM_CHECK(run != 0);
  End(run, Death::kMachine);
}

void SimNetwork::End(std::uint64_t run, Death death) {
  const bool answers = death != Death::kMachine;
  SimTransport* const dead = Find(run);
  if (dead == nullptr) return;
  Trace(SimTrace::Kind::kDeath, run, answers, 0);
  runs_[run - 1].transport = nullptr;
  runs_[run - 1].answers = answers;
  for (const auto& [number, operation] : dead->operations_) {
    if (operation.verb == SimTransport::Verb::kWrite && !operation.copied) {
      WriteLate(run, operation.peer, operation.transfer);
    }
  }
  Continue(runs_[run - 1].node);
  if (death != Death::kTold) return;
  for (std::uint64_t other = 1; other <= runs_.size(); ++other) {
    if (Find(other) == nullptr) continue;
    Packet packet = {.from = run, .to = other};
    packet.arrived = [this, other, run] {
      if (SimTransport* const peer = Find(other)) peer->LosePeer(run);
    };
    Travel(std::move(packet));
  }
}

void SimNetwork::Cut(const std::string& a, const std::string& b) {
  CutOneWay(a, b);
  CutOneWay(b, a);
}

void SimNetwork::CutOneWay(const std::string& from, const std::string& to) {
  cuts_.emplace(from, to);
}

void SimNetwork::Heal(const std::string& a, const std::string& b) {
  cuts_.erase({a, b});
  cuts_.erase({b, a});
}

void SimNetwork::Partition(const std::set<std::string>& side) {
  for (const Run& run : runs_) {
    if (side.contains(run.node)) continue;
    for (const std::string& node : side) Cut(node, run.node);
  }
}

void SimNetwork::Slow(const std::string& node, double factor) {
  AGENTMEM_CHECK(factor > 0);
  slow_[node] = factor;
}

void SimNetwork::Continue(const std::string& node) {
  stopped_.erase(node);
  const auto held = held_.find(node);
  if (held == held_.end()) return;
  for (Packet& packet : held->second) {
    Schedule(now(), [this, packet = std::move(packet)] { Arrive(packet); });
  }
  held_.erase(held);
}

bool SimNetwork::Step() {
  if (events_.empty()) return false;
  const Event event = events_.top();
  events_.pop();
  clock_->Advance(std::max<DurationNs>(event.at - clock_->Now(), 0));
  event_at_ = event.at;
  running_ = true;
  event.action();
  running_ = false;
  return true;
}

void SimNetwork::RunDue() {
  while (!events_.empty() && events_.top().at <= clock_->Now()) Step();
}

void SimNetwork::RunFor(DurationNs duration) {
  const TimeNs end = clock_->Now() + duration;
  while (!events_.empty() && events_.top().at <= end) Step();
  clock_->Advance(end - clock_->Now());
}

std::optional<TimeNs> SimNetwork::next_event_at() const {
  if (events_.empty()) return std::nullopt;
  return events_.top().at;
}

void SimNetwork::Schedule(TimeNs at, std::function<void()> action) {
  events_.push({std::max(at, now()), next_sequence_++, std::move(action)});
}

void SimNetwork::Travel(Packet packet) {
  Run& from = runs_[packet.from - 1];
  from.link_free_at = std::max(from.link_free_at, now());
  if (options_.bandwidth_bytes_per_s != 0) {
    const double seconds = static_cast<double>(packet.bytes) /
                           static_cast<double>(options_.bandwidth_bytes_per_s);
    from.link_free_at += static_cast<DurationNs>(seconds * kSecondNs);
  }
  TimeNs at = from.link_free_at + Latency(packet.from, packet.to);
  if (Chance(options_.reorder_rate)) {
    at += static_cast<DurationNs>(
        Draw(static_cast<std::uint64_t>(options_.reorder_delay_max)));
  }
  at = std::max(at, packet.not_before);
  Schedule(at, [this, packet = std::move(packet)] { Arrive(packet); });
}

void SimNetwork::Arrive(Packet packet) {
  const std::string& to = runs_[packet.to - 1].node;
  if (stopped_.contains(to) && Find(packet.to) != nullptr) {
    held_[to].push_back(std::move(packet));
    return;
  }
  if (Passes(packet.from, packet.to)) {
    // To a process that is gone: "no such connection".
    const auto& then = Find(packet.to) ? packet.arrived : packet.failed;
    if (then) then();
    return;
  }
  if (Find(packet.from) == nullptr ||
      packet.attempts == options_.retransmits_max) {
    if (packet.failed) packet.failed();
    return;
  }
  ++packet.attempts;
  ++counters_.retransmits;
  Trace(SimTrace::Kind::kRetransmit, packet.from, packet.to, packet.attempts);
  const bool stalls = Chance(options_.loss_stall_rate);
  counters_.stalls += stalls;
  const TimeNs again =
      now() + (stalls ? options_.loss_stall : options_.retransmit_delay);
  Schedule(again, [this, packet] { Travel(packet); });
}

bool SimNetwork::Passes(std::uint64_t from, std::uint64_t to) {
  const bool lost = Chance(options_.loss_rate);
  return !lost && runs_[to - 1].answers &&
         !cuts_.contains({runs_[from - 1].node, runs_[to - 1].node});
}

void SimNetwork::WriteLate(std::uint64_t from, std::uint64_t to,
                           const Transfer& transfer) {
  if (!Chance(options_.late_write_rate)) return;
  // The sender's memory may be reused from now on.
  const std::vector<char> bytes(transfer.local,
                                transfer.local + transfer.length);
  const auto delay = static_cast<DurationNs>(
      Draw(static_cast<std::uint64_t>(options_.late_write_delay_max)));
  Schedule(now() + delay, [this, from, to, transfer, bytes] {
    SimTransport* const peer = Find(to);
    if (!Passes(from, to) || peer == nullptr || bytes.empty()) return;
    char* const target =
        peer->Resolve(transfer.remote_key, transfer.remote_address,
                      transfer.length, /*write=*/true);
    if (target == nullptr) return;
    ++counters_.late_writes;
    Trace(SimTrace::Kind::kLateWrite, from, to, bytes.size());
    std::memcpy(target, bytes.data(), bytes.size());
  });
}

SimTransport* SimNetwork::Find(std::uint64_t run) const {
  return run == 0 || run > runs_.size() ? nullptr : runs_[run - 1].transport;
}

std::uint64_t SimNetwork::FindAddress(const std::string& address) const {
  for (std::size_t i = 0; i < runs_.size(); ++i) {
    if (runs_[i].address == address) return i + 1;
  }
  return 0;
}

DurationNs SimNetwork::Latency(std::uint64_t from, std::uint64_t to) {
  const DurationNs spread = options_.latency_max - options_.latency_min;
  double latency =
      static_cast<double>(options_.latency_min) +
      static_cast<double>(Draw(static_cast<std::uint64_t>(spread)));
  double factor = 1;
  for (const std::uint64_t run : {from, to}) {
    const auto slow = slow_.find(runs_[run - 1].node);
    if (slow != slow_.end()) factor = std::max(factor, slow->second);
  }
  return static_cast<DurationNs>(latency * factor);
}

bool SimNetwork::Chance(double rate) {
  // Drawn in any case, so that a rate of 0 keeps the rest of the run.
  return static_cast<double>(random_() >> 11) * 0x1p-53 < rate;
}

std::uint64_t SimNetwork::Draw(std::uint64_t max) {
  return max == UINT64_MAX ? random_() : random_() % (max + 1);
}

void SimNetwork::Trace(SimTrace::Kind kind, std::uint64_t node, std::uint64_t a,
                       std::uint64_t b) {
  for (const std::uint64_t word :
       {static_cast<std::uint64_t>(kind), static_cast<std::uint64_t>(now()),
        node, a, b}) {
    trace_hash_ = Mix(trace_hash_ * 0x9e3779b97f4a7c15ULL + word);
  }
  if (observer_) observer_({kind, now(), node, a, b});
}

}  // namespace agentmem
