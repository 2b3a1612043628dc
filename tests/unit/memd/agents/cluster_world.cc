#include "tests/unit/memd/agents/cluster_world.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/status.h"
#include "memd/agents/history.h"
#include "memd/agents/manifest_builder.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kRegionBytes = 1ULL << 30;
constexpr std::int64_t kSecond = 1'000'000'000;

// What a cluster may say when others were faster, or a node is alone.
bool MayBe(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:  // IsNotSettled
      return true;
    default:
      return false;
  }
}

}  // namespace

absl::Status NodeBlocks::List(std::uint64_t lineage,
                              const std::function<void(const Key&)>& visit) {
  world_->Between();
  for (const auto& [key, bytes] : disk) {
    if (LineageOf(key) == lineage) visit(key);
  }
  world_->Between();
  if (const auto hook = std::exchange(world_->at_list, nullptr)) hook();
  return absl::OkStatus();
}

absl::Status NodeBlocks::ListLent(
    const absl::flat_hash_set<std::uint64_t>& lineages,
    const std::function<void(const Key&)>& visit) {
  for (const auto& [key, bytes] : lent) {
    if (lineages.contains(LineageOf(key))) visit(key);
  }
  world_->Between();
  return absl::OkStatus();
}

std::size_t NodeBlocks::Drop(std::span<const Key> keys) {
  world_->Between();
  if (const auto hook = std::exchange(world_->at_drop, nullptr)) hook();
  for (const Key& key : keys) {
    disk.erase(key);
    for (const auto& node : world_->nodes) {
      const bool hears = node->up && !node->away && !node->deaf;
      if (hears || node->name == world_->nodes[node_]->name) {
        node->blocks.lent.erase(key);
      }
    }
  }
  world_->dropped += keys.size();
  return 0;
}

absl::StatusOr<std::string> NodeBlocks::Read(const Key& key,
                                             std::uint32_t bytes) {
  world_->Between();
  bool missing_node = false;
  for (const auto& node : world_->nodes) {
    missing_node |= !node->up || node->away;
    if (!node->up || node->away) continue;
    for (const auto* place : {&node->blocks.disk, &node->blocks.lent}) {
      const auto found = place->find(key);
      if (found == place->end()) continue;
      EXPECT_EQ(found->second.size(), bytes);
      return found->second;
    }
  }
  return missing_node ? Unavailable("a node is away") : NotFound("not there");
}

WorldNode::WorldNode(ClusterWorld* world, std::size_t index)
    : name("n" + std::to_string(index)), blocks(world, index) {}

ClusterWorld::ClusterWorld(std::uint32_t seed, std::size_t node_count)
    : random_(seed) {
  for (std::size_t i = 0; i < node_count; ++i) {
    nodes.push_back(std::make_unique<WorldNode>(this, i));
    NewBook(nodes.back().get());
  }
}

void ClusterWorld::NewBook(WorldNode* node) {
  node->instance = ++last_instance_;
  node->memory = {};
  SharedRefs shared;
  shared.node = node->name;
  shared.instance = node->instance;
  shared.is_alive = [this](const std::string& name, std::uint64_t instance) {
    return std::any_of(nodes.begin(), nodes.end(), [&](const auto& other) {
      return other->name == name && other->instance == instance && other->up &&
             !other->away;
    });
  };
  shared.is_reachable = [] { return true; };
  shared.epoch = [this] { return epoch_; };
  shared.refresh_ns = 5 * kSecond;
  shared.away_ns = 60 * kSecond;
  node->book = std::make_unique<AgentBook>(
      &refs, kTenant, [this] { return ++last_lineage_; }, shared);
}

void ClusterWorld::Put(WorldNode* node, const Key& key,
                       const std::string& bytes) {
  node->blocks.disk[key] = bytes;
  int copies = 0;
  for (const auto& other : nodes) {
    if (!other->up || other->away || copies == 2) continue;
    other->blocks.lent[key] = bytes;
    ++copies;
  }
}

bool ClusterWorld::Open(WorldNode* node, const std::string& name,
                        bool take_over) {
  if (node->writers.contains(name)) return false;
  ++token_;
  const std::uint32_t flags =
      kOpenWrite | kOpenCreate | (take_over ? kOpenTakeOver : 0);
  auto opened =
      node->book->Open(name, flags, {}, {token_, "writer", 1, 0}, now_ns);
  EXPECT_TRUE(MayBe(opened.status())) << opened.status().ToString();
  if (!opened.ok()) return false;
  WorldWriter writer;
  writer.state = opened->state;
  writer.fence = opened->fence.value();
  writer.token = token_;
  {
    MutexLock lock(&writer.state->mutex);
    writer.lineage = writer.state->record.lineage;
  }
  if (opened->made) {
    RecordChange change;
    change.edit = [](AgentRecord* record) {
      RegionRecord region;
      region.name = "heap";
      region.id = record->next_region_id++;
      region.bytes = kRegionBytes;
      record->regions.push_back(region);
      return absl::OkStatus();
    };
    const absl::Status made =
        node->book->Change(writer.state.get(), token_, change);
    EXPECT_TRUE(MayBe(made)) << made.ToString();
    if (!made.ok()) return false;
  }
  node->writers[name] = writer;
  return true;
}

bool ClusterWorld::Settle(WorldNode* node, AgentState* state) {
  {
    MutexLock lock(&state->mutex);
    state->unsettled.clear();
  }
  const absl::Status settled = node->book->Persist(state);
  EXPECT_TRUE(MayBe(settled)) << settled.ToString();
  return settled.ok();
}

void ClusterWorld::Close(WorldNode* node, const std::string& name) {
  const auto writer = node->writers.find(name);
  if (writer == node->writers.end()) return;
  if (node->in_flight.contains(name)) GiveUp(node, name);
  Settle(node, writer->second.state.get());
  node->book->Release(writer->second.state.get(), writer->second.token);
  node->writers.erase(writer);
}

Key ClusterWorld::NewKey(WorldWriter* writer, WorldCommit* commit) {
  const Key key =
      MakeRegionKey(writer->lineage, writer->fence, ++writer->counter);
  MutexLock lock(&writer->state->mutex);
  writer->state->in_hand.insert(key);
  return commit->made.emplace_back(key);
}

bool ClusterWorld::BeginCommit(WorldNode* node, const std::string& name,
                               bool durable) {
  if (!node->writers.contains(name) || node->in_flight.contains(name)) {
    return false;
  }
  WorldWriter& writer = node->writers.at(name);
  if (!node->book->CheckWriter(writer.state.get(), writer.token).ok()) {
    return false;
  }
  WorldCommit commit;
  commit.durable = durable;
  {
    MutexLock lock(&writer.state->mutex);
    if (writer.state->record.regions.empty()) return false;
    commit.parent = writer.state->record.regions[0].head;
  }
  NodeLoader loader(&node->blocks);
  VersionChange change;
  std::optional<Manifest> base;
  if (commit.parent.number != 0) {
    auto opened = OpenVersion(commit.parent, &node->blocks);
    // (Another took it over, and gave this version up.)
    if (!opened.ok()) return false;
    base = *opened;
    commit.pages = content.at(commit.parent.key);
  }
  std::set<std::uint64_t> changed;
  for (std::uint32_t i = Roll(6) == 0 ? 300 : 1 + Roll(3); i > 0; --i) {
    changed.insert(Roll(2) == 0 ? Roll(8) : Roll(kRegionBytes / kPageBytes));
  }
  for (const std::uint64_t page : changed) {
    const Key key = NewKey(&writer, &commit);
    Put(node, key, "x");
    Piece piece;
    piece.key = key;
    piece.block_bytes = piece.bytes = 1;
    piece.units = kAllUnits;
    piece.base = true;
    change.pages.push_back({page, {{piece}}});
    commit.pages[page] = key;
  }
  change.info.region_id = 1;
  change.info.region_bytes = kRegionBytes;
  change.info.parent = commit.parent;
  change.info.number = commit.parent.number + 1;
  change.info.wall_time_ns = now_ns;
  change.base = base ? &*base : nullptr;
  auto version =
      BuildVersion(change, &loader, [&] { return NewKey(&writer, &commit); });
  commit.writer = writer;
  if (!version.ok()) {
    PutDown(commit);
    return false;
  }
  for (const NewBlock& block : version->nodes) {
    Put(node, block.key, block.bytes);
  }
  commit.bytes = version->version.bytes;
  const Key& key = version->version.key;
  Put(node, key, commit.bytes);
  commit.link = {change.info.number, key,
                 static_cast<std::uint32_t>(commit.bytes.size())};
  content[key] = commit.pages;
  parents[key] = commit.parent;
  node->in_flight[name] = std::move(commit);
  return true;
}

bool ClusterWorld::FinishCommit(WorldNode* node, const std::string& name) {
  if (!node->in_flight.contains(name)) return false;
  WorldCommit commit = std::move(node->in_flight[name]);
  node->in_flight.erase(name);
  AgentState* const state = commit.writer.state.get();
  if (commit.durable) Settle(node, state);
  RecordChange change;
  change.durable = commit.durable;
  if (!commit.durable) change.unsettled = commit.made;
  change.edit = [&](AgentRecord* record) -> absl::Status {
    RegionRecord& region = record->regions.at(0);
    if (!(region.head == commit.parent)) return Aborted("another version");
    region.head = commit.link;
    if (region.oldest_kept == 0) region.oldest_kept = commit.link.number;
    return absl::OkStatus();
  };
  const absl::Status status =
      node->book->Change(state, commit.writer.token, change);
  if (status.code() == absl::StatusCode::kUnavailable) {
    return false;  // it stays in hand: who knows
  }
  EXPECT_TRUE(MayBe(status)) << status.ToString();
  PutDown(commit);
  if (!status.ok()) node->book->NoteGarbage(commit.writer.lineage);
  return status.ok();
}

void ClusterWorld::GiveUp(WorldNode* node, const std::string& name) {
  const WorldCommit commit = std::move(node->in_flight[name]);
  node->in_flight.erase(name);
  PutDown(commit);
  node->book->NoteGarbage(commit.writer.lineage);
}

void ClusterWorld::PutDown(const WorldCommit& commit) {
  MutexLock lock(&commit.writer.state->mutex);
  for (const Key& key : commit.made) commit.writer.state->in_hand.erase(key);
}

VersionLink ClusterWorld::AnyVersion(AgentState* state,
                                     std::uint64_t* lineage) {
  MutexLock lock(&state->mutex);
  if (state->deleted || state->record.regions.empty()) return {};
  *lineage = state->record.lineage;
  const RegionRecord& region = state->record.regions[0];
  VersionLink link = region.head;
  for (std::uint32_t back = Roll(4); back > 0 && link.number != 0; --back) {
    if (link.number <= region.oldest_kept) break;
    link = parents.at(link.key);
  }
  return link;
}

bool ClusterWorld::Fork(WorldNode* node, const std::string& from,
                        const std::string& to, bool at_any_version) {
  auto state =
      at_any_version ? node->book->FindToRead(from) : node->book->Find(from);
  EXPECT_TRUE(MayBe(state.status())) << state.status().ToString();
  if (!state.ok()) return false;
  VersionLink at;
  std::uint64_t lineage = 0;
  std::unique_ptr<VersionHold> hold;
  if (at_any_version) {
    at = AnyVersion(state->get(), &lineage);
    if (at.number != 0) hold = std::make_unique<VersionHold>(*state, at);
    Between();
  }
  Settle(node, state->get());
  const absl::Status status =
      node->book->Fork(state->get(), to, at, now_ns, lineage);
  EXPECT_TRUE(MayBe(status)) << status.ToString();
  return status.ok();
}

bool ClusterWorld::Delete(WorldNode* node, const std::string& name) {
  Close(node, name);
  auto state = node->book->Find(name);
  if (!state.ok()) return false;
  const absl::Status status = node->book->Delete(state->get());
  EXPECT_TRUE(MayBe(status)) << status.ToString();
  return status.ok();
}

bool ClusterWorld::Read(WorldNode* node, const std::string& name) {
  // One that is open already holds on to what it knows of it.
  std::shared_ptr<AgentState> open;
  for (const WorldReader& reader : node->readers) {
    if (reader.state->name == name && Roll(2) == 0) open = reader.state;
  }
  if (open == nullptr) {
    auto state = node->book->FindToRead(name);
    EXPECT_TRUE(MayBe(state.status())) << state.status().ToString();
    if (!state.ok()) return false;
    open = *std::move(state);
  } else if (!node->book->ReadOn(open).ok()) {
    return false;
  }
  WorldReader reader;
  std::uint64_t lineage = 0;
  reader.state = open;
  reader.link = AnyVersion(open.get(), &lineage);
  if (reader.link.number == 0) return false;
  reader.hold = std::make_unique<VersionHold>(open, reader.link);
  node->readers.push_back(std::move(reader));
  return true;
}

bool ClusterWorld::Retain(WorldNode* node, const std::string& name,
                          const Retention& retention) {
  auto state = node->book->Find(name);
  if (!state.ok()) return false;
  Settle(node, state->get());
  const absl::Status status =
      node->book->Amend(state->get(), [&](AgentRecord* record) {
        record->retention = retention;
        return absl::OkStatus();
      });
  EXPECT_TRUE(MayBe(status)) << status.ToString();
  return status.ok();
}

void ClusterWorld::Kill(WorldNode* node) {
  ++epoch_;
  node->up = false;
  node->away = false;
  node->in_flight.clear();
  node->readers.clear();
  node->writers.clear();
  node->book.reset();
  node->blocks.lent.clear();
}

void ClusterWorld::Start(WorldNode* node) {
  ++epoch_;
  node->up = true;
  NewBook(node);
}

void ClusterWorld::Leave(WorldNode* node) {
  ++epoch_;
  node->away = true;
}

// What it had may have been given up by the others; what it has not lost by
// that is good.
void ClusterWorld::Return(WorldNode* node) {
  ++epoch_;
  node->away = false;
  node->readers.clear();
  while (!node->in_flight.empty()) {
    FinishCommit(node, node->in_flight.begin()->first);
  }
  while (!node->writers.empty()) Close(node, node->writers.begin()->first);
}

void ClusterWorld::Tend(WorldNode* node) {
  WorldNode* const before = std::exchange(acting_, node);
  const auto view = node->book->View();
  ASSERT_TRUE(view.ok()) << view.status().ToString();
  const absl::Status tended =
      node->book->TendUses(&*view, now_ns, [&](std::uint64_t lineage) {
        return std::any_of(
            node->blocks.disk.begin(), node->blocks.disk.end(),
            [&](const auto& at) { return LineageOf(at.first) == lineage; });
      });
  acting_ = before;
  ASSERT_TRUE(MayBe(tended)) << tended.ToString();
}

Collected ClusterWorld::Collect(WorldNode* node, bool everywhere) {
  if (node->up) Tend(node);
  if (everywhere) node->book->NoteGarbageEverywhere();
  Collector collector(
      node->book.get(), &node->blocks, [] { return true; }, &node->memory);
  collecting_ = node;
  WorldNode* const before = std::exchange(acting_, node);
  const auto done = collector.Run(now_ns);
  acting_ = before;
  collecting_ = nullptr;
  EXPECT_TRUE(done.ok()) << done.status().ToString();
  return done.value_or(Collected());
}

void ClusterWorld::CollectAll() {
  for (int i = 0; i < 6; ++i) {
    now_ns += 61 * kSecond;
    for (const auto& node : nodes) {
      if (node->up && !node->away) Collect(node.get(), true);
    }
  }
}

void ClusterWorld::Trouble(WorldNode* node) {
  // One of them at a time, so that all blocks are somewhere.
  const bool all_well =
      std::all_of(nodes.begin(), nodes.end(),
                  [](const auto& other) { return other->up && !other->away; });
  if (node == collecting_) return;
  if (!node->up) return Start(node);
  if (node->away) return Return(node);
  switch (all_well ? Roll(4) : 3) {
    case 0:
      return Kill(node);
    case 1:
      return Leave(node);
    case 2:
      node->deaf = !node->deaf;
      return;
    default:
      return;
  }
}

void ClusterWorld::Act() {
  if (collecting_ == nullptr && Roll(4) == 0) now_ns += kSecond;
  WorldNode* const node =
      nodes[Roll(static_cast<std::uint32_t>(nodes.size()))].get();
  WorldNode* const before = std::exchange(acting_, node);
  if (Roll(40) == 0) {
    Trouble(node);
  } else if (node->up && !node->away) {
    ActOn(node);
  }
  acting_ = before;
}

void ClusterWorld::ActElsewhere() {
  if (Roll(8) != 0) return;
  WorldNode* const node =
      nodes[Roll(static_cast<std::uint32_t>(nodes.size()))].get();
  if (node == acting_ || !node->up || node->away) return;
  // Nothing of this may come back to who holds locks.
  auto hook = std::exchange(between, nullptr);
  WorldNode* const before = std::exchange(acting_, node);
  for (std::uint32_t acts = 1 + Roll(4); acts > 0; --acts) ActOn(node);
  acting_ = before;
  between = std::move(hook);
}

void ClusterWorld::ActOn(WorldNode* node) {
  const std::string name(1, static_cast<char>('a' + Roll(5)));
  const std::string other(1, static_cast<char>('a' + Roll(5)));
  switch (Roll(18)) {
    case 0: {
      static constexpr Retention kSome[] = {{RetentionKind::kLast, 1},
                                            {RetentionKind::kLast, 2},
                                            {RetentionKind::kAge, 5 * kSecond},
                                            {}};
      Retain(node, name, kSome[Roll(4)]);
      return;
    }
    case 1:
      if (name != other) Fork(node, name, other, Roll(2) == 0);
      return;
    case 2:
      if (Roll(4) == 0) {
        Delete(node, name);
      } else {
        Close(node, name);
      }
      return;
    case 3:
    case 4:
      Read(node, name);
      return;
    case 5:
      if (!node->readers.empty()) {
        node->readers.erase(
            node->readers.begin() +
            Roll(static_cast<std::uint32_t>(node->readers.size())));
      }
      return;
    case 6:
      if (node->in_flight.contains(name)) GiveUp(node, name);
      return;
    case 7:
      if (Roll(4) == 0) refs.delayed = "agent/";
      if (Roll(2) == 0) refs.Deliver();
      return;
    case 8:
      if (Roll(3) == 0) Tend(node);
      return;
    case 9:
    case 10:
      Open(node, name, Roll(3) == 0);
      return;
    case 11:
    case 12:
    case 13:
      BeginCommit(node, name, Roll(4) != 0);
      return;
    default:
      FinishCommit(node, name);
      return;
  }
}

}  // namespace agentmem
