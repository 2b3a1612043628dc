// The simulated network does what a transport must, quiet and when packets are
// late, lost and overtaken.
#include "memd/transport/sim_network.h"
#include "tests/unit/transport/transport_contract.h"

namespace agentmem {
namespace {

struct QuietNetwork {
  static SimOptions Options() { return {}; }
};

struct LateNetwork {
  static SimOptions Options() {
    SimOptions options;
    options.seed = 5;
    options.loss_rate = 0.05;
    options.reorder_rate = 0.3;
    options.torn_rate = 0.5;
    options.late_write_rate = 1;
    options.bandwidth_bytes_per_s = 1'000'000'000;
    return options;
  }
};

template <typename Kind>
struct SimHarness {
  ManualClock clock;
  SimNetwork network{Kind::Options(), &clock};

  std::unique_ptr<Transport> Add(const std::string& node) {
    return network.Add(node);
  }
  TimeNs Now() { return clock.Now(); }
  bool GoOn() { return network.Step(); }
};

using Networks =
    ::testing::Types<SimHarness<QuietNetwork>, SimHarness<LateNetwork>>;
INSTANTIATE_TYPED_TEST_SUITE_P(Sim, TransportContract, Networks);

}  // namespace
}  // namespace agentmem
