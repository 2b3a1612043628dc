// AgentSession: versions, read and compared.
#include <utility>

#include "base/status.h"
#include "memd/agents/agent_session.h"
#include "memd/agents/manifest_diff.h"

namespace agentmem {
namespace {

constexpr std::size_t kTailBytes = kAgentPacketMax - sizeof(AgentReply) - 64;
// The walk ends there; not an error.
absl::Status Enough() { return Aborted("enough"); }

}  // namespace

// It stays for as long as it is held, whatever retention says.
absl::StatusOr<AgentSession::HeldVersion> AgentSession::VersionOf(
    const std::shared_ptr<AgentState>& state, const std::string& region,
    std::uint64_t number) {
  AGENTMEM_RETURN_IF_ERROR(tenant_->book.ReadOn(state));
  const VersionHold walked_over(state, region);
  AGENTMEM_ASSIGN_OR_RETURN(const RegionRecord record,
                            RecordOf(state.get(), region));
  const auto none = [&] {
    return NotFound("region \"" + region + "\" of agent \"" + state->name +
                    "\" has no version " + std::to_string(number) +
                    (record.head.number == 0
                         ? "; it has none yet"
                         : "; it has " + std::to_string(record.oldest_kept) +
                               " to " + std::to_string(record.head.number)));
  };
  if (record.head.number == 0) return none();
  if (number == 0) number = record.head.number;
  if (number > record.head.number || number < record.oldest_kept) return none();
  HeldVersion found;
  const absl::Status walked = ForEachVersion(
      record.head, record.oldest_kept, nodes_.get(), [&](const Manifest& at) {
        if (at.info().number != number) return absl::OkStatus();
        found.manifest = std::make_shared<const Manifest>(at);
        return Enough();
      });
  if (found.manifest == nullptr) {
    AGENTMEM_RETURN_IF_ERROR(walked);
    return none();
  }
  found.hold = std::make_unique<VersionHold>(state, found.manifest->link());
  return found;
}

absl::Status AgentSession::History(const Request& request, Reply* reply) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<AgentState> state,
                            tenant_->book.FindToRead(request.fixed.agent));
  const VersionHold walked_over(state, request.fixed.region);
  AGENTMEM_ASSIGN_OR_RETURN(
      const HeldVersion first,
      VersionOf(state, request.fixed.region, request.fixed.region_version));
  AGENTMEM_ASSIGN_OR_RETURN(const RegionRecord record,
                            RecordOf(state.get(), request.fixed.region));
  FieldWriter fields;
  std::uint64_t left = request.fixed.arg[0];
  const absl::Status walked = ForEachVersion(
      first.manifest->link(), record.oldest_kept, nodes_.get(),
      [&](const Manifest& at) {
        const VersionInfo& info = at.info();
        FieldWriter labels;
        for (const auto& [key, value] : info.labels) {
          labels.Add(key);
          labels.Add(value);
        }
        const std::size_t bytes = sizeof(VersionEntry) + info.message.size() +
                                  labels.bytes().size() + 12;
        if (left == 0 || fields.bytes().size() + bytes > kTailBytes) {
          reply->value[0] = 1;
          return Enough();
        }
        --left;
        VersionEntry entry = {};
        entry.number = info.number;
        entry.parent = info.parent.number;
        entry.unix_ns = static_cast<std::uint64_t>(info.wall_time_ns);
        entry.region_bytes = info.region_bytes;
        entry.changed_bytes = info.changed_bytes;
        entry.changed_pages = info.changed_pages;
        entry.flags = info.flags;
        entry.flag_version = info.related_number;
        std::copy(info.trace_id.begin(), info.trace_id.end(), entry.trace);
        fields.AddStruct(entry);
        fields.Add(info.message);
        fields.Add(labels.bytes());
        return absl::OkStatus();
      });
  if (reply->value[0] == 0) AGENTMEM_RETURN_IF_ERROR(walked);
  reply->tail = fields.bytes();
  return absl::OkStatus();
}

absl::Status AgentSession::DiffVersions(const Request& request, Reply* reply) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<AgentState> state,
                            tenant_->book.FindToRead(request.fixed.agent));
  const std::string region = request.fixed.region;
  // From 0: from nothing.
  HeldVersion from;
  if (request.fixed.arg[0] != 0) {
    AGENTMEM_ASSIGN_OR_RETURN(from,
                              VersionOf(state, region, request.fixed.arg[0]));
  }
  AGENTMEM_ASSIGN_OR_RETURN(const HeldVersion to,
                            VersionOf(state, region, request.fixed.arg[1]));
  NodeLoader loader(nodes_.get());
  FieldWriter fields;
  const absl::Status walked = Diff(
      {from.manifest.get(), &loader}, {to.manifest.get(), &loader},
      [&](const ByteRange& range) {
        if (fields.bytes().size() + sizeof(RangeEntry) + 4 > kTailBytes) {
          reply->value[0] = 1;
          return Enough();
        }
        fields.AddStruct(RangeEntry{range.offset, range.bytes});
        return absl::OkStatus();
      },
      request.fixed.offset);
  if (reply->value[0] == 0) AGENTMEM_RETURN_IF_ERROR(walked);
  reply->tail = fields.bytes();
  return absl::OkStatus();
}

absl::Status AgentSession::Refresh(const Request& request, Reply* reply) {
  AGENTMEM_ASSIGN_OR_RETURN(Mapped * mapped,
                            FindRegion(request.fixed.region_handle));
  Region& region = *mapped->region;
  if (!region.options().for_reading) {
    return FailedPrecondition(
        "the region is open for writing: it is what its "
        "writer makes of it");
  }
  AGENTMEM_ASSIGN_OR_RETURN(Agent * agent, FindAgent(mapped->agent));
  AGENTMEM_ASSIGN_OR_RETURN(HeldVersion held,
                            VersionOf(agent->state, region.options().name,
                                      request.fixed.region_version));
  const std::shared_ptr<const Manifest> to = held.manifest;
  const std::shared_ptr<const Manifest> from = region.version();
  FieldWriter fields;
  std::vector<RangeEntry> changed;
  AGENTMEM_RETURN_IF_ERROR(
      Diff({from.get(), region.loader()}, {to.get(), region.loader()},
           [&](const ByteRange& range) {
             changed.push_back({range.offset, range.bytes});
             if (fields.bytes().size() + sizeof(RangeEntry) + 4 > kTailBytes) {
               reply->value[1] = 1;
             } else {
               fields.AddStruct(changed.back());
             }
             return absl::OkStatus();
           }));
  region.MoveTo(to, changed);
  mapped->hold = std::move(held.hold);
  reply->value[0] = to->info().number;
  reply->tail = fields.bytes();
  return absl::OkStatus();
}

absl::Status AgentSession::Revert(const Request& request, Reply* reply) {
  AGENTMEM_ASSIGN_OR_RETURN(
      AgentBook::Opened opened,
      tenant_->book.Open(request.fixed.agent, kOpenWrite, {},
                         {token_, peer_.client_name, peer_.pid, clock_->Now()},
                         WallNowNs()));
  AgentState* const state = opened.state.get();
  Agent agent;
  agent.state = opened.state;
  agent.writes = true;
  agent.fence = opened.fence.value();
  {
    MutexLock lock(&state->mutex);
    agent.lineage = state->record.lineage;
  }
  CommitBlocks blocks =
      NewBlocks(&agent, Ack::kDurable, request.fixed.deadline_ns);
  const absl::Status reverted = RevertTo(&blocks, request, reply);
  if (reverted.ok()) {
    PutDown(state, blocks.made);
  } else {
    GiveUp(&blocks, reverted);
  }
  tenant_->book.Release(state, token_);
  return reverted;
}

absl::Status AgentSession::RevertTo(CommitBlocks* blocks,
                                    const Request& request, Reply* reply) {
  const std::shared_ptr<AgentState>& state = blocks->agent->state;
  const std::string region = request.fixed.region;
  AGENTMEM_RETURN_IF_ERROR(SettleAhead(state.get(), blocks->deadline));
  AGENTMEM_ASSIGN_OR_RETURN(
      const HeldVersion old,
      VersionOf(state, region, request.fixed.region_version));
  AGENTMEM_ASSIGN_OR_RETURN(const HeldVersion head,
                            VersionOf(state, region, 0));
  VersionChange change;
  change.info = head.manifest->info();
  change.info.parent = head.manifest->link();
  change.info.number = head.manifest->info().number + 1;
  change.info.flags = kVersionRevert;
  change.info.related_number = old.manifest->info().number;
  change.info.wall_time_ns = WallNowNs();
  change.info.ack = Ack::kDurable;
  change.info.changed_bytes = 0;
  change.info.message =
      "revert to version " + std::to_string(change.info.related_number);
  change.info.labels.clear();
  change.info.trace_id = {};
  change.base = old.manifest.get();
  NodeLoader loader(nodes_.get());
  AGENTMEM_ASSIGN_OR_RETURN(
      const NewVersion version, BuildVersion(change, &loader, [&] {
        return blocks->made.emplace_back(NewKey(blocks->agent));
      }));
  for (const NewBlock& node : version.nodes) {
    AGENTMEM_RETURN_IF_ERROR(PutBlock(node.key, node.bytes, blocks));
  }
  const std::string& bytes = version.version.bytes;
  // (Where refs are shared, their store is another one than the blocks'.)
  if (tenant_->shared) {
    AGENTMEM_RETURN_IF_ERROR(PutBlock(version.version.key, bytes, blocks));
  }
  AGENTMEM_RETURN_IF_ERROR(AwaitBlocks(blocks));
  const Manifest made = version.manifest();
  const RefBlock with_ref = {peer_.tenant_id, version.version.key, bytes};
  RecordChange published;
  if (!tenant_->shared) published.blocks = {&with_ref, 1};
  published.edit = [&](AgentRecord* record) -> absl::Status {
    for (RegionRecord& known : record->regions) {
      if (known.name != region) continue;
      // (Other nodes' collectors know of no more than the record says.)
      if (change.info.related_number < known.oldest_kept) {
        return NotFound("region \"" + region + "\" gave up version " +
                        std::to_string(change.info.related_number) +
                        " meanwhile");
      }
      known.head = made.link();
    }
    return absl::OkStatus();
  };
  blocks->published = true;
  AGENTMEM_RETURN_IF_ERROR(
      tenant_->book.Change(state.get(), token_, published));
  if (!tenant_->shared) AddStored(made.link());
  reply->value[0] = made.info().number;
  AgentBook::Notify(state.get(),
                    static_cast<std::uint32_t>(made.info().region_id));
  return absl::OkStatus();
}

}  // namespace agentmem
