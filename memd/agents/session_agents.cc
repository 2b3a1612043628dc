// AgentSession: agents, what is known of them, and who watches.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "base/status.h"
#include "memd/agents/agent_session.h"
#include "memd/handshake.h"
#include "proto/userfaultfd_abi.h"

namespace agentmem {
namespace {

constexpr std::size_t kSessionAgentsMax = 1024;
constexpr std::size_t kListBytes = kAgentPacketMax - sizeof(AgentReply) - 64;

absl::StatusOr<std::string> AgentName(const char* field) {
  std::string name(field);
  if (IsAgentName(name)) return name;
  return InvalidArgument(
      "an agent's name: 1 to " + std::to_string(kAgentNameBytes - 1) +
      " bytes without spaces and control characters are allowed");
}

absl::StatusOr<Labels> ReadLabelFields(FieldReader* fields) {
  Labels labels;
  std::string_view key;
  std::string_view value;
  while (fields->Next(&key)) {
    if (!fields->Next(&value))
      return InvalidArgument("a label without a value");
    labels.emplace_back(key, value);
  }
  if (!fields->ok()) return InvalidArgument("labels: broken fields");
  AGENTMEM_RETURN_IF_ERROR(CheckLabels(labels));
  return labels;
}

// That it was made with; 0: nobody has said UFFDIO_API yet.
absl::StatusOr<std::uint64_t> FaultFeatures(int userfaultfd) {
  const std::string path = "/proc/self/fdinfo/" + std::to_string(userfaultfd);
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    // "API:\tAPI:FEATURES:IOCTLS", in hex.
    if (line.rfind("API:", 0) != 0) continue;
    const std::size_t first = line.find(':', 4);
    if (first == std::string::npos) break;
    std::uint64_t features = 0;
    std::istringstream(line.substr(first + 1)) >> std::hex >> features;
    return features;
  }
  return Internal("what the userfaultfd can do is not to be read in " + path);
}

}  // namespace

absl::StatusOr<AgentSession::Agent*> AgentSession::FindAgent(
    std::uint32_t handle) {
  auto found = agents_.find(handle);
  if (found != agents_.end()) return &found->second;
  return InvalidArgument("no agent is open under handle " +
                         std::to_string(handle));
}

absl::Status AgentSession::UseFaults(Request* request, Reply* reply) {
  if (!request->fd.valid()) {
    return InvalidArgument("no userfaultfd came with the request");
  }
  for (const auto& [handle, region] : regions_) {
    if (region->region->mapped()) {
      return FailedPrecondition("regions are mapped already");
    }
  }
  // A descriptor of another kind would answer reads with anything.
  char path[64];
  char link[64] = {};
  std::snprintf(path, sizeof(path), "/proc/self/fd/%d", request->fd.get());
  if (readlink(path, link, sizeof(link) - 1) < 0 ||
      std::strcmp(link, "anon_inode:[userfaultfd]") != 0) {
    return InvalidArgument("the descriptor is no userfaultfd");
  }
  // Not by the process's word. Other events than page faults bring descriptors,
  // or hold up the process's calls until they are read.
  AGENTMEM_ASSIGN_OR_RETURN(const std::uint64_t features,
                            FaultFeatures(request->fd.get()));
  constexpr std::uint64_t kEvents =
      UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
      UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP;
  const int flags = fcntl(request->fd.get(), F_GETFL);
  if ((features & kEvents) != 0 || flags < 0 || (flags & O_NONBLOCK) == 0) {
    return InvalidArgument(
        "the userfaultfd blocks, or reports other events than page faults");
  }
  constexpr std::uint64_t kNeeded =
      UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MISSING_SHMEM |
      UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
  PageFault none;
  if ((features & kNeeded) != kNeeded ||
      ReadFaults(request->fd.get(), &none, 1) < 0) {
    reply->value[0] = static_cast<std::uint64_t>(TrackingMode::kNone);
    return absl::OkStatus();
  }
  if ((features & UFFD_FEATURE_WP_ASYNC) != 0) {
    return InvalidArgument(
        "the userfaultfd notes writes (WP_ASYNC) instead of reporting them");
  }
  reply->value[0] = static_cast<std::uint64_t>(TrackingMode::kSync);
  faults_ = std::move(request->fd);
  mode_ = TrackingMode::kSync;
  return absl::OkStatus();
}

absl::Status AgentSession::OpenAgent(const Request& request, Reply* reply) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::string name,
                            AgentName(request.fixed.agent));
  FieldReader fields(request.tail);
  AGENTMEM_ASSIGN_OR_RETURN(const Labels labels, ReadLabelFields(&fields));
  if (agents_.size() >= kSessionAgentsMax) {
    return ResourceExhausted("agent \"" + name + "\": this process has " +
                             std::to_string(agents_.size()) +
                             " agents open; close some");
  }
  const WriterIdentity writer = {token_, peer_.client_name, peer_.pid,
                                 clock_->Now()};
  AGENTMEM_ASSIGN_OR_RETURN(AgentBook::Opened opened,
                            tenant_->book.Open(name, request.fixed.flags,
                                               labels, writer, WallNowNs()));
  Agent agent;
  agent.writes = (request.fixed.flags & kOpenWrite) != 0;
  agent.fence = opened.fence.value();
  {
    MutexLock lock(&opened.state->mutex);
    agent.lineage = opened.state->record.lineage;
    reply->value[3] = opened.state->record.regions.size();
    // Another process's word says nothing about what this one does.
    if (agent.writes) opened.state->hint.phase = tiering::Phase::kReasoning;
  }
  if (agent.writes) tenant_->hbm->ForgetPhase(tenant_->id, name);
  agent.state = std::move(opened.state);
  const std::uint32_t handle = ++next_handle_;
  reply->value[0] = handle;
  reply->value[1] = agent.fence;
  reply->value[2] = opened.made;
  agents_[handle] = std::move(agent);
  return absl::OkStatus();
}

absl::Status AgentSession::CloseAgent(std::uint32_t handle) {
  AGENTMEM_ASSIGN_OR_RETURN(Agent * agent, FindAgent(handle));
  for (auto region = regions_.begin(); region != regions_.end();) {
    const std::uint32_t open = region->first;
    const bool its = region->second->agent == handle;
    ++region;
    if (its) AGENTMEM_RETURN_IF_ERROR(CloseRegion(open));
  }
  absl::Status settled;
  if (agent->writes) {
    settled = SettleAhead(agent->state.get(), clock_->Now() + 10 * kSecondNs);
    if (!settled.ok() && settled.code() != absl::StatusCode::kAborted) {
      SettleLater(agent->state);
    }
    tenant_->book.Release(agent->state.get(), token_);
  }
  agents_.erase(handle);
  return settled;
}

absl::Status AgentSession::SetPhase(const Request& request, Reply* reply) {
  AGENTMEM_ASSIGN_OR_RETURN(Agent * agent, FindAgent(request.fixed.handle));
  const auto phase = static_cast<AgentPhase>(request.fixed.arg[0]);
  if (request.fixed.arg[0] > 0xff || !IsValid(phase)) {
    return InvalidArgument("phase " + std::to_string(request.fixed.arg[0]) +
                           ": 1 (reasoning) to 5 (done) are known");
  }
  FieldReader fields(request.tail);
  std::string_view tool;
  fields.Next(&tool);
  const std::string detail(tool.substr(0, kPhaseDetailBytesMax));
  const auto eta = static_cast<DurationNs>(
      std::min<std::uint64_t>(request.fixed.arg[1], kPhaseEtaMaxNs));
  RecordChange change;
  change.durable = false;
  change.edit = [&](AgentRecord* record) {
    record->phase = static_cast<tiering::Phase>(phase);
    record->phase_wall_ns = WallNowNs();
    record->phase_detail = detail;
    return absl::OkStatus();
  };
  AGENTMEM_RETURN_IF_ERROR(
      tenant_->book.Change(agent->state.get(), token_, change));
  {
    MutexLock lock(&agent->state->mutex);
    agent->state->hint = {0, static_cast<tiering::Phase>(phase), eta};
    agent->state->hint_at = clock_->Now();
  }
  const bool in_hbm =
      tenant_->hbm->SetPhase(tenant_->id, agent->state->name, phase, eta);
  publish_at_ = 0;
  const bool clipped =
      detail.size() != tool.size() || request.fixed.arg[1] > kPhaseEtaMaxNs;
  const bool has_memory =
      in_hbm ||
      std::any_of(regions_.begin(), regions_.end(), [&](const auto& open) {
        return open.second->agent == request.fixed.handle;
      });
  const auto answer = clipped       ? PhaseAnswer::kClipped
                      : !has_memory ? PhaseAnswer::kDeferred
                                    : PhaseAnswer::kAccepted;
  reply->value[0] = static_cast<std::uint64_t>(answer);
  SettleSoon();
  return absl::OkStatus();
}

absl::Status AgentSession::SetLabels(const Request& request) {
  AGENTMEM_ASSIGN_OR_RETURN(Agent * agent, FindAgent(request.fixed.handle));
  FieldReader fields(request.tail);
  AGENTMEM_ASSIGN_OR_RETURN(const Labels labels, ReadLabelFields(&fields));
  RecordChange change;
  change.edit = [&](AgentRecord* record) {
    record->labels = labels;
    return absl::OkStatus();
  };
  return ChangeSettled(agent->state.get(), request.fixed.deadline_ns, [&] {
    return tenant_->book.Change(agent->state.get(), token_, change);
  });
}

absl::Status AgentSession::SetRetention(const Request& request) {
  const std::uint64_t kind = request.fixed.arg[0];
  if (kind < 1 || kind > 3) {
    return InvalidArgument("retention of kind " + std::to_string(kind) +
                           ": 1 (all), 2 (last) and 3 (age) are known");
  }
  Retention retention;
  retention.kind = static_cast<RetentionKind>(kind);
  if (retention.kind != RetentionKind::kAll) {
    retention.limit = request.fixed.arg[1];
  }
  AGENTMEM_ASSIGN_OR_RETURN(const std::string name,
                            AgentName(request.fixed.agent));
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<AgentState> state,
                            tenant_->book.Find(name));
  return ChangeSettled(state.get(), request.fixed.deadline_ns, [&] {
    return tenant_->book.Amend(state.get(), [&](AgentRecord* record) {
      record->retention = retention;
      return absl::OkStatus();
    });
  });
}

AgentEntry AgentSession::EntryOf(AgentState* state) {
  MutexLock lock(&state->mutex);
  AgentEntry entry = {};
  SetField(state->name, entry.name, sizeof(entry.name));
  entry.regions = static_cast<std::uint32_t>(state->record.regions.size());
  entry.phase = static_cast<AgentPhase>(state->record.phase);
  entry.writing = state->writer.token != 0;
  entry.writer_pid = state->writer.pid;
  SetField(state->writer.name, entry.writer, sizeof(entry.writer));
  entry.resident_bytes = state->resident_bytes;
  for (const RegionRecord& region : state->record.regions) {
    entry.region_bytes += region.bytes;
    entry.versions += region.head.number;
  }
  return entry;
}

absl::Status AgentSession::ListAgents(const Request& request, Reply* reply) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                            tenant_->book.List(request.fixed.agent));
  const std::string after = request.fixed.other;
  FieldWriter fields;
  std::uint64_t left = request.fixed.arg[0];
  auto next = after.empty()
                  ? names.begin()
                  : std::upper_bound(names.begin(), names.end(), after);
  for (; next != names.end() && left > 0; ++next, --left) {
    if (fields.bytes().size() + sizeof(AgentEntry) + 4 > kListBytes) break;
    const auto state = tenant_->book.Find(*next);
    if (!state.ok()) continue;  // deleted since
    fields.AddStruct(EntryOf(state->get()));
  }
  reply->value[0] = next != names.end();
  reply->tail = fields.bytes();
  return absl::OkStatus();
}

absl::Status AgentSession::ShowAgent(const Request& request, Reply* reply) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<AgentState> state,
                            tenant_->book.Find(request.fixed.agent));
  std::vector<RegionRecord> regions;
  {
    MutexLock lock(&state->mutex);
    regions = state->record.regions;
  }
  AgentEntry agent = EntryOf(state.get());
  FieldWriter entries;
  for (const RegionRecord& region : regions) {
    RegionEntry entry = {};
    SetField(region.name, entry.name, sizeof(entry.name));
    entry.bytes = region.bytes;
    entry.version = region.head.number;
    entry.oldest_version = region.oldest_kept;
    for (const auto& [handle, mapped] : regions_) {
      if (mapped->state != state ||
          mapped->region->options().name != region.name) {
        continue;
      }
      entry.resident_bytes += mapped->region->resident_bytes();
      entry.dirty_bytes += mapped->region->changed_bytes();
    }
    entries.AddStruct(entry);
    if (region.head.number == 0) continue;
    // (A version that cannot be read says so when it is opened.)
    const absl::StatusOr<Manifest> head =
        OpenVersion(region.head, nodes_.get());
    if (!head.ok()) continue;
    agent.committed_unix_ns =
        std::max(agent.committed_unix_ns,
                 static_cast<std::uint64_t>(head->info().wall_time_ns));
  }
  FieldWriter fields;
  fields.AddStruct(agent);
  reply->tail = fields.bytes() + entries.bytes();
  return absl::OkStatus();
}

absl::Status AgentSession::ForkAgent(const Request& request) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::string to,
                            AgentName(request.fixed.other));
  // (As it is now it need not be read.)
  const bool reads = request.fixed.region_version != 0;
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<AgentState> from,
                            reads
                                ? tenant_->book.FindToRead(request.fixed.agent)
                                : tenant_->book.Find(request.fixed.agent));
  HeldVersion at;
  std::uint64_t lineage = 0;
  if (reads) {
    std::string region;
    {
      MutexLock lock(&from->mutex);
      if (from->record.regions.size() != 1) {
        return InvalidArgument(
            "agent \"" + from->name + "\" has " +
            std::to_string(from->record.regions.size()) +
            " regions: a fork at a version is of an agent with one");
      }
      region = from->record.regions[0].name;
      lineage = from->record.lineage;
    }
    AGENTMEM_ASSIGN_OR_RETURN(
        at, VersionOf(from, region, request.fixed.region_version));
  }
  const VersionLink link =
      at.manifest == nullptr ? VersionLink() : at.manifest->link();
  return ChangeSettled(from.get(), request.fixed.deadline_ns, [&] {
    return tenant_->book.Fork(from.get(), to, link, WallNowNs(), lineage);
  });
}

absl::Status AgentSession::DeleteAgent(const Request& request) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<AgentState> state,
                            tenant_->book.Find(request.fixed.agent));
  AGENTMEM_RETURN_IF_ERROR(tenant_->book.Delete(state.get()));
  tenant_->hbm->Empty(tenant_->id, state->name, AgentPhase::kDone);
  return absl::OkStatus();
}

absl::Status AgentSession::Watch(const Request& request, Reply* reply) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<AgentState> state,
                            tenant_->book.Find(request.fixed.agent));
  MutexLock lock(&state->mutex);
  for (const RegionRecord& region : state->record.regions) {
    if (region.name != request.fixed.region) continue;
    reply->value[1] = region.head.number;
    for (const Watcher& watcher : state->watchers) {
      if (watcher.session == token_ && watcher.region == region.id) {
        reply->value[0] = watcher.word.index;
        return absl::OkStatus();
      }
    }
    AGENTMEM_ASSIGN_OR_RETURN(const std::uint32_t word, FreeWord());
    watched_[word] = state;
    state->watchers.push_back(
        {{board_, word}, static_cast<std::uint32_t>(region.id), token_});
    reply->value[0] = word;
    return absl::OkStatus();
  }
  return NotFound("agent \"" + state->name + "\" has no region \"" +
                  request.fixed.region + "\"");
}

absl::Status AgentSession::Unwatch(const Request& request) {
  const std::uint64_t word = request.fixed.arg[0];
  if (word >= kBoardWords || watched_[word] == nullptr) {
    return InvalidArgument("word " + std::to_string(word) +
                           " of the board is not watched");
  }
  const std::shared_ptr<AgentState> state = std::exchange(watched_[word], {});
  AgentBook::Unwatch(state.get(), token_, static_cast<std::uint32_t>(word));
  return absl::OkStatus();
}

}  // namespace agentmem
