#include "memd/tenant.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "base/check.h"
#include "base/status.h"

namespace agentmem {

Tenant::Tenant(const TenantOptions& options, const Memory& memory,
               BlockStore* store, std::unique_ptr<Source> source,
               std::unique_ptr<tiering::Policy> policy)
    : options_(options),
      memory_(memory),
      store_(store),
      source_(std::move(source)),
      policy_(std::move(policy)),
      pool_(options.dram_bytes),
      holds_(&pool_),
      index_(memory.index,
             IndexWriter::ShapeFor(options.slots, options.index_entries),
             options.id, options.dram_bytes, memory.instance),
      slots_(options.slots) {
  free_slots_.reserve(options.slots);
  for (std::uint64_t i = options.slots; i > 0; --i) {
    free_slots_.push_back(static_cast<std::uint32_t>(i - 1));
  }
}

Tenant::~Tenant() = default;

void Tenant::AddStored(const StoredBlock& block) {
  BlockRecord& record = directory_[block.key];
  record.length = block.length;
  record.block_class = block.block_class;
  record.stored = Stored::kDurable;  // it survived a start
  record.copy = ++next_copy_;
  ++stored_blocks_;
  stored_bytes_ += block.length;
  if (KeepsOrder() && block.block_class == BlockClass::kCache) {
    stored_cache_fifo_.push_back(block.key);
  }
  SetEntry(block.key, &record,
           BelowEntry(block.key, EntryKind::kInStore, block.block_class));
}

Client* Tenant::AddClient(ClientIdentity identity, void* file, TimeNs now) {
  const ClientId id = identity.id;
  auto client = std::make_unique<Client>(std::move(identity), file,
                                         memory_.instance, &signalled_, now);
  Client* borrowed = client.get();
  clients_[id] = std::move(client);
  return borrowed;
}

void Tenant::RemoveClient(ClientId id, TimeNs now) {
  auto found = clients_.find(id);
  if (found == clients_.end()) return;
  found->second->SeeAllTables();
  DrainNotesOf(found->second.get(), now);
  // Its waiters are not answered any more: Fail and Answer look clients up.
  std::unique_ptr<Client> client = std::move(found->second);
  clients_.erase(found);
  for (const auto& [slot, hold] : client->holds) slots_[slot].holds--;
  // A device may still write to what it has begun (tenant_extents.cc).
  const bool outlived = holds_.held_bytes(id) != 0;
  for (std::uint32_t i = 0; i < kGrantEntries; ++i) {
    const std::uint32_t slot = client->grants[i].slot;
    if (slot == kNoSlot) continue;
    if (outlived && !client->Revoke(i)) {
      Depart(slot, now);
    } else {
      FreeSlot(slot);
    }
  }
  holds_.RemoveClient(id);
  std::erase_if(room_waiters_, [id](const RoomWaiter& waiter) {
    return waiter.is_grant && waiter.op.client == id;
  });
  // Its pins are gone with its tables: nobody scans them any more.
  if (!limbo_.empty()) {
    ScanPins();
    SweepLimbo();
  }
  RetryRoomWaiters(now);
}

void Tenant::Tick(TimeNs now) {
  last_tick_ = now;
  DrainNotes(now);
  if (!limbo_.empty()) {
    ScanPins();
    SweepLimbo();
  }
  RevokeGrants(now - kSecondNs, now - kSecondNs);
  FreeDeparted(now);
  if (now >= retry_failed_at_) {
    retry_failed_at_ = kNoDeadline;
    std::deque<QueuedWrite> failed;
    failed.swap(failed_writes_);
    for (const QueuedWrite& write : failed) {
      if (slots_[write.slot].generation == write.generation) {
        QueueWrite(write.slot, false);
      }
    }
  }
  ApplyDecisions(now);
  PumpStore(now);
  if (!demotes_.empty()) DemoteWanted(now);
  RetryRoomWaiters(now);
  ExpireWaiters(now);
}

bool Tenant::restless() const {
  return !limbo_.empty() || !room_waiters_.empty() || !loads_.empty() ||
         !load_queue_.empty() || !urgent_writes_.empty() ||
         !lazy_writes_.empty() || !delete_queue_.empty() ||
         !failed_writes_.empty() || !demotes_.empty() || !finds_.empty() ||
         !pool_writes_.empty() || !room_retries_.empty() ||
         !pool_drops_.empty();
}

void Tenant::BeginDrain() {
  draining_ = true;
  // Once more for what failed: its disk may be well again.
  retry_failed_at_ = kNoDeadline;
  failed_writes_.clear();
  DropLazyWrites();
  // Copies in memory, here and elsewhere, may end with their nodes: all of a
  // cluster may be told to stop.
  std::uint64_t room =
      options_.store_quota_bytes == 0 ? UINT64_MAX : DrainRoom();
  for (std::uint32_t index = 0; index < slots_.size(); ++index) {
    if (!IsOnlyInMemory(index)) continue;
    const SlotRecord& slot = slots_[index];
    to_drain_.emplace_back(index, slot.generation);
    if (slot.dirty) {
      QueueWrite(index, false);
    } else if (slot.length <= room) {
      room -= slot.length;
      QueueWrite(index, false);
    } else {
      drain_failures_[index] = TextOfRefusal(StoreRefusal::kQuota);
    }
  }
}

// Of `cache`, for which nobody waits: state has the disk for itself. (What was
// cache when it was queued may be state by now, and is queued as that.)
void Tenant::DropLazyWrites() {
  std::erase_if(lazy_writes_, [this](const QueuedWrite& write) {
    SlotRecord& slot = slots_[write.slot];
    if (slot.generation != write.generation || !slot.write_queued) return true;
    if (slot.write_durable) return false;
    slot.write_queued = false;
    return true;
  });
}

// Published, of class state, and not in the store.
bool Tenant::IsOnlyInMemory(std::uint32_t index) const {
  const SlotRecord& slot = slots_[index];
  if (slot.state != SlotState::kPublished) return false;
  const BlockRecord& record = directory_.find(slot.key)->second;
  return record.block_class == BlockClass::kState &&
         record.stored == Stored::kNo;
}

// Of the quota, for what is not counted in it yet: what is dirty was let in.
std::uint64_t Tenant::DrainRoom() const {
  std::uint64_t used = stored_bytes_ + arriving_bytes_ + dirty_bytes_;
  // Cache gives way. (Each of its blocks may stand there more than once.)
  absl::flat_hash_set<Key> seen;
  for (const Key& key : stored_cache_fifo_) {
    const auto found = directory_.find(key);
    if (found == directory_.end() ||
        found->second.block_class != BlockClass::kCache ||
        found->second.stored == Stored::kNo || !seen.insert(key).second) {
      continue;
    }
    used -= std::min<std::uint64_t>(used, found->second.length);
  }
  return options_.store_quota_bytes -
         std::min(used, options_.store_quota_bytes);
}

void Tenant::NoteDrained(const Inflight& op, Code code) {
  if (!draining_ || op.block_class != BlockClass::kState) return;
  if (code == Code::kOk) {
    drain_failures_.erase(op.slot);
    return drained_.Add(op.length);
  }
  std::string& why = drain_failures_[op.slot];
  const std::size_t named =
      std::find(op.store_node.begin(), op.store_node.end(), '\0') -
      op.store_node.begin();
  why = code == Code::kResourceExhausted ? "no room in the store"
        : code == Code::kAborted ? "the store has another block of that name"
                                 : "the store failed";
  if (named != 0) {
    why += " of node " + std::string(op.store_node.data(), named);
  }
}

void Tenant::ReportDrain(DrainReport* report) const {
  report->own_written.blocks += drained_.blocks;
  report->own_written.bytes += drained_.bytes;
  // (What was read from another node meanwhile is there.)
  for (const auto& [index, generation] : to_drain_) {
    if (slots_[index].generation != generation || !IsOnlyInMemory(index)) {
      continue;
    }
    const auto failed = drain_failures_.find(index);
    report
        ->own_left[failed == drain_failures_.end() ? DrainReport::kTimeRanOut
                                                   : failed->second]
        .Add(slots_[index].length);
  }
}

// (Neither who goes on reading nor cache on its way down holds it up.)
bool Tenant::Drained() const {
  return urgent_writes_.empty() && delete_queue_.empty() &&
         (dirty_bytes_ == 0 || !failed_writes_.empty()) &&
         std::all_of(inflight_.begin(), inflight_.end(),
                     [this](const auto& op) { return MayDrop(op.second); });
}

// Is it of no matter to what is to be kept that it ends with this process?
bool Tenant::MayDrop(const Inflight& op) const {
  if (op.io == Io::kStoreGet || op.io == Io::kPoolGet ||
      op.io == Io::kPoolFind) {
    return true;
  }
  if ((op.io != Io::kStorePut && op.io != Io::kPoolPut) || op.durable ||
      op.for_others) {
    return false;
  }
  // What was put as state meanwhile is written as that when this has ended. (A
  // slot with I/O keeps its block.)
  return directory_.find(slots_[op.slot].key)->second.block_class ==
         BlockClass::kCache;
}

void Tenant::Answer(const OpRef& op) {
  auto found = clients_.find(op.client);
  if (found == clients_.end()) return;
  CompletionEntry entry = {};
  entry.op_id = op.op_id;
  entry.kind = CompletionKind::kOp;
  found->second->Complete(entry);
}

void Tenant::Fail(const OpRef& op, Code code, Reason reason, std::uint64_t a,
                  std::uint64_t b, std::uint64_t c) {
  auto found = clients_.find(op.client);
  if (found == clients_.end()) return;
  CompletionEntry entry = {};
  entry.op_id = op.op_id;
  entry.kind = CompletionKind::kOp;
  entry.code = code;
  entry.reason = reason;
  entry.detail[0] = a;
  entry.detail[1] = b;
  entry.detail[2] = c;
  found->second->Complete(entry);
}

Tenant::PoolUse Tenant::FindPoolUse() {
  ScanPins();
  PoolUse use;
  use.kept_bytes = departed_bytes_;
  std::uint64_t most = 0;
  ClientId owner;
  for (const auto& [id, client] : clients_) {
    const std::uint64_t kept =
        client->pinned_bytes + client->held_bytes + client->granted_bytes;
    use.kept_bytes += kept;
    // The one that keeps most; ties by id, so that the answer is the same
    // twice.
    if (kept > most || (kept == most && id < owner)) {
      most = kept;
      owner = id;
    }
  }
  auto found = clients_.find(owner);
  if (found != clients_.end()) {
    use.pid = static_cast<std::uint64_t>(found->second->identity().pid);
  }
  return use;
}

void Tenant::FailForRoom(const OpRef& op, const PoolUse& use) {
  Fail(op, Code::kResourceExhausted, Reason::kPoolFull, pool_.capacity_bytes(),
       use.kept_bytes, use.pid);
}

TenantSnapshot Tenant::Snapshot(TimeNs now) {
  DrainNotes(now);
  ScanPins();
  TenantSnapshot snapshot;
  snapshot.name = options_.name;
  snapshot.id = options_.id;
  snapshot.dram.tier = Tier::kDram;
  snapshot.dram.budget_bytes = pool_.capacity_bytes();
  snapshot.dram.used_bytes = pool_.used_bytes();
  snapshot.dram.hits = dram_hits_;
  snapshot.dram.reads = dram_hits_;
  snapshot.dram.writes = dram_writes_;
  snapshot.dram.evictions = dram_evictions_;
  snapshot.store.tier = Tier::kStore;
  snapshot.store.budget_bytes = options_.store_quota_bytes;
  snapshot.store.used_bytes = stored_bytes_;
  snapshot.store.blocks = stored_blocks_;
  snapshot.store.hits = store_hits_;
  snapshot.store.reads = promotions_;
  snapshot.store.writes = store_writes_;
  snapshot.store.evictions = store_evictions_;
  snapshot.pool.tier = Tier::kPool;
  snapshot.pool.used_bytes = pooled_bytes_;
  snapshot.pool.blocks = pooled_blocks_;
  snapshot.pool.hits = pool_hits_;
  snapshot.pool.reads = pool_reads_;
  snapshot.pool.writes = pool_writes_made_;
  snapshot.pool.evictions = pool_revoked_;
  snapshot.clients = clients_.size();
  snapshot.puts = puts_;
  snapshot.puts_failed = puts_failed_;
  snapshot.puts_failed_room = puts_failed_room_;
  snapshot.puts_failed_quota = puts_failed_quota_;
  snapshot.puts_failed_store = puts_failed_store_;
  snapshot.puts_failed_replica = puts_failed_replica_;
  snapshot.misses = misses_;
  snapshot.dirty_bytes = dirty_bytes_;
  snapshot.notes_lost = notes_lost_;
  snapshot.corrupt_blocks = corrupt_;
  snapshot.slots = slots_.size();
  snapshot.slots_used = slots_.size() - free_slots_.size();
  for (const auto& [id, client] : clients_) {
    snapshot.granted_bytes += client->granted_bytes;
    snapshot.held_bytes += client->held_bytes;
  }
  snapshot.granted_bytes += departed_bytes_;
  snapshot.registered_bytes = holds_.held_bytes();
  for (std::uint32_t i = 0; i < slots_.size(); ++i) {
    const SlotRecord& slot = slots_[i];
    const std::uint64_t bytes = SizeClassBytes(slot.size_class);
    if (slot.state == SlotState::kPublished) {
      ++snapshot.dram.blocks;
      if (IsPinned(i)) snapshot.pinned_bytes += bytes;
    }
    if (slot.state == SlotState::kLimbo) snapshot.limbo_bytes += bytes;
  }
  return snapshot;
}

void Tenant::SnapshotClients(TimeNs now, std::vector<ClientSnapshot>* clients) {
  for (const auto& [id, client] : clients_) {
    ClientSnapshot snapshot;
    snapshot.id = id;
    snapshot.name = client->identity().name;
    snapshot.tenant = options_.name;
    snapshot.pid = client->identity().pid;
    snapshot.uid = client->identity().uid;
    snapshot.connected_ns = now - client->connected_at();
    snapshot.socket_closed = client->socket_closed;
    snapshot.limbo_bytes = client->limbo_bytes;
    snapshot.granted_bytes = client->granted_bytes;
    snapshot.held_bytes = client->held_bytes;
    snapshot.registered_bytes = holds_.held_bytes(id);
    snapshot.holds = client->holds.size();
    client->ForEachPin([&](std::uint64_t word) {
      if (word - 1 >= slots_.size()) return;
      const SlotRecord& slot = slots_[word - 1];
      if (slot.state == SlotState::kFree) return;
      ++snapshot.pins;
      snapshot.pinned_bytes += SizeClassBytes(slot.size_class);
    });
    for (const Client::Grant& grant : client->grants) {
      if (grant.slot != kNoSlot) ++snapshot.grants;
    }
    for (const auto& [slot, hold] : client->holds) {
      snapshot.oldest_holds.push_back(
          {slots_[slot].key, slots_[slot].length, now - hold.since});
    }
    std::sort(snapshot.oldest_holds.begin(), snapshot.oldest_holds.end(),
              [](const HoldSnapshot& a, const HoldSnapshot& b) {
                return a.age_ns > b.age_ns ||
                       (a.age_ns == b.age_ns && a.key < b.key);
              });
    if (!snapshot.oldest_holds.empty()) {
      snapshot.oldest_hold_ns = snapshot.oldest_holds[0].age_ns;
    }
    if (snapshot.oldest_holds.size() > 8) snapshot.oldest_holds.resize(8);
    clients->push_back(std::move(snapshot));
  }
}

absl::StatusOr<BlockSnapshot> Tenant::ShowBlock(const Key& key) {
  auto found = directory_.find(key);
  if (found == directory_.end()) {
    return NotFound("tenant " + options_.name + " has no such block");
  }
  const BlockRecord& record = found->second;
  BlockSnapshot snapshot;
  snapshot.key = key;
  snapshot.tenant = options_.name;
  snapshot.block_class = record.block_class;
  snapshot.length = record.length;
  snapshot.in_store = record.stored != Stored::kNo;
  snapshot.pool_copies = record.pooled;
  snapshot.in_dram = record.slot != kNoSlot;
  if (snapshot.in_dram) {
    ScanPins();
    const SlotRecord& slot = slots_[record.slot];
    snapshot.slot = record.slot;
    snapshot.generation = slot.generation;
    snapshot.holds = slot.holds;
    snapshot.pins = IsPinned(record.slot) ? slot.pinners : 0;
  }
  return snapshot;
}

std::string Tenant::CheckInvariants() const {
  std::uint64_t used = 0;
  std::uint64_t free = 0;
  std::uint64_t granted = 0;
  std::uint64_t published = 0;
  std::uint64_t holds = 0;
  for (const SlotRecord& slot : slots_) {
    if (slot.state == SlotState::kFree) {
      ++free;
      if (slot.holds != 0 || slot.io != 0 || slot.pool_io != 0)
        return "a free slot is in use";
      continue;
    }
    used += SizeClassBytes(slot.size_class);
    holds += slot.holds;
    granted += slot.state == SlotState::kGranted;
    published += slot.state == SlotState::kPublished;
    if (IsPublished(slot.generation) != (slot.state == SlotState::kPublished)) {
      return "generation and state of a slot disagree";
    }
  }
  if (const char* wrong = holds_.CheckInvariants(); *wrong != 0) return wrong;
  if (free != free_slots_.size()) return "free slots are not all in the list";
  if (used != pool_.used_bytes()) return "the pool's bytes and the slots'";
  for (const auto& [id, client] : clients_) {
    for (const Client::Grant& grant : client->grants) {
      if (grant.slot != kNoSlot) --granted;
    }
    for (const auto& [slot, hold] : client->holds) holds -= hold.count > 0;
  }
  granted -= departed_.size();
  if (granted != 0) return "a granted slot without a client, or the reverse";
  if (holds != 0) return "a hold without a client, or the reverse";
  for (const auto& [key, record] : directory_) {
    if (record.slot == kNoSlot) {
      if (record.stored == Stored::kNo && record.pooled == 0 &&
          !loads_.contains(key)) {
        return "a block that is nowhere";
      }
      continue;
    }
    --published;
    const SlotRecord& slot = slots_[record.slot];
    if (!(slot.key == key)) return "a block in another's slot";
    if (slot.dirty != IsDirty(record)) return "a slot's dirty mark is wrong";
    if (slot.awaited != durable_waiters_.contains(record.slot)) {
      return "a slot's awaited mark is wrong";
    }
    if (slot.pool_awaited != replica_waiters_.contains(record.slot)) {
      return "a slot's mark of awaited replicas is wrong";
    }
  }
  return published == 0 ? "" : "a published slot that no block has";
}

}  // namespace agentmem
