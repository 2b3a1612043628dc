// One tenant's state machine: its DRAM pool and index, what its store holds,
// its clients, and the life of every block and slot.
//
// Time, store, policy and wake-ups come in from outside; there are no threads
// and no clock in here, so tests run it by hand.
//
// The life of a slot:
//
//   free --grant--> granted --publish--> published --evict--> limbo --> free
//     \--promote--> loading --read ok------^                    (no pin left)
//
// A published slot is evictable when it has no hold, no pin, no I/O, and its
// bytes may go: class cache always, class state only when a copy is below.
// Eviction unpublishes first and looks for pins after (docs/data-path.md); a
// slot that was pinned in between stays in limbo, charged to its pinner.
//
// `directory_` is the truth about which blocks exist; the index in shared
// memory is its projection, and may lack a block whose buckets are full. What
// only other nodes have it knows by hearsay, for they drop without a word: of
// that it keeps the last `index_entries`, and finds the rest when it is asked
// for.
//
// What waits for room (grants, promotions) stands in `room_waiters_`, and is
// tried again, in order, whenever memory may have come back.
//
// Whole extents that a port empties (kWantToEmpty) are a kind of room of their
// own: no client may hold them (dram/extent_holds.h, tenant_extents.cc).
//
// Ownership: owns books and clients; borrows memory, store, source, policy.
// Threads: reactor-only. Errors: as completions to clients (Reason says why).
// Cost: O(1) an operation, but for eviction: O(pins of the tenant) a batch.
#ifndef AGENTMEM_MEMD_TENANT_H_
#define AGENTMEM_MEMD_TENANT_H_

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/clock.h"
#include "memd/client.h"
#include "memd/drain_report.h"
#include "memd/dram/data_pool.h"
#include "memd/dram/extent_holds.h"
#include "memd/dram/index_writer.h"
#include "memd/pool/pool.h"
#include "memd/pool/served_store.h"
#include "memd/pool/stored_blocks.h"
#include "memd/service/snapshot.h"
#include "memd/store/block_store.h"
#include "memd/store/source.h"
#include "memd/tenant_options.h"
#include "memd/write_record.h"
#include "tiering/policy.h"

namespace agentmem {

class Tenant {
 public:
  struct Memory {
    void* index = nullptr;  // zeroed; IndexWriter::BytesFor bytes
    char* data = nullptr;   // dram_bytes
    std::uint64_t instance = 0;
  };

  Tenant(const TenantOptions& options, const Memory& memory, BlockStore* store,
         std::unique_ptr<Source> source,
         std::unique_ptr<tiering::Policy> policy);
  ~Tenant();

  // Who else touches the tenant's memory: told of each extent before a port can
  // empty it, and when it is back. Before any client.
  using OnLent = std::function<void(std::uint32_t extent, bool lent)>;
  void TellOfLent(OnLent on_lent) { on_lent_ = std::move(on_lent); }

  // Blocks may be in other nodes' memory; `memory` is this tenant's data, as
  // the pool knows it. Before any client.
  void UsePool(Pool* pool, MemoryId memory);
  bool in_cluster() const { return cluster_pool_ != nullptr; }
  // A completion of the pool; after the last one that has come:
  // AfterCompletions.
  void OnPoolCompletion(const PoolCompletion& completion, TimeNs now);
  // Has the store it? Then what it is.
  bool FindStored(const Key& key, StoredBlocks::Found* stored) const;
  // Its stored copy failed its checksum, as a peer's read has shown.
  void OnCorrupt(const Key& key);
  // A peer's block may go into the store; it goes there now; it did, or not.
  StoreVerdict Admit(const ServedBlock& block);
  void BeginServed(const ServedBlock& block) {
    arriving_bytes_ += block.length;
    ++arriving_[block.key].count;
  }
  // What the peer is told. UNAVAILABLE: it was dropped while it was written;
  // ABORTED: another block of that name was put here meanwhile.
  Code EndServed(const ServedBlock& block, Code code, TimeNs now);
  // A delete of it that waits goes to the store now, before what a peer puts.
  // False: the store's queue is full.
  bool DeleteFirst(const Key& key);
  // What is kept as `cache`, or as whatever class if that is kState. False: it
  // is kept as state by somebody else, and stays.
  bool EraseServed(const Key& key, BlockClass block_class);
  // The oldest cache blocks leave the store, until `bytes` are free or none is
  // left; what was freed.
  std::uint64_t DropStoredCache(std::uint64_t bytes);
  // Of the store: what it has, and what is on its way there from peers.
  std::uint64_t stored_bytes() const { return stored_bytes_ + arriving_bytes_; }
  // Another node dropped its copy.
  void OnRevoked(const Key& key);

  // A block that the store has; before any client.
  void AddStored(const StoredBlock& block);

  Client* AddClient(ClientIdentity identity, void* file, TimeNs now);
  // The process is proven dead, or said kClose: pins, holds, grants end.
  void RemoveClient(ClientId id, TimeNs now);

  // Takes what the client has submitted, at most `count_max`; the number taken.
  std::size_t Drain(Client* client, std::size_t count_max, TimeNs now);
  // A completion of the store; `ticket` as it was submitted. After the last one
  // that has come: AfterCompletions.
  void OnStoreCompletion(const StoreCompletion& completion, TimeNs now);
  void AfterCompletions(TimeNs now);
  // What time brings: deadlines, limbo, access notes, retries.
  void Tick(TimeNs now);

  // No new work (kShutdown); `state` that is not in the store is written, also
  // what others have in memory. True when all is there, or was refused.
  void BeginDrain();
  bool Drained() const;
  void ReportDrain(DrainReport* report) const;

  std::uint64_t dirty_bytes() const { return dirty_bytes_; }

  // How its writes to the store end, and its copies to other nodes' memory,
  // where they are asked for what they have room for.
  WriteRecord* store_record() { return &store_record_; }
  WriteRecord* copy_record() { return &copy_record_; }

  // The store answered "queue full": submit again what waits.
  void PumpStore(TimeNs now);

  TenantSnapshot Snapshot(TimeNs now);
  void SnapshotClients(TimeNs now, std::vector<ClientSnapshot>* clients);
  absl::StatusOr<BlockSnapshot> ShowBlock(const Key& key);

  const TenantOptions& options() const { return options_; }
  const absl::flat_hash_map<ClientId, std::unique_ptr<Client>>& clients()
      const {
    return clients_;
  }
  bool store_busy() const { return !inflight_.empty(); }
  std::uint32_t extents_touched() const { return pool_.extents_touched(); }
  std::vector<std::uint32_t> TakeEmptiedInUse() {
    return pool_.TakeEmptiedInUse();
  }
  // Anything that Tick would look at soon?
  bool restless() const;
  // The clients that have something new in their rings, each once; the caller
  // tells them (Client::TakeSignal).
  std::vector<ClientId> TakeSignalled() {
    return std::exchange(signalled_, {});
  }

  // For tests: every byte and slot is accounted for. Empty, or what is wrong.
  std::string CheckInvariants() const;

 private:
  static constexpr std::uint32_t kNoSlot = Client::kNoSlot;

  enum class SlotState : std::uint8_t {
    kFree,
    kGranted,
    kLoading,
    kPublished,
    kLimbo,
  };
  enum class Stored : std::uint8_t { kNo, kYes, kDurable };

  struct SlotRecord {
    Key key;
    std::uint64_t generation = 0;
    std::uint64_t data_offset = 0;
    std::uint32_t length = 0;
    std::uint32_t holds = 0;
    std::uint32_t scan = 0;     // the scan of pins that saw it last
    std::uint32_t pinners = 0;  // pins seen by that scan
    ClientId pinner;            // one of them
    std::uint16_t io = 0;       // store writes that read from it
    std::uint16_t pool_io = 0;  // pool writes, likewise
    std::uint8_t size_class = 0;
    SlotState state = SlotState::kFree;
    bool write_queued = false;
    bool write_durable = false;  // the write in flight or queued is durable
    bool dirty = false;          // class state, and not safe below
    bool awaited = false;        // durable_waiters_ has it
    bool pool_queued = false;    // pool_writes_ or room_retries_ has it
    bool pool_awaited = false;   // replica_waiters_ has it
    bool leaving = false;        // chosen by EvictFor
    bool lent = false;           // an extent that a port empties
  };

  struct BlockRecord {
    std::uint32_t slot = kNoSlot;
    std::uint32_t length = 0;
    BlockClass block_class = BlockClass::kCache;
    Stored stored = Stored::kNo;
    // The stored copy failed its checksum (class state: DATA_LOSS until a put).
    bool corrupt = false;
    // Copies in the pool, of this class; as many as there were when we last
    // heard.
    std::uint8_t pooled = 0;
    // One of them is on another node, by its own answer to a put of ours.
    bool elsewhere = false;
    // Which stored copy this is: a load of an older one says nothing about it.
    std::uint64_t copy = 0;
    std::uint64_t heard = 0;  // its place in hearsay_, while it is hearsay
    std::uint64_t entry = 0;  // what the index has for it; 0: nothing
    IndexWriter::Cell cell;   // and where
  };

  struct OpRef {
    ClientId client;
    std::uint64_t op_id = 0;
    TimeNs deadline = kNoDeadline;
  };
  struct RoomWaiter {
    OpRef op;
    TimeNs since = 0;
    bool is_grant = false;
    bool to_empty = false;
    std::uint32_t length = 0;
    std::uint32_t count = 0;  // grants
    Key key;                  // fetches: those in loads_[key] wait
  };
  enum class Io : std::uint8_t {
    kStoreGet,
    kStorePut,
    kStoreDelete,
    kPoolGet,
    kPoolPut,
    kPoolFind,
    kPoolDrop,
  };
  struct Inflight {
    Io io = Io::kStorePut;
    std::uint32_t slot = kNoSlot;
    Key key;
    bool durable = false;
    BlockClass block_class = BlockClass::kCache;
    std::uint32_t length = 0;
    std::uint64_t copy = 0;   // gets: BlockRecord::copy when it was asked for
    bool for_others = false;  // pool puts: somebody waits for other nodes
    TimeNs full_since = 0;    // pool puts: when it found no room first
    std::array<char, 24> store_node = {};  // StoreCompletion::node
  };

  // Offers that nobody uses give way to who waits, not to what is made ahead.
  enum class Need : std::uint8_t { kAhead, kNow };

  // What room is looked for: a slot of a size class, or an extent to empty.
  using RoomKind = std::uint8_t;
  static constexpr RoomKind kToEmpty = kSizeClasses;
  static constexpr std::size_t kRoomKinds = kSizeClasses + 1;
  static std::uint8_t ClassOf(RoomKind kind) {
    return kind == kToEmpty ? SizeClassOf(kExtentBytes) : kind;
  }
  static RoomKind KindOf(const RoomWaiter& waiter) {
    return waiter.to_empty ? kToEmpty : SizeClassOf(waiter.length);
  }

  // tenant_ops.cc: what clients ask.
  void Handle(Client* client, const SubmissionEntry& entry, TimeNs now);
  void Publish(Client* client, const SubmissionEntry& entry, TimeNs now);
  bool KeepStored(const SubmissionEntry& entry);
  void Upgrade(BlockRecord* record);
  void AnswerLoad(const std::vector<OpRef>& waiters, const Inflight& op,
                  Code code, bool lost, TimeNs now);
  void Fetch(Client* client, const SubmissionEntry& entry, TimeNs now);
  void Prefetch(Client* client, const SubmissionEntry& entry, TimeNs now);
  bool StillHas(std::uint32_t index, std::uint64_t generation) const;
  void Hold(Client* client, const SubmissionEntry& entry, TimeNs now);
  void Release(Client* client, const SubmissionEntry& entry);
  void WantGrants(Client* client, const SubmissionEntry& entry, TimeNs now);
  void Abandon(Client* client, const SubmissionEntry& entry);
  void MakeDurable(Client* client, const SubmissionEntry& entry, TimeNs now);
  bool GiveGrants(Client* client, RoomKind kind, std::uint32_t count, Need need,
                  TimeNs now);
  bool OverGrantQuota(const Client& client, std::uint8_t size_class) const;
  bool AddHold(Client* client, std::uint32_t slot, TimeNs now);
  void DropHold(Client* client, std::uint32_t slot);
  void StartLoad(const Key& key, TimeNs now);
  bool BeginLoad(const Key& key, TimeNs now);
  bool IsLoadWanted(const Key& key);
  void WriteWanted(const Key& key, std::uint32_t slot);
  void FinishLoad(const Inflight& op, Code code, TimeNs now);
  void AnswerFetch(const OpRef& op, std::uint32_t slot, Tier tier, TimeNs now);
  void Fail(const OpRef& op, Code code, Reason reason, std::uint64_t a = 0,
            std::uint64_t b = 0, std::uint64_t c = 0);
  void FailStore(const OpRef& op, Code code, const Inflight& io);
  void Answer(const OpRef& op);
  // Who keeps how much of the pool; O(pins).
  struct PoolUse {
    std::uint64_t kept_bytes = 0;
    std::uint64_t pid = 0;  // of the client that keeps most
  };
  PoolUse FindPoolUse();
  void FailForRoom(const OpRef& op, const PoolUse& use);

  // tenant_ports.cc: what memd's own ports ask.
  void HandlePort(Client* client, const SubmissionEntry& entry, TimeNs now);
  void NoteStored(const Key& key, std::uint32_t length, BlockClass block_class);
  void Drop(const OpRef& op, const Key& key, TimeNs now);
  void DemoteWanted(TimeNs now);

  // tenant_extents.cc: what clients have registered with devices.
  void HoldExtents(Client* client, const SubmissionEntry& entry, TimeNs now);
  void ReleaseExtents(Client* client, const SubmissionEntry& entry);
  void ExtentReleased(Client* client, const SubmissionEntry& entry);
  bool ExtentsOf(const SubmissionEntry& entry, std::uint32_t* first,
                 std::uint32_t* count, std::size_t* bad_field) const;
  void RetireOne(TimeNs now);
  void Depart(std::uint32_t slot, TimeNs now);
  void FreeDeparted(TimeNs now);
  void FreeOldest();
  bool MayRetire(std::uint32_t extent);
  bool MayEmpty(RoomKind kind, std::uint32_t extent) const {
    return kind != kToEmpty || !holds_.IsHeld(extent);
  }

  // tenant_served.cc: peers' blocks in this node's store.
  bool KeepsOrder() const {
    return options_.store_quota_bytes != 0 || options_.serves;
  }

  // tenant_pool.cc: other nodes' memory.
  bool PoolUsable(TimeNs now) const;
  void QueuePoolWrite(std::uint32_t slot);
  void PumpPool(TimeNs now);
  // `full_since`: when it found no room first; 0: it did not.
  bool PutIntoPool(std::uint32_t slot, TimeNs full_since = 0);
  bool FailForOthers(std::uint32_t slot, Code code, TimeNs wait_until);
  void FinishPoolWrite(const Inflight& op, const PoolCompletion& completion,
                       TimeNs now);
  void FinishPoolLoad(const Inflight& op, Code code, TimeNs now);
  enum class Wanted : std::uint8_t { kBlock, kDurable, kTier };
  void StartFind(const Key& key, const OpRef* op,
                 Wanted wanted = Wanted::kBlock);
  void FinishFind(const Inflight& op, const PoolCompletion& completion,
                  TimeNs now);
  void FailFind(const OpRef& waiter, const PoolCompletion& completion,
                Wanted wanted);
  void FindTier(Client* client, const SubmissionEntry& entry);
  void AnswerTier(const OpRef& op, const BlockRecord& record);
  bool GetFromPool(const Inflight& op, BlockClass block_class, char* to,
                   std::uint64_t ticket);
  void ForgetPooled(const Key& key);
  void SetPooled(BlockRecord* record, std::uint8_t copies,
                 bool elsewhere = false);
  void EraseIfNowhere(const Key& key);
  bool IsHearsay(const BlockRecord& record) const;
  void NoteHearsay(const Key& key, BlockRecord* record);
  void EndLoad(const Key& key);
  void UpdateDirty(const BlockRecord& record);
  bool IsDurable(const BlockRecord& record) const {
    return record.stored == Stored::kDurable &&
           (!options_.durable_in_pool || record.elsewhere);
  }
  void AwaitDurable(std::uint32_t slot, const OpRef& op);
  void AwaitReplica(std::uint32_t slot, const OpRef& op);
  std::vector<OpRef> TakeReplicaWaiters(std::uint32_t slot);
  void SettleDurable(std::uint32_t slot);
  EntryKind BelowKind(const BlockRecord& record) const {
    return record.stored != Stored::kNo ? EntryKind::kInStore
                                        : EntryKind::kInPool;
  }

  // tenant_dram.cc: slots, eviction, limbo.
  std::uint32_t Allocate(RoomKind kind, Need need, TimeNs now);
  bool HasRoom(RoomKind kind) const {
    return kind == kToEmpty ? pool_.HasUnheld() : pool_.HasRoom(kind);
  }
  void FreeSlot(std::uint32_t slot);
  void PublishSlot(std::uint32_t slot, const Key& key, std::uint32_t length,
                   BlockClass block_class, tiering::InsertCause cause,
                   TimeNs now);
  bool MakeRoom(RoomKind kind, Need need, TimeNs now);
  void EvictFor(RoomKind kind, TimeNs now);
  bool Evictable(std::uint32_t slot) const;
  void Evict(const std::vector<std::uint32_t>& victims, TimeNs now);
  void ScanPins();
  bool IsPinned(std::uint32_t slot) const { return slots_[slot].scan == scan_; }
  bool SweepLimbo();
  bool MaySearch(RoomKind kind, TimeNs now) const;
  void SearchFailed(RoomKind kind, TimeNs now);
  bool RevokeGrants(TimeNs put_before, TimeNs offered_before);
  void DrainNotes(TimeNs now);
  void DrainNotesOf(Client* client, TimeNs now);
  enum class RoomOutcome : std::uint8_t { kDone, kOverQuota, kNoRoom };
  void RetryRoomWaiters(TimeNs now);
  bool IsSettled(const RoomWaiter& waiter, TimeNs now);
  void ChooseSearch();
  RoomOutcome RetryGrant(const RoomWaiter& waiter, TimeNs now);
  bool OverOwnLimit(const Client& client, std::uint32_t length) const;
  void ExpireWaiters(TimeNs now);
  void SetEntry(const Key& key, BlockRecord* record, std::uint64_t to);

  // tenant_store.cc: writing down.
  void QueueWrite(std::uint32_t slot, bool durable);
  void ApplyDecisions(TimeNs now);
  void FinishWrite(const Inflight& op, Code code, TimeNs now);
  // `is_there`: the store may have it still.
  void ForgetStored(const Key& key, bool is_there = true);
  // Of a copy of that class; kState: of any.
  void QueueDelete(const Key& key, BlockClass block_class);
  bool PumpDeletes();
  bool SubmitDelete(const Key& key);
  void VoidStored(BlockRecord* block);

  // tenant.cc: at the end.
  bool IsOnlyInMemory(std::uint32_t slot) const;
  void DropLazyWrites();
  bool MayDrop(const Inflight& op) const;
  std::uint64_t DrainRoom() const;
  void NoteDrained(const Inflight& op, Code code);
  void KeepStoreQuota();
  std::uint64_t NewTicket(const Inflight& op);
  std::vector<OpRef> TakeDurableWaiters(std::uint32_t slot);
  // So many operations of one tenant at most are in the store's queue, which
  // all tenants share.
  static constexpr std::size_t kStoreOpsMax = 256;
  bool StoreShareUsed() const { return inflight_.size() >= kStoreOpsMax; }
  bool IsDirty(const BlockRecord& record) const {
    return record.block_class == BlockClass::kState &&
           record.stored == Stored::kNo && record.pooled < 2;
  }

  const TenantOptions options_;
  const Memory memory_;
  BlockStore* const store_;
  const std::unique_ptr<Source> source_;
  const std::unique_ptr<tiering::Policy> policy_;
  DataPool pool_;
  ExtentHolds holds_;
  OnLent on_lent_;
  IndexWriter index_;

  std::vector<SlotRecord> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::vector<std::uint32_t> limbo_;
  std::uint32_t scan_ = 0;
  // Keys are chosen by clients: Abseil's hash is seeded, that of the index
  // (which is theirs to see) is not.
  absl::flat_hash_map<Key, BlockRecord> directory_;
  absl::flat_hash_map<ClientId, std::unique_ptr<Client>> clients_;

  // Fetches that wait for a block to come up; the load of a key is in flight
  // (slot granted) or waits for room or for the store's queue.
  struct Load {
    std::vector<OpRef> waiters;
    std::uint32_t slot = kNoSlot;
    bool past_pool = false;  // it did not have it
  };
  absl::flat_hash_map<Key, Load> loads_;
  std::deque<RoomWaiter> room_waiters_;
  bool retry_wanted_ = false;  // room may have come back
  // Kinds for which the whole pool was searched in vain. A search costs
  // O(slots), and clients can bring about as many as they like: those kinds
  // take turns, with pauses (MaySearch).
  struct Search {
    bool failed = false;
    TimeNs at = 0;
  };
  std::array<Search, kRoomKinds> searches_;
  std::size_t search_turn_ = kRoomKinds;
  TimeNs next_search_at_ = 0;
  std::uint64_t visited_ = 0;  // slots looked at by the search under way
  TimeNs next_retire_at_ = 0;  // an extent is asked for, not before
  // Granted to clients that are dead: not free before, by time.
  std::deque<std::pair<TimeNs, std::uint32_t>> departed_;
  std::uint64_t departed_bytes_ = 0;
  // Of the held extents that the search could empty, the coldest.
  std::optional<std::uint32_t> coldest_held_;
  std::deque<Key> load_queue_;  // slot ready, the source's queue was full

  // Other nodes' memory; null: there is none.
  Pool* cluster_pool_ = nullptr;
  MemoryId pool_memory_;
  // Blocks that this node knows nothing of: others are asked.
  struct Find {
    std::vector<OpRef> waiters;   // kFetch
    std::vector<OpRef> durables;  // kMakeDurable
    std::vector<OpRef> tiers;     // kFindTier
    // Its bytes are to come here: for those that wait, or ahead.
    bool load = false;
    // A region's, or one that was forgotten, perhaps: it is not lost because
    // nobody has it now.
    bool state = false;
  };
  absl::flat_hash_map<Key, Find> finds_;
  std::deque<Key> find_queue_;
  // Blocks that only other nodes have, as far as this one knows: a promise of
  // theirs to nobody. The oldest are forgotten beyond `index_entries`: more
  // have no place in the index either. Entries whose number is not the record's
  // any more are stale.
  struct Hearsay {
    Key key;
    std::uint64_t heard;
  };
  std::deque<Hearsay> hearsay_;
  std::uint64_t next_heard_ = 0;
  bool forgot_state_ = false;  // then any block may be a state block
  absl::flat_hash_map<std::uint32_t, std::vector<OpRef>> replica_waiters_;
  std::deque<Key> pool_drops_;
  TimeNs pool_again_at_ = 0;  // cache goes to the store until then

  // Writes: durable ones and state first. A slot stands in one queue at most
  // once (write_queued); stale entries are recognised by the generation.
  struct QueuedWrite {
    std::uint32_t slot;
    std::uint64_t generation;
    TimeNs full_since = 0;  // Inflight::full_since
  };
  std::deque<QueuedWrite> urgent_writes_;
  std::deque<QueuedWrite> lazy_writes_;
  std::deque<QueuedWrite> pool_writes_;  // state, and what is to be replicated
  // Those of them that wait until then for room; in the order of time.
  std::deque<std::pair<TimeNs, QueuedWrite>> room_retries_;
  std::deque<Key> delete_queue_;  // in order; those in deletes_ count
  absl::flat_hash_map<Key, BlockClass> deletes_;
  // Peers' blocks on their way into the store.
  struct Arriving {
    std::uint32_t count = 0;
    bool dropped = false;  // meanwhile: its delete comes after the write
  };
  absl::flat_hash_map<Key, Arriving> arriving_;
  std::deque<QueuedWrite> failed_writes_;  // tried again by Tick
  TimeNs retry_failed_at_ = kNoDeadline;
  std::uint64_t write_bytes_inflight_ = 0;
  absl::flat_hash_map<std::uint32_t, std::vector<OpRef>> durable_waiters_;
  absl::flat_hash_map<std::uint64_t, Inflight> inflight_;
  std::uint64_t next_ticket_ = 0;
  std::uint64_t next_copy_ = 0;
  // kMakeDurable of blocks that are only below: written again when loaded.
  absl::flat_hash_map<Key, std::vector<OpRef>> durable_loads_;
  std::deque<QueuedWrite> demotes_;    // to leave DRAM once they are below
  std::deque<Key> stored_cache_fifo_;  // oldest first, for the store's quotas

  std::vector<ClientId> signalled_;
  bool draining_ = false;
  // What was in memory alone when the drain began: slots and generations.
  std::vector<std::pair<std::uint32_t, std::uint64_t>> to_drain_;
  DrainSum drained_;
  // Why a write of the drain failed, or was not begun; a slot's last reason.
  absl::flat_hash_map<std::uint32_t, std::string> drain_failures_;
  TimeNs last_tick_ = 0;
  bool freed_since_look_ = false;  // a slot, since ExpireWaiters looked
  TimeNs last_freed_ = 0;          // about
  std::vector<tiering::Decision> decisions_;  // scratch
  std::vector<SlotIndex> window_;             // scratch

  // Counters and sums (see snapshot.h).
  std::uint64_t stored_bytes_ = 0;
  std::uint64_t arriving_bytes_ = 0;  // peers', on their way into the store
  std::uint64_t stored_blocks_ = 0;
  std::uint64_t dirty_bytes_ = 0;
  std::uint64_t dram_hits_ = 0;
  std::uint64_t store_hits_ = 0;
  std::uint64_t pool_hits_ = 0;
  std::uint64_t pool_reads_ = 0;
  std::uint64_t pool_writes_made_ = 0;
  std::uint64_t pool_revoked_ = 0;
  std::uint64_t pooled_blocks_ = 0;
  std::uint64_t pooled_bytes_ = 0;
  std::uint64_t promotions_ = 0;
  std::uint64_t dram_writes_ = 0;
  std::uint64_t store_writes_ = 0;
  std::uint64_t dram_evictions_ = 0;
  std::uint64_t store_evictions_ = 0;
  std::uint64_t puts_ = 0;
  std::uint64_t puts_failed_ = 0;
  std::uint64_t puts_failed_room_ = 0;
  std::uint64_t puts_failed_quota_ = 0;
  std::uint64_t puts_failed_store_ = 0;
  std::uint64_t puts_failed_replica_ = 0;
  WriteRecord store_record_;
  WriteRecord copy_record_;
  std::uint64_t misses_ = 0;
  std::uint64_t notes_lost_ = 0;
  std::uint64_t corrupt_ = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TENANT_H_
