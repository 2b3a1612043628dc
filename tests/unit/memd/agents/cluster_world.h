// Nodes of a cluster over one store of refs, as collection sees them: each has
// a book, a disk, and memory that it lends. Agents have one region and are
// written by one session at a time, on any node.
//
// The model knows each version's pages; CheckAll says whether every version
// that anyone may ask for is whole.
#ifndef AGENTMEM_TESTS_UNIT_MEMD_AGENTS_CLUSTER_WORLD_H_
#define AGENTMEM_TESTS_UNIT_MEMD_AGENTS_CLUSTER_WORLD_H_

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "memd/agents/collector.h"
#include "tests/unit/memd/agents/fake_refs.h"

namespace agentmem {

class ClusterWorld;

// A node's disk and lent memory, and the others' as it reaches them; and a way
// in between the collector's steps.
class NodeBlocks final : public CollectedBlocks, public NodeSource {
 public:
  NodeBlocks(ClusterWorld* world, std::size_t node)
      : world_(world), node_(node) {}
  absl::Status List(std::uint64_t lineage,
                    const std::function<void(const Key&)>& visit) override;
  absl::Status ListLent(const absl::flat_hash_set<std::uint64_t>& lineages,
                        const std::function<void(const Key&)>& visit) override;
  std::size_t Drop(std::span<const Key> keys) override;
  NodeSource* nodes() override { return this; }
  absl::StatusOr<std::string> Read(const Key& key,
                                   std::uint32_t bytes) override;

  std::map<Key, std::string> disk;
  std::map<Key, std::string> lent;

 private:
  ClusterWorld* const world_;
  const std::size_t node_;
};

using Pages = std::map<std::uint64_t, Key>;  // page -> the block of its bytes

struct WorldWriter {
  std::shared_ptr<AgentState> state;
  std::uint64_t lineage = 0;
  std::uint64_t fence = 0;
  std::uint64_t token = 0;
  std::uint64_t counter = 0;
};
// A commit between its blocks and its record.
struct WorldCommit {
  WorldWriter writer;
  VersionLink parent;
  VersionLink link;
  std::string bytes;
  Pages pages;
  std::vector<Key> made;
  bool durable = true;
  bool published = false;  // perhaps: its answer was lost
};
struct WorldReader {
  std::shared_ptr<AgentState> state;
  std::unique_ptr<VersionHold> hold;
  VersionLink link;
};
struct WorldNode {
  WorldNode(ClusterWorld* world, std::size_t index);

  const std::string name;
  std::uint64_t instance = 0;
  bool up = true;     // its memd runs
  bool away = false;  // it runs, but reaches nothing
  bool deaf = false;  // it does not hear of drops
  std::unique_ptr<AgentBook> book;
  NodeBlocks blocks;
  CollectorMemory memory;
  std::map<std::string, WorldWriter> writers;
  std::map<std::string, WorldCommit> in_flight;
  std::vector<WorldReader> readers;
};

class ClusterWorld {
 public:
  static constexpr TenantId kTenant = TenantId(3);

  ClusterWorld(std::uint32_t seed, std::size_t node_count);
  WorldNode& node(std::size_t index) { return *nodes[index]; }

  // A number below.
  std::uint32_t Roll(std::uint32_t below) {
    return std::uniform_int_distribution<std::uint32_t>(0, below - 1)(random_);
  }

  // What sessions do. What a cluster may refuse is no failure; whether it was
  // done is the answer.
  bool Open(WorldNode* node, const std::string& name, bool take_over = false);
  void Close(WorldNode* node, const std::string& name);
  bool BeginCommit(WorldNode* node, const std::string& name,
                   bool durable = true);
  bool FinishCommit(WorldNode* node, const std::string& name);
  void GiveUp(WorldNode* node, const std::string& name);
  bool Commit(WorldNode* node, const std::string& name) {
    return BeginCommit(node, name) && FinishCommit(node, name);
  }
  bool Fork(WorldNode* node, const std::string& from, const std::string& to,
            bool at_any_version = false);
  bool Delete(WorldNode* node, const std::string& name);
  bool Read(WorldNode* node, const std::string& name);
  bool Retain(WorldNode* node, const std::string& name,
              const Retention& retention);

  // What nodes do.
  void Kill(WorldNode* node);
  void Start(WorldNode* node);
  void Leave(WorldNode* node);  // it reaches nothing
  void Return(WorldNode* node);
  // Its uses are looked after, and a round is made.
  Collected Collect(WorldNode* node, bool everywhere = false);
  void Tend(WorldNode* node);
  // Until nothing changes.
  void CollectAll();

  // Anything, anywhere; or at times, on another node than that which acts now.
  void Act();
  void ActElsewhere();

  // Puts a block as `node` does: its disk, and two nodes' memory.
  void Put(WorldNode* node, const Key& key, const std::string& bytes);
  // Every version that anyone may ask for is whole; the blocks of them all.
  std::set<Key> CheckAll();
  // All that is anywhere is needed.
  void CheckNothingElse(const std::set<Key>& needed);
  bool IsAnywhere(const Key& key) const;
  std::size_t BlocksEverywhere() const;

  AgentRecord Record(const std::string& name);  // as the refs have it
  VersionLink Head(const std::string& name) {
    return Record(name).regions.at(0).head;
  }
  void Between() {
    const auto hook = std::exchange(between, nullptr);
    if (!hook) return;
    hook();
    if (!once) between = hook;
    once = false;
  }

  FakeRefs refs;
  std::vector<std::unique_ptr<WorldNode>> nodes;
  // At each step of a collector, but not within itself; if it says so, once.
  std::function<void()> between;
  bool once = false;
  std::function<void()> at_drop;  // before blocks are dropped, once
  std::function<void()> at_list;  // when blocks were listed, once
  std::int64_t now_ns = 1'700'000'000LL * 1'000'000'000;
  std::uint64_t dropped = 0;
  std::map<Key, Pages> content;        // by version
  std::map<Key, VersionLink> parents;  // by version

 private:
  friend struct WorldNode;
  void NewBook(WorldNode* node);
  Key NewKey(WorldWriter* writer, WorldCommit* commit);
  void PutDown(const WorldCommit& commit);
  bool Settle(WorldNode* node, AgentState* state);
  VersionLink AnyVersion(AgentState* state, std::uint64_t* lineage);
  void CheckVersion(const VersionLink& link, std::set<Key>* needed);
  void ActOn(WorldNode* node);
  void Trouble(WorldNode* node);

  std::mt19937 random_;
  WorldNode* collecting_ = nullptr;
  WorldNode* acting_ = nullptr;  // it may hold locks of its book
  std::uint64_t epoch_ = 1;
  std::uint64_t last_lineage_ = 0;
  std::uint64_t last_instance_ = 0;
  std::uint64_t token_ = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_MEMD_AGENTS_CLUSTER_WORLD_H_
