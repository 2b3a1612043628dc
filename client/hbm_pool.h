// The blocks of this process that are in device memory (tier hbm), under the
// same keys as below, in slots of slabs that are allocated from the device.
//
// The life of a block:
//
//   BeginFill -> filling --EndFill(whole)--> there --(no use)--> dropped
//                   |                        ^   |
//                   +--EndFill(not whole)-+  |   +- leaving, and not below:
//                                         v  |      written down by the keeper
//                                      dropped      (TakeToWrite, EndWrite)
//
// Whoever copies into or out of a block has a use of it, from before he posts
// until the event behind his copies has passed. A block is found when its fill
// has ended so, and its slot is used anew, or its slab freed, when it has no
// use: so no copy is ever under way in memory that has another owner.
//
// What is dropped is below: the index says so, or it was written there. A block
// of class cache may be dropped without, when DRAM has no room for it
// (forgotten); one of class state stays until it is below, even beyond the
// budget. Which blocks leave first, a tiering::Policy says; so does it which
// slab is emptied when the budget shrinks: the one whose blocks it would let go
// of before all those of any other.
//
// Blocks are owned by agents (of kv that were kept for one). An agent that
// leaves takes along those that are its alone, and its keys are remembered, in
// the order in which they came, until it is brought back. What it stores while
// it is away does not stay; a load says that it works again.
//
// Slabs. Allocating and freeing device memory takes a millisecond or waits for
// the device, so it is done seldom: 32 MiB at a time, 8 of the largest blocks
// and a thousandth of a small GPU's memory. A smaller one is taken where the
// budget has no more: whole granules of 2 MiB, as CUDA maps memory. After an
// allocation that failed the pool works within what it has, and asks again a
// second later.
//
// Bounds: entries (one for 64 KiB of what is wanted, 4096 at least), agents
// (kHbmAgentsMax; more of them are nobody), keys that are remembered (as many
// as entries; who left first is forgotten first), owners of a block (64; with
// more it is everybody's, and no agent takes it along). One search for room
// looks at 1024 blocks.
//
// Ownership: owns the slabs; borrows the device. No use may be left when it
// ends. Threads: thread-safe; GiveBack, TakeToWrite and EndWrite are the
// keeper's. Errors: no room is an answer, not an error. Cost: a lock and some
// lookups a call; BeginFill at times allocates a slab, or looks for blocks that
// may leave.
#ifndef AGENTMEM_CLIENT_HBM_POOL_H_
#define AGENTMEM_CLIENT_HBM_POOL_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "client/hbm_slabs.h"
#include "cuda/device.h"
#include "proto/hbm_messages.h"
#include "proto/types.h"
#include "tiering/policy.h"

namespace agentmem::client {

// 0: nobody.
using HbmAgent = StrongId<struct HbmAgentTag, std::uint32_t>;

// A block as its users see it. `entry` is the pool's.
struct HbmBlock {
  std::uint32_t entry = kNoEntry;  // kNoEntry: none
  DeviceAddress at;
  std::uint64_t bytes = 0;
  Key key;
  BlockClass block_class = BlockClass::kCache;

  bool is_there() const { return entry != kNoEntry; }
};

// What is to come in.
struct HbmNew {
  Key key;
  std::uint64_t bytes = 0;
  std::uint64_t tag = 0;  // of its shape: Fp8TagOf; 0: plain
  BlockClass block_class = BlockClass::kCache;
  HbmAgent agent;  // whose it is, also if it is there already
};

enum class HbmCause : std::uint8_t {
  kStore,
  kLoad,
  kBringBack,  // into room that is free: nothing leaves for it
};

enum class HbmFill : std::uint8_t {
  kBegun,   // the block is the caller's to fill, until EndFill
  kThere,   // it is there; the caller has a use of it
  kTaken,   // somebody fills it just now
  kOther,   // under its key one of another length or tag is there
  kNoRoom,  // or its agent is away
};

// How a block that TakeToWrite gave was written.
enum class HbmWritten : std::uint8_t {
  kBelow,
  kNoRoom,  // there is none in DRAM
  kNot,     // later, perhaps
};

struct HbmCounts {
  std::uint64_t budget_bytes = 0;
  std::uint64_t allocated_bytes = 0;
  std::uint64_t used_bytes = 0;
  std::uint64_t blocks = 0;
  std::uint64_t hits = 0;
  std::uint64_t hit_bytes = 0;
  std::uint64_t misses = 0;
  std::uint64_t filled = 0;
  std::uint64_t dropped = 0;
  std::uint64_t demoted = 0;
  std::uint64_t forgotten = 0;
  std::uint64_t brought_back = 0;
  std::uint64_t changed_agents = 0;  // now, not taken yet
};

class HbmPool;

// Keeps an agent open in a pool. Ends before the pool.
class HbmKeep {
 public:
  HbmKeep(HbmPool* pool, std::string_view agent);
  ~HbmKeep();
  HbmKeep(const HbmKeep&) = delete;
  HbmKeep& operator=(const HbmKeep&) = delete;
  HbmAgent agent() const { return agent_; }

 private:
  HbmPool* const pool_;
  const HbmAgent agent_;
};

class HbmPool {
 public:
  static constexpr std::uint64_t kSlabBytes = 32 << 20;
  static constexpr std::uint64_t kGranuleBytes = 2 << 20;

  struct Options {
    Device* device = nullptr;
    const Clock* clock = nullptr;
    std::uint64_t wanted_bytes = 0;
    std::uint64_t slab_bytes = kSlabBytes;
    std::uint64_t granule_bytes = kGranuleBytes;
    // Is a copy of it below, as far as one can tell without asking memd? Called
    // under the pool's lock.
    std::function<bool(const Key&, BlockClass)> is_below;
  };
  // What an agent had when it left.
  struct Remembered {
    Key key;
    BlockClass block_class = BlockClass::kCache;
  };

  explicit HbmPool(Options options);
  ~HbmPool();
  HbmPool(const HbmPool&) = delete;
  HbmPool& operator=(const HbmPool&) = delete;

  // A load wants it: true, with a use of it. Counts. One of another length or
  // tag is not what is wanted: below somebody looks into it, and says so.
  bool Find(const Key& key, std::uint64_t bytes, HbmAgent agent,
            HbmBlock* block, std::uint64_t tag = 0) AGENTMEM_EXCLUDES(mutex_);
  HbmFill BeginFill(const HbmNew& what, HbmCause cause, HbmBlock* block)
      AGENTMEM_EXCLUDES(mutex_);
  // The event behind the fill has passed. `whole`: its bytes are all there.
  void EndFill(const HbmBlock& block, bool whole) AGENTMEM_EXCLUDES(mutex_);
  void EndUse(const HbmBlock& block) AGENTMEM_EXCLUDES(mutex_);

  // The same id for the same name, until it was closed as often. Nobody: there
  // are too many, or the name is empty.
  HbmAgent OpenAgent(std::string_view name) AGENTMEM_EXCLUDES(mutex_);
  void CloseAgent(HbmAgent agent) AGENTMEM_EXCLUDES(mutex_);
  // What an agent has alone leaves, and is remembered.
  void Leave(std::string_view agent) AGENTMEM_EXCLUDES(mutex_);
  // Is none of it left that Leave sent away (and GiveBack drops)?
  bool HasLeft(std::string_view agent) AGENTMEM_EXCLUDES(mutex_);
  // The agent is back; what is still there stays. What it had, and is not
  // there: its first ones first.
  std::vector<Remembered> Return(std::string_view agent)
      AGENTMEM_EXCLUDES(mutex_);

  // Behind what it is remembered by: what Return gave and did not come.
  void RememberMore(std::string_view agent, std::span<const Remembered> more)
      AGENTMEM_EXCLUDES(mutex_);

  // As memd says.
  void SetBudget(std::uint64_t bytes) AGENTMEM_EXCLUDES(mutex_);
  // For `duration` the pool has at most so much.
  void SetCeiling(std::uint64_t bytes, DurationNs duration)
      AGENTMEM_EXCLUDES(mutex_);
  // Drops what is to leave and may, and frees slabs beyond the budget (`all`:
  // all that are empty). True: it is within its budget. Waits for the device,
  // if it frees.
  enum class Empty : std::uint8_t { kKept, kFreed };
  bool GiveBack(Empty empty) AGENTMEM_EXCLUDES(mutex_);
  // Blocks that are to leave and are not below: a use of each, until EndWrite.
  std::vector<HbmBlock> TakeToWrite(std::size_t count_max)
      AGENTMEM_EXCLUDES(mutex_);
  void EndWrite(const HbmBlock& block, HbmWritten written)
      AGENTMEM_EXCLUDES(mutex_);
  // Is there a block of class state?
  bool HasState() AGENTMEM_EXCLUDES(mutex_);
  // All blocks of class state that are not below are to leave: the pool ends.
  void SendStateDown() AGENTMEM_EXCLUDES(mutex_);

  // Of agents that changed since they were taken last; `answers` and `took_ns`
  // are not its business. kGoneAlone: those that have nothing left by
  // themselves, if the next one is such. EndTelling comes before the next call.
  enum class Telling : std::uint8_t { kAll, kGoneAlone };
  std::vector<HbmUse> TakeChanged(std::size_t count_max,
                                  Telling what = Telling::kAll)
      AGENTMEM_EXCLUDES(mutex_);
  // memd has heard of them. If not, they are taken again: those that have
  // nothing left first, for they make room there; others after all that wait.
  void EndTelling(std::span<const HbmUse> uses, bool has_heard)
      AGENTMEM_EXCLUDES(mutex_);
  HbmUse UseOf(std::string_view agent) AGENTMEM_EXCLUDES(mutex_);
  // A new memd knows nothing: neither what is here, nor who is to be away.
  void AllChanged() AGENTMEM_EXCLUDES(mutex_);
  HbmCounts counts() AGENTMEM_EXCLUDES(mutex_);
  std::uint64_t wanted_bytes() const { return options_.wanted_bytes; }
  // Is called, on any thread and outside of the lock, when there is something
  // for the keeper. Before the pool is used by others.
  void OnChange(std::function<void()> hook) { hook_ = std::move(hook); }

 private:
  enum class State : std::uint8_t { kFree, kFilling, kThere };
  struct Owner {
    std::uint32_t agent = 0;
    std::uint64_t order = 0;  // its place among the agent's
  };
  struct Entry {
    Key key;
    HbmSlabs::Slot slot;
    std::uint64_t tag = 0;
    std::uint32_t bytes = 0;
    std::uint32_t uses = 0;
    State state = State::kFree;
    BlockClass block_class = BlockClass::kCache;
    HbmCause cause = HbmCause::kStore;
    bool is_leaving = false;  // for good: its agent left, or its slab closes
    bool was_written = false;
    bool is_common = false;  // has more owners than are kept
    std::vector<Owner> owners;
  };
  struct Agent {
    std::string name;  // "": the place is free
    std::uint32_t references = 0;
    std::uint64_t bytes = 0;
    std::uint32_t leaving = 0;  // its blocks that are leaving
    bool is_away = false;
    bool is_changed = false;
    bool is_told = false;  // of TakeChanged, until EndTelling
    std::map<std::uint64_t, std::uint32_t> entries;  // order -> entry
    std::vector<Remembered> remembered;
    std::uint64_t left_at = 0;  // in the order in which agents left
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const { return HashKey(key); }
  };

  std::uint64_t Limit() const AGENTMEM_REQUIRES(mutex_);
  std::uint64_t Allocated() const AGENTMEM_REQUIRES(mutex_);
  HbmFill BeginFillLocked(const HbmNew& what, HbmCause cause, HbmBlock* block)
      AGENTMEM_REQUIRES(mutex_);
  HbmBlock Use(std::uint32_t index) AGENTMEM_REQUIRES(mutex_);
  // kNoEntry: as many as it keeps are in use.
  std::uint32_t NewEntry() AGENTMEM_REQUIRES(mutex_);
  void FreeEntry(std::uint32_t index) AGENTMEM_REQUIRES(mutex_);
  bool IsBelow(const Entry& entry) const AGENTMEM_REQUIRES(mutex_);

  // hbm_pool_room.cc: who makes room for whom.
  bool TakeSlot(std::size_t size_class, HbmCause cause, std::uint32_t entry)
      AGENTMEM_REQUIRES(mutex_);
  bool Grow(std::size_t size_class) AGENTMEM_REQUIRES(mutex_);
  // kSizeClasses: any block.
  bool EvictFor(std::size_t size_class) AGENTMEM_REQUIRES(mutex_);
  void CloseSlabs(std::uint64_t bytes) AGENTMEM_REQUIRES(mutex_);
  void ReopenSlabs() AGENTMEM_REQUIRES(mutex_);
  bool MayDrop(const Entry& entry) const AGENTMEM_REQUIRES(mutex_);
  void Drop(std::uint32_t index) AGENTMEM_REQUIRES(mutex_);
  void DropLeaving() AGENTMEM_REQUIRES(mutex_);

  // hbm_pool_agents.cc: whose blocks they are.
  std::uint32_t FindAgent(std::string_view name) const
      AGENTMEM_REQUIRES(mutex_);
  void Own(std::uint32_t index, HbmAgent agent) AGENTMEM_REQUIRES(mutex_);
  void Disown(std::uint32_t index) AGENTMEM_REQUIRES(mutex_);
  void SetLeaving(std::uint32_t index, bool is_leaving)
      AGENTMEM_REQUIRES(mutex_);
  bool OwnersAreAway(const Entry& entry) const AGENTMEM_REQUIRES(mutex_);
  void ComesBack(std::uint32_t agent) AGENTMEM_REQUIRES(mutex_);
  void Changed(std::uint32_t agent) AGENTMEM_REQUIRES(mutex_);
  void Remember(std::uint32_t agent) AGENTMEM_REQUIRES(mutex_);
  void Forget(std::uint32_t agent) AGENTMEM_REQUIRES(mutex_);
  // If nothing is known of it that matters.
  void FreeAgent(std::uint32_t agent) AGENTMEM_REQUIRES(mutex_);
  HbmUse UseOfAgent(const Agent& agent) const AGENTMEM_REQUIRES(mutex_);
  void TellKeeper() const {
    if (hook_) hook_();
  }

  const Options options_;
  const std::uint32_t entries_max_;
  std::function<void()> hook_;

  mutable Mutex mutex_;
  CondVar grown_;  // an allocation has ended
  HbmSlabs slabs_ AGENTMEM_GUARDED_BY(mutex_);
  std::unique_ptr<tiering::Policy> policy_ AGENTMEM_GUARDED_BY(mutex_);
  std::vector<Entry> entries_ AGENTMEM_GUARDED_BY(mutex_);
  std::vector<std::uint32_t> free_entries_ AGENTMEM_GUARDED_BY(mutex_);
  std::unordered_map<Key, std::uint32_t, KeyHash> by_key_
      AGENTMEM_GUARDED_BY(mutex_);
  std::set<std::uint32_t> leaving_ AGENTMEM_GUARDED_BY(mutex_);
  std::uint32_t drop_next_ AGENTMEM_GUARDED_BY(mutex_) = 0;  // of leaving_
  // To be written below, so that they may leave.
  std::set<std::uint32_t> sinking_ AGENTMEM_GUARDED_BY(mutex_);
  std::vector<Agent> agents_ AGENTMEM_GUARDED_BY(mutex_);  // [0]: nobody
  std::vector<std::uint32_t> free_agents_ AGENTMEM_GUARDED_BY(mutex_);
  std::unordered_map<std::string, std::uint32_t> by_name_
      AGENTMEM_GUARDED_BY(mutex_);
  std::deque<std::uint32_t> changed_ AGENTMEM_GUARDED_BY(mutex_);
  std::uint64_t remembered_ AGENTMEM_GUARDED_BY(mutex_) = 0;  // keys
  std::uint64_t next_order_ AGENTMEM_GUARDED_BY(mutex_) = 1;
  std::uint64_t budget_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  std::uint64_t ceiling_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  TimeNs ceiling_until_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  std::uint64_t freeing_bytes_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  bool is_growing_ AGENTMEM_GUARDED_BY(mutex_) = false;
  HbmCounts counts_ AGENTMEM_GUARDED_BY(mutex_);
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_HBM_POOL_H_
