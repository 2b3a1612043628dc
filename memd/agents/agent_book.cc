#include "memd/agents/agent_book.h"

#include <linux/futex.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace agentmem {
namespace {

absl::StatusOr<std::uint64_t> NewLineage() {
  std::uint64_t lineage = 0;
  while (lineage == 0) {
    if (getrandom(&lineage, sizeof(lineage), 0) != sizeof(lineage)) {
      return ErrnoStatus("getrandom");
    }
  }
  return lineage;
}

std::string Quoted(const std::string& name) { return "agent \"" + name + "\""; }

}  // namespace

std::string AgentBook::RefName(const std::string& agent) const {
  return "agent/" + std::to_string(tenant_.value()) + "/" + agent;
}

absl::StatusOr<std::shared_ptr<AgentState>> AgentBook::Load(
    const std::string& name) {
  auto known = states_.find(name);
  if (known != states_.end()) {
    if (std::shared_ptr<AgentState> state = known->second.lock()) return state;
  }
  AGENTMEM_ASSIGN_OR_RETURN(const Ref ref, refs_->Read(RefName(name)));
  auto state = std::make_shared<AgentState>(name);
  {
    MutexLock lock(&state->mutex);
    state->ref_version = ref.version;
    state->fence = ref.fence;
    if (ref.version == 0) {
      state->deleted = true;
    } else {
      AGENTMEM_ASSIGN_OR_RETURN(state->record,
                                DecodeAgentRecord(name, ref.value));
    }
  }
  if (states_.size() > 64 && states_.size() >= prune_at_) {
    absl::erase_if(states_,
                   [](const auto& entry) { return entry.second.expired(); });
    prune_at_ = 2 * states_.size();
  }
  states_[name] = state;
  return state;
}

absl::StatusOr<std::shared_ptr<AgentState>> AgentBook::Find(
    const std::string& name) {
  MutexLock lock(&mutex_);
  AGENTMEM_ASSIGN_OR_RETURN(std::shared_ptr<AgentState> state, Load(name));
  MutexLock state_lock(&state->mutex);
  if (state->deleted) return NotFound("no " + Quoted(name));
  return state;
}

absl::StatusOr<AgentBook::Opened> AgentBook::Open(const std::string& name,
                                                  std::uint32_t flags,
                                                  const Labels& labels,
                                                  const WriterIdentity& writer,
                                                  std::int64_t unix_ns) {
  Opened opened;
  {
    MutexLock lock(&mutex_);
    AGENTMEM_ASSIGN_OR_RETURN(opened.state, Load(name));
  }
  AgentState* const state = opened.state.get();
  MutexLock lock(&state->mutex);
  if (state->deleted) {
    if ((flags & kOpenCreate) == 0) {
      return NotFound("no " + Quoted(name) + "; open it with `create`");
    }
    AgentRecord record;
    AGENTMEM_ASSIGN_OR_RETURN(record.lineage, NewLineage());
    record.created_wall_ns = unix_ns;
    record.phase_wall_ns = unix_ns;
    record.labels = labels;
    AGENTMEM_ASSIGN_OR_RETURN(const std::string value,
                              EncodeAgentRecord(record));
    const RefChange change = {RefName(name), 0, state->fence, value, false};
    AGENTMEM_RETURN_IF_ERROR(refs_->Commit({&change, 1}, {}));
    state->ref_version = 1;
    state->record = std::move(record);
    state->deleted = false;
    opened.made = true;
  }
  opened.fence = state->fence;
  if ((flags & kOpenWrite) == 0) return opened;
  if (state->writer.token != 0 && (flags & kOpenTakeOver) == 0) {
    return FailedPrecondition(Quoted(name) + " is being written by \"" +
                              state->writer.name + "\" (process " +
                              std::to_string(state->writer.pid) +
                              "); open it for reading, or take it over");
  }
  AGENTMEM_ASSIGN_OR_RETURN(state->fence, refs_->AcquireFence(RefName(name)));
  state->writer = writer;
  opened.fence = state->fence;
  return opened;
}

void AgentBook::Release(AgentState* state, std::uint64_t token) {
  MutexLock lock(&state->mutex);
  if (state->writer.token == token) state->writer = {};
  std::erase_if(state->watchers, [token](const Watcher& watcher) {
    return watcher.session == token;
  });
}

absl::Status AgentBook::Change(
    AgentState* state, std::uint64_t token, bool durable, const Key& key,
    std::span<const char> block,
    const std::function<absl::Status(AgentRecord*)>& change) {
  MutexLock lock(&state->mutex);
  if (state->deleted) return Aborted(Quoted(state->name) + " was deleted");
  if (state->writer.token != token) {
    return Aborted(Quoted(state->name) + " was taken over" +
                   (state->writer.token == 0
                        ? std::string()
                        : " by \"" + state->writer.name + "\" (process " +
                              std::to_string(state->writer.pid) + ")") +
                   ": this writer's changes are refused; open it again");
  }
  return Apply(state, durable, key, block, change);
}

absl::Status AgentBook::Amend(
    AgentState* state,
    const std::function<absl::Status(AgentRecord*)>& change) {
  MutexLock lock(&state->mutex);
  if (state->deleted) return NotFound("no " + Quoted(state->name));
  return Apply(state, true, Key(), {}, change);
}

absl::Status AgentBook::Apply(
    AgentState* state, bool durable, const Key& key,
    std::span<const char> block,
    const std::function<absl::Status(AgentRecord*)>& change) {
  AgentRecord record = state->record;
  AGENTMEM_RETURN_IF_ERROR(change(&record));
  AGENTMEM_ASSIGN_OR_RETURN(const std::string value, EncodeAgentRecord(record));
  if (durable) {
    const RefChange ref = {RefName(state->name), state->ref_version,
                           state->fence, value, false};
    const RefBlock stored = {tenant_, key, block};
    AGENTMEM_RETURN_IF_ERROR(refs_->Commit(
        {&ref, 1}, std::span<const RefBlock>(&stored, block.empty() ? 0 : 1)));
    ++state->ref_version;
  }
  state->ahead = !durable;
  state->record = std::move(record);
  return absl::OkStatus();
}

absl::Status AgentBook::Persist(AgentState* state) {
  MutexLock lock(&state->mutex);
  if (!state->ahead || state->deleted) return absl::OkStatus();
  AGENTMEM_ASSIGN_OR_RETURN(const std::string value,
                            EncodeAgentRecord(state->record));
  AGENTMEM_RETURN_IF_ERROR(refs_
                               ->CompareAndSwap(RefName(state->name),
                                                state->ref_version,
                                                state->fence, value)
                               .status());
  ++state->ref_version;
  state->ahead = false;
  return absl::OkStatus();
}

absl::Status AgentBook::Fork(AgentState* from, const std::string& to,
                             const VersionLink& at, std::int64_t unix_ns) {
  MutexLock book(&mutex_);
  AGENTMEM_ASSIGN_OR_RETURN(std::shared_ptr<AgentState> child, Load(to));
  if (child.get() == from) {
    return InvalidArgument(Quoted(to) + " cannot be forked to itself");
  }
  // In one order, whoever forks whom.
  AgentState* const first = from->name < to ? from : child.get();
  AgentState* const second = first == from ? child.get() : from;
  MutexLock first_lock(&first->mutex);
  MutexLock second_lock(&second->mutex);
  return ForkLocked(from, child.get(), at, unix_ns);
}

absl::Status AgentBook::ForkLocked(AgentState* from, AgentState* child,
                                   const VersionLink& at,
                                   std::int64_t unix_ns) {
  if (from->deleted) return NotFound("no " + Quoted(from->name));
  if (!child->deleted) {
    return MakeStatus(absl::StatusCode::kAlreadyExists,
                      Quoted(child->name) + " exists already");
  }
  AgentRecord made = from->record;
  AGENTMEM_ASSIGN_OR_RETURN(made.lineage, NewLineage());
  made.created_wall_ns = made.phase_wall_ns = unix_ns;
  made.phase = tiering::Phase::kIdle;
  made.phase_detail.clear();
  made.origin = AgentOrigin{from->name, from->record.lineage};
  made.fork_pins.clear();
  AgentRecord pinned = from->record;
  for (RegionRecord& region : made.regions) {
    if (at.number != 0) region.head = at;
    if (region.head.number == 0) continue;
    region.oldest_kept = region.head.number;
    region.origin_number = region.head.number;
    pinned.fork_pins.push_back({made.lineage, region.id, region.head});
  }
  AGENTMEM_ASSIGN_OR_RETURN(const std::string parent,
                            EncodeAgentRecord(pinned));
  AGENTMEM_ASSIGN_OR_RETURN(const std::string value, EncodeAgentRecord(made));
  const RefChange changes[] = {
      {RefName(from->name), from->ref_version, from->fence, parent, false},
      {RefName(child->name), 0, child->fence, value, false}};
  AGENTMEM_RETURN_IF_ERROR(refs_->Commit(changes, {}));
  ++from->ref_version;
  from->record = std::move(pinned);
  from->ahead = false;
  child->ref_version = 1;
  child->record = std::move(made);
  child->deleted = false;
  return absl::OkStatus();
}

absl::Status AgentBook::Delete(AgentState* state) {
  MutexLock book(&mutex_);
  MutexLock lock(&state->mutex);
  if (state->deleted) return NotFound("no " + Quoted(state->name));
  if (state->writer.token != 0) {
    return FailedPrecondition(Quoted(state->name) + " is being written by \"" +
                              state->writer.name + "\" (process " +
                              std::to_string(state->writer.pid) +
                              "); close it there first");
  }
  const RefChange gone = {RefName(state->name), state->ref_version,
                          state->fence, "", true};
  AGENTMEM_RETURN_IF_ERROR(refs_->Commit({&gone, 1}, {}));
  state->ref_version = 0;
  state->deleted = true;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> AgentBook::List(
    const std::string& prefix) {
  const std::string root = RefName("");
  AGENTMEM_ASSIGN_OR_RETURN(std::vector<std::string> names,
                            refs_->List(root + prefix));
  for (std::string& name : names) name.erase(0, root.size());
  return names;
}

void AgentBook::Notify(AgentState* state, std::uint32_t region) {
  MutexLock lock(&state->mutex);
  for (const Watcher& watcher : state->watchers) {
    if (watcher.region != region) continue;
    auto* const words =
        reinterpret_cast<std::atomic<std::uint32_t>*>(watcher.board->base());
    words[watcher.word].fetch_add(1, std::memory_order_seq_cst);
    syscall(SYS_futex, &words[watcher.word], FUTEX_WAKE, INT_MAX, nullptr,
            nullptr, 0);
  }
}

}  // namespace agentmem
