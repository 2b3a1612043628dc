// The books of blocks in device memory (tier hbm), of all processes of a node:
// who may have how much of which device, which agents' blocks are there, and
// what their phases asked of them.
//
// A process owns its blocks and moves them; what the books say of it is its own
// word (proto/hbm_messages.h). They answer with a budget and with wishes:
//
//   none --phase--> open --report names its number--> answered
//                     |  a later wish takes its place
//
// A wish to empty is made where an agent has blocks; one to bring back where
// the last wish was to empty. While the agent's phase is one that empties,
// blocks that are reported of it later (they were on their way) are asked to
// leave as well.
//
// A budget is what a process may have, not what is free at once: who has more
// than its own gives back first, and an allocation may fail until then. To wait
// for that here would let a process that never gives back starve the others.
//
// Who lies: a tenant's share follows from what its own processes say of a
// device's size, and from what others want, of which an equal part is the most
// that counts against it (tiering/device_shares.h): to want more, to claim
// another tenant's device or to invent sizes takes nobody's equal part. Sizes
// are bounded, agents by process and tenant, changes of what is wanted by rate,
// and to want more again after less by a lower one, since each moves the
// budgets of others, who then move blocks.
//
// Hits are added up by tenant, for operators, and decide nothing. A process
// says how many it had since its Open, so that a report that is lost, or comes
// twice, changes nothing. Of what it says as much is taken as can be: not less
// than before, no more than a process finds in the time that it is open, no
// more bytes than so many blocks have. The rest is left out, and refuses
// nothing: where hits stand now there was once what nobody looked at, and
// blocks must move whatever is said of hits. Who lies makes his own tenant's
// sum wrong, by what a very busy process would add, and nobody else's; sums end
// where 64 bits do.
//
// Ownership: of its books; a process's word of the board is kept alive.
// Threads: thread-safe; the mutex is the last that is taken. Errors:
// INVALID_ARGUMENT naming the field; FAILED_PRECONDITION: no device is open;
// RESOURCE_EXHAUSTED. Cost: O(log n) an agent in a report; O(n log n) of the
// device's processes where a budget may change; a system call for each process
// that is woken.
#ifndef AGENTMEM_MEMD_AGENTS_HBM_LEDGER_H_
#define AGENTMEM_MEMD_AGENTS_HBM_LEDGER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "memd/agents/board_word.h"
#include "memd/service/snapshot.h"
#include "proto/hbm_messages.h"
#include "proto/types.h"
#include "tiering/hbm_ask.h"

namespace agentmem {

struct HbmRules {
  std::uint64_t device_bytes = 0;    // of each device; 0: all of its memory
  DurationNs leave_ns = kSecondNs;   // an agent's, to leave
  DurationNs reload_ns = kSecondNs;  // what it takes to bring it back
  // Agents in a process, and phases that are known in a tenant; agents in all
  // processes of a tenant, about 100 MiB of memd's memory.
  std::size_t process_agents_max = kHbmAgentsMax;
  std::size_t tenant_agents_max = 4 * kHbmAgentsMax;
};

// Blocks that a process's loads found in its pool, since it opened that.
struct HbmHits {
  std::uint64_t blocks = 0;
  std::uint64_t bytes = 0;
};

class HbmLedger {
 public:
  // No device has more; and so many for each agent of a process fit 64 bits.
  static constexpr std::uint64_t kDeviceBytesMax = 1ULL << 46;
  // What a tenant's processes may change of others' budgets: as many times as
  // they all might who start together, then 20 a second. And turn from less to
  // more, each of which takes from others what they were just given: as many
  // times as they might who come and go, then one in 2 s.
  static constexpr int kChangesAtOnce = 1024;
  static constexpr DurationNs kChangeNs = 50 * kMillisecondNs;
  static constexpr int kTurnsAtOnce = 64;
  static constexpr DurationNs kTurnNs = 2 * kSecondNs;
  // Of one process, a second: its loads look into its pool one after another,
  // and a block that is found is read by the device.
  static constexpr std::uint64_t kHitsEachSecond = 1 << 24;
  static constexpr std::uint64_t kHitBytesEachSecond = 1ULL << 44;

  HbmLedger(const HbmRules& rules, const Clock* clock)
      : rules_(rules), clock_(clock) {}

  // Before the first Open. Quota: of each device; 0: no limit.
  void AddTenant(TenantId id, std::uint64_t quota_bytes)
      AGENTMEM_EXCLUDES(mutex_);

  struct Holder {
    std::uint64_t token = 0;  // of its session
    TenantId tenant;
    std::string client_name;
    std::int32_t pid = 0;
    BoardWord word;
  };
  // Its budget. What the session had open before ends.
  absl::StatusOr<std::uint64_t> Open(Holder holder, const HbmDevice& device,
                                     std::uint64_t wanted_bytes)
      AGENTMEM_EXCLUDES(mutex_);

  struct Report {
    std::uint64_t allocated_bytes = 0;
    std::uint64_t wanted_bytes = 0;
    HbmHits hits;
    std::span<const HbmUse> uses;
  };
  struct Answer {
    std::uint64_t budget_bytes = 0;
    // All that are open, if at most kHbmWishesMax are; else those that were not
    // told yet, and of the others some by turns.
    std::vector<HbmWish> wishes;
    // Agents of which this process has blocks from now on, and no phase that
    // empties was said here: who knows of an earlier one says it (SetPhase).
    std::vector<std::string> unheard;
  };
  // All of the report, or nothing of it.
  absl::StatusOr<Answer> Take(TenantId tenant, std::uint64_t token,
                              const Report& report) AGENTMEM_EXCLUDES(mutex_);

  // False: the session had nothing open. `last`: none, if nobody says any.
  bool Close(TenantId tenant, std::uint64_t token, const HbmHits& last = {})
      AGENTMEM_EXCLUDES(mutex_);

  // Of any session of the tenant. True: processes have blocks of the agent, or
  // had some until it left.
  bool SetPhase(TenantId tenant, const std::string& agent, AgentPhase phase,
                DurationNs eta) AGENTMEM_EXCLUDES(mutex_);
  // Nothing is known any more of what it does: blocks may come.
  void ForgetPhase(TenantId tenant, const std::string& agent)
      AGENTMEM_EXCLUDES(mutex_);
  // Once, whatever its phase is: `phase` stands for who asks.
  void Empty(TenantId tenant, const std::string& agent, AgentPhase phase)
      AGENTMEM_EXCLUDES(mutex_);
  void BringBack(TenantId tenant, const std::string& agent, AgentPhase phase)
      AGENTMEM_EXCLUDES(mutex_);

  // Where a page of a list ended.
  struct Place {
    std::uint64_t listed = 0;  // entries before it
    std::uint64_t token = 0;   // of the process of the last one
    std::string agent;         // "": that process itself
  };
  // The tenant's processes, each followed by its agents; `skip` of them left
  // out, at most `count`. Goes on at `place` if that is where `skip` is, and
  // counts from the start if not, the lock held for kListSteps at a time.
  std::vector<HbmEntry> List(TenantId tenant, std::uint64_t skip,
                             std::size_t count, Place* place, bool* more) const
      AGENTMEM_EXCLUDES(mutex_);
  static constexpr std::size_t kListSteps = 1024;

  // The tier: of the tenant's processes what they have there now; hits of those
  // that have ended, too. None: no process has opened a device.
  std::optional<TierSnapshot> Snapshot(TenantId tenant) const
      AGENTMEM_EXCLUDES(mutex_);

 private:
  struct Wish {
    std::uint64_t number = 0;  // 0: there was none
    HbmWishKind kind = {};
    AgentPhase phase = {};
    bool open = false;
    TimeNs asked_at = 0;
    TimeNs deadline = kNoDeadline;
    TimeNs answered_at = 0;
  };
  struct Use {
    std::uint64_t bytes = 0;
    std::uint64_t blocks = 0;
    Wish wish;  // the last
  };
  using Uses = std::map<std::string, Use, std::less<>>;
  struct Process {
    Holder holder;
    std::string device;  // its id
    std::string device_name;
    std::uint64_t memory_bytes = 0;
    std::uint64_t wanted_bytes = 0;
    std::uint64_t allocated_bytes = 0;
    std::uint64_t budget_bytes = 0;
    TimeNs opened_at = 0;
    HbmHits hits;             // as far as they can be
    std::uint64_t bytes = 0;  // of its agents
    std::uint64_t blocks = 0;
    Uses uses;
    std::map<std::uint64_t, Uses::iterator> open;  // wishes, by number
    std::uint64_t told = 0;        // the newest that was in an answer
    std::uint64_t told_again = 0;  // the last that was in one again
    // Agents without a block here that left when they were asked to, by that
    // wish: the first to be forgotten.
    std::map<std::uint64_t, Uses::iterator> left;
  };
  struct Tenant {
    std::uint64_t quota_bytes = 0;
    std::map<std::uint64_t, Process> processes;  // by token
    std::size_t agents = 0;                      // uses of all processes
    bool has_opened = false;                     // any process, ever
    HbmHits hits;                                // of all processes, ever
    // Agents whose phase is one that empties, also of those whose blocks no
    // process has yet, or has again after its connection or memd was lost. At
    // most process_agents_max.
    absl::flat_hash_map<std::string, AgentPhase> away;
    TimeNs changes_paid = 0;
    TimeNs turns_paid = 0;
    bool has_fallen = false;  // the last change was to want less, or to close
  };

  Tenant& TenantOf(TenantId id) AGENTMEM_REQUIRES(mutex_);
  bool MayChange(Tenant* tenant, bool is_turn) AGENTMEM_REQUIRES(mutex_);
  absl::Status Check(const Process& process, const Report& report) const
      AGENTMEM_REQUIRES(mutex_);
  absl::Status CheckRoom(const Tenant& tenant, const Process& process,
                         std::span<const HbmUse> uses) const
      AGENTMEM_REQUIRES(mutex_);
  void TakeHits(const HbmHits& said, Tenant* tenant, Process* process) const
      AGENTMEM_REQUIRES(mutex_);
  void ForgetLeft(Tenant* tenant, Process* process) AGENTMEM_REQUIRES(mutex_);
  // True: it is new, and unheard of (Answer).
  bool TakeUse(Tenant* tenant, Process* process, const HbmUse& use)
      AGENTMEM_REQUIRES(mutex_);
  void End(Tenant* tenant, std::uint64_t token) AGENTMEM_REQUIRES(mutex_);
  // Budgets of a device's processes; those that change are woken, but `asker`.
  void Divide(const std::string& device, std::uint64_t asker)
      AGENTMEM_REQUIRES(mutex_);
  void Erase(Tenant* tenant, Process* process, Uses::iterator use)
      AGENTMEM_REQUIRES(mutex_);
  // False: there is nothing to wish for.
  bool AskToEmpty(Process* process, Uses::iterator use, AgentPhase phase)
      AGENTMEM_REQUIRES(mutex_);
  bool AskToBringBack(Process* process, Uses::iterator use, AgentPhase phase)
      AGENTMEM_REQUIRES(mutex_);
  void Ask(Process* process, Uses::iterator use, Wish wish)
      AGENTMEM_REQUIRES(mutex_);
  std::vector<HbmWish> Tell(Process* process) AGENTMEM_REQUIRES(mutex_);
  static HbmEntry EntryOf(const Process& process);
  static HbmEntry EntryOfAgent(const Process& process, const std::string& agent,
                               const Use& use, TimeNs now);
  // At most `count` that follow `place`, which moves on, to `entries` if that
  // is not null. False: there are no more.
  bool ListOn(TenantId id, std::size_t count, Place* place,
              std::vector<HbmEntry>* entries) const AGENTMEM_EXCLUDES(mutex_);
  // Of the agent, in the tenant's processes.
  static std::vector<std::pair<Process*, Uses::iterator>> UsesOf(
      Tenant* tenant, const std::string& agent);

  const HbmRules rules_;
  const Clock* const clock_;
  mutable Mutex mutex_;
  std::map<std::uint32_t, Tenant> tenants_ AGENTMEM_GUARDED_BY(mutex_);
  std::uint64_t last_wish_ AGENTMEM_GUARDED_BY(mutex_) = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_HBM_LEDGER_H_
