// PoolRuns: pool nodes in one thread, for tests that drive them by hand; on
// whatever network a subclass has. Each has export extents and a piece of
// memory for its clients.
#ifndef AGENTMEM_TESTS_UNIT_POOL_POOL_RUNS_H_
#define AGENTMEM_TESTS_UNIT_POOL_POOL_RUNS_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "memd/pool/export_pool.h"
#include "memd/pool/pool_node.h"
#include "memd/pool/sealing.h"
#include "memd/transport/transport.h"

namespace agentmem {

// One run of a node.
struct PoolRun {
  std::string name;
  std::string rack;
  std::uint64_t instance = 0;
  std::uint64_t export_bytes = 0;
  std::unique_ptr<char[]> lent;
  std::unique_ptr<char[]> memory;  // its clients'
  std::unique_ptr<char[]> sealing_memory;
  std::unique_ptr<Sealing> sealing;
  RemoteMemory remote;
  MemoryId memory_id;
  std::unique_ptr<Transport> transport;
  std::unique_ptr<ExportPool> exports;
  std::unique_ptr<PoolNode> node;
  std::vector<PoolCompletion> done;
  std::vector<PoolStoreDone> store_done;
  // What its card says of its store.
  std::uint64_t store_bytes = 0;
  std::uint32_t store_version = kStoreVersion;
};

class PoolRuns {
 public:
  static constexpr std::uint64_t kMemoryBytes = 16 << 20;
  static constexpr DurationNs kTick = 10 * kMillisecondNs;

  // Of nodes that start from now on.
  std::uint64_t repair_bytes_per_second =
      PoolNodeOptions().repair_bytes_per_second;

  PoolRuns() = default;
  PoolRuns(const PoolRuns&) = delete;
  PoolRuns& operator=(const PoolRuns&) = delete;
  virtual ~PoolRuns() = default;

  virtual TimeNs now() const = 0;
  // It stands still: nothing is asked of it.
  virtual bool stopped(const std::string& /*name*/) const { return false; }
  // Lets everything go on for so long; calls `each` after every step, which
  // may end it by saying true.
  virtual bool RunFor(DurationNs duration,
                      const std::function<bool()>& each = nullptr) = 0;

  // `export_bytes` 0: it lends nothing.
  PoolRun& Start(const std::string& name, std::uint64_t export_bytes,
                 const std::string& rack = "");
  // Its Hello with the other.
  void Introduce(const std::string& a, const std::string& b);
  void IntroduceAll();

  // It seals, under a key made of `secret`. Before anything is put.
  void Seal(const std::string& name, unsigned char secret);

  PoolRun& at(const std::string& name) { return *runs_.at(name); }
  bool alive(const std::string& name) const { return runs_.contains(name); }
  std::map<std::string, std::unique_ptr<PoolRun>>& runs() { return runs_; }
  PoolPeer CardFor(const std::string& of, const std::string& reader);

  // Its ticket, which is chosen here.
  std::uint64_t Submit(const std::string& name, PoolOp op);
  // One operation, to its end.
  PoolCompletion Do(const std::string& name, PoolOp op);
  // Tells what is wrong anywhere; empty: nothing.
  std::string CheckInvariants() const;

 protected:
  virtual std::unique_ptr<Transport> MakeTransport(const std::string& name) = 0;
  void End(const std::string& name);
  // Before the network goes.
  void EndAll();
  void PollAll();
  TimeNs next_tick() const { return next_tick_; }

 private:
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

#endif  // AGENTMEM_TESTS_UNIT_POOL_POOL_RUNS_H_
