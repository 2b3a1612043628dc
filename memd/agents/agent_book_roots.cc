// AgentBook: what collection asks of it.
#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "base/status.h"
#include "memd/agents/agent_book.h"
#include "memd/agents/history.h"

namespace agentmem {
void AddRecordRoots(const AgentRecord& record, Roots* roots) {
  for (const RegionRecord& region : record.regions) {
    if (region.head.number != 0) {
      roots->versions.push_back({region.head, region.oldest_kept});
    }
    if (region.working_set_bytes != 0) {
      roots->blocks.push_back(region.working_set);
    }
  }
}

void AgentBook::NoteGarbage(std::uint64_t lineage) {
  MutexLock lock(&garbage_mutex_);
  garbage_.lineages.insert(lineage);
}

void AgentBook::NoteGarbageEverywhere() {
  MutexLock lock(&garbage_mutex_);
  garbage_.everywhere = true;
}

void AgentBook::NoteGarbageLent() {
  MutexLock lock(&garbage_mutex_);
  garbage_.lent = true;
}

bool AgentBook::HasGarbage() {
  MutexLock lock(&garbage_mutex_);
  return garbage_.everywhere || garbage_.lent || !garbage_.lineages.empty();
}

AgentBook::Garbage AgentBook::BeginCollection() {
  MutexLock lock(&mutex_);
  collecting_ = true;
  MutexLock garbage_lock(&garbage_mutex_);
  return std::exchange(garbage_, {});
}

void AgentBook::EndCollection() {
  MutexLock lock(&mutex_);
  collecting_ = false;
  born_.clear();
  born_blocks_.clear();
}

absl::StatusOr<std::vector<KnownAgent>> AgentBook::Known() {
  std::vector<KnownAgent> known;
  AGENTMEM_ASSIGN_OR_RETURN(const std::vector<std::string> names, List(""));
  for (const std::string& name : names) {
    AGENTMEM_ASSIGN_OR_RETURN(const Ref ref, refs_->Read(RefName(name)));
    if (ref.version == 0) continue;  // deleted since
    AGENTMEM_ASSIGN_OR_RETURN(const AgentRecord record,
                              DecodeAgentRecord(name, ref.value));
    KnownAgent agent;
    agent.name = name;
    agent.lineage = record.lineage;
    if (record.origin.has_value()) agent.origin = record.origin->lineage;
    for (const RegionRecord& region : record.regions) {
      agent.by_age |= RetentionOf(record, region).kind == RetentionKind::kAge;
    }
    known.push_back(std::move(agent));
  }
  const std::string gone = "gone/" + std::to_string(tenant_.value()) + "/";
  AGENTMEM_ASSIGN_OR_RETURN(const std::vector<std::string> gone_names,
                            refs_->List(gone));
  for (const std::string& name : gone_names) {
    AGENTMEM_ASSIGN_OR_RETURN(const Ref ref, refs_->Read(name));
    KnownAgent agent;
    if (!absl::SimpleAtoi(name.substr(gone.size()), &agent.lineage)) {
      return DataLoss("ref \"" + name + "\" does not name a lineage");
    }
    AGENTMEM_ASSIGN_OR_RETURN(agent.origin, DecodeGone(name, ref.value));
    known.push_back(std::move(agent));
  }
  return known;
}

absl::Status AgentBook::GiveUpOld(const std::string& name,
                                  std::int64_t wall_now_ns, NodeSource* nodes) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<AgentState> state,
                            Find(name));
  AgentRecord seen;
  {
    MutexLock lock(&state->mutex);
    // Its writer's node does it.
    if (state->writer.token == 0 && !CheckClaim(*state, 0).ok()) {
      return absl::OkStatus();
    }
    seen = state->record;
  }
  absl::flat_hash_map<std::uint64_t, std::uint64_t> oldest;  // by region
  for (const RegionRecord& region : seen.regions) {
    if (RetentionOf(seen, region).kind != RetentionKind::kAge) continue;
    const VersionHold walked_over(state, region.name);
    AGENTMEM_ASSIGN_OR_RETURN(
        const std::uint64_t keep,
        OldestToKeep(region.head, region.oldest_kept, RetentionOf(seen, region),
                     wall_now_ns, nodes));
    if (keep > region.oldest_kept) oldest[region.id] = keep;
  }
  if (oldest.empty()) return absl::OkStatus();
  AGENTMEM_RETURN_IF_ERROR(Amend(state.get(), [&](AgentRecord* record) {
    for (RegionRecord& region : record->regions) {
      auto keep = oldest.find(region.id);
      // (As it was when it was looked at; retention may have changed since.)
      if (keep == oldest.end() ||
          RetentionOf(*record, region).kind != RetentionKind::kAge) {
        continue;
      }
      region.oldest_kept = std::max(region.oldest_kept, keep->second);
    }
    return absl::OkStatus();
  }));
  NoteGarbage(seen.lineage);
  return absl::OkStatus();
}

absl::StatusOr<Roots> AgentBook::TakeRoots(std::span<const KnownAgent> agents) {
  Roots roots;
  absl::flat_hash_set<std::uint64_t> lineages;
  for (const KnownAgent& agent : agents) lineages.insert(agent.lineage);
  AddHeld(lineages, &roots);
  // One at a time: others are opened in between. What is opened later holds
  // only what its record has led to here.
  for (const KnownAgent& agent : agents) {
    if (agent.name.empty()) continue;
    MutexLock lock(&mutex_);
    auto known = states_.find(agent.name);
    const std::shared_ptr<AgentState> state =
        known == states_.end() ? nullptr : known->second.lock();
    if (state != nullptr) {
      MutexLock state_lock(&state->mutex);
      AGENTMEM_RETURN_IF_ERROR(ClearDoubt(state.get()));
      if (!state->deleted)
        AGENTMEM_RETURN_IF_ERROR(AddRoots(state.get(), &roots));
      continue;
    }
    AGENTMEM_ASSIGN_OR_RETURN(const Ref ref, refs_->Read(RefName(agent.name)));
    if (ref.version == 0) continue;
    AGENTMEM_ASSIGN_OR_RETURN(const AgentRecord record,
                              DecodeAgentRecord(agent.name, ref.value));
    AddRecordRoots(record, &roots);
  }
  // Last: a fork that comes later begins as one of the above is now.
  MutexLock lock(&mutex_);
  for (const VersionRoot& born : born_) {
    if (lineages.contains(LineageOf(born.link.key))) {
      roots.versions.push_back(born);
    }
  }
  roots.blocks.insert(roots.blocks.end(), born_blocks_.begin(),
                      born_blocks_.end());
  return roots;
}

// What is in a hand is taken before the records: what is put down in between
// was published, and they lead to it.
void AgentBook::AddHeld(const absl::flat_hash_set<std::uint64_t>& lineages,
                        Roots* roots) {
  std::vector<std::shared_ptr<AgentState>> open;
  {
    MutexLock lock(&mutex_);
    for (const auto& [name, weak] : states_) {
      if (auto state = weak.lock()) open.push_back(std::move(state));
    }
  }
  for (const std::shared_ptr<AgentState>& state : open) {
    MutexLock lock(&state->mutex);
    for (const VersionHold* hold : state->holds) {
      if (hold->link().number != 0 &&
          lineages.contains(LineageOf(hold->link().key))) {
        roots->versions.push_back({hold->link(), hold->link().number});
      }
    }
    // (What is being settled is somebody's still, replaced or not.)
    for (const auto* keys : {&state->in_hand, &state->unsettled}) {
      for (const Key& key : *keys) {
        if (lineages.contains(LineageOf(key))) roots->in_hand.insert(key);
      }
    }
  }
}

// Of an agent that is open. A crash makes the stored record the agent's again:
// what that one keeps is kept.
absl::Status AgentBook::AddRoots(AgentState* state, Roots* roots) {
  AgentRecord record = state->record;
  if (state->ahead) {
    AGENTMEM_ASSIGN_OR_RETURN(const Ref ref, refs_->Read(RefName(state->name)));
    AGENTMEM_ASSIGN_OR_RETURN(const AgentRecord stored,
                              DecodeAgentRecord(state->name, ref.value));
    for (const RegionRecord& kept : stored.regions) {
      for (RegionRecord& region : record.regions) {
        if (region.id != kept.id) continue;
        region.oldest_kept = std::min(region.oldest_kept, kept.oldest_kept);
        if (kept.working_set_bytes != 0) {
          roots->blocks.push_back(kept.working_set);
        }
      }
    }
  }
  for (const VersionHold* hold : state->holds) {
    if (hold->link().number != 0) {
      // (One that came after AddHeld, of what retention gave up since.)
      roots->versions.push_back({hold->link(), hold->link().number});
      continue;
    }
    for (RegionRecord& region : record.regions) {
      if (region.id == hold->region_id()) {
        region.oldest_kept = std::min(region.oldest_kept, hold->oldest());
      }
    }
  }
  AddRecordRoots(record, roots);
  return absl::OkStatus();
}

absl::Status AgentBook::Forget(std::uint64_t lineage) {
  AGENTMEM_ASSIGN_OR_RETURN(const Ref ref, refs_->Read(GoneName(lineage)));
  if (ref.version == 0) return absl::OkStatus();
  const RefChange change = {GoneName(lineage), ref.version, ref.fence, "",
                            true};
  return refs_->Commit({&change, 1}, {});
}

}  // namespace agentmem
