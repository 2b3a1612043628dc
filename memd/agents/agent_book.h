// The agents of a tenant: their records, who writes each, and who watches.
//
// An agent's record (memd/agents/agent_record.h) is the value of its ref. While
// sessions have the agent open, its state is here, once for all of them; a
// commit that was acknowledged as `visible` is here only, until Persist.
//
//   free --Open(write)--> written by one session --Release, take-over--> ...
//
// The writer's right is its token here and its fence in the store: a session
// whose token is not the state's gets ABORTED and changes nothing; a memd that
// was restarted has a fence of its own. Where several nodes share the refs, so
// has each of them, and what another node made of an agent that nobody here
// writes is read anew whenever it is asked for.
//
// The book also knows what collection (memd/agents/collector.h) may not take:
// what the records lead to, what is held, and what is in a writer's hand. Where
// refs are shared, the other nodes' collectors learn of the last two by the
// uses of this node (memd/agents/lineage_use.h): one is there before a version
// is read or a block is named, as long as the agent's state is.
//
// Ownership: sessions share states; the book keeps none alive. Threads:
// thread-safe; a state's mutex is held over the store's synced write, so that
// commits of an agent have one order. Errors: NOT_FOUND, ALREADY_EXISTS,
// FAILED_PRECONDITION (somebody writes; who is named), ABORTED (taken over),
// IsNotSettled, and the store's. Cost: changes wait for one synced write.
#ifndef AGENTMEM_MEMD_AGENTS_AGENT_BOOK_H_
#define AGENTMEM_MEMD_AGENTS_AGENT_BOOK_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "memd/agents/agent_record.h"
#include "memd/agents/board_word.h"
#include "memd/agents/lineage_use.h"
#include "memd/agents/node_loader.h"
#include "memd/agents/writer_claim.h"
#include "memd/store/ref_store.h"
#include "proto/agent_messages.h"
#include "tiering/policy.h"

namespace agentmem {

struct WriterIdentity {
  std::uint64_t token = 0;  // 0: nobody
  std::string name;
  std::int32_t pid = 0;
  TimeNs since = 0;
};

// A word of a session's board, moved with each version of a region.
struct Watcher {
  BoardWord word;
  std::uint32_t region = 0;
  std::uint64_t session = 0;
};

class VersionHold;

struct AgentState : std::enable_shared_from_this<AgentState> {
  explicit AgentState(std::string agent) : name(std::move(agent)) {}

  const std::string name;
  Mutex mutex;
  AgentRecord record AGENTMEM_GUARDED_BY(mutex);
  std::uint64_t ref_version AGENTMEM_GUARDED_BY(mutex) = 0;
  Fence fence AGENTMEM_GUARDED_BY(mutex);
  WriterIdentity writer AGENTMEM_GUARDED_BY(mutex);
  // The record is newer than the ref; and blocks that it needs, which may not
  // be on stable storage yet.
  bool ahead AGENTMEM_GUARDED_BY(mutex) = false;
  absl::flat_hash_set<Key> unsettled AGENTMEM_GUARDED_BY(mutex);
  // Names that were given to new blocks, until a record leads to them, or they
  // were dropped.
  absl::flat_hash_set<Key> in_hand AGENTMEM_GUARDED_BY(mutex);
  absl::flat_hash_set<const VersionHold*> holds AGENTMEM_GUARDED_BY(mutex);
  std::vector<Watcher> watchers AGENTMEM_GUARDED_BY(mutex);
  // Sessions that have regions of it open, and how many.
  absl::flat_hash_map<std::uint64_t, int> open_in AGENTMEM_GUARDED_BY(mutex);
  std::atomic<std::uint64_t> resident_bytes = 0;  // of all its mappings
  // What its writer says, and since when; until it does, it is at work.
  tiering::PhaseHint hint AGENTMEM_GUARDED_BY(mutex) = {
      .phase = tiering::Phase::kReasoning};
  TimeNs hint_at AGENTMEM_GUARDED_BY(mutex) = 0;
  bool deleted AGENTMEM_GUARDED_BY(mutex) = false;
  // The store could not say whether it made the last change: it is asked what
  // there is before the next one.
  bool doubtful AGENTMEM_GUARDED_BY(mutex) = false;
  // The record has versions that were lost to another node's writer.
  bool lost AGENTMEM_GUARDED_BY(mutex) = false;
};

// While it lives, collection leaves a version alone, or all that a region has
// now, whatever retention says.
//
// Threads: thread-compatible; the state's mutex is taken.
class VersionHold {
 public:
  VersionHold(std::shared_ptr<AgentState> state, const VersionLink& link);
  VersionHold(std::shared_ptr<AgentState> state, const std::string& region);
  ~VersionHold();
  VersionHold(const VersionHold&) = delete;
  VersionHold& operator=(const VersionHold&) = delete;

  // Number 0: all of region `region_id` from `oldest` on.
  const VersionLink& link() const { return link_; }
  std::uint64_t region_id() const { return region_id_; }
  std::uint64_t oldest() const { return oldest_; }

 private:
  const std::shared_ptr<AgentState> state_;
  const VersionLink link_;
  std::uint64_t region_id_ = 0;
  std::uint64_t oldest_ = 0;
};

struct RecordChange {
  // In the store when it was made, `blocks` with it, and what was ahead before;
  // else it is visible here only, and `unsettled` are blocks that it needs.
  bool durable = true;
  std::span<const RefBlock> blocks = {};
  std::span<const Key> unsettled = {};
  std::function<absl::Status(AgentRecord*)> edit;
};

// A durable change, or a fork, of an agent whose visible versions are not on
// stable storage: settle its blocks, and try again.
bool IsNotSettled(const absl::Status& status);

// For collection: where the walks begin. Versions of a region from `link` down
// to the number `oldest`; its block alone if that is link.number.
struct VersionRoot {
  VersionLink link;
  std::uint64_t oldest = 0;
};
struct Roots {
  std::vector<VersionRoot> versions;
  std::vector<Key> blocks;  // that stand for themselves
  absl::flat_hash_set<Key> in_hand;
  // Uses of other nodes that give blocks names, by lineage: they know.
  absl::flat_hash_map<std::uint64_t, std::vector<LineageUse>> elsewhere;
};
void AddRecordRoots(const AgentRecord& record, Roots* roots);
struct KnownAgent {
  std::string name;  // empty: it is gone, its blocks may not be
  std::uint64_t lineage = 0;
  std::uint64_t origin = 0;  // lineage that it was forked from; 0: none
  bool by_age = false;       // a region's retention is
};

// What this node's use of a lineage is, and for whom.
struct NodeUse {
  Mutex mutex;  // after a state's; held over the store's write
  std::weak_ptr<const AgentState> state AGENTMEM_GUARDED_BY(mutex);
  // Of the ref, as it was read or written last; version 0: there is none.
  bool known AGENTMEM_GUARDED_BY(mutex) = false;
  std::uint64_t version AGENTMEM_GUARDED_BY(mutex) = 0;
  LineageUse use AGENTMEM_GUARDED_BY(mutex);
  // A change of the ref may come yet; or one of the agent's record that depends
  // on it. To write it ends both.
  bool doubtful AGENTMEM_GUARDED_BY(mutex) = false;
  bool unsettled AGENTMEM_GUARDED_BY(mutex) = false;
  TimeNs looked_at AGENTMEM_GUARDED_BY(mutex) = 0;
  std::uint64_t epoch AGENTMEM_GUARDED_BY(mutex) = 0;  // when it was known
};

// All that a cluster's nodes have said of a tenant's agents, at one moment.
struct AgentsView {
  struct Use {
    std::string node;
    std::uint64_t lineage = 0;
    std::uint64_t version = 0;  // of the ref
    LineageUse use;
  };
  std::vector<KnownAgent> agents;
  absl::flat_hash_map<std::uint64_t, AgentRecord> records;  // by lineage
  std::vector<Use> uses;                                    // by lineage

  std::span<const Use> UsesOf(std::uint64_t lineage) const;
};

// What this node has in its hands, whatever the refs say.
struct NodeHands {
  std::vector<VersionRoot> versions;
  std::vector<Key> blocks;  // that stand for themselves
  absl::flat_hash_set<Key> in_hand;
  // Lineages whose writer is here: what it can open stands in `versions`.
  absl::flat_hash_set<std::uint64_t> written;
  absl::flat_hash_set<std::uint64_t> unsettled;  // NodeUse::unsettled
};

class AgentBook {
 public:
  // Never 0, and never the same twice.
  using LineageMaker = std::function<absl::StatusOr<std::uint64_t>()>;
  static absl::StatusOr<std::uint64_t> RandomLineage();

  // `shared`: other nodes change the same refs.
  AgentBook(RefStore* refs, TenantId tenant,
            LineageMaker new_lineage = RandomLineage,
            std::optional<SharedRefs> shared = std::nullopt)
      : refs_(refs),
        tenant_(tenant),
        new_lineage_(std::move(new_lineage)),
        shared_(std::move(shared)) {}

  struct Opened {
    std::shared_ptr<AgentState> state;
    Fence fence;
    bool made = false;
  };
  // flags: kOpen...; with kOpenWrite `writer` becomes the writer.
  absl::StatusOr<Opened> Open(const std::string& name, std::uint32_t flags,
                              const Labels& labels,
                              const WriterIdentity& writer,
                              std::int64_t unix_ns) AGENTMEM_EXCLUDES(mutex_);
  // For looking: no writer, never made.
  absl::StatusOr<std::shared_ptr<AgentState>> Find(const std::string& name)
      AGENTMEM_EXCLUDES(mutex_);
  // For reading its versions.
  absl::StatusOr<std::shared_ptr<AgentState>> FindToRead(
      const std::string& name) AGENTMEM_EXCLUDES(mutex_);
  // Before each look for a version in a state that was open before: it may be
  // of another agent of that name now.
  absl::Status ReadOn(const std::shared_ptr<AgentState>& state);
  // What it writes; not what it watches.
  void Release(AgentState* state, std::uint64_t token);
  // Of the session `token`, all words or one.
  static void Unwatch(AgentState* state, std::uint64_t token,
                      std::optional<std::uint32_t> word);

  // ABORTED: the writer is not `token` any more.
  absl::Status CheckWriter(AgentState* state, std::uint64_t token);
  // Made if it is.
  absl::Status Change(AgentState* state, std::uint64_t token,
                      const RecordChange& change);
  // Of what is nobody's in particular (retention): whoever writes; durable.
  absl::Status Amend(AgentState* state,
                     const std::function<absl::Status(AgentRecord*)>& edit);
  // The record as it is now goes to the store; blocks were settled.
  absl::Status Persist(AgentState* state);

  // `to` begins as `from` is, or, with a number in `at`, its only region as
  // that version. What `from` committed as visible is settled before. Where
  // refs are shared, `from` still has that version when `to` is made, or the
  // fork is refused.
  // `at_lineage`: of `from`, as `at` was looked up; 0: `at` is its, for sure.
  absl::Status Fork(AgentState* from, const std::string& to,
                    const VersionLink& at, std::int64_t unix_ns,
                    std::uint64_t at_lineage = 0) AGENTMEM_NO_ANALYSIS;
  absl::Status Delete(AgentState* state) AGENTMEM_EXCLUDES(mutex_);
  absl::StatusOr<std::vector<std::string>> List(const std::string& prefix);

  // Tells the watchers of `region`.
  static void Notify(AgentState* state, std::uint32_t region);

  // Collection. Blocks of the agents of these lineages may be garbage, more
  // than before; all, after the start.
  void NoteGarbage(std::uint64_t lineage) AGENTMEM_EXCLUDES(garbage_mutex_);
  void NoteGarbageEverywhere() AGENTMEM_EXCLUDES(garbage_mutex_);
  // Where refs are shared: the memory that this node lends is to be looked at.
  void NoteGarbageLent() AGENTMEM_EXCLUDES(garbage_mutex_);
  bool HasGarbage() AGENTMEM_EXCLUDES(garbage_mutex_);
  struct Garbage {
    bool everywhere = false;
    bool lent = false;
    absl::flat_hash_set<std::uint64_t> lineages;
  };
  // From here to EndCollection forks are noted.
  Garbage BeginCollection() AGENTMEM_EXCLUDES(mutex_);
  void EndCollection() AGENTMEM_EXCLUDES(mutex_);
  // Every agent, and every one that is gone but not forgotten.
  absl::StatusOr<std::vector<KnownAgent>> Known();
  // Moves oldest_kept of an agent's regions whose retention is by age.
  absl::Status GiveUpOld(const std::string& name, std::int64_t wall_now_ns,
                         NodeSource* nodes) AGENTMEM_EXCLUDES(mutex_);
  // What may not be collected now of `agents`, some of those that Known said
  // since BeginCollection. For blocks that were listed before.
  absl::StatusOr<Roots> TakeRoots(std::span<const KnownAgent> agents)
      AGENTMEM_EXCLUDES(mutex_);
  // Nothing is left of one that is gone.
  absl::Status Forget(std::uint64_t lineage);

  // Collection where refs are shared; docs/regions.md has the argument.
  bool shared() const { return shared_.has_value(); }
  const std::string& node() const { return shared_->node; }
  DurationNs away_ns() const { return shared_->away_ns; }
  std::uint64_t epoch() const {
    return shared_->epoch == nullptr ? 0 : shared_->epoch();
  }
  absl::StatusOr<AgentsView> View();
  // Uses of this node that are over end, also those of its earlier runs, and
  // the others say what is used still; with a new view, those of nodes that
  // are away for long end, too. `stored`: has this node's disk blocks of it?
  absl::Status TendUses(
      const AgentsView* view, TimeNs now,
      const std::function<bool(std::uint64_t lineage)>& stored = nullptr)
      AGENTMEM_EXCLUDES(uses_mutex_);
  // Before the view by which it is decided what is garbage. Names in hand are
  // those of `lineages`.
  NodeHands TakeHands(const absl::flat_hash_set<std::uint64_t>& lineages)
      AGENTMEM_EXCLUDES(mutex_);
  // What may not be collected of a family that `view` has. UNAVAILABLE: that
  // cannot be said now.
  absl::StatusOr<Roots> RootsOf(std::span<const KnownAgent> family,
                                const AgentsView& view, const NodeHands& hands);
  // A node has blocks of the lineage on its disk, or has none. `view` is older
  // than the look at the disk.
  absl::Status NoteStored(std::uint64_t lineage, bool has_blocks,
                          const AgentsView& view);

 private:
  static absl::Status CheckWriterLocked(const AgentState& state,
                                        std::uint64_t token)
      AGENTMEM_REQUIRES(state.mutex);
  absl::Status Apply(AgentState* state, const RecordChange& change)
      AGENTMEM_REQUIRES(state->mutex) AGENTMEM_EXCLUDES(garbage_mutex_);
  absl::Status ForkLocked(AgentState* from, AgentState* child,
                          const VersionLink& at, std::int64_t unix_ns,
                          std::uint64_t at_lineage) AGENTMEM_NO_ANALYSIS;
  absl::Status TryFork(AgentState* from, AgentState* child,
                       const VersionLink& at,
                       std::int64_t unix_ns) AGENTMEM_NO_ANALYSIS;
  std::string RefName(const std::string& agent) const;
  std::string GoneName(std::uint64_t lineage) const;
  void AddHeld(const absl::flat_hash_set<std::uint64_t>& lineages, Roots* roots)
      AGENTMEM_EXCLUDES(mutex_);
  absl::Status AddRoots(AgentState* state, Roots* roots)
      AGENTMEM_REQUIRES(state->mutex);
  absl::StatusOr<std::shared_ptr<AgentState>> Load(const std::string& name)
      AGENTMEM_REQUIRES(mutex_);
  // As Write; by a writer: while this node's use of it is what it was.
  absl::Status WriteUsed(AgentState* state, const RefChange& change,
                         std::span<const RefBlock> blocks)
      AGENTMEM_REQUIRES(state->mutex);
  // The first change is of its ref. OK: it was made, and ref_version says so.
  absl::Status Write(AgentState* state, std::span<const RefChange> changes,
                     std::span<const RefBlock> blocks)
      AGENTMEM_REQUIRES(state->mutex);
  absl::Status ClearDoubt(AgentState* state) AGENTMEM_REQUIRES(state->mutex);

  // agent_book_shared.cc
  std::string ClaimName(const std::string& agent) const;
  void DoubtIfShared(AgentState* state) AGENTMEM_REQUIRES(state->mutex);
  absl::Status CheckClaim(const AgentState& state, std::uint32_t flags);
  absl::Status TakeShared(AgentState* state, const WriterIdentity& writer)
      AGENTMEM_REQUIRES(state->mutex);
  void LoseIfTaken(AgentState* state) AGENTMEM_REQUIRES(state->mutex);
  void DropClaim(const AgentState& state);
  // Nobody here writes it any more, and what was visible here only is gone.
  static void Lose(AgentState* state) AGENTMEM_REQUIRES(state->mutex);

  // agent_book_uses.cc
  std::string UseName(std::uint64_t lineage, const std::string& node) const;
  std::shared_ptr<NodeUse> UseOf(std::uint64_t lineage)
      AGENTMEM_EXCLUDES(uses_mutex_);
  // Null: none is known.
  std::shared_ptr<NodeUse> FindUse(std::uint64_t lineage)
      AGENTMEM_EXCLUDES(uses_mutex_);
  bool IsOurs(const NodeUse& use) const AGENTMEM_REQUIRES(use.mutex);
  absl::Status Know(std::uint64_t lineage, NodeUse* use)
      AGENTMEM_REQUIRES(use->mutex);
  // None: it is removed.
  absl::Status WriteUse(std::uint64_t lineage, NodeUse* use,
                        const std::optional<LineageUse>& next,
                        std::span<const RefChange> checks)
      AGENTMEM_REQUIRES(use->mutex);
  // The agent's state uses its lineage from here on; with `writes`, names with
  // its fence.
  absl::Status TakeUse(AgentState* state, bool writes)
      AGENTMEM_REQUIRES(state->mutex);
  // Once. False: the record, or the use, was changed by another.
  absl::StatusOr<bool> TryTakeUse(AgentState* state, bool writes)
      AGENTMEM_REQUIRES(state->mutex);
  // As far as can be said.
  bool HasUse(const AgentState& state) AGENTMEM_REQUIRES(state.mutex);
  // Adds that the use is as it was, where a change depends on it.
  absl::Status DependOnUse(const AgentState& state,
                           std::vector<RefChange>* changes)
      AGENTMEM_REQUIRES(state.mutex);
  bool UseIsLost(const AgentState& state) AGENTMEM_REQUIRES(state.mutex);
  absl::Status TendOurs(
      std::uint64_t lineage, NodeUse* use, TimeNs now,
      const std::function<bool(std::uint64_t lineage)>& stored)
      AGENTMEM_EXCLUDES(use->mutex);
  absl::Status Refresh(std::uint64_t lineage, AgentState* state, NodeUse* use)
      AGENTMEM_REQUIRES(state->mutex) AGENTMEM_REQUIRES(use->mutex);
  absl::Status CloseUse(
      std::uint64_t lineage, NodeUse* use,
      const std::function<bool(std::uint64_t lineage)>& stored)
      AGENTMEM_REQUIRES(use->mutex);
  absl::Status EndUseOf(const AgentsView::Use& seen);
  bool IsAwayForLong(const AgentsView::Use& seen, TimeNs now)
      AGENTMEM_EXCLUDES(uses_mutex_);

  RefStore* const refs_;
  const TenantId tenant_;
  const LineageMaker new_lineage_;
  const std::optional<SharedRefs> shared_;
  Mutex mutex_;  // before a state's
  absl::flat_hash_map<std::string, std::weak_ptr<AgentState>> states_
      AGENTMEM_GUARDED_BY(mutex_);
  std::size_t prune_at_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  bool collecting_ AGENTMEM_GUARDED_BY(mutex_) = false;
  std::vector<VersionRoot> born_ AGENTMEM_GUARDED_BY(mutex_);
  std::vector<Key> born_blocks_ AGENTMEM_GUARDED_BY(mutex_);
  Mutex uses_mutex_;  // after a use's
  absl::flat_hash_map<std::uint64_t, std::shared_ptr<NodeUse>> uses_
      AGENTMEM_GUARDED_BY(uses_mutex_);  // by lineage
  // Since when a run of a node is no member, as this node saw it.
  absl::flat_hash_map<std::pair<std::string, std::uint64_t>, TimeNs> away_
      AGENTMEM_GUARDED_BY(uses_mutex_);
  Mutex garbage_mutex_;  // after all others
  Garbage garbage_ AGENTMEM_GUARDED_BY(garbage_mutex_) = {true, false, {}};
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_AGENT_BOOK_H_
