// PoolClusterSim: a cluster under clients and faults, all from one seed, with a
// model of what was acknowledged.
//
// Rounds of trouble: lossy links, cuts, slow nodes, deaths, restarts, while
// clients put, get, find and drop. After each the network heals, and within
// kHealNs all must be as promised:
//
//   - a state block whose put was acknowledged is there, on both nodes that
//     placement names, unless the memory of two nodes was lost between its
//     being whole and its being whole again;
//   - it lies on two nodes at all times, but after such a death;
//   - a get gave the bytes of one of its puts, whole, or none;
//   - each operation completed once, by its deadline and a little;
//   - books agree, and nothing is reserved or under way for ever.
//
// A key that a client dropped is never put again, as keys of memd are not; a
// get may still find it.
#ifndef AGENTMEM_TESTS_UNIT_POOL_POOL_CLUSTER_SIM_H_
#define AGENTMEM_TESTS_UNIT_POOL_POOL_CLUSTER_SIM_H_

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/pool/pool_cluster.h"

namespace agentmem {

class PoolClusterSim {
 public:
  static constexpr DurationNs kHealNs = 10 * kSecondNs;

  // What happened, to be sure that something did.
  struct Counts {
    std::uint64_t operations = 0;
    std::uint64_t acknowledged = 0;  // puts of state
    std::uint64_t gets = 0;          // with bytes
    std::uint64_t failed = 0;        // UNAVAILABLE
    std::uint64_t deaths = 0;
    std::uint64_t lost = 0;  // state blocks, by more deaths than promised
    std::uint64_t checked = 0;
    std::uint64_t repaired = 0;
    std::uint64_t stale = 0;
    std::uint64_t puts_failed = 0;
    // Of the network.
    std::uint64_t links_lost = 0;
    std::uint64_t torn = 0;
    std::uint64_t late_writes = 0;
    std::uint64_t retransmits = 0;
    std::uint64_t stalls = 0;
    std::uint64_t stops = 0;  // of nodes that went on
  };

  explicit PoolClusterSim(std::uint64_t seed);

  // Empty, or what went wrong first.
  std::string Run();
  const Counts& counts() const { return counts_; }
  std::uint64_t trace_hash() { return cluster_->network().trace_hash(); }

 private:
  static constexpr std::uint64_t kSlotBytes = 1 << 20;
  static constexpr std::size_t kSlots = PoolCluster::kMemoryBytes / kSlotBytes;
  static constexpr std::uint64_t kTenant = 5;
  static constexpr TimeNs kNever = INT64_MIN / 2;

  struct Block {
    Key key;
    std::uint32_t length = 0;
    BlockClass block_class = BlockClass::kCache;
    std::set<std::uint64_t> salts;  // of its puts
    bool acknowledged = false;
    bool dropped = false;
    bool exposed = false;     // a death took a copy, and it was not whole since
    TimeNs died_at = kNever;  // ... one of its copies, the last time
    bool lost = false;
  };
  struct Operation {
    std::string node;
    PoolOp op;
    std::size_t block = 0;
    std::size_t slot = 0;
    std::uint64_t deaths = 0;  // when it was submitted
    bool promised = false;     // the block was acknowledged by then
  };

  void Fail(const std::string& what);
  std::uint64_t Draw(std::uint64_t max) { return random_() % (max + 1); }
  bool Chance(int percent) { return Draw(99) < static_cast<unsigned>(percent); }
  std::string AnyNode();

  void Trouble();
  void Disturb();
  void Die(const std::string& name);
  void Restart();
  void Stop(const std::string& name);
  void ContinueAll(bool all);
  void Heal();
  void Step();
  void SubmitAny();
  void NewBlock();
  void Take(const std::string& node, const PoolCompletion& completion);
  void TakePut(const Operation& operation, const PoolCompletion& completion);
  void TakeGet(const Operation& operation, const PoolCompletion& completion);
  bool Holds(const std::string& node, const Block& block);
  std::size_t HoldersOf(const Block& block);
  void CheckCopies();
  void CheckWhole();
  void CheckQuiet();

  const std::uint64_t seed_;
  std::mt19937_64 random_;
  SimOptions rough_;
  std::unique_ptr<PoolCluster> cluster_;
  std::vector<std::string> names_;
  std::map<std::string, std::string> racks_;
  std::map<std::string, std::uint64_t> export_bytes_;
  std::vector<Block> blocks_;
  std::uint64_t state_bytes_ = 0;
  std::map<std::uint64_t, Operation> operations_;       // by ticket
  std::map<std::string, std::set<std::size_t>> slots_;  // free ones
  std::uint64_t next_ticket_ = 1;
  TimeNs next_operation_ = 0;
  TimeNs next_hello_ = 0;
  TimeNs next_fault_ = 0;
  TimeNs next_look_ = 0;
  DurationNs pace_ = 0;
  bool may_put_ = true;
  int deaths_left_ = 0;  // of this round
  std::map<std::string, TimeNs> stopped_until_;
  std::map<std::string, TimeNs> continued_at_;
  Counts counts_;
  std::string wrong_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_POOL_POOL_CLUSTER_SIM_H_
