#include "tiering/sim/prefix_sim.h"

#include <cstddef>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/status.h"

namespace agentmem::tiering {
namespace {

constexpr std::size_t kDecisionsPerRequest = 4096;

class PrefixSim {
 public:
  PrefixSim(const PrefixSimOptions& options, Policy* policy)
      : options_(options), policy_(policy) {
    id_of_slot_.reserve(options.capacity_blocks);
    slot_of_id_.reserve(options.capacity_blocks);
  }

  absl::Status Serve(const TraceRequest& request) {
    ++result_.requests;
    bool in_prefix = true;
    for (const std::uint64_t id : request.block_ids) {
      ++result_.references;
      const auto found = slot_of_id_.find(id);
      if (found != slot_of_id_.end()) {
        result_.prefix_hits += in_prefix ? 1 : 0;
        policy_->Accessed(SlotIndex(found->second), request.timestamp_ns);
        continue;
      }
      in_prefix = false;
      AGENTMEM_RETURN_IF_ERROR(Insert(id, request.timestamp_ns));
    }
    Decide(request.timestamp_ns);
    return absl::OkStatus();
  }

  const PrefixSimResult& result() const { return result_; }

 private:
  absl::Status Insert(std::uint64_t id, TimeNs now) {
    std::uint32_t slot = static_cast<std::uint32_t>(id_of_slot_.size());
    if (slot < options_.capacity_blocks) {
      id_of_slot_.push_back(id);
    } else {
      AGENTMEM_ASSIGN_OR_RETURN(slot, Evict(now));
      id_of_slot_[slot] = id;
    }
    slot_of_id_[id] = slot;
    ++result_.inserts;
    BlockInfo block;
    block.slot = SlotIndex(slot);
    block.key = Key::FromWords(id, 0);
    block.bytes = options_.block_bytes;
    policy_->Inserted(block, InsertCause::kPut, now);
    return absl::OkStatus();
  }

  absl::StatusOr<std::uint32_t> Evict(TimeNs now) {
    bool taken = false;
    SlotIndex victim;
    policy_->Coldest(now, [&](SlotIndex slot) {
      if (taken) return Verdict::kStop;
      taken = true;
      victim = slot;
      return Verdict::kTake;
    });
    if (!taken) {
      return FailedPrecondition(
          std::string("policy ") + policy_->name() + " offered none of " +
          std::to_string(options_.capacity_blocks) + " resident blocks");
    }
    policy_->Removed(victim, now);
    slot_of_id_.erase(id_of_slot_[victim.value()]);
    ++result_.evictions;
    return victim.value();
  }

  void Decide(TimeNs now) {
    decisions_.clear();
    policy_->Decide(now, kDecisionsPerRequest, &decisions_);
    result_.write_throughs += decisions_.size();
    if (!options_.store_below) return;
    for (const Decision& decision : decisions_) {
      policy_->StoredBelow(decision.slot, now);
    }
  }

  const PrefixSimOptions options_;
  Policy* const policy_;
  std::unordered_map<std::uint64_t, std::uint32_t> slot_of_id_;
  std::vector<std::uint64_t> id_of_slot_;
  std::vector<Decision> decisions_;
  PrefixSimResult result_;
};

}  // namespace

absl::StatusOr<PrefixSimResult> RunPrefixSim(const PrefixSimOptions& options,
                                             TraceSource* trace,
                                             Policy* policy) {
  if (options.capacity_blocks == 0) {
    return InvalidArgument(
        "capacity_blocks is 0; it must be from 1 to the policy's slots");
  }
  PrefixSim sim(options, policy);
  TraceRequest request;
  for (;;) {
    AGENTMEM_ASSIGN_OR_RETURN(const bool found, trace->Next(&request));
    if (!found) return sim.result();
    AGENTMEM_RETURN_IF_ERROR(sim.Serve(request));
  }
}

}  // namespace agentmem::tiering
