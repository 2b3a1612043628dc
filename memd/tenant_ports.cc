// Tenant: what memd's own ports ask, beside what clients may.
#include <algorithm>

#include "base/check.h"
#include "memd/tenant.h"

namespace agentmem {

void Tenant::HandlePort(Client* client, const SubmissionEntry& entry,
                        TimeNs now) {
  const OpRef op = {client->identity().id, entry.op_id, entry.deadline_ns};
  switch (entry.op) {
    case Op::kAddStored:
      if (!directory_.contains(entry.key)) {
        NoteStored(entry.key, entry.length, entry.block_class);
        BlockRecord& record = directory_.find(entry.key)->second;
        SetEntry(entry.key, &record,
                 BelowEntry(entry.key, EntryKind::kInStore, entry.block_class));
      }
      return Answer(op);
    case Op::kDrop:
      return Drop(op, entry.key, now);
    default: {
      AGENTMEM_CHECK(entry.op == Op::kDemote);
      auto found = directory_.find(entry.key);
      if (found != directory_.end() && found->second.slot != kNoSlot) {
        const std::uint32_t slot = found->second.slot;
        if (IsDirty(found->second)) QueueWrite(slot, false);
        demotes_.push_back({slot, slots_[slot].generation});
      }
      return Answer(op);
    }
  }
}

// The store got it by another way (RefStore::Commit), durably.
void Tenant::NoteStored(const Key& key, std::uint32_t length,
                        BlockClass block_class) {
  BlockRecord& record = directory_[key];
  AGENTMEM_CHECK(record.slot == kNoSlot && record.stored == Stored::kNo);
  record.length = length;
  record.block_class = block_class;
  record.stored = Stored::kDurable;
  record.copy = ++next_copy_;
  ++stored_blocks_;
  stored_bytes_ += length;
}

// Nobody refers to it any more.
void Tenant::Drop(const OpRef& op, const Key& key, TimeNs now) {
  auto found = directory_.find(key);
  if (found == directory_.end()) {
    // It came by RefStore::Commit, perhaps, and nobody said so.
    QueueDelete(key, BlockClass::kState);
    if (cluster_pool_ != nullptr) pool_drops_.push_back(key);
    return Answer(op);
  }
  BlockRecord& record = found->second;
  const bool in_use =
      loads_.contains(key) ||
      (record.slot != kNoSlot &&
       (slots_[record.slot].io != 0 || slots_[record.slot].pool_io != 0 ||
        slots_[record.slot].holds != 0 || slots_[record.slot].awaited ||
        slots_[record.slot].pool_awaited));
  if (in_use) return Fail(op, Code::kUnavailable, Reason::kNone);
  if (record.stored != Stored::kNo) {
    VoidStored(&record);
    QueueDelete(key, BlockClass::kState);
  }
  if (cluster_pool_ != nullptr) pool_drops_.push_back(key);
  if (record.slot == kNoSlot) {
    SetPooled(&record, 0);
    SetEntry(key, &record, 0);
    directory_.erase(found);
    return Answer(op);
  }
  record.block_class = BlockClass::kCache;  // so that it may leave
  SetPooled(&record, 0);
  Evict({record.slot}, now);
  Answer(op);
}

void Tenant::DemoteWanted(TimeNs now) {
  ScanPins();
  std::vector<std::uint32_t> victims;
  std::erase_if(demotes_, [&](const QueuedWrite& wanted) {
    SlotRecord& slot = slots_[wanted.slot];
    if (slot.state != SlotState::kPublished ||
        slot.generation != wanted.generation) {
      return true;
    }
    // Used again meanwhile: it is not idle. Being written: later.
    if (slot.holds != 0 || IsPinned(wanted.slot)) return true;
    if (!Evictable(wanted.slot)) return false;
    slot.leaving = true;  // stands in the list twice, perhaps
    victims.push_back(wanted.slot);
    return true;
  });
  for (const std::uint32_t index : victims) slots_[index].leaving = false;
  if (!victims.empty()) Evict(victims, now);
}

}  // namespace agentmem
