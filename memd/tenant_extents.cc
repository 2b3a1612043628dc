// Tenant: extents that clients have registered with devices, and how one of
// them comes back for a port that empties it.
#include "base/check.h"
#include "memd/tenant.h"

namespace agentmem {
namespace {

// Between two extents that are asked for. A client that is at work answers
// within this; if one is not, others may be, and regions wait for 100 ms.
constexpr DurationNs kRetireNs = 20 * kMillisecondNs;
// Of DRAM: as much as the grants of two clients (Config's grant_quota).
constexpr std::uint64_t kDepartedPart = 8;

}  // namespace

// False: *bad_field has a value that no such request can have.
bool Tenant::ExtentsOf(const SubmissionEntry& entry, std::uint32_t* first,
                       std::uint32_t* count, std::size_t* bad_field) const {
  *bad_field = offsetof(SubmissionEntry, sequence);
  if (entry.sequence % kExtentBytes != 0 ||
      entry.sequence >= pool_.capacity_bytes()) {
    return false;
  }
  *first = pool_.ExtentOf(entry.sequence);
  *count = entry.slot;
  *bad_field = offsetof(SubmissionEntry, slot);
  return *count != 0 && *count <= kExtentsPerHoldMax &&
         *count <= pool_.extents() - *first;
}

void Tenant::HoldExtents(Client* client, const SubmissionEntry& entry,
                         TimeNs now) {
  const OpRef op = {client->identity().id, entry.op_id, entry.deadline_ns};
  std::uint32_t first;
  std::uint32_t count;
  std::size_t bad_field;
  if (!ExtentsOf(entry, &first, &count, &bad_field)) {
    const bool offset = bad_field == offsetof(SubmissionEntry, sequence);
    return Fail(op, Code::kInvalidArgument, Reason::kBadField, bad_field,
                offset ? entry.sequence : entry.slot);
  }
  if (const auto refused = holds_.Hold(op.client, first, count, now)) {
    return Fail(op, Code::kFailedPrecondition, Reason::kExtentLent,
                *refused * kExtentBytes, kExtentBytes);
  }
  Answer(op);
}

void Tenant::ReleaseExtents(Client* client, const SubmissionEntry& entry) {
  client->Dismiss();
  std::uint32_t first;
  std::uint32_t count;
  std::size_t bad_field;
  if (!ExtentsOf(entry, &first, &count, &bad_field)) return;
  if (holds_.Release(client->identity().id, first, count)) {
    retry_wanted_ = true;
  }
}

void Tenant::ExtentReleased(Client* client, const SubmissionEntry& entry) {
  client->Dismiss();
  if (holds_.Answer(client->identity().id, entry.sequence)) {
    retry_wanted_ = true;
  }
}

// Is it worth asking for? Not of who does not read: its answers would wait
// behind the question.
bool Tenant::MayRetire(std::uint32_t extent) {
  visited_ += clients_.size();  // about as much work as so many slots
  return holds_.MayRetire(extent, [this](ClientId id) {
    const auto found = clients_.find(id);
    return found != clients_.end() && found->second->MayNotify();
  });
}

// Nothing that nobody holds can be emptied: one that is held is asked for. One
// that is free already rather than one whose blocks would have to leave.
void Tenant::RetireOne(TimeNs now) {
  if (now < next_retire_at_) return;
  const auto free = pool_.FindFreeHeld(
      [this](std::uint32_t extent) { return MayRetire(extent); });
  if (!free.has_value() && !coldest_held_.has_value()) return;
  const std::uint32_t extent = free.has_value() ? *free : *coldest_held_;
  next_retire_at_ = now + kRetireNs;
  holds_.Retire(extent, now, [&](ClientId id, std::uint64_t token) {
    CompletionEntry retire = {};
    retire.kind = CompletionKind::kExtentRetire;
    retire.detail[0] = extent * kExtentBytes;
    retire.detail[1] = kExtentBytes;
    retire.detail[2] = token;
    clients_.find(id)->second->Notify(retire);
  });
}

// A process's death ends what its devices do: the driver is told of its
// descriptors' end before its pidfd is. Unless somebody else has those: a child
// that was forked and has called no exec, or a server that posts for several
// processes (MPS). Then copies that it had posted go on, and each waits for
// what stands before it on its stream. So slots into which they may write are
// not given to others at once. (What they read may change: nobody reads it
// then.)
//
// Not without end: who attaches, asks for slots and ends, again and again,
// keeps no more than a part of the tenant's memory so. Beyond it the oldest are
// free before their time.
void Tenant::Depart(std::uint32_t slot, TimeNs now) {
  departed_.emplace_back(now + ExtentHolds::kOutlivedNs, slot);
  departed_bytes_ += SizeClassBytes(slots_[slot].size_class);
  while (departed_bytes_ > options_.dram_bytes / kDepartedPart) FreeOldest();
}

void Tenant::FreeDeparted(TimeNs now) {
  while (!departed_.empty() && departed_.front().first <= now) FreeOldest();
}

void Tenant::FreeOldest() {
  const std::uint32_t slot = departed_.front().second;
  departed_.pop_front();
  departed_bytes_ -= SizeClassBytes(slots_[slot].size_class);
  FreeSlot(slot);
}

}  // namespace agentmem
