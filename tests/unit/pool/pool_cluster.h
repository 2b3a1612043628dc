// PoolCluster: pool nodes on a simulated network.
#ifndef AGENTMEM_TESTS_UNIT_POOL_POOL_CLUSTER_H_
#define AGENTMEM_TESTS_UNIT_POOL_POOL_CLUSTER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "memd/transport/sim_network.h"
#include "tests/unit/pool/pool_runs.h"

namespace agentmem {

class PoolCluster final : public PoolRuns {
 public:
  explicit PoolCluster(const SimOptions& options = {});
  ~PoolCluster() override;

  // The process, or the machine, is gone with all that it held.
  void Kill(const std::string& name);
  void PowerOff(const std::string& name);
  void KillQuietly(const std::string& name);
  // It stands still until Continue: nothing is asked of it meanwhile.
  void Stop(const std::string& name) { network_.Stop(name); }
  void Continue(const std::string& name) { network_.Continue(name); }
  bool stopped(const std::string& name) const override {
    return network_.IsStopped(name);
  }
  // Starts nodes and waits until all have met.
  void StartAll(const std::vector<std::string>& names,
                std::uint64_t export_bytes);

  SimNetwork& network() { return network_; }
  TimeNs now() const override { return clock_.Now(); }
  bool RunFor(DurationNs duration,
              const std::function<bool()>& each = nullptr) override;

 private:
  std::unique_ptr<Transport> MakeTransport(const std::string& name) override {
    return network_.Add(name);
  }

  ManualClock clock_{kSecondNs};
  SimNetwork network_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_POOL_POOL_CLUSTER_H_
