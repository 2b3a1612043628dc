// Collection: blocks of agents that no version needs any more are dropped.
//
// Mark and sweep, a family at a time: agents that were forked from one another
// share blocks, others do not. First the blocks that the store has are listed;
// then it is asked what may not go (AgentBook::TakeRoots); then all that is
// reached from there is marked; what is listed and not marked is garbage. A
// block that is made after the listing is not in it, and one that was made
// before it is reached, or in its writer's hand, when the roots are taken.
//
//   Known -> families -> ListBlocks -> TakeRoots -> mark -> Drop
//
// A page that the overlays of all kept versions of a tree hide needs nothing of
// what the tree says of it.
//
// A family whose versions cannot all be read keeps all its blocks: the walk
// would not be complete. Versions that are too old by age are given up first
// (AgentBook::Amend), in the record before in the store.
//
// Where refs are shared each node collects by itself what lies on its disk and,
// when it looks everywhere or that memory is full, in the memory that it lends.
// There the order is
//
//   View -> families -> ListBlocks -> TakeHands -> View -> mark -> Drop
//
// and all that the other nodes do between any two of these either stands in the
// second view, or leaves every block alone that the view calls garbage. Blocks
// whose names other nodes may still have in a hand stay. docs/regions.md has
// the argument. A family is looked at when this node has garbage of it, and
// when less of it is kept than at the last time; its disk and what it lends
// have last times of their own.
//
// Ownership: borrows. Threads: one at a time, beside all sessions.
// Errors: of the records (nothing was collected then); a family's are in the
// log. Cost: a read of each record, and of each version and node of the
// families that NoteGarbage named; 8 bytes for each of their blocks.
#ifndef AGENTMEM_MEMD_AGENTS_COLLECTOR_H_
#define AGENTMEM_MEMD_AGENTS_COLLECTOR_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memd/agents/agent_book.h"
#include "memd/agents/manifest.h"
#include "memd/agents/node_loader.h"

namespace agentmem {

// What collection does to blocks.
class CollectedBlocks {
 public:
  virtual ~CollectedBlocks() = default;
  // Calls `visit` for each block that the store has under `lineage`.
  virtual absl::Status List(std::uint64_t lineage,
                            const std::function<void(const Key&)>& visit) = 0;
  // And for each of these lineages that lies in the memory that this node
  // lends.
  virtual absl::Status ListLent(
      const absl::flat_hash_set<std::uint64_t>& lineages,
      const std::function<void(const Key&)>& visit) = 0;
  // How many are in use now: a later round may have them.
  virtual std::size_t Drop(std::span<const Key> keys) = 0;
  virtual NodeSource* nodes() = 0;
};

struct Collected {
  std::uint64_t families = 0;  // looked at
  std::uint64_t listed = 0;    // blocks of theirs
  std::uint64_t dropped = 0;
  std::uint64_t kept_back = 0;  // garbage that was in use
  std::uint64_t failed = 0;     // families that could not be walked
  bool by_age = false;          // agents become garbage as time goes by
};

// What a round leaves for the next ones, where refs are shared.
struct CollectorMemory {
  // Of a lineage's family, what was kept when it was collected last.
  absl::flat_hash_map<std::uint64_t, std::size_t> kept;
  // And when what this node lends was looked at, too.
  absl::flat_hash_map<std::uint64_t, std::size_t> kept_lent;
  // Lineages that there were. One that is there no more was forgotten by all:
  // what is left of it here is garbage.
  absl::flat_hash_set<std::uint64_t> known;
  absl::flat_hash_map<std::uint64_t, int> failures;  // one after another
  // Since when an agent has been gone, as this node saw it, by the wall's
  // clock.
  absl::flat_hash_map<std::uint64_t, std::int64_t> gone;
};

class Collector {
 public:
  // `go_on`: asked between blocks; false ends the round early. `memory`: of the
  // rounds before; may be null where refs are not shared.
  Collector(AgentBook* book, CollectedBlocks* blocks,
            std::function<bool()> go_on, CollectorMemory* memory = nullptr)
      : book_(book),
        blocks_(blocks),
        go_on_(std::move(go_on)),
        memory_(memory) {}

  // A round: of the agents that have garbage, as far as the book knows.
  absl::StatusOr<Collected> Run(std::int64_t wall_now_ns);

 private:
  struct Listed {
    std::vector<std::uint64_t> keys;  // Key::high(), ascending
    std::vector<bool> marked;
    bool stored = false;  // some of them are
    void Add(const Key& key) { keys.push_back(key.high()); }
    void Arrange();
  };
  using Family = std::vector<KnownAgent>;
  using PageSet = absl::flat_hash_set<std::uint64_t>;
  // Versions that are kept and have one tree.
  struct Tree {
    Manifest version;  // any of them
    PageSet hidden;    // by the overlays of all of them
  };

  static std::vector<Family> FamiliesOf(std::vector<KnownAgent> agents);
  static std::string NameOf(const Family& family);
  absl::Status RunFamilies(const AgentBook::Garbage& garbage,
                           std::int64_t wall_now_ns, Collected* done);
  void GiveUpOld(const KnownAgent& agent, std::int64_t wall_now_ns);
  absl::Status CollectFamily(const Family& family, Collected* done);
  absl::Status ListBlocks(const Family& family, Collected* done);
  absl::Status Mark(const Roots& roots);
  absl::Status MarkVersions(const Roots& roots);
  absl::Status MarkTree(const Tree& tree, const PageSet& hidden_somewhere,
                        NodeLoader* loader, absl::flat_hash_set<Key>* seen);
  void MarkBlock(const Key& key);
  bool Sweep(const Family& family, const Roots& roots, Collected* done);
  absl::Status ForgetGone(const Family& family);

  // collector_shared.cc
  absl::Status RunShared(const AgentBook::Garbage& garbage,
                         std::int64_t wall_now_ns, Collected* done);
  std::size_t KeptOf(const Family& family, const AgentsView& view) const;
  bool IsWanted(const Family& family, const AgentsView& view,
                const AgentBook::Garbage& garbage) const;
  absl::Status CollectListed(
      const absl::flat_hash_set<std::uint64_t>& forgotten, Collected* done);
  absl::Status CollectShared(const Family& family, const AgentsView& view,
                             const NodeHands& hands, Collected* done);
  absl::Status NoteLeft(const Family& family, const AgentsView& view);
  bool CanForget(const Family& family, const KnownAgent& gone,
                 const AgentsView& view) const;
  bool IsUsed(std::uint64_t lineage, const AgentsView& view) const;
  void NoteFailure(const Family& family, const absl::Status& status,
                   Collected* done);

  AgentBook* const book_;
  CollectedBlocks* const blocks_;
  const std::function<bool()> go_on_;
  CollectorMemory* const memory_;
  std::int64_t wall_now_ns_ = 0;
  bool lent_ = false;  // what this node lends is listed, too
  // Of a family, or of many.
  std::map<std::uint64_t, Listed> listed_;              // by lineage
  std::map<std::uint64_t, std::map<Key, Tree>> trees_;  // by region, root
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_COLLECTOR_H_
