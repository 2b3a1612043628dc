#include "memd/agents/agent_book.h"

#include <sys/random.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/status.h"
#include "proto/varint.h"

namespace agentmem {
namespace {

std::string Quoted(const std::string& name) { return "agent \"" + name + "\""; }

// CANCELLED stands for nothing else here.
absl::Status NotSettled(const AgentState& state) {
  return absl::CancelledError("visible versions of " + Quoted(state.name) +
                              " are not written down yet");
}

// Moves oldest_kept as far as that can be said without reading versions; true:
// something moved. By age the collector does it.
bool TrimByNumber(AgentRecord* record) {
  bool moved = false;
  for (RegionRecord& region : record->regions) {
    const Retention& retention = RetentionOf(*record, region);
    if (retention.kind != RetentionKind::kLast ||
        region.head.number <= retention.limit) {
      continue;
    }
    const std::uint64_t oldest = region.head.number - retention.limit + 1;
    if (oldest <= region.oldest_kept) continue;
    region.oldest_kept = oldest;
    moved = true;
  }
  return moved;
}

}  // namespace

absl::StatusOr<std::uint64_t> AgentBook::RandomLineage() {
  std::uint64_t lineage = 0;
  while (lineage == 0) {
    if (getrandom(&lineage, sizeof(lineage), 0) != sizeof(lineage)) {
      return ErrnoStatus("getrandom");
    }
  }
  return lineage;
}

bool IsNotSettled(const absl::Status& status) {
  return status.code() == absl::StatusCode::kCancelled;
}

VersionHold::VersionHold(std::shared_ptr<AgentState> state,
                         const VersionLink& link)
    : state_(std::move(state)), link_(link) {
  MutexLock lock(&state_->mutex);
  state_->holds.insert(this);
}

VersionHold::VersionHold(std::shared_ptr<AgentState> state,
                         const std::string& region)
    : state_(std::move(state)) {
  MutexLock lock(&state_->mutex);
  for (const RegionRecord& record : state_->record.regions) {
    if (record.name != region) continue;
    region_id_ = record.id;
    oldest_ = record.oldest_kept;
  }
  state_->holds.insert(this);
}

VersionHold::~VersionHold() {
  MutexLock lock(&state_->mutex);
  state_->holds.erase(this);
}

std::string AgentBook::RefName(const std::string& agent) const {
  return "agent/" + std::to_string(tenant_.value()) + "/" + agent;
}

std::string AgentBook::GoneName(std::uint64_t lineage) const {
  return "gone/" + std::to_string(tenant_.value()) + "/" +
         std::to_string(lineage);
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

absl::Status AgentBook::Write(AgentState* state,
                              std::span<const RefChange> changes,
                              std::span<const RefBlock> blocks) {
  const std::uint64_t before = state->ref_version;
  const Fence fence(changes[0].fence.value() + (changes[0].new_fence ? 1 : 0));
  const absl::Status status = refs_->Commit(changes, blocks);
  if (status.ok()) {
    state->ref_version = changes[0].remove ? 0 : before + 1;
    state->fence = fence;
    return status;
  }
  // A change that was lost on its way may still be made: it is looked for again
  // before the next one.
  state->doubtful = true;
  if (status.code() == absl::StatusCode::kAborted) LoseIfTaken(state);
  if (status.code() != absl::StatusCode::kUnavailable) return status;
  const auto ref = refs_->Read(changes[0].name);
  if (!ref.ok()) return status;
  const bool made = changes[0].remove ? ref->version == 0
                                      : ref->version == before + 1 &&
                                            ref->value == changes[0].value;
  if (!made || ref->fence != fence) return status;
  state->doubtful = false;
  state->ref_version = ref->version;
  state->fence = fence;
  return absl::OkStatus();
}

absl::Status AgentBook::WriteUsed(AgentState* state, const RefChange& change,
                                  std::span<const RefBlock> blocks) {
  std::vector<RefChange> changes = {change};
  absl::Status status = DependOnUse(*state, &changes);
  if (status.code() == absl::StatusCode::kAborted) Lose(state);
  AGENTMEM_RETURN_IF_ERROR(status);
  status = Write(state, changes, blocks);
  if (changes.size() > 1 && status.code() == absl::StatusCode::kUnavailable) {
    const std::shared_ptr<NodeUse> use = UseOf(state->record.lineage);
    MutexLock lock(&use->mutex);
    use->unsettled = true;
  }
  return status;
}

// Under our fence only we change it: what is not as it was before is as it was
// to be, with all that was ahead in it. Under another's, our writer is told so
// when it changes something.
absl::Status AgentBook::ClearDoubt(AgentState* state) {
  DoubtIfShared(state);
  if (!state->doubtful) return absl::OkStatus();
  AGENTMEM_ASSIGN_OR_RETURN(const Ref ref, refs_->Read(RefName(state->name)));
  if (state->writer.token != 0 && ref.fence.value() != state->fence.value()) {
    state->doubtful = false;
    return absl::OkStatus();
  }
  AgentRecord record;
  if (ref.version != 0) {
    AGENTMEM_ASSIGN_OR_RETURN(record,
                              DecodeAgentRecord(state->name, ref.value));
  }
  state->doubtful = false;
  state->fence = ref.fence;
  // (Numbers begin anew with an agent that was made again.)
  if (ref.version == state->ref_version &&
      (ref.version == 0 || record.lineage == state->record.lineage) &&
      (!shared_.has_value() || state->writer.token != 0 || state->ahead)) {
    return absl::OkStatus();
  }
  state->ref_version = ref.version;
  state->deleted = ref.version == 0;
  state->ahead = false;
  state->lost = false;
  if (!state->deleted) state->record = std::move(record);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<AgentState>> AgentBook::Find(
    const std::string& name) {
  MutexLock lock(&mutex_);
  AGENTMEM_ASSIGN_OR_RETURN(std::shared_ptr<AgentState> state, Load(name));
  MutexLock state_lock(&state->mutex);
  AGENTMEM_RETURN_IF_ERROR(ClearDoubt(state.get()));
  if (state->deleted) return NotFound("no " + Quoted(name));
  return state;
}

absl::StatusOr<std::shared_ptr<AgentState>> AgentBook::FindToRead(
    const std::string& name) {
  AGENTMEM_ASSIGN_OR_RETURN(std::shared_ptr<AgentState> state, Find(name));
  AGENTMEM_RETURN_IF_ERROR(ReadOn(state));
  return state;
}

absl::Status AgentBook::ReadOn(const std::shared_ptr<AgentState>& read) {
  AgentState* const state = read.get();
  MutexLock lock(&state->mutex);
  if (state->lost) AGENTMEM_RETURN_IF_ERROR(ClearDoubt(state));
  // (Who looks for a version says that there is none.)
  if (state->deleted) return absl::OkStatus();
  return TakeUse(state, false);
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
  AGENTMEM_RETURN_IF_ERROR(ClearDoubt(state));
  if (state->deleted) {
    if ((flags & kOpenCreate) == 0) {
      return NotFound("no " + Quoted(name) + "; open it with `create`");
    }
    AgentRecord record;
    AGENTMEM_ASSIGN_OR_RETURN(record.lineage, new_lineage_());
    record.created_wall_ns = unix_ns;
    record.phase_wall_ns = unix_ns;
    record.labels = labels;
    AGENTMEM_ASSIGN_OR_RETURN(const std::string value,
                              EncodeAgentRecord(record));
    RefChange change = {RefName(name), 0, state->fence, value, false};
    // So that no two agents of one name look alike to who depends on one.
    change.new_fence = shared_.has_value();
    AGENTMEM_RETURN_IF_ERROR(Write(state, {&change, 1}, {}));
    state->record = std::move(record);
    state->deleted = false;
    opened.made = true;
  }
  if ((flags & kOpenWrite) == 0) {
    AGENTMEM_RETURN_IF_ERROR(TakeUse(state, false));
    opened.fence = state->fence;
    return opened;
  }
  if (state->writer.token != 0 && (flags & kOpenTakeOver) == 0) {
    return FailedPrecondition(Quoted(name) + " is being written by \"" +
                              state->writer.name + "\" (process " +
                              std::to_string(state->writer.pid) +
                              "); open it for reading, or take it over");
  }
  AGENTMEM_RETURN_IF_ERROR(CheckClaim(*state, flags));
  const auto fence = refs_->AcquireFence(RefName(name));
  if (!fence.ok()) {
    state->doubtful = true;
    return fence.status();
  }
  state->fence = *fence;
  AGENTMEM_RETURN_IF_ERROR(TakeShared(state, writer));
  state->writer = writer;
  opened.fence = state->fence;
  return opened;
}

void AgentBook::Release(AgentState* state, std::uint64_t token) {
  MutexLock lock(&state->mutex);
  if (state->writer.token != token) return;
  state->writer = {};
  DropClaim(*state);
}

void AgentBook::Unwatch(AgentState* state, std::uint64_t token,
                        std::optional<std::uint32_t> word) {
  MutexLock lock(&state->mutex);
  std::erase_if(state->watchers, [&](const Watcher& watcher) {
    return watcher.session == token &&
           word.value_or(watcher.word.index) == watcher.word.index;
  });
}

absl::Status AgentBook::CheckWriter(AgentState* state, std::uint64_t token) {
  MutexLock lock(&state->mutex);
  return CheckWriterLocked(*state, token);
}

absl::Status AgentBook::CheckWriterLocked(const AgentState& state,
                                          std::uint64_t token) {
  if (state.deleted) return Aborted(Quoted(state.name) + " was deleted");
  if (state.writer.token == token) return absl::OkStatus();
  return Aborted(Quoted(state.name) + " was taken over" +
                 (state.writer.token == 0
                      ? std::string()
                      : " by \"" + state.writer.name + "\" (process " +
                            std::to_string(state.writer.pid) + ")") +
                 ": this writer's changes are refused; open it again");
}

absl::Status AgentBook::Change(AgentState* state, std::uint64_t token,
                               const RecordChange& change) {
  MutexLock lock(&state->mutex);
  AGENTMEM_RETURN_IF_ERROR(ClearDoubt(state));
  AGENTMEM_RETURN_IF_ERROR(CheckWriterLocked(*state, token));
  return Apply(state, change);
}

absl::Status AgentBook::Amend(
    AgentState* state, const std::function<absl::Status(AgentRecord*)>& edit) {
  MutexLock lock(&state->mutex);
  AGENTMEM_RETURN_IF_ERROR(ClearDoubt(state));
  if (state->deleted) return NotFound("no " + Quoted(state->name));
  // A change under the fence of another node's writer would end its commits.
  if (state->writer.token == 0) {
    AGENTMEM_RETURN_IF_ERROR(CheckClaim(*state, 0));
  }
  RecordChange change;
  change.edit = edit;
  return Apply(state, change);
}

absl::Status AgentBook::Apply(AgentState* state, const RecordChange& change) {
  if (change.durable && !state->unsettled.empty()) return NotSettled(*state);
  AgentRecord record = state->record;
  AGENTMEM_RETURN_IF_ERROR(change.edit(&record));
  const bool trimmed = TrimByNumber(&record);
  AGENTMEM_ASSIGN_OR_RETURN(const std::string value, EncodeAgentRecord(record));
  if (change.durable) {
    const RefChange ref = {RefName(state->name), state->ref_version,
                           state->fence, value, false};
    AGENTMEM_RETURN_IF_ERROR(WriteUsed(state, ref, change.blocks));
  } else {
    state->unsettled.insert(change.unsettled.begin(), change.unsettled.end());
  }
  state->ahead = !change.durable;
  state->record = std::move(record);
  if (trimmed) NoteGarbage(state->record.lineage);
  return absl::OkStatus();
}

absl::Status AgentBook::Persist(AgentState* state) {
  MutexLock lock(&state->mutex);
  AGENTMEM_RETURN_IF_ERROR(ClearDoubt(state));
  if (!state->ahead || state->deleted) return absl::OkStatus();
  if (!state->unsettled.empty()) return NotSettled(*state);
  AGENTMEM_ASSIGN_OR_RETURN(const std::string value,
                            EncodeAgentRecord(state->record));
  const RefChange ref = {RefName(state->name), state->ref_version, state->fence,
                         value, false};
  AGENTMEM_RETURN_IF_ERROR(WriteUsed(state, ref, {}));
  state->ahead = false;
  return absl::OkStatus();
}

absl::Status AgentBook::Fork(AgentState* from, const std::string& to,
                             const VersionLink& at, std::int64_t unix_ns,
                             std::uint64_t at_lineage) {
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
  return ForkLocked(from, child.get(), at, unix_ns, at_lineage);
}

absl::Status AgentBook::ForkLocked(AgentState* from, AgentState* child,
                                   const VersionLink& at, std::int64_t unix_ns,
                                   std::uint64_t at_lineage) {
  // Elsewhere `from` may be committed to all the time.
  constexpr int kTriesMax = 16;
  for (int i = 0;; ++i) {
    AGENTMEM_RETURN_IF_ERROR(ClearDoubt(from));
    AGENTMEM_RETURN_IF_ERROR(ClearDoubt(child));
    if (from->deleted) return NotFound("no " + Quoted(from->name));
    if (!child->deleted) {
      return MakeStatus(absl::StatusCode::kAlreadyExists,
                        Quoted(child->name) + " exists already");
    }
    if (from->ahead) return NotSettled(*from);
    if (at_lineage != 0 && from->record.lineage != at_lineage) {
      return NotFound(Quoted(from->name) + " was deleted, and made again");
    }
    const absl::Status status = TryFork(from, child, at, unix_ns);
    if (!shared_.has_value() || status.code() != absl::StatusCode::kAborted) {
      return status;
    }
    LoseIfTaken(from);
    if (i == kTriesMax) {
      return Unavailable(Quoted(from->name) +
                         " changes all the time on another node; try again");
    }
    from->doubtful = child->doubtful = true;
  }
}

absl::Status AgentBook::TryFork(AgentState* from, AgentState* child,
                                const VersionLink& at, std::int64_t unix_ns) {
  AgentRecord made = from->record;
  AGENTMEM_ASSIGN_OR_RETURN(made.lineage, new_lineage_());
  made.created_wall_ns = made.phase_wall_ns = unix_ns;
  made.phase = tiering::Phase::kIdle;
  made.phase_detail.clear();
  made.origin = AgentOrigin{from->name, from->record.lineage};
  for (RegionRecord& region : made.regions) {
    if (shared_.has_value() && at.number != 0 &&
        (at.number < region.oldest_kept || at.number > region.head.number)) {
      return NotFound(Quoted(from->name) + " has no version " +
                      std::to_string(at.number) + " any more");
    }
    if (at.number != 0) region.head = at;
    if (region.head.number == 0) continue;
    region.oldest_kept = region.head.number;
    region.origin_number = region.head.number;
  }
  AGENTMEM_ASSIGN_OR_RETURN(const std::string value, EncodeAgentRecord(made));
  std::vector<RefChange> changes = {
      {RefName(child->name), 0, child->fence, value, false}};
  if (shared_.has_value()) {
    // The collectors of other nodes see the versions in the one or the other.
    changes[0].new_fence = true;
    changes.push_back({RefName(from->name), from->ref_version, from->fence, "",
                       false, /*only_check=*/true});
  }
  // (Before: it may turn out later that it was made.)
  if (collecting_) {
    Roots roots;
    AddRecordRoots(made, &roots);
    born_.insert(born_.end(), roots.versions.begin(), roots.versions.end());
    born_blocks_.insert(born_blocks_.end(), roots.blocks.begin(),
                        roots.blocks.end());
  }
  AGENTMEM_RETURN_IF_ERROR(Write(child, changes, {}));
  child->record = std::move(made);
  child->deleted = false;
  return absl::OkStatus();
}

absl::Status AgentBook::Delete(AgentState* state) {
  MutexLock book(&mutex_);
  MutexLock lock(&state->mutex);
  AGENTMEM_RETURN_IF_ERROR(ClearDoubt(state));
  if (state->deleted) return NotFound("no " + Quoted(state->name));
  if (state->writer.token != 0) {
    return FailedPrecondition(Quoted(state->name) + " is being written by \"" +
                              state->writer.name + "\" (process " +
                              std::to_string(state->writer.pid) +
                              "); close it there first");
  }
  AGENTMEM_RETURN_IF_ERROR(CheckClaim(*state, 0));
  const std::uint64_t lineage = state->record.lineage;
  const RefChange gone[] = {
      {RefName(state->name), state->ref_version, state->fence, "", true},
      {GoneName(lineage), 0, Fence(), EncodeGone(state->record), false}};
  AGENTMEM_RETURN_IF_ERROR(Write(state, gone, {}));
  state->deleted = true;
  state->ahead = false;
  state->unsettled.clear();
  NoteGarbage(lineage);
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
    if (watcher.region == region) watcher.word.Move();
  }
}

}  // namespace agentmem
