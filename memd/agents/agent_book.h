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
// was restarted has a fence of its own.
//
// Ownership: sessions share states; the book keeps none alive. Threads:
// thread-safe; a state's mutex is held over the store's synced write, so that
// commits of an agent have one order. Errors: NOT_FOUND, ALREADY_EXISTS,
// FAILED_PRECONDITION (somebody writes; who is named), ABORTED (taken over),
// and the store's. Cost: changes wait for one synced write.
#ifndef AGENTMEM_MEMD_AGENTS_AGENT_BOOK_H_
#define AGENTMEM_MEMD_AGENTS_AGENT_BOOK_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "memd/agents/agent_record.h"
#include "memd/dram/shared_memory.h"
#include "memd/store/ref_store.h"
#include "proto/agent_messages.h"

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
  std::vector<Key> unsettled AGENTMEM_GUARDED_BY(mutex);
  std::vector<Watcher> watchers AGENTMEM_GUARDED_BY(mutex);
  std::atomic<std::uint64_t> resident_bytes = 0;  // of all its mappings
  bool deleted AGENTMEM_GUARDED_BY(mutex) = false;
};

class AgentBook {
 public:
  AgentBook(RefStore* refs, TenantId tenant) : refs_(refs), tenant_(tenant) {}

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
  void Release(AgentState* state, std::uint64_t token);

  // `change` is applied to the record, if the writer is still `token`. With
  // `durable` it is in the store when this returns, `block` (of `key`; may be
  // empty) with it, and what was ahead before; else it is visible here only.
  absl::Status Change(AgentState* state, std::uint64_t token, bool durable,
                      const Key& key, std::span<const char> block,
                      const std::function<absl::Status(AgentRecord*)>& change);
  // Of what is nobody's in particular (retention): whoever writes; durable.
  absl::Status Amend(AgentState* state,
                     const std::function<absl::Status(AgentRecord*)>& change);
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

 private:
  absl::Status Apply(AgentState* state, bool durable, const Key& key,
                     std::span<const char> block,
                     const std::function<absl::Status(AgentRecord*)>& change)
      AGENTMEM_REQUIRES(state->mutex);
  absl::Status ForkLocked(AgentState* from, AgentState* child,
                          const VersionLink& at,
                          std::int64_t unix_ns) AGENTMEM_NO_ANALYSIS;
  std::string RefName(const std::string& agent) const;
  absl::StatusOr<std::shared_ptr<AgentState>> Load(const std::string& name)
      AGENTMEM_REQUIRES(mutex_);

  RefStore* const refs_;
  const TenantId tenant_;
  Mutex mutex_;  // before a state's
  absl::flat_hash_map<std::string, std::weak_ptr<AgentState>> states_
      AGENTMEM_GUARDED_BY(mutex_);
  std::size_t prune_at_ AGENTMEM_GUARDED_BY(mutex_) = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_AGENT_BOOK_H_
