// AgentSession: commits.
//
// The order is what keeps a version whole: all changed pages are protected (the
// cut), each is captured before it may be written again, their blocks and nodes
// are acknowledged, and the version's own block becomes durable in the same
// write as the ref that names it. A crash anywhere leaves the version before,
// or this one.
#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "memd/agents/agent_session.h"
#include "memd/agents/page_bytes.h"

namespace agentmem {
namespace {

// Bytes that may stand in the version's own block, and so in one write with the
// ref: one group of the log. Larger ones go to blocks of their own.
constexpr std::size_t kPayloadBytesMax = 64 << 10;
// What changed in pages of which little changed is packed, so that a block is
// worth its books.
constexpr std::size_t kPackBytes = 64 << 10;
// From here on a page is written as a whole.
constexpr int kDeltaUnitsMax = 8;
// Without serving faults in between: the writers wait for this long at most.
constexpr std::size_t kPagesAtOnce = 64;

absl::Status ReadMessage(const std::string& tail, VersionInfo* info) {
  FieldReader fields(tail);
  std::string_view message;
  if (!fields.Next(&message)) return absl::OkStatus();
  info->message = std::string(message);
  std::string_view key;
  std::string_view value;
  while (fields.Next(&key)) {
    if (!fields.Next(&value)) return InvalidArgument("a label without a value");
    info->labels.emplace_back(key, value);
  }
  if (!fields.ok()) return InvalidArgument("a commit: broken fields");
  return CheckLabels(info->labels);
}

}  // namespace

Key AgentSession::NewKey(Agent* agent) {
  return MakeRegionKey(agent->lineage, agent->fence & kRegionFenceMax,
                       ++agent->counter);
}

bool AgentSession::AcquireGrant(std::uint32_t length, TimeNs deadline,
                                BlockPort::Grant* grant) {
  if (port_->TakeGrant(length, grant)) return true;
  const auto answered = std::make_shared<bool>(false);
  SubmissionEntry want = {};
  want.op = Op::kWantGrants;
  want.length = length;
  want.slot = 8;
  want.deadline_ns = deadline;
  port_->Submit(want, [answered](const CompletionEntry&) { *answered = true; });
  bool taken = false;
  ServeUntil(
      [&] { return (taken = port_->TakeGrant(length, grant)) || *answered; },
      deadline);
  return taken || port_->TakeGrant(length, grant);
}

absl::Status AgentSession::PutBlock(const Key& key, std::string_view bytes,
                                    CommitBlocks* blocks) {
  const auto length = static_cast<std::uint32_t>(bytes.size());
  BlockPort::Grant grant;
  if (!AcquireGrant(length, blocks->deadline, &grant)) {
    return ResourceExhausted("no room in DRAM for a block of " +
                             std::to_string(length) +
                             " bytes before the deadline");
  }
  std::memcpy(grant.data, bytes.data(), length);
  blocks->keys.push_back(key);
  ++blocks->asked;
  port_->Publish(grant, key, length, blocks->ack, 0,
                 [answered = blocks->answered,
                  failure = blocks->failure](const CompletionEntry& answer) {
                   ++*answered;
                   if (answer.code != Code::kOk) *failure = answer;
                 });
  return absl::OkStatus();
}

absl::Status AgentSession::AwaitBlocks(CommitBlocks* blocks) {
  const bool in_time = ServeUntil(
      [&] { return *blocks->answered == blocks->asked; }, blocks->deadline);
  if (blocks->failure->code != Code::kOk) {
    return StatusOf(*blocks->failure, "a block of the version");
  }
  if (!in_time) {
    return DeadlineExceeded("the version's blocks were not written in time");
  }
  return absl::OkStatus();
}

absl::Status AgentSession::FlushPack(CommitBlocks* blocks,
                                     VersionChange* change) {
  if (blocks->pack.empty()) return absl::OkStatus();
  const auto bytes = static_cast<std::uint32_t>(blocks->pack.size());
  for (PageChange& page : change->pages) {
    for (Piece& piece : page.content.pieces) {
      if (piece.bytes != 0 && !piece.in_payload &&
          piece.key == blocks->pack_key) {
        piece.block_bytes = bytes;
      }
    }
  }
  const std::string pack = std::exchange(blocks->pack, {});
  return PutBlock(blocks->pack_key, pack, blocks);
}

// Finds `bytes` of a page a place in the version's blocks, and says which in
// `piece`.
absl::Status AgentSession::Place(std::string_view bytes, Piece* piece,
                                 CommitBlocks* blocks, VersionChange* change) {
  piece->bytes = static_cast<std::uint32_t>(bytes.size());
  if (bytes.empty()) return absl::OkStatus();
  if (blocks->estimate <= kPayloadBytesMax &&
      blocks->payload.size() + bytes.size() <= kPayloadBytesMax) {
    piece->in_payload = true;
    piece->offset = static_cast<std::uint32_t>(blocks->payload.size());
    blocks->payload.append(bytes);
    return absl::OkStatus();
  }
  if (bytes.size() > kPackBytes / 2) {
    piece->key = NewKey(blocks->agent);
    piece->block_bytes = piece->bytes;
    return PutBlock(piece->key, bytes, blocks);
  }
  if (blocks->pack.size() + bytes.size() > kPackBytes) {
    AGENTMEM_RETURN_IF_ERROR(FlushPack(blocks, change));
  }
  if (blocks->pack.empty()) blocks->pack_key = NewKey(blocks->agent);
  piece->key = blocks->pack_key;
  piece->offset = static_cast<std::uint32_t>(blocks->pack.size());
  blocks->pack.append(bytes);
  return absl::OkStatus();
}

// The page's content from now on.
absl::StatusOr<PageContent> AgentSession::CapturePage(
    Region* region, const Region::Captured& captured, CommitBlocks* blocks,
    VersionChange* change) {
  if (captured.spilled) return PageContent{{captured.spill}};
  AGENTMEM_ASSIGN_OR_RETURN(PageContent content,
                            region->ContentOf(captured.page));
  const std::span<char, kPageBytes> page(scratch_.get(), kPageBytes);
  std::memset(page.data(), 0, page.size());
  AGENTMEM_RETURN_IF_ERROR(region->ReadPage(captured.page, page.data()));
  std::string bytes;
  // What the last deltas say is said again when there would be too many.
  std::uint16_t units = captured.changed;
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (std::popcount(units) >= kDeltaUnitsMax) break;
    Piece delta;
    delta.units = units;
    bytes.clear();
    PackUnits(page, units, &bytes);
    delta.bytes = static_cast<std::uint32_t>(bytes.size());
    // As it would be; the place is found when it is wanted.
    delta.in_payload = true;
    delta.offset = static_cast<std::uint32_t>(blocks->payload.size());
    PageContent with = content;
    if (AddPiece(delta, &with)) {
      Piece placed;
      placed.units = units;
      AGENTMEM_RETURN_IF_ERROR(Place(bytes, &placed, blocks, change));
      AGENTMEM_CHECK(AddPiece(placed, &content));
      return content;
    }
    std::erase_if(content.pieces, [&](const Piece& piece) {
      if (!piece.base) units |= piece.units;
      return !piece.base;
    });
  }
  Piece base;
  base.units = kAllUnits;
  base.base = true;
  bytes.clear();
  PackUnits(page, kAllUnits, &bytes);
  if (bytes.empty()) return PageContent();
  AGENTMEM_RETURN_IF_ERROR(Place(bytes, &base, blocks, change));
  return PageContent{{base}};
}

absl::Status AgentSession::Capture(Mapped* mapped,
                                   const std::vector<Region::Captured>& pages,
                                   CommitBlocks* blocks,
                                   VersionChange* change) {
  Region* const region = mapped->region.get();
  std::vector<PageContent> contents(pages.size());
  std::vector<bool> done(pages.size());
  change->pages.reserve(pages.size());
  const auto take = [&](std::size_t i) -> absl::Status {
    if (done[i]) return absl::OkStatus();
    done[i] = true;
    AGENTMEM_ASSIGN_OR_RETURN(PageContent content,
                              CapturePage(region, pages[i], blocks, change));
    change->pages.push_back({pages[i].page, std::move(content)});
    region->EndCut(pages[i].page);
    return absl::OkStatus();
  };
  for (std::size_t i = 0; i < pages.size(); ++i) {
    if (pages.size() > kPagesAtOnce) {
      ServeFaults();
      port_->Poll();
      // Somebody waits to write it.
      while (const auto urgent = region->TakeUrgent()) {
        const auto found = std::lower_bound(
            pages.begin(), pages.end(), *urgent,
            [](const Region::Captured& captured, std::uint32_t page) {
              return captured.page < page;
            });
        AGENTMEM_RETURN_IF_ERROR(
            take(static_cast<std::size_t>(found - pages.begin())));
      }
    }
    AGENTMEM_RETURN_IF_ERROR(take(i));
  }
  AGENTMEM_RETURN_IF_ERROR(FlushPack(blocks, change));
  std::sort(
      change->pages.begin(), change->pages.end(),
      [](const PageChange& a, const PageChange& b) { return a.page < b.page; });
  return absl::OkStatus();
}

absl::Status AgentSession::Commit(const Request& request, Reply* reply) {
  AGENTMEM_ASSIGN_OR_RETURN(Agent * agent, FindAgent(request.fixed.handle));
  if (!agent->writes) {
    return FailedPrecondition("agent \"" + agent->state->name +
                              "\" is open for reading: it cannot be committed");
  }
  VersionInfo info;
  info.ack = static_cast<Ack>(request.fixed.arg[0]);
  if (request.fixed.arg[0] > 0xff || !IsValid(info.ack)) {
    return InvalidArgument("acknowledgement " +
                           std::to_string(request.fixed.arg[0]) +
                           ": 1 (visible) and 3 (durable) are known here");
  }
  if (info.ack == Ack::kReplicated) {
    return FailedPrecondition(
        "`replicated` was asked for, and this node has no peers");
  }
  AGENTMEM_RETURN_IF_ERROR(ReadMessage(request.tail, &info));
  std::copy(std::begin(request.fixed.trace), std::end(request.fixed.trace),
            info.trace_id.begin());
  const std::uint32_t wanted = request.fixed.region_handle;
  std::vector<Mapped*> regions;
  for (const auto& [handle, mapped] : regions_) {
    if (mapped->agent == request.fixed.handle &&
        !mapped->region->options().for_reading &&
        (wanted == 0 || handle == wanted)) {
      regions.push_back(mapped.get());
    }
  }
  if (regions.empty()) {
    return InvalidArgument("no region of agent \"" + agent->state->name +
                           "\" is open here for writing under that handle");
  }
  // All are cut before any is captured: one moment for all of them.
  std::vector<std::vector<Region::Captured>> cuts;
  absl::Status status;
  for (Mapped* mapped : regions) {
    auto cut = mapped->region->Cut();
    status = cut.status();
    if (!status.ok()) break;
    cuts.push_back(*std::move(cut));
  }
  for (std::size_t i = 0; i < cuts.size(); ++i) {
    if (status.ok()) {
      status = CommitRegion(agent, regions[i], cuts[i], info,
                            request.fixed.deadline_ns, reply);
    } else {
      regions[i]->region->NotCommitted(cuts[i]);
    }
  }
  return status;
}

absl::Status AgentSession::CommitRegion(
    Agent* agent, Mapped* mapped, const std::vector<Region::Captured>& pages,
    const VersionInfo& info, TimeNs deadline, Reply* reply) {
  Region* const region = mapped->region.get();
  const std::shared_ptr<const Manifest> base = region->version();
  if (pages.empty() && base != nullptr && info.message.empty()) {
    if (info.ack == Ack::kDurable) {
      AGENTMEM_RETURN_IF_ERROR(SettleAhead(agent->state.get(), deadline));
    }
    reply->value[0] = base->info().number;  // nothing is new
    return absl::OkStatus();
  }
  const absl::Status made =
      MakeVersion(agent, mapped, pages, info, deadline, reply);
  if (!made.ok()) region->NotCommitted(pages);
  return made;
}

absl::Status AgentSession::MakeVersion(
    Agent* agent, Mapped* mapped, const std::vector<Region::Captured>& pages,
    VersionInfo info, TimeNs deadline, Reply* reply) {
  Region* const region = mapped->region.get();
  AgentState* const state = agent->state.get();
  const std::shared_ptr<const Manifest> base = region->version();
  CommitBlocks blocks;
  blocks.agent = agent;
  blocks.deadline = deadline;
  blocks.ack = info.ack;
  blocks.failure = std::make_shared<CompletionEntry>();
  for (const Region::Captured& captured : pages) {
    const std::size_t bytes = kUnitBytes * std::popcount(captured.changed);
    info.changed_bytes += bytes;
    if (!captured.spilled) blocks.estimate += bytes;
  }
  VersionChange change;
  AGENTMEM_RETURN_IF_ERROR(Capture(mapped, pages, &blocks, &change));
  const bool durable = info.ack == Ack::kDurable;
  info.region_id = region->options().id;
  info.region_bytes = region->options().bytes;
  info.wall_time_ns = WallNowNs();
  if (base != nullptr) {
    info.parent = base->link();
    if (base->info().region_id != info.region_id) info.flags |= kVersionFork;
  }
  info.number = info.parent.number + 1;
  change.info = std::move(info);
  change.base = base.get();
  change.payload = blocks.payload;
  AGENTMEM_ASSIGN_OR_RETURN(
      NewVersion version,
      BuildVersion(change, region->loader(), [&] { return NewKey(agent); }));
  for (const NewBlock& node : version.nodes) {
    AGENTMEM_RETURN_IF_ERROR(PutBlock(node.key, node.bytes, &blocks));
  }
  const std::string& bytes = version.version.bytes;
  const Key key = version.version.key;
  const bool with_ref = durable && bytes.size() <= RefStore::kCommitBytesMax;
  if (!with_ref) AGENTMEM_RETURN_IF_ERROR(PutBlock(key, bytes, &blocks));
  if (durable) {
    // Blocks that were spilled are in it as they are.
    for (const Region::Captured& captured : pages) {
      if (captured.spilled) MakeDurable(captured.spill.key, &blocks);
    }
    AGENTMEM_RETURN_IF_ERROR(SettleBlocks(state, deadline));
  }
  AGENTMEM_RETURN_IF_ERROR(AwaitBlocks(&blocks));
  AGENTMEM_ASSIGN_OR_RETURN(Manifest manifest, Manifest::Open(bytes, key));
  const VersionLink link = manifest.link();
  AGENTMEM_RETURN_IF_ERROR(tenant_->book.Change(
      state, token_, durable, key,
      std::span<const char>(bytes.data(), with_ref ? bytes.size() : 0),
      [&](AgentRecord* record) {
        for (RegionRecord& known : record->regions) {
          if (known.id != region->options().id) continue;
          if (!(known.head == change.info.parent)) {
            return Aborted("region \"" + known.name + "\" is at version " +
                           std::to_string(known.head.number) + ", not at " +
                           std::to_string(change.info.parent.number) +
                           ": open it again");
          }
          known.head = link;
          if (known.oldest_kept == 0) known.oldest_kept = link.number;
          return absl::OkStatus();
        }
        return NotFound("region \"" + region->options().name +
                        "\" is not the agent's any more");
      }));
  if (with_ref) AddStored(link);
  if (!durable) {
    for (const Region::Captured& captured : pages) {
      if (captured.spilled) blocks.keys.push_back(captured.spill.key);
    }
    MutexLock lock(&state->mutex);
    state->unsettled.insert(state->unsettled.end(), blocks.keys.begin(),
                            blocks.keys.end());
    SettleSoon();
  }
  reply->value[0] = link.number;
  reply->value[1] += manifest.info().changed_bytes;
  reply->value[2] += pages.size();
  region->Committed(pages, std::make_shared<const Manifest>(manifest));
  AgentBook::Notify(state, region->options().id);
  return absl::OkStatus();
}

// The store has the version with its ref; the tenant learns of it before anyone
// can ask for it.
void AgentSession::AddStored(const VersionLink& link) {
  const auto answered = std::make_shared<bool>(false);
  SubmissionEntry entry = {};
  entry.op = Op::kAddStored;
  entry.block_class = BlockClass::kState;
  entry.key = link.key;
  entry.length = link.bytes;
  port_->Submit(entry,
                [answered](const CompletionEntry&) { *answered = true; });
  port_->PollUntil([&] { return *answered; }, clock_->Now() + kSecondNs,
                   *clock_);
}

void AgentSession::MakeDurable(const Key& key, CommitBlocks* blocks) {
  ++blocks->asked;
  port_->Ask(Op::kMakeDurable, key, blocks->deadline,
             [answered = blocks->answered,
              failure = blocks->failure](const CompletionEntry& answer) {
               ++*answered;
               if (answer.code != Code::kOk) *failure = answer;
             });
}

// Blocks of versions that were acknowledged as visible become durable.
absl::Status AgentSession::SettleBlocks(AgentState* state, TimeNs deadline) {
  CommitBlocks blocks;
  blocks.deadline = deadline;
  blocks.failure = std::make_shared<CompletionEntry>();
  std::vector<Key> keys;
  {
    MutexLock lock(&state->mutex);
    keys = state->unsettled;
  }
  for (const Key& key : keys) MakeDurable(key, &blocks);
  const bool in_time = port_->PollUntil(
      [&] { return *blocks.answered == blocks.asked; }, deadline, *clock_);
  if (blocks.failure->code != Code::kOk) {
    return StatusOf(*blocks.failure, "a block of a visible version");
  }
  if (!in_time) return DeadlineExceeded("writing down visible versions");
  MutexLock lock(&state->mutex);
  state->unsettled.erase(
      state->unsettled.begin(),
      state->unsettled.begin() + static_cast<std::ptrdiff_t>(keys.size()));
  return absl::OkStatus();
}

absl::Status AgentSession::SettleAhead(AgentState* state, TimeNs deadline) {
  {
    MutexLock lock(&state->mutex);
    if (!state->ahead) return absl::OkStatus();
  }
  AGENTMEM_RETURN_IF_ERROR(SettleBlocks(state, deadline));
  return tenant_->book.Persist(state);
}

}  // namespace agentmem
