// Tenant: blocks that nodes without a disk keep in this node's store. They are
// this tenant's as its own are: its quota holds for them, and it reads them.
#include "base/check.h"
#include "memd/tenant.h"

namespace agentmem {

StoreVerdict Tenant::Admit(const ServedBlock& block) {
  const auto found = directory_.find(block.key);
  if (found != directory_.end()) {
    const BlockRecord& record = found->second;
    const bool as_safe = record.stored == Stored::kDurable ||
                         (record.stored == Stored::kYes && !block.durable);
    const bool as_kept = record.block_class == BlockClass::kState ||
                         block.block_class == BlockClass::kCache;
    if (record.length == block.length) {
      if (as_safe && as_kept && !record.corrupt) {
        return {Code::kAlreadyExists, StoreRefusal::kNone, 0, 0};
      }
    } else if (record.block_class == BlockClass::kState ||
               record.slot != kNoSlot || loads_.contains(block.key)) {
      return {Code::kAborted, StoreRefusal::kOtherBlock, 0, 0};
    }
  }
  // Cache gives way to what comes, once that is there.
  const std::uint64_t quota = options_.store_quota_bytes;
  const std::uint64_t used = stored_bytes_ + arriving_bytes_ + dirty_bytes_;
  if (quota != 0 && stored_cache_fifo_.empty() && used + block.length > quota) {
    return {Code::kResourceExhausted, StoreRefusal::kQuota, quota, used};
  }
  return {};
}

Code Tenant::EndServed(const ServedBlock& block, Code code, TimeNs now) {
  AGENTMEM_CHECK(arriving_bytes_ >= block.length);
  arriving_bytes_ -= block.length;
  const auto arriving = arriving_.find(block.key);
  AGENTMEM_CHECK(arriving != arriving_.end());
  const bool dropped = arriving->second.dropped;
  if (--arriving->second.count == 0) arriving_.erase(arriving);
  if (code != Code::kOk) return code;
  if (dropped) return Code::kUnavailable;
  const auto [found, is_new] = directory_.try_emplace(block.key);
  BlockRecord& record = found->second;
  const bool here = record.slot != kNoSlot;
  if (!is_new && here &&
      (record.length != block.length ||
       (record.block_class == BlockClass::kState &&
        block.block_class == BlockClass::kCache))) {
    // Put here meanwhile, with other bytes, or to be kept: what is here goes
    // into the store again.
    VoidStored(&record);
    UpdateDirty(record);
    QueueWrite(record.slot, slots_[record.slot].awaited);
    return record.length != block.length ? Code::kAborted : Code::kOk;
  }
  const bool upgrade = record.block_class == BlockClass::kCache &&
                       block.block_class == BlockClass::kState;
  if (is_new || record.length != block.length || upgrade) {
    if (here) {
      Upgrade(&record);
    } else {
      VoidStored(&record);
      SetPooled(&record, 0);  // others have it as cache, or of another length
      record.length = block.length;
      record.block_class = block.block_class;
    }
  }
  record.copy = ++next_copy_;
  record.corrupt = false;
  if (record.stored == Stored::kNo) {
    record.stored = Stored::kYes;
    ++stored_blocks_;
    stored_bytes_ += record.length;
    if (record.block_class == BlockClass::kCache) {
      stored_cache_fifo_.push_back(block.key);
    }
  }
  if (block.durable) record.stored = Stored::kDurable;
  if (here) {
    UpdateDirty(record);
    if (!IsDirty(record)) policy_->StoredBelow(SlotIndex(record.slot), now);
    SettleDurable(record.slot);
  } else {
    SetEntry(block.key, &record,
             BelowEntry(block.key, EntryKind::kInStore, record.block_class));
  }
  KeepStoreQuota();
  return Code::kOk;
}

// Nobody refers to it any more, says the peer that collects; or it had it as
// cache, and knows nothing of who made it state since.
bool Tenant::EraseServed(const Key& key, BlockClass block_class) {
  const auto found = directory_.find(key);
  if (found == directory_.end()) {
    if (block_class == BlockClass::kState) QueueDelete(key, block_class);
    return true;
  }
  if (block_class == BlockClass::kCache &&
      found->second.block_class == BlockClass::kState) {
    return false;
  }
  ForgetStored(key);
  return true;
}

void Tenant::OnCorrupt(const Key& key) {
  const auto found = directory_.find(key);
  if (found == directory_.end() || found->second.stored == Stored::kNo) return;
  ++corrupt_;
  if (found->second.block_class == BlockClass::kCache) {
    ForgetStored(key);
  } else if (found->second.slot != kNoSlot) {
    VoidStored(&found->second);  // it is here, and is written anew
    UpdateDirty(found->second);
    QueueWrite(found->second.slot, true);
  } else {
    found->second.corrupt = true;
  }
}

}  // namespace agentmem
