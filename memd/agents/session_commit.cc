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
#include <optional>
#include <string>
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
// The store answers; if it does not, nobody waits for longer.
constexpr DurationNs kSettleMaxNs = 60 * kSecondNs;
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

// It is in the agent's hand until a record leads to it, or it is put down.
Key AgentSession::NewKey(Agent* agent) {
  const Key key = MakeRegionKey(agent->lineage, agent->fence & kRegionFenceMax,
                                ++agent->counter);
  MutexLock lock(&agent->state->mutex);
  agent->state->in_hand.insert(key);
  return key;
}

AgentSession::CommitBlocks AgentSession::NewBlocks(Agent* agent, Ack ack,
                                                   TimeNs deadline) {
  CommitBlocks blocks;
  blocks.agent = agent;
  blocks.ack = ack;
  blocks.deadline = deadline;
  blocks.failure = std::make_shared<CompletionEntry>();
  return blocks;
}

void AgentSession::PutDown(AgentState* state, const std::vector<Key>& keys) {
  MutexLock lock(&state->mutex);
  for (const Key& key : keys) state->in_hand.erase(key);
}

// The versions will not be.
void AgentSession::GiveUp(CommitBlocks* blocks, const absl::Status& why) {
  AgentState* const state = blocks->agent->state.get();
  if (blocks->IsUnknown(why)) return;
  for (const Key& key : blocks->made) {
    port_->Ask(Op::kDrop, key, kNoDeadline, [](const CompletionEntry&) {});
  }
  PutDown(state, blocks->made);
  // (What is being written now cannot be dropped yet.)
  tenant_->book.NoteGarbage(blocks->agent->lineage);
}

absl::Status AgentSession::AcquireGrant(std::uint32_t length, TimeNs deadline,
                                        BlockPort::Grant* grant) {
  const std::string what =
      "room for a block of " + std::to_string(length) + " bytes";
  while (!port_->TakeGrant(length, grant)) {
    const auto answer = std::make_shared<std::optional<CompletionEntry>>();
    SubmissionEntry want = {};
    want.op = Op::kWantGrants;
    want.length = length;
    want.slot = 8;
    want.deadline_ns = deadline;
    port_->Submit(want,
                  [answer](const CompletionEntry& entry) { *answer = entry; });
    bool taken = false;
    ServeUntil(
        [&] {
          taken = port_->TakeGrant(length, grant);
          return taken || answer->has_value();
        },
        deadline);
    if (taken) break;
    if (stopping_ || ended_) {
      return Unavailable(what + ": memd is shutting down");
    }
    if (!answer->has_value() || clock_->Now() >= deadline) {
      return ResourceExhausted("no " + what + " before the deadline");
    }
    if ((*answer)->code != Code::kOk) return StatusOf(**answer, what);
    // What was offered was taken back before this thread saw it.
  }
  return absl::OkStatus();
}

absl::Status AgentSession::PutBlock(const Key& key, std::string_view bytes,
                                    CommitBlocks* blocks) {
  const auto length = static_cast<std::uint32_t>(bytes.size());
  BlockPort::Grant grant;
  AGENTMEM_RETURN_IF_ERROR(AcquireGrant(length, blocks->deadline, &grant));
  std::memcpy(grant.data, bytes.data(), length);
  blocks->needed.push_back(key);
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
    piece->key = blocks->made.emplace_back(NewKey(blocks->agent));
    piece->block_bytes = piece->bytes;
    return PutBlock(piece->key, bytes, blocks);
  }
  if (blocks->pack.size() + bytes.size() > kPackBytes) {
    AGENTMEM_RETURN_IF_ERROR(FlushPack(blocks, change));
  }
  if (blocks->pack.empty()) {
    blocks->pack_key = blocks->made.emplace_back(NewKey(blocks->agent));
  }
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
                           ": 1 (visible), 2 (replicated) and 3 (durable) are "
                           "known here");
  }
  if (info.ack == Ack::kReplicated) {
    if (!tenant_->shared) {
      return FailedPrecondition(
          "`replicated` was asked for, and this node shares no agents with "
          "others; ask for visible or durable");
    }
    info.ack = Ack::kDurable;  // which is in two nodes' memory, too
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
  std::vector<NextVersion> versions;
  absl::Status status;
  for (Mapped* mapped : regions) {
    auto cut = mapped->region->Cut();
    status = cut.status();
    if (!status.ok()) break;
    NextVersion next;
    next.mapped = mapped;
    next.pages = *std::move(cut);
    next.base = mapped->region->version();
    if (next.pages.empty() && next.base != nullptr && info.message.empty()) {
      reply->value[0] = next.base->info().number;  // nothing is new
      continue;
    }
    versions.push_back(std::move(next));
  }
  const bool durable = info.ack == Ack::kDurable;
  const TimeNs deadline = request.fixed.deadline_ns;
  if (status.ok() && versions.empty()) {
    AGENTMEM_RETURN_IF_ERROR(
        tenant_->book.CheckWriter(agent->state.get(), token_));
    return durable ? SettleAhead(agent->state.get(), deadline)
                   : absl::OkStatus();
  }
  CommitBlocks blocks = NewBlocks(agent, info.ack, deadline);
  if (status.ok()) status = MakeVersions(info, &versions, &blocks);
  if (!status.ok()) {
    for (const NextVersion& next : versions) {
      next.mapped->region->NotCommitted(next.pages, blocks.IsUnknown(status));
    }
    GiveUp(&blocks, status);
    return status;
  }
  if (!durable) SettleSoon();
  for (NextVersion& next : versions) {
    const VersionInfo& made = next.made->info();
    reply->value[0] = made.number;
    reply->value[1] += made.changed_bytes;
    reply->value[2] += next.pages.size();
    next.mapped->hold =
        std::make_unique<VersionHold>(agent->state, next.made->link());
    next.mapped->region->Committed(next.pages, next.made);
    AgentBook::Notify(agent->state.get(),
                      static_cast<std::uint32_t>(made.region_id));
  }
  return absl::OkStatus();
}

// All of them become the agent's, or none.
absl::Status AgentSession::MakeVersions(const VersionInfo& info,
                                        std::vector<NextVersion>* versions,
                                        CommitBlocks* blocks) {
  for (NextVersion& next : *versions) {
    AGENTMEM_RETURN_IF_ERROR(MakeVersion(info, &next, blocks));
  }
  std::size_t bytes_with_ref = 0;
  for (NextVersion& next : *versions) {
    bytes_with_ref += next.bytes.size();
    // (Where refs are shared, their store is another one than the blocks'.)
    next.with_ref = blocks->ack == Ack::kDurable && !tenant_->shared &&
                    bytes_with_ref <= RefStore::kCommitBytesMax;
    if (next.with_ref) continue;
    AGENTMEM_RETURN_IF_ERROR(PutBlock(next.made->key(), next.bytes, blocks));
  }
  // Blocks that were spilled are in it as they are.
  std::vector<Key> spilled;
  for (const NextVersion& next : *versions) {
    for (const Region::Captured& captured : next.pages) {
      if (captured.spilled) spilled.push_back(captured.spill.key);
    }
  }
  const bool durable = blocks->ack == Ack::kDurable;
  if (durable) {
    for (const Key& key : spilled) MakeDurable(key, blocks);
  } else {
    blocks->needed.insert(blocks->needed.end(), spilled.begin(), spilled.end());
  }
  AGENTMEM_RETURN_IF_ERROR(AwaitBlocks(blocks));
  AgentState* const state = blocks->agent->state.get();
  absl::Status status;
  do {
    if (durable) {
      AGENTMEM_RETURN_IF_ERROR(SettleBlocks(state, blocks->deadline));
    }
    status = Publish(versions, blocks);
  } while (IsNotSettled(status));
  AGENTMEM_RETURN_IF_ERROR(status);
  PutDown(state, blocks->made);
  PutDown(state, spilled);
  return absl::OkStatus();
}

absl::Status AgentSession::MakeVersion(VersionInfo info, NextVersion* next,
                                       CommitBlocks* blocks) {
  Region* const region = next->mapped->region.get();
  blocks->payload.clear();
  blocks->estimate = 0;
  for (const Region::Captured& captured : next->pages) {
    const std::size_t bytes = kUnitBytes * std::popcount(captured.changed);
    info.changed_bytes += bytes;
    if (!captured.spilled) blocks->estimate += bytes;
  }
  VersionChange change;
  AGENTMEM_RETURN_IF_ERROR(Capture(next->mapped, next->pages, blocks, &change));
  info.region_id = region->options().id;
  info.region_bytes = region->options().bytes;
  info.wall_time_ns = WallNowNs();
  if (next->base != nullptr) info.parent = next->base->link();
  info.number = info.parent.number + 1;
  change.info = std::move(info);
  change.base = next->base.get();
  change.payload = blocks->payload;
  AGENTMEM_ASSIGN_OR_RETURN(
      NewVersion version, BuildVersion(change, region->loader(), [&] {
        return blocks->made.emplace_back(NewKey(blocks->agent));
      }));
  for (const NewBlock& node : version.nodes) {
    AGENTMEM_RETURN_IF_ERROR(PutBlock(node.key, node.bytes, blocks));
  }
  next->made = std::make_shared<const Manifest>(version.manifest());
  next->bytes = std::move(version.version.bytes);
  return absl::OkStatus();
}

absl::Status AgentSession::Publish(std::vector<NextVersion>* versions,
                                   CommitBlocks* blocks) {
  std::vector<RefBlock> with_ref;
  for (const NextVersion& next : *versions) {
    if (!next.with_ref) continue;
    with_ref.push_back({peer_.tenant_id, next.made->key(), next.bytes});
  }
  RecordChange change;
  change.durable = blocks->ack == Ack::kDurable;
  change.blocks = with_ref;
  change.unsettled = blocks->needed;
  change.edit = [&](AgentRecord* record) -> absl::Status {
    for (const NextVersion& next : *versions) {
      const Region::Options& options = next.mapped->region->options();
      const auto known = std::find_if(
          record->regions.begin(), record->regions.end(),
          [&](const RegionRecord& region) { return region.id == options.id; });
      if (known == record->regions.end()) {
        return NotFound("region \"" + options.name +
                        "\" is not the agent's any more");
      }
      const VersionLink& parent = next.made->info().parent;
      if (!(known->head == parent)) {
        return Aborted("region \"" + known->name + "\" is at version " +
                       std::to_string(known->head.number) + ", not at " +
                       std::to_string(parent.number) + ": open it again");
      }
      known->head = next.made->link();
      if (known->oldest_kept == 0) known->oldest_kept = known->head.number;
    }
    return absl::OkStatus();
  };
  blocks->published = true;
  const absl::Status status =
      tenant_->book.Change(blocks->agent->state.get(), token_, change);
  if (!status.ok() && !blocks->IsUnknown(status)) return status;
  // (Where it is not known, they may be there; who misses them is told so.)
  for (const NextVersion& next : *versions) {
    if (next.with_ref) AddStored(next.made->link());
  }
  return status;
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
    keys.assign(state->unsettled.begin(), state->unsettled.end());
  }
  for (const Key& key : keys) MakeDurable(key, &blocks);
  const auto done = [&] { return *blocks.answered == blocks.asked; };
  // At its end a session has nobody to serve.
  const TimeNs until = std::min(deadline, clock_->Now() + kSettleMaxNs);
  const bool in_time = ended_ || stopping_.load()
                           ? port_->PollUntil(done, until, *clock_)
                           : ServeUntil(done, until);
  if (blocks.failure->code != Code::kOk) {
    return StatusOf(*blocks.failure, "a block of a visible version");
  }
  if (!in_time) return DeadlineExceeded("writing down visible versions");
  MutexLock lock(&state->mutex);
  for (const Key& key : keys) state->unsettled.erase(key);
  return absl::OkStatus();
}

absl::Status AgentSession::SettleAhead(AgentState* state, TimeNs deadline) {
  return ChangeSettled(state, deadline, [] { return absl::OkStatus(); });
}

// First what is visible is written down; what another session commits as
// visible in between, too.
absl::Status AgentSession::ChangeSettled(
    AgentState* state, TimeNs deadline,
    const std::function<absl::Status()>& change) {
  for (;;) {
    AGENTMEM_RETURN_IF_ERROR(SettleBlocks(state, deadline));
    absl::Status status = tenant_->book.Persist(state);
    if (status.ok()) status = change();
    if (!IsNotSettled(status)) return status;
    if (clock_->Now() >= deadline) {
      return DeadlineExceeded("writing down visible versions of agent \"" +
                              state->name + "\", which makes new ones");
    }
  }
}

}  // namespace agentmem
