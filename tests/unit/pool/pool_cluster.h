// PoolCluster: pool nodes on a simulated network, for tests that drive them by
// hand. Each has export extents and a piece of memory for its clients.
#ifndef AGENTMEM_TESTS_UNIT_POOL_POOL_CLUSTER_H_
#define AGENTMEM_TESTS_UNIT_POOL_POOL_CLUSTER_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "memd/pool/export_pool.h"
#include "memd/pool/pool_node.h"
#include "memd/transport/sim_network.h"

namespace agentmem {

// One run of a node.
struct PoolRun {
  std::string name;
  std::string rack;
  std::uint64_t instance = 0;
  std::uint64_t export_bytes = 0;
  std::unique_ptr<char[]> lent;
  std::unique_ptr<char[]> memory;  // its clients'
  RemoteMemory remote;
  MemoryId memory_id;
  std::unique_ptr<Transport> transport;
  std::unique_ptr<ExportPool> exports;
  std::unique_ptr<PoolNode> node;
  std::vector<PoolCompletion> done;
};

class PoolCluster {
 public:
  static constexpr std::uint64_t kMemoryBytes = 16 << 20;
  static constexpr DurationNs kTick = 10 * kMillisecondNs;

  // Of nodes that start from now on.
  std::uint64_t repair_bytes_per_second =
      PoolNodeOptions().repair_bytes_per_second;

  explicit PoolCluster(const SimOptions& options = {});
  ~PoolCluster();

  // `export_bytes` 0: it lends nothing.
  PoolRun& Start(const std::string& name, std::uint64_t export_bytes,
                 const std::string& rack = "");
  // The process, or the machine, is gone with all that it held.
  void Kill(const std::string& name) { End(name, /*power_off=*/false); }
  void PowerOff(const std::string& name) { End(name, /*power_off=*/true); }
  void KillQuietly(const std::string& name);
  // It stands still until Continue: nothing is asked of it meanwhile.
  void Stop(const std::string& name) { network_.Stop(name); }
  void Continue(const std::string& name) { network_.Continue(name); }
  bool stopped(const std::string& name) const {
    return network_.IsStopped(name);
  }
  // Its Hello with the other.
  void Introduce(const std::string& a, const std::string& b);
  void IntroduceAll();
  // Starts nodes and waits until all have met.
  void StartAll(const std::vector<std::string>& names,
                std::uint64_t export_bytes);

  PoolRun& at(const std::string& name) { return *runs_.at(name); }
  bool alive(const std::string& name) const { return runs_.contains(name); }
  std::map<std::string, std::unique_ptr<PoolRun>>& runs() { return runs_; }
  SimNetwork& network() { return network_; }
  TimeNs now() const { return clock_.Now(); }
  PoolPeer CardFor(const std::string& of, const std::string& reader);

  // Lets everything go on for so long; calls `each` after every step, which
  // may end it by saying true.
  bool RunFor(DurationNs duration, const std::function<bool()>& each = nullptr);
  // One operation, to its end. Its ticket is chosen here.
  PoolCompletion Do(const std::string& name, PoolOp op);
  // Tells what is wrong anywhere; empty: nothing.
  std::string CheckInvariants() const;

 private:
  void End(const std::string& name, bool power_off);
  void PollAll();

  ManualClock clock_{kSecondNs};
  SimNetwork network_;
  std::map<std::string, std::unique_ptr<PoolRun>> runs_;
  std::uint64_t next_instance_ = 1;
  std::uint64_t next_ticket_ = 1ULL << 40;
  TimeNs next_tick_ = 0;
};

// What a block of this name holds: `salt` first, and the rest follows from
// both.
void FillBlock(char* bytes, std::uint32_t length, const Key& key,
               std::uint64_t salt);
// The salt that it was filled with; 0: it is not whole.
std::uint64_t SaltOf(const char* bytes, std::uint32_t length, const Key& key);

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_POOL_POOL_CLUSTER_H_
