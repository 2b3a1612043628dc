#include "tests/unit/pool/pool_cluster.h"

#include <algorithm>

namespace agentmem {
namespace {

// While something is on the network, nodes look at it this often.
constexpr DurationNs kQuantum = 20 * kMicrosecondNs;

}  // namespace

PoolCluster::PoolCluster(const SimOptions& options)
    : network_(options, &clock_) {}

PoolCluster::~PoolCluster() { EndAll(); }

void PoolCluster::Kill(const std::string& name) {
  network_.Kill(name);
  End(name);
}

void PoolCluster::PowerOff(const std::string& name) {
  network_.PowerOff(name);
  End(name);
}

void PoolCluster::KillQuietly(const std::string& name) {
  network_.KillQuietly(name);
  End(name);
}

void PoolCluster::StartAll(const std::vector<std::string>& names,
                           std::uint64_t export_bytes) {
  for (const std::string& name : names) Start(name, export_bytes);
  IntroduceAll();
  RunFor(5 * kMillisecondNs);
}

bool PoolCluster::RunFor(DurationNs duration,
                         const std::function<bool()>& each) {
  const TimeNs end = now() + duration;
  for (;;) {
    PollAll();
    if (each && each()) return true;
    if (now() >= end) return false;
    const auto event = network_.next_event_at();
    TimeNs next = std::min(next_tick(), end);
    if (event.has_value()) {
      next = std::min(next, std::max(*event, now() + kQuantum));
    }
    network_.RunFor(next - now());
  }
}

}  // namespace agentmem
