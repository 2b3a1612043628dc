// AgentBook: what this node uses, as other nodes' collectors see it.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "memd/agents/agent_book.h"
#include "proto/manifest_layout.h"

namespace agentmem {
namespace {

// An agent whose writer commits all the time is caught up with.
constexpr int kTriesMax = 16;

absl::Status Lost(const AgentState& state) {
  return Aborted("agent \"" + state.name +
                 "\": this node was away for so long that the others gave up "
                 "what it used of it: this writer's changes are refused; open "
                 "it again");
}

}  // namespace

std::string AgentBook::UseName(std::uint64_t lineage,
                               const std::string& node) const {
  return "use/" + std::to_string(tenant_.value()) + "/" +
         std::to_string(lineage) + "/" + node;
}

std::shared_ptr<NodeUse> AgentBook::UseOf(std::uint64_t lineage) {
  MutexLock lock(&uses_mutex_);
  std::shared_ptr<NodeUse>& use = uses_[lineage];
  if (use == nullptr) use = std::make_shared<NodeUse>();
  return use;
}

std::shared_ptr<NodeUse> AgentBook::FindUse(std::uint64_t lineage) {
  MutexLock lock(&uses_mutex_);
  const auto found = uses_.find(lineage);
  return found == uses_.end() ? nullptr : found->second;
}

bool AgentBook::IsOurs(const NodeUse& use) const {
  return use.version != 0 && use.use.state != UseState::kLeft &&
         use.use.instance == shared_->instance;
}

absl::Status AgentBook::Know(std::uint64_t lineage, NodeUse* use) {
  // This node itself may have been away, and its uses be given up.
  const std::uint64_t now = epoch();
  if (use->known && use->epoch == now) return absl::OkStatus();
  use->known = false;
  const std::string name = UseName(lineage, shared_->node);
  AGENTMEM_ASSIGN_OR_RETURN(const Ref ref, refs_->Read(name));
  use->use = {};
  if (ref.version != 0) {
    AGENTMEM_ASSIGN_OR_RETURN(use->use, DecodeLineageUse(name, ref.value));
  }
  use->version = ref.version;
  use->epoch = now;
  use->known = true;
  return absl::OkStatus();
}

absl::Status AgentBook::WriteUse(std::uint64_t lineage, NodeUse* use,
                                 const std::optional<LineageUse>& next,
                                 std::span<const RefChange> checks) {
  std::vector<RefChange> changes;
  changes.push_back({UseName(lineage, shared_->node), use->version, Fence(),
                     next ? EncodeLineageUse(*next) : "", !next});
  changes.insert(changes.end(), checks.begin(), checks.end());
  const absl::Status status = refs_->Commit(changes, {});
  if (!status.ok()) {
    use->known = false;
    use->doubtful |= status.code() != absl::StatusCode::kAborted;
    return status;
  }
  use->version = next ? use->version + 1 : 0;
  use->use = next.value_or(LineageUse());
  use->doubtful = false;
  use->unsettled = false;
  return status;
}

absl::Status AgentBook::TakeUse(AgentState* state, bool writes) {
  if (!shared_.has_value()) return absl::OkStatus();
  for (int i = 0; i < kTriesMax; ++i) {
    AGENTMEM_ASSIGN_OR_RETURN(const bool taken, TryTakeUse(state, writes));
    if (taken) return absl::OkStatus();
    if (writes) {
      AGENTMEM_ASSIGN_OR_RETURN(const Ref ref,
                                refs_->Read(RefName(state->name)));
      if (ref.version == state->ref_version && ref.fence == state->fence) {
        continue;
      }
      state->doubtful = true;
      return Aborted("agent \"" + state->name +
                     "\" was opened on another node at the same moment; open "
                     "it again");
    }
    state->doubtful = true;
    AGENTMEM_RETURN_IF_ERROR(ClearDoubt(state));
    if (state->deleted) {
      return NotFound("agent \"" + state->name + "\" was deleted");
    }
  }
  return Unavailable("agent \"" + state->name +
                     "\" changes all the time on another node; try again");
}

absl::StatusOr<bool> AgentBook::TryTakeUse(AgentState* state, bool writes) {
  const std::uint64_t lineage = state->record.lineage;
  const std::shared_ptr<NodeUse> use = UseOf(lineage);
  MutexLock lock(&use->mutex);
  AGENTMEM_RETURN_IF_ERROR(Know(lineage, use.get()));
  const bool open = IsOurs(*use) && use->use.state == UseState::kOpen;
  LineageUse next;
  if (open) next = use->use;
  if (writes) next.AddFence(state->fence.value());
  if (open && !use->doubtful && next == use->use) {
    use->state = state->weak_from_this();
    return true;
  }
  // What it keeps is what the record has as the use comes to be: a collector
  // that does not see it yet finds no less in the record.
  std::vector<RefChange> checks;
  if (!open) {
    next.state = UseState::kOpen;
    next.instance = shared_->instance;
    next.KeepAllOf(state->record);
    checks.push_back({RefName(state->name), state->ref_version, state->fence,
                      "", false, /*only_check=*/true});
  }
  const absl::Status status = WriteUse(lineage, use.get(), next, checks);
  if (status.code() == absl::StatusCode::kAborted) return false;
  AGENTMEM_RETURN_IF_ERROR(status);
  use->state = state->weak_from_this();
  return true;
}

bool AgentBook::HasUse(const AgentState& state) {
  const std::shared_ptr<NodeUse> use = FindUse(state.record.lineage);
  if (use == nullptr) return false;
  MutexLock lock(&use->mutex);
  return !Know(state.record.lineage, use.get()).ok() || IsOurs(*use);
}

absl::Status AgentBook::DependOnUse(const AgentState& state,
                                    std::vector<RefChange>* changes) {
  if (!shared_.has_value() || (state.writer.token == 0 && !state.ahead)) {
    return absl::OkStatus();  // it leads to nothing new
  }
  const std::uint64_t lineage = state.record.lineage;
  const std::shared_ptr<NodeUse> use = UseOf(lineage);
  MutexLock lock(&use->mutex);
  for (int i = 0; !use->known || use->doubtful; ++i) {
    AGENTMEM_RETURN_IF_ERROR(Know(lineage, use.get()));
    if (!IsOurs(*use)) break;
    if (!use->doubtful) continue;
    const absl::Status status =
        WriteUse(lineage, use.get(), LineageUse(use->use), {});
    // What came instead was our own, of before.
    if (status.code() == absl::StatusCode::kAborted && i < kTriesMax) continue;
    AGENTMEM_RETURN_IF_ERROR(status);
  }
  if (!IsOurs(*use)) return Lost(state);
  changes->push_back({UseName(lineage, shared_->node), use->version, Fence(),
                      "", false, /*only_check=*/true});
  return absl::OkStatus();
}

bool AgentBook::UseIsLost(const AgentState& state) {
  const std::shared_ptr<NodeUse> use = UseOf(state.record.lineage);
  MutexLock lock(&use->mutex);
  use->known = false;
  return Know(state.record.lineage, use.get()).ok() && !IsOurs(*use);
}

absl::Status AgentBook::TendUses(
    const AgentsView* view, TimeNs now,
    const std::function<bool(std::uint64_t lineage)>& stored) {
  std::vector<std::pair<std::uint64_t, std::shared_ptr<NodeUse>>> uses;
  {
    MutexLock lock(&uses_mutex_);
    uses.assign(uses_.begin(), uses_.end());
  }
  for (auto& [lineage, use] : uses) {
    AGENTMEM_RETURN_IF_ERROR(TendOurs(lineage, use.get(), now, stored));
    bool over = false;
    {
      MutexLock lock(&use->mutex);
      over = use->state.expired() && !IsOurs(*use) && !use->doubtful;
    }
    use.reset();
    if (!over) continue;
    MutexLock lock(&uses_mutex_);
    const auto found = uses_.find(lineage);
    // (Nobody else is about to take it.)
    if (found != uses_.end() && found->second.use_count() == 1) {
      uses_.erase(found);
    }
  }
  if (view == nullptr) return absl::OkStatus();
  absl::flat_hash_set<std::uint64_t> known;
  for (const KnownAgent& agent : view->agents) known.insert(agent.lineage);
  for (const AgentsView::Use& seen : view->uses) {
    if (seen.use.state == UseState::kLeft) {
      // All have forgotten it meanwhile.
      const bool over = seen.node == shared_->node && stored != nullptr &&
                        !known.contains(seen.lineage) && !stored(seen.lineage);
      if (over) {
        AGENTMEM_RETURN_IF_ERROR(NoteStored(seen.lineage, false, *view));
      }
      continue;
    }
    if (seen.node != shared_->node) {
      if (IsAwayForLong(seen, now)) AGENTMEM_RETURN_IF_ERROR(EndUseOf(seen));
      continue;
    }
    // One of an earlier run; or one that was thought not to have been made.
    const std::shared_ptr<NodeUse> use = UseOf(seen.lineage);
    MutexLock lock(&use->mutex);
    if (!use->state.expired()) continue;
    use->known = false;
    AGENTMEM_RETURN_IF_ERROR(CloseUse(seen.lineage, use.get(), stored));
  }
  return absl::OkStatus();
}

absl::Status AgentBook::TendOurs(
    std::uint64_t lineage, NodeUse* use, TimeNs now,
    const std::function<bool(std::uint64_t lineage)>& stored) {
  std::shared_ptr<const AgentState> user;
  {
    MutexLock lock(&use->mutex);
    user = use->state.lock();
    if (user == nullptr) return CloseUse(lineage, use, stored);
    if (!use->unsettled && !use->doubtful &&
        now - use->looked_at < shared_->refresh_ns) {
      return absl::OkStatus();
    }
    use->looked_at = now;
  }
  auto* const state = const_cast<AgentState*>(user.get());
  MutexLock state_lock(&state->mutex);
  MutexLock lock(&use->mutex);
  return Refresh(lineage, state, use);
}

// What is over is not kept for it any more. The rest of what may be opened is
// what the record says here, or newer.
absl::Status AgentBook::Refresh(std::uint64_t lineage, AgentState* state,
                                NodeUse* use) {
  const bool writes = state->writer.token != 0 || state->ahead;
  AGENTMEM_RETURN_IF_ERROR(ClearDoubt(state));
  const bool must = use->unsettled || use->doubtful;
  use->known = false;
  AGENTMEM_RETURN_IF_ERROR(Know(lineage, use));
  const bool current = !state->deleted && state->record.lineage == lineage;
  if (!IsOurs(*use)) {
    if (current && writes) Lose(state);
    return absl::OkStatus();
  }
  LineageUse next = use->use;
  next.versions.clear();
  next.regions.clear();
  next.state = current ? UseState::kOpen : UseState::kNamed;
  if (current) next.KeepAllOf(state->record);
  // What is visible here only is made of versions that the refs have, for as
  // long as nobody took the agent over.
  if (current && state->ahead) next.regions = use->use.regions;
  bool can_tell = true;
  for (const VersionHold* hold : state->holds) {
    if (hold->link().number != 0) {
      next.versions.push_back(hold->link());
      continue;
    }
    can_tell &= current;
    for (LineageUse::Region& region : next.regions) {
      if (region.id != hold->region_id()) continue;
      region.oldest = std::min(region.oldest, hold->oldest());
    }
  }
  std::sort(next.versions.begin(), next.versions.end(),
            [](const VersionLink& a, const VersionLink& b) {
              return std::make_pair(a.number, a.key) <
                     std::make_pair(b.number, b.key);
            });
  next.versions.erase(std::unique(next.versions.begin(), next.versions.end()),
                      next.versions.end());
  if (!can_tell || next.versions.size() > LineageUse::kVersionsMax) {
    next = use->use;  // as before: more than need be
  }
  if (!writes && state->in_hand.empty() && state->unsettled.empty()) {
    next.first_fence = next.last_fence = 0;
  } else if (!state->ahead && next.last_fence <= kRegionFenceMax) {
    // (What is ahead may have blocks of an earlier writer here.)
    std::uint64_t first = next.last_fence;
    if (writes) first = std::min(first, state->fence.value());
    for (const auto* keys : {&state->in_hand, &state->unsettled}) {
      for (const Key& key : *keys) first = std::min(first, RegionFenceOf(key));
    }
    next.first_fence = std::max(next.first_fence, first);
  }
  if (next == use->use && !must) return absl::OkStatus();
  const absl::Status written = WriteUse(lineage, use, next, {});
  // Another one was ours, of before: the next time, then.
  if (written.code() == absl::StatusCode::kAborted) return absl::OkStatus();
  return written;
}

absl::Status AgentBook::CloseUse(
    std::uint64_t lineage, NodeUse* use,
    const std::function<bool(std::uint64_t lineage)>& stored) {
  AGENTMEM_RETURN_IF_ERROR(Know(lineage, use));
  if (use->version == 0 ||
      (use->use.state == UseState::kLeft && !use->doubtful)) {
    // (What may come yet is of this node, and ends when it is seen.)
    use->doubtful = false;
    return absl::OkStatus();
  }
  std::optional<LineageUse> left = LineageUse();
  left->instance = shared_->instance;
  if (use->use.last_fence == 0 && stored != nullptr && !stored(lineage)) {
    left.reset();
  }
  const absl::Status written = WriteUse(lineage, use, left, {});
  if (written.code() == absl::StatusCode::kAborted) return absl::OkStatus();
  return written;
}

// The other node's changes that depend on it are refused from here on.
absl::Status AgentBook::EndUseOf(const AgentsView::Use& seen) {
  LineageUse left;
  left.instance = seen.use.instance;
  const RefChange change = {UseName(seen.lineage, seen.node), seen.version,
                            Fence(), EncodeLineageUse(left), false};
  const absl::Status status = refs_->Commit({&change, 1}, {});
  if (status.code() == absl::StatusCode::kAborted) return absl::OkStatus();
  return status;
}

bool AgentBook::IsAwayForLong(const AgentsView::Use& seen, TimeNs now) {
  const std::pair<std::string, std::uint64_t> run = {seen.node,
                                                     seen.use.instance};
  const bool alive = shared_->is_alive(run.first, run.second);
  MutexLock lock(&uses_mutex_);
  if (alive) {
    away_.erase(run);
    return false;
  }
  const auto [since, is_new] = away_.try_emplace(run, now);
  return now - since->second >= shared_->away_ns;
}

absl::Status AgentBook::NoteStored(std::uint64_t lineage, bool has_blocks,
                                   const AgentsView& view) {
  const AgentsView::Use* seen = nullptr;
  for (const AgentsView::Use& use : view.UsesOf(lineage)) {
    if (use.node == shared_->node) seen = &use;
  }
  if ((seen != nullptr) == has_blocks) return absl::OkStatus();
  if (seen != nullptr && seen->use.state != UseState::kLeft) {
    return absl::OkStatus();
  }
  const std::shared_ptr<NodeUse> use = UseOf(lineage);
  MutexLock lock(&use->mutex);
  if (!use->state.expired()) return absl::OkStatus();
  use->known = false;
  AGENTMEM_RETURN_IF_ERROR(Know(lineage, use.get()));
  if (use->version != (seen == nullptr ? 0 : seen->version)) {
    return absl::OkStatus();
  }
  std::optional<LineageUse> next;
  if (has_blocks) {
    next.emplace();
    next->instance = shared_->instance;
  }
  const absl::Status written = WriteUse(lineage, use.get(), next, {});
  if (written.code() == absl::StatusCode::kAborted) return absl::OkStatus();
  return written;
}

}  // namespace agentmem
