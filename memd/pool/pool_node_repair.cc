// PoolNode: after a change of placement, what lies here goes to who lacks it.
#include <algorithm>

#include "memd/pool/pool_node.h"
#include "memd/pool/pool_timing.h"

namespace agentmem {

void PoolNode::WantRepair(DurationNs after) {
  if (!repair_wanted_) repair_wanted_at_ = now_;
  repair_wanted_ = true;
  // Who comes and goes all the time does not put it off for ever.
  repair_at_ = std::max(repair_at_, now_ + after);
  if (after <= kRepairSettleNs) {
    repair_at_ = std::min(now_ + after, repair_wanted_at_ + kRepairSettleNsMax);
  }
}

void PoolNode::Repair() {
  if (repair_wanted_ && now_ >= repair_at_) {
    repair_wanted_ = false;
    repairing_ = true;
    repair_walked_ = false;
    repair_cursor_ = 0;
    repair_failed_ = 0;
  }
  EarnRepairCredit();
  RepairStrays();
  if (repairing_) RepairWalk();
}

void PoolNode::EarnRepairCredit() {
  const auto rate = static_cast<double>(options_.repair_bytes_per_second);
  const double seconds =
      static_cast<double>(now_ - repair_credited_at_) / kSecondNs;
  // At most what a tenth of a second brings lies by; or one block.
  const double most = std::max<double>(rate / 10, 2 * kMaxBlockBytes);
  const double earned = std::min(rate * seconds, 2 * most);
  if (earned < 1) return;
  repair_credit_ = std::min(repair_credit_ + static_cast<std::int64_t>(earned),
                            static_cast<std::int64_t>(most));
  repair_credited_at_ = now_;
}

bool PoolNode::MayRepair() const {
  return repairs_in_flight_ < kRepairsInFlightMax && ops_used_ < kOpsMax &&
         repair_bytes_in_flight_ < kRepairBytesInFlightMax &&
         repair_credit_ > 0;
}

// Not before their writers must have ended with the other copy, too.
void PoolNode::RepairStrays() {
  while (!strays_.empty() && MayRepair() &&
         now_ - strays_.front().at >= kRepairSettleNs) {
    const ExportPool::Name name = strays_.front().name;
    strays_.pop_front();
    const ExportPool::Block* const block = exports_->Find(name);
    if (block != nullptr) StartRepair(*block);
  }
}

// Over what lies here; what others should have too is put there.
void PoolNode::RepairWalk() {
  for (std::size_t looked = 0; !repair_walked_ && looked < kRepairWalk;
       ++looked) {
    if (!MayRepair()) return;
    repair_cursor_ = exports_->Walk(
        repair_cursor_, 1, [this](const auto& block) { StartRepair(block); });
    repair_walked_ = repair_cursor_ == 0;
  }
  if (!repair_walked_ || repairs_in_flight_ != 0) return;
  repairing_ = false;
  if (repair_failed_ == 0) {
    repair_backoff_ = 0;
    return;
  }
  // Once more, since a node did not take what it should have.
  repair_backoff_ =
      std::clamp(2 * repair_backoff_, kRepairSettleNs, kRepairAgainNsMax);
  if (!repair_wanted_) WantRepair(repair_backoff_);
}

void PoolNode::StartRepair(const ExportPool::Block& block) {
  if (block.below)
    return;  // it is here for who asked for it, and at home below
  const std::size_t copies = CopiesOf(block);
  std::array<std::uint32_t, kLegs> places;
  const std::size_t count = Places(block.name.key.group, copies, &places);
  bool here = false;
  for (std::size_t i = 0; i < count; ++i) here |= places[i] == kSelf;
  if (count == 0 || (here && count == 1)) return;

  PoolOp put;
  put.kind = PoolOp::Kind::kPut;
  put.block_class = block.block_class;
  put.tenant = block.name.tenant;
  put.key = block.name.key;
  put.memory = options_.export_memory;
  put.bytes = exports_->At(block.offset);
  put.length = block.length;
  put.copies = static_cast<std::uint8_t>(copies);
  const std::uint32_t index = NewOp(put);
  Op& op = ops_[index];
  op.repair = true;
  op.wire = put.bytes;
  op.wire_memory = put.memory;
  op.seal = block.seal;
  op.leaves = !here;
  op.changes = changes_;
  op.source_generation = block.generation;
  for (std::size_t i = 0; i < count; ++i) {
    if (places[i] != kSelf) op.leg[op.legs++].peer = places[i];
  }
  const std::uint8_t legs = op.legs;
  // As if all of it had to be written; what need not be comes back.
  ++repairs_in_flight_;
  repair_bytes_in_flight_ += std::uint64_t{put.length} * legs;
  repair_credit_ -= std::int64_t{put.length} * legs;
  const std::uint32_t sequence = op.sequence;
  for (std::uint8_t i = 0; i < legs && ops_[index].sequence == sequence; ++i) {
    Ask(index, i, PoolMessage::kReserve);
  }
}

void PoolNode::FinishRepair(const Op& op, Code code) {
  std::uint64_t written = 0;
  bool moot = true;  // what failed need not be done any more
  for (std::uint8_t i = 0; i < op.legs; ++i) {
    written += op.leg[i].moved != 0;
    moot &= op.leg[i].code == Code::kOk || op.leg[i].code == Code::kAborted;
  }
  --repairs_in_flight_;
  repair_bytes_in_flight_ -= std::uint64_t{op.op.length} * op.legs;
  repair_credit_ += static_cast<std::int64_t>(op.op.length) *
                    static_cast<std::int64_t>(op.legs - written);
  if (code != Code::kOk) {
    if (moot) return;
    ++repair_failed_;
    // Of a walk that is under way its end knows.
    if (!repairing_ && !repair_wanted_) WantRepair(kRepairSettleNs);
    return;
  }
  (op.leaves ? counters_.moved : counters_.repaired) += written;
  // One that took it, or had it, may have gone while another was asked: the
  // walk after that change looks again.
  if (op.leaves && op.changes == changes_) {
    exports_->Leave({op.op.tenant, op.op.key}, op.source_generation);
  }
}

}  // namespace agentmem
