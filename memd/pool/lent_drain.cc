#include "memd/pool/lent_drain.h"

#include <cstring>

#include "base/check.h"
#include "memd/pool/piece_digest.h"

namespace agentmem {
namespace {

// As the disk's direct I/O wants them.
constexpr std::size_t kPageBytes = 4096;

std::size_t WholePages(std::uint32_t length) {
  return (length + kPageBytes - 1) / kPageBytes * kPageBytes;
}

}  // namespace

bool LentDrain::Pump() {
  for (;;) {
    if (!Walk() || !writing_.empty()) return false;
    if (closed_) return true;
    if (found_ == 0 || ++walks_ == kOpenWalks) {
      close_();
      closed_ = true;
    }
    found_ = 0;
    walked_ = false;
  }
}

// True: it is at the end.
bool LentDrain::Walk() {
  if (waiting_ != 0 && !Write(waiting_)) return false;
  for (std::size_t looked = 0; !walked_; ++looked) {
    if (looked == kWalkMax) return false;
    bool passed = true;
    const std::size_t next = exports_->Walk(
        cursor_, 1,
        [this, &passed](const auto& block) { passed = Consider(block); });
    if (!passed) return false;
    cursor_ = next;
    walked_ = next == 0;
    if (waiting_ != 0) return false;
  }
  return true;
}

bool LentDrain::IsWanted(const ExportPool::Block& block) const {
  return block.block_class == BlockClass::kState &&
         !tried_.contains(block.generation) &&
         !writing_.contains(block.generation);
}

bool LentDrain::Consider(const ExportPool::Block& block) {
  if (!IsWanted(block)) return true;
  Copy copy;
  copy.block = {block.name.tenant, block.name.key, block.block_class,
                /*durable=*/false, block.length};
  const StoreVerdict verdict = store_->Admit(copy.block);
  if (verdict.code == Code::kAlreadyExists) return true;
  if (verdict.code != Code::kOk) {
    Refuse(block.generation, block.length, verdict.refusal);
    return true;
  }
  if (!writing_.empty() && writing_bytes_ + block.length > kBytesMax) {
    return false;
  }
  if (const StoreRefusal refusal = Take(block, &copy);
      refusal != StoreRefusal::kNone) {
    Refuse(block.generation, block.length, refusal);
    return true;
  }
  ++found_;
  writing_bytes_ += block.length;
  writing_[block.generation] = std::move(copy);
  Write(block.generation);
  return true;
}

StoreRefusal LentDrain::Take(const ExportPool::Block& block, Copy* copy) const {
  if ((block.seal.format != 0) != (sealing_ != nullptr)) {
    return StoreRefusal::kSealing;
  }
  copy->bytes.reset(static_cast<char*>(
      std::aligned_alloc(kPageBytes, WholePages(block.length))));
  if (copy->bytes == nullptr) return StoreRefusal::kBusy;
  char* const bytes = copy->bytes.get();
  std::memcpy(bytes, exports_->At(block.offset), block.length);
  const ExportPool::Name& name = block.name;
  const bool whole =
      sealing_ != nullptr
          ? sealing_
                ->Open(name.tenant, name.key, block.seal, {bytes, block.length})
                .ok()
          : PoolChecksum(PieceDigest::Of(PoolSeed(name.tenant, name.key), bytes,
                                         block.length),
                         block.generation) == block.checksum;
  return whole ? StoreRefusal::kNone : StoreRefusal::kWrongBytes;
}

bool LentDrain::Write(std::uint64_t generation) {
  const Copy& copy = writing_.find(generation)->second;
  const bool taken = store_->Write(copy.block, copy.bytes.get(), generation);
  waiting_ = taken ? 0 : generation;
  return taken;
}

bool LentDrain::OnStored(std::uint64_t generation,
                         const StoreVerdict& verdict) {
  const auto found = writing_.find(generation);
  if (found == writing_.end()) return false;
  const std::uint32_t length = found->second.block.length;
  writing_.erase(found);
  writing_bytes_ -= length;
  if (verdict.code == Code::kOk) {
    written_.Add(length);
  } else {
    Refuse(generation, length, verdict.refusal);
  }
  return true;
}

void LentDrain::Refuse(std::uint64_t generation, std::uint32_t length,
                       StoreRefusal refusal) {
  tried_[generation] = refusal;
  refused_[refusal].Add(length);
}

DrainSum LentDrain::CountLeft() const {
  DrainSum left;
  std::size_t cursor = 0;
  do {
    cursor = exports_->Walk(cursor, kWalkMax, [&](const auto& block) {
      if (block.block_class != BlockClass::kState ||
          tried_.contains(block.generation)) {
        return;
      }
      const ServedBlock wanted = {block.name.tenant, block.name.key,
                                  block.block_class, false, block.length};
      if (store_->Admit(wanted).code == Code::kAlreadyExists) return;
      left.Add(block.length);
    });
  } while (cursor != 0);
  return left;
}

std::string TextOfRefusal(StoreRefusal refusal) {
  switch (refusal) {
    case StoreRefusal::kNoTenant:
      return "this node does not have their tenant";
    case StoreRefusal::kBudget:
      return "`serve` in [store] is used up";
    case StoreRefusal::kQuota:
      return "the tenant's `store_quota` is used up";
    case StoreRefusal::kDiskFull:
      return "the disk is full";
    case StoreRefusal::kSealing:
      return "they are sealed and this node has no `keys`, or the reverse";
    case StoreRefusal::kWrongBytes:
      return "their bytes do not fit their checksum";
    case StoreRefusal::kOtherBlock:
      return "the store has another block of that name";
    case StoreRefusal::kBusy:
      return "there was no memory for them, or they were dropped meanwhile";
    default:
      return "the store failed";
  }
}

}  // namespace agentmem
