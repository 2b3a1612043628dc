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
// what the records lead to, what is held, and what is in a writer's hand.
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
#include "memd/agents/node_loader.h"
#include "memd/agents/writer_claim.h"
#include "memd/dram/shared_memory.h"
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
  std::shared_ptr<SharedMemory> board;
  std::uint32_t word = 0;
  std::uint32_t region = 0;
  std::uint64_t session = 0;
};

class VersionHold;

struct AgentState {
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
};
void AddRecordRoots(const AgentRecord& record, Roots* roots);
struct KnownAgent {
  std::string name;  // empty: it is gone, its blocks may not be
  std::uint64_t lineage = 0;
  std::uint64_t origin = 0;  // lineage that it was forked from; 0: none
  bool by_age = false;       // a region's retention is
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
  // that version. What `from` committed as visible is settled before.
  absl::Status Fork(AgentState* from, const std::string& to,
                    const VersionLink& at,
                    std::int64_t unix_ns) AGENTMEM_NO_ANALYSIS;
  absl::Status Delete(AgentState* state) AGENTMEM_EXCLUDES(mutex_);
  absl::StatusOr<std::vector<std::string>> List(const std::string& prefix);

  // Tells the watchers of `region`.
  static void Notify(AgentState* state, std::uint32_t region);

  // Collection. Blocks of the agents of these lineages may be garbage, more
  // than before; all, after the start.
  void NoteGarbage(std::uint64_t lineage) AGENTMEM_EXCLUDES(garbage_mutex_);
  void NoteGarbageEverywhere() AGENTMEM_EXCLUDES(garbage_mutex_);
  bool HasGarbage() AGENTMEM_EXCLUDES(garbage_mutex_);
  struct Garbage {
    bool everywhere = false;
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

 private:
  static absl::Status CheckWriterLocked(const AgentState& state,
                                        std::uint64_t token)
      AGENTMEM_REQUIRES(state.mutex);
  absl::Status Apply(AgentState* state, const RecordChange& change)
      AGENTMEM_REQUIRES(state->mutex) AGENTMEM_EXCLUDES(garbage_mutex_);
  absl::Status ForkLocked(AgentState* from, AgentState* child,
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
  Mutex garbage_mutex_;  // after all others
  Garbage garbage_ AGENTMEM_GUARDED_BY(garbage_mutex_) = {true, {}};
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_AGENT_BOOK_H_
