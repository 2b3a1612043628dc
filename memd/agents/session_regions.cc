// AgentSession: regions, opened, mapped, brought in.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "base/log.h"
#include "base/status.h"
#include "memd/agents/agent_session.h"
#include "memd/agents/block_walk.h"

namespace agentmem {
namespace {

constexpr DurationNs kKeepWorkingSetNs = 5 * kMillisecondNs;
constexpr std::size_t kSessionRegionsMax = 256;

absl::StatusOr<UniqueFd> MakeMemory(const std::string& name,
                                    std::uint64_t bytes) {
  UniqueFd memory(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory.valid()) return ErrnoStatus("memory for region " + name);
  if (ftruncate(memory.get(), static_cast<off_t>(bytes)) != 0 ||
      fcntl(memory.get(), F_ADD_SEALS,
            F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return ErrnoStatus("memory of " + std::to_string(bytes) +
                       " bytes for region " + name);
  }
  return memory;
}

absl::Status CheckSize(std::uint64_t bytes) {
  if (bytes != 0 && bytes <= kRegionBytesMax && bytes % kUnitBytes == 0) {
    return absl::OkStatus();
  }
  return InvalidArgument("a region of " + std::to_string(bytes) +
                         " bytes: 4096 to 2^40, in whole 4096, are allowed");
}

}  // namespace

absl::StatusOr<AgentSession::Mapped*> AgentSession::FindRegion(
    std::uint32_t handle) {
  auto found = regions_.find(handle);
  if (found != regions_.end()) return found->second.get();
  return InvalidArgument("no region is open under handle " +
                         std::to_string(handle));
}

absl::StatusOr<AgentSession::Mapped*> AgentSession::FindRange(
    const Request& request) {
  AGENTMEM_ASSIGN_OR_RETURN(Mapped * mapped,
                            FindRegion(request.fixed.region_handle));
  const std::uint64_t bytes = mapped->region->options().bytes;
  const std::uint64_t offset = request.fixed.offset;
  const std::uint64_t length = request.fixed.length;
  if (offset % kUnitBytes == 0 && length % kUnitBytes == 0 && length != 0 &&
      offset <= bytes && length <= bytes - offset) {
    return mapped;
  }
  return MakeStatus(absl::StatusCode::kOutOfRange,
                    "bytes " + std::to_string(offset) + " + " +
                        std::to_string(length) + " of region \"" +
                        mapped->region->options().name + "\", which has " +
                        std::to_string(bytes) + ", in whole 4096");
}

absl::StatusOr<RegionRecord> AgentSession::RecordOf(AgentState* state,
                                                    const std::string& region) {
  MutexLock lock(&state->mutex);
  if (state->deleted) {
    return NotFound("agent \"" + state->name + "\" was deleted");
  }
  for (const RegionRecord& record : state->record.regions) {
    if (record.name == region) return record;
  }
  return NotFound("agent \"" + state->name + "\" has no region \"" + region +
                  "\"");
}

// Adds it to the agent's record.
absl::Status AgentSession::MakeRegion(const Request& request,
                                      AgentState* state) {
  const std::string name(request.fixed.region);
  const std::uint64_t bytes = request.fixed.length;
  AGENTMEM_RETURN_IF_ERROR(CheckSize(bytes));
  if (bytes > tenant_->region_bytes_max) {
    return ResourceExhausted(
        "region \"" + name + "\" of " + std::to_string(bytes) +
        " bytes: region_quota of tenant \"" + tenant_->name + "\" is " +
        std::to_string(tenant_->region_bytes_max) +
        "; ask for less, or raise it in memd's configuration");
  }
  if (!IsRegionName(name)) {
    return InvalidArgument("a region's name: 1 to 63 letters, digits, . _ -");
  }
  RecordChange change;
  change.edit = [&](AgentRecord* changed) {
    RegionRecord made;
    made.name = name;
    made.id = changed->next_region_id++;
    made.bytes = bytes;
    changed->regions.push_back(made);
    return absl::OkStatus();
  };
  return ChangeSettled(state, request.fixed.deadline_ns, [&] {
    return tenant_->book.Change(state, token_, change);
  });
}

// A region that is open costs memd a descriptor.
absl::StatusOr<DescriptorCharge> AgentSession::ChargeRegion(
    const std::string& name) const {
  if (regions_.size() >= kSessionRegionsMax) {
    return ResourceExhausted("region \"" + name + "\": this process has " +
                             std::to_string(regions_.size()) +
                             " regions open, as many as are allowed: close "
                             "some");
  }
  DescriptorCharge charge(tenant_->descriptors, kDescriptorsOfRegion);
  if (!charge.valid()) {
    return ResourceExhausted("region \"" + name + "\": " +
                             tenant_->descriptors->Describe(tenant_->name));
  }
  return charge;
}

absl::Status AgentSession::OpenRegion(const Request& request, Reply* reply) {
  AGENTMEM_ASSIGN_OR_RETURN(Agent * agent, FindAgent(request.fixed.handle));
  AgentState* const state = agent->state.get();
  const std::string name(request.fixed.region);
  const std::uint64_t bytes = request.fixed.length;
  absl::StatusOr<RegionRecord> record = RecordOf(state, name);
  if (!record.ok()) {
    if (bytes == 0 || !agent->writes || request.fixed.region_version != 0) {
      return record.status();
    }
    AGENTMEM_RETURN_IF_ERROR(MakeRegion(request, state));
    reply->value[3] = 1;
    record = RecordOf(state, name);
    AGENTMEM_RETURN_IF_ERROR(record.status());
  } else if (bytes != 0 && bytes != record->bytes) {
    return FailedPrecondition("region \"" + name + "\" has " +
                              std::to_string(record->bytes) + " bytes, not " +
                              std::to_string(bytes));
  }
  HeldVersion held;
  if (record->head.number != 0) {
    AGENTMEM_ASSIGN_OR_RETURN(
        held, VersionOf(agent->state, name, request.fixed.region_version));
  } else if (request.fixed.region_version != 0) {
    return NotFound("region \"" + name + "\" has no version yet");
  }
  const bool for_reading = !agent->writes || request.fixed.region_version != 0;
  for (const auto& [handle, open] : regions_) {
    if (!for_reading && open->state.get() == state &&
        !open->region->options().for_reading &&
        open->region->options().name == name) {
      return FailedPrecondition("region \"" + name +
                                "\" is open for writing here already");
    }
  }
  AGENTMEM_ASSIGN_OR_RETURN(DescriptorCharge charge, ChargeRegion(name));
  AGENTMEM_ASSIGN_OR_RETURN(UniqueFd memory, MakeMemory(name, record->bytes));
  reply->fd = UniqueFd(fcntl(memory.get(), F_DUPFD_CLOEXEC, 3));
  if (!reply->fd.valid()) return ErrnoStatus("duplicating a descriptor");

  auto mapped = std::make_unique<Mapped>();
  mapped->agent = request.fixed.handle;
  mapped->state = agent->state;
  mapped->tools.port = port_.get();
  mapped->tools.memory = &tenant_->memory;
  mapped->tools.lone_reads = &tenant_->lone_reads;
  mapped->tools.clock = clock_;
  mapped->tools.nodes = nodes_.get();
  mapped->tools.scratch = scratch_.get();
  mapped->tools.resident_bytes = &state->resident_bytes;
  mapped->tools.collects = &collects_;
  mapped->tools.make_room = [this] { return MakeRoom(); };
  mapped->tools.serve = [this](const std::function<bool()>& done,
                               TimeNs deadline) {
    return ServeUntil(done, deadline);
  };
  const std::uint32_t agent_handle = request.fixed.handle;
  mapped->tools.new_key = [this, agent_handle] {
    return NewKey(&agents_.find(agent_handle)->second);
  };
  Region::Options options;
  options.agent = state->name;
  options.name = name;
  options.id = static_cast<std::uint32_t>(record->id);
  options.bytes = record->bytes;
  options.for_reading = for_reading;
  const int memfd = memory.get();
  mapped->charge = std::move(charge);
  mapped->hold = std::move(held.hold);
  mapped->region = std::make_unique<Region>(options, &mapped->tools,
                                            std::move(memory), held.manifest);
  mapped->region->SetMapper(std::make_unique<ExplicitMapper>(memfd), 0);
  const std::uint32_t handle = ++next_handle_;
  reply->value[0] = handle;
  reply->value[1] = record->bytes;
  reply->value[2] = held.manifest == nullptr ? 0 : held.manifest->info().number;
  reply->value[4] = for_reading;
  regions_[handle] = std::move(mapped);
  publish_at_ = 0;
  MutexLock lock(&state->mutex);
  ++state->open_in[token_];
  return absl::OkStatus();
}

absl::Status AgentSession::MapRegion(const Request& request) {
  AGENTMEM_ASSIGN_OR_RETURN(Mapped * mapped,
                            FindRegion(request.fixed.region_handle));
  if (!faults_.valid()) {
    return FailedPrecondition("no userfaultfd was sent");
  }
  const std::uint64_t address = request.fixed.arg[0];
  if (address % kUnitBytes != 0 || address == 0 ||
      address > (1ULL << 56) - kRegionBytesMax) {
    return InvalidArgument("a region cannot be mapped at " +
                           std::to_string(address));
  }
  if (mapped->region->resident_bytes() != 0) {
    return FailedPrecondition("the region is in use as an explicit one");
  }
  mapped->region->SetMapper(
      std::make_unique<FaultMapper>(faults_.get(), address), address);
  FetchWorkingSet(request.fixed.region_handle, mapped);
  return absl::OkStatus();
}

// It is there when it is there: nothing waits for it.
void AgentSession::FetchWorkingSet(std::uint32_t handle, Mapped* mapped) {
  const Region::Options& options = mapped->region->options();
  const absl::StatusOr<RegionRecord> record =
      RecordOf(mapped->state.get(), options.name);
  if (!record.ok() || record->working_set_bytes == 0) return;
  const Key key = record->working_set;
  mapped->plan_comes = true;
  port_->Fetch(
      key, kNoDeadline, [this, handle, key](const CompletionEntry& answer) {
        std::string bytes;
        if (answer.code == Code::kOk) {
          const BlockPort::Pinned block = port_->Held(answer);
          bytes.assign(block.data, block.length);
          port_->Release(block);
        } else if (answer.code != Code::kNotFound &&
                   answer.code != Code::kDataLoss) {
          return;  // it is there, and is not replaced
        }
        auto found = regions_.find(handle);
        if (found == regions_.end()) return;
        found->second->plan_comes = false;
        Region* const region = found->second->region.get();
        absl::StatusOr<WorkingSet> pages =
            DecodeWorkingSet(key, bytes, PagesOf(region->options().bytes));
        if (pages.ok()) return region->PlanWorkingSet(*std::move(pages));
        LogWarning("agent " + region->options().agent + ", region " +
                   region->options().name + ": " +
                   StatusMessage(pages.status()) + "; it is recorded anew");
      });
}

bool AgentSession::ReadPlanned() {
  bool work = false;
  for (const auto& [handle, mapped] : regions_) {
    work |= mapped->region->ReadPlanned();
  }
  return work;
}

// Of a writer's region: what was touched since its resume. To lose it costs
// time and nothing else: it waits for next to nothing.
void AgentSession::KeepWorkingSet(Mapped* mapped) {
  const Region::Options& options = mapped->region->options();
  if (options.for_reading || mapped->plan_comes) return;
  const std::optional<WorkingSet> pages = mapped->region->TakeWorkingSet();
  if (!pages.has_value()) return;
  Agent* const agent = &agents_.find(mapped->agent)->second;
  const std::string bytes = pages->empty() ? "" : EncodeWorkingSet(*pages);
  const Key key = pages->empty() ? Key() : NewKey(agent);
  if (pages->empty() || PutSoon(key, bytes)) {
    RecordChange change;
    change.durable = false;
    change.unsettled = {&key, pages->empty() ? std::size_t{0} : 1};
    change.edit = [&](AgentRecord* record) {
      for (RegionRecord& region : record->regions) {
        if (region.id != options.id) continue;
        region.working_set = key;
        region.working_set_bytes = static_cast<std::uint32_t>(bytes.size());
      }
      return absl::OkStatus();
    };
    // (Refused: it was taken over.)
    if (tenant_->book.Change(mapped->state.get(), token_, change).ok()) {
      SettleSoon();
    }
  }
  PutDown(mapped->state.get(), {key});
  tenant_->book.NoteGarbage(agent->lineage);
}

// False: it is not there, or will not be.
bool AgentSession::PutSoon(const Key& key, std::string_view bytes) {
  const TimeNs deadline = clock_->Now() + kKeepWorkingSetNs;
  const auto length = static_cast<std::uint32_t>(bytes.size());
  BlockPort::Grant grant;
  if (!port_->TakeGrant(length, &grant) &&
      !GrantFor(port_.get(), length, deadline, *clock_, &grant)) {
    return false;
  }
  std::memcpy(grant.data, bytes.data(), length);
  const auto answer = std::make_shared<std::optional<Code>>();
  port_->Publish(grant, key, length, Ack::kVisible, 0,
                 [answer](const CompletionEntry& put) { *answer = put.code; });
  port_->PollUntil([&] { return answer->has_value(); }, deadline, *clock_);
  if (*answer == Code::kOk) return true;
  // (It may come yet; what is asked later is done later.)
  port_->Ask(Op::kDrop, key, kNoDeadline, [](const CompletionEntry&) {});
  return false;
}

absl::Status AgentSession::CloseRegion(std::uint32_t handle) {
  AGENTMEM_ASSIGN_OR_RETURN(Mapped * mapped, FindRegion(handle));
  KeepWorkingSet(mapped);
  // What was spilled ends with its writer.
  mapped->region->Abandon();
  DropDeadBlocks(mapped);
  const std::shared_ptr<AgentState> state = mapped->state;
  regions_.erase(handle);
  publish_at_ = 0;
  MutexLock lock(&state->mutex);
  if (--state->open_in[token_] == 0) state->open_in.erase(token_);
  return absl::OkStatus();
}

absl::Status AgentSession::Populate(const Request& request) {
  AGENTMEM_ASSIGN_OR_RETURN(Mapped * mapped, FindRange(request));
  Region& region = *mapped->region;
  const AgentRequest& fixed = request.fixed;
  switch (fixed.op) {
    case AgentOp::kUnpin:
      region.Unpin(fixed.offset, fixed.length);
      return absl::OkStatus();
    case AgentOp::kMarkDirty:
      if (region.options().for_reading) {
        return FailedPrecondition("the region is open for reading");
      }
      return region.MarkWritten(fixed.offset, fixed.length);
    default:
      return region.Populate(fixed.offset, fixed.length,
                             (fixed.flags & kPopulatePin) != 0,
                             fixed.deadline_ns);
  }
}

absl::Status AgentSession::Hint(const Request& request, Reply* reply) {
  AGENTMEM_ASSIGN_OR_RETURN(Mapped * mapped, FindRange(request));
  const std::uint64_t next_use = request.fixed.arg[0];
  // Soon: it is asked for now. Never: it may go. In between nothing is done.
  if (next_use <= 10 * kMillisecondNs) {
    mapped->region->BringAhead(request.fixed.offset, request.fixed.length);
    reply->value[0] = static_cast<std::uint64_t>(PhaseAnswer::kAccepted);
  } else if (next_use == ~0ULL) {
    mapped->region->LetGoRange(request.fixed.offset, request.fixed.length);
    reply->value[0] = static_cast<std::uint64_t>(PhaseAnswer::kAccepted);
  } else {
    reply->value[0] = static_cast<std::uint64_t>(PhaseAnswer::kDeferred);
  }
  return absl::OkStatus();
}

absl::Status AgentSession::Hibernate(const Request& request, Reply* reply) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<AgentState> state,
                            tenant_->book.FindToRead(request.fixed.agent));
  AGENTMEM_RETURN_IF_ERROR(SettleAhead(state.get(), request.fixed.deadline_ns));
  // Its blocks in device memory leave by themselves: nobody waits for them.
  tenant_->hbm->Empty(tenant_->id, state->name, AgentPhase::kIdle);
  struct Call {
    std::atomic<std::size_t> pending = 0;
    std::atomic<std::uint64_t> bytes = 0;
  };
  const auto call = std::make_shared<Call>();
  const std::string agent = request.fixed.agent;
  TenantAgents* const tenant = tenant_;
  const std::uint64_t asker = token_;
  absl::flat_hash_map<std::uint64_t, int> open_in;
  {
    MutexLock lock(&state->mutex);
    open_in = state->open_in;
  }
  tenant_->ForEachSession([&](AgentSession* session) {
    if (session == this || !open_in.contains(session->token())) return;
    ++call->pending;
    session->Post([call, agent, tenant, asker](AgentSession* other) {
      call->bytes += other->LetGoAgent(agent);
      --call->pending;
      tenant->WakeSession(asker);
    });
  });
  call->bytes += LetGoAgent(agent);
  // (Two that ask each other answer each other.)
  const auto done = [&] { return call->pending == 0; };
  if (!ServeUntil(done, request.fixed.deadline_ns)) {
    return DeadlineExceeded("agent \"" + state->name +
                            "\": a process that has it open does not answer");
  }
  AGENTMEM_RETURN_IF_ERROR(DemoteBlocks(state.get(), reply));
  reply->value[1] += call->bytes;
  return absl::OkStatus();
}

std::uint64_t AgentSession::LetGoAgent(const std::string& agent) {
  std::uint64_t bytes = 0;
  for (const auto& [handle, mapped] : regions_) {
    if (mapped->state->name != agent) continue;
    const std::uint64_t before = mapped->region->resident_bytes();
    KeepWorkingSet(mapped.get());
    mapped->region->RecordTouches();
    while (mapped->region->LetGo(16) != 0) {
    }
    bytes += before - mapped->region->resident_bytes();
  }
  return bytes;
}

// Every block of the agent's newest versions leaves DRAM; all are below.
absl::Status AgentSession::DemoteBlocks(AgentState* state, Reply* reply) {
  std::vector<RegionRecord> regions;
  {
    MutexLock lock(&state->mutex);
    regions = state->record.regions;
  }
  for (const RegionRecord& region : regions) {
    if (region.head.number == 0) continue;
    AGENTMEM_ASSIGN_OR_RETURN(const Manifest head,
                              OpenVersion(region.head, nodes_.get()));
    NodeLoader loader(nodes_.get());
    absl::flat_hash_set<Key> seen;
    AGENTMEM_RETURN_IF_ERROR(
        ForEachBlock(head, &loader, &seen,
                     [&](const Key& key, std::uint32_t bytes, BlockKind) {
                       if (!port_->IsResident(key)) return absl::OkStatus();
                       reply->value[1] += bytes;
                       port_->Ask(Op::kDemote, key, kNoDeadline,
                                  [](const CompletionEntry&) {});
                       return absl::OkStatus();
                     }));
  }
  return absl::OkStatus();
}

// What is needed first comes into DRAM: the newest versions, and the blocks of
// the working sets.
absl::Status AgentSession::Resume(const Request& request, Reply* reply) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<AgentState> state,
                            tenant_->book.FindToRead(request.fixed.agent));
  std::vector<RegionRecord> regions;
  {
    MutexLock lock(&state->mutex);
    regions = state->record.regions;
  }
  tenant_->hbm->BringBack(tenant_->id, state->name, AgentPhase::kReasoning);
  std::uint64_t bytes_left = tenant_->memory.lent_bytes_max() / 4;
  for (const RegionRecord& region : regions) {
    if (region.head.number == 0) continue;
    port_->Prefetch(region.head.key);
    ++reply->value[0];
    if (region.working_set_bytes == 0) continue;
    const absl::Status status =
        PrefetchWorkingSet(state, region, &bytes_left, &reply->value[0]);
    // It is for speed alone.
    if (!status.ok()) {
      LogWarning(
          "agent " + state->name + ", region " + region.name +
          ": its working set is not read ahead: " + StatusMessage(status));
    }
  }
  return absl::OkStatus();
}

absl::Status AgentSession::PrefetchWorkingSet(
    const std::shared_ptr<AgentState>& state, const RegionRecord& region,
    std::uint64_t* bytes_left, std::uint64_t* asked) {
  AGENTMEM_ASSIGN_OR_RETURN(
      const std::string bytes,
      nodes_->Read(region.working_set, region.working_set_bytes));
  AGENTMEM_ASSIGN_OR_RETURN(
      const WorkingSet pages,
      DecodeWorkingSet(region.working_set, bytes, PagesOf(region.bytes)));
  AGENTMEM_ASSIGN_OR_RETURN(const HeldVersion head,
                            VersionOf(state, region.name, 0));
  NodeLoader loader(nodes_.get());
  for (const std::uint32_t page : pages) {
    AGENTMEM_ASSIGN_OR_RETURN(const PageContent content,
                              head.manifest->Find(page, &loader));
    for (const Piece& piece : content.pieces) {
      if (piece.bytes == 0 || port_->IsResident(piece.key)) continue;
      if (piece.block_bytes > *bytes_left) return absl::OkStatus();
      *bytes_left -= piece.block_bytes;
      port_->Prefetch(piece.key);
      ++*asked;
    }
  }
  return absl::OkStatus();
}

}  // namespace agentmem
