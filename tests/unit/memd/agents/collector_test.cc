// Collection against a model: agents commit, fork, are deleted, give versions
// up and are read, also at every point within a round. Nothing that a version
// needs may go; everything else must, in the end.
#include "memd/agents/collector.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "memd/agents/block_walk.h"
#include "memd/agents/history.h"
#include "memd/agents/manifest_builder.h"
#include "proto/key_text.h"
#include "tests/unit/memd/agents/fake_refs.h"
#include "tests/unit/memd/agents/region_harness.h"

namespace agentmem {
namespace {

constexpr TenantId kTenant(3);
constexpr std::uint64_t kRegionBytes = 1ULL << 30;
constexpr std::int64_t kSecond = 1'000'000'000;

// What the store has, and a way in between the collector's steps.
class HookedBlocks final : public CollectedBlocks, public NodeSource {
 public:
  absl::Status List(std::uint64_t lineage,
                    const std::function<void(const Key&)>& visit) override {
    Between();
    for (const auto& [key, bytes] : blocks.blocks) {
      if (LineageOf(key) == lineage) visit(key);
    }
    Between();
    return absl::OkStatus();
  }
  absl::Status ListLent(const absl::flat_hash_set<std::uint64_t>&,
                        const std::function<void(const Key&)>&) override {
    return absl::OkStatus();
  }
  std::size_t Drop(std::span<const Key> keys) override {
    Between();
    std::size_t left = 0;
    for (const Key& key : keys) {
      if (in_use.contains(key)) {
        ++left;
      } else {
        blocks.blocks.erase(key);
      }
    }
    return left;
  }
  NodeSource* nodes() override { return this; }
  absl::StatusOr<std::string> Read(const Key& key,
                                   std::uint32_t bytes) override {
    Between();
    return blocks.Read(key, bytes);
  }

  MemoryBlocks blocks;
  std::set<Key> in_use;
  std::function<void()> between;

 private:
  void Between() {
    if (between) between();
  }
};

using Pages = std::map<std::uint64_t, Key>;  // page -> the block of its bytes

// Agents of one region, written by one session each.
class World {
 public:
  explicit World(std::uint32_t seed) : random_(seed) {
    refs_.on_block = [this](const RefBlock& block) {
      blocks.blocks.blocks[block.key].assign(block.bytes.begin(),
                                             block.bytes.end());
    };
  }

  std::uint32_t Roll(std::uint32_t below) {
    return std::uniform_int_distribution<std::uint32_t>(0, below - 1)(random_);
  }

  std::unique_ptr<AgentBook> NewBook() {
    return std::make_unique<AgentBook>(&refs_, kTenant,
                                       [this] { return ++last_lineage_; });
  }

  // memd is killed: what the refs say is all that there is.
  void Crash() {
    in_flight.clear();
    readers.clear();
    writers.clear();
    book = NewBook();
  }

  struct Writer {
    std::shared_ptr<AgentState> state;
    std::uint64_t lineage = 0;
    std::uint64_t fence = 0;
    std::uint64_t token = 0;
    std::uint64_t counter = 0;
  };
  // A commit between its blocks and its record.
  struct InFlight {
    Writer writer;
    VersionLink parent;
    VersionLink link;
    std::string bytes;
    Pages pages;
    std::vector<Key> made;
    bool durable = true;
  };
  struct Reader {
    std::unique_ptr<VersionHold> hold;
    VersionLink link;
  };

  void Open(const std::string& name) {
    if (writers.contains(name)) return;
    ++token_;
    auto opened = book->Open(name, kOpenWrite | kOpenCreate, {},
                             {token_, "writer", 1, 0}, now_ns);
    ASSERT_TRUE(opened.ok()) << opened.status().ToString();
    Writer writer;
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
      ASSERT_TRUE(book->Change(writer.state.get(), token_, change).ok());
    }
    writers[name] = writer;
  }

  void Close(const std::string& name) {
    auto writer = writers.find(name);
    if (writer == writers.end()) return;
    if (in_flight.contains(name)) GiveUp(name);
    Settle(name);
    book->Release(writer->second.state.get(), writer->second.token);
    writers.erase(writer);
  }

  void Settle(const std::string& name) {
    Writer& writer = writers.at(name);
    {
      MutexLock lock(&writer.state->mutex);
      writer.state->unsettled.clear();
    }
    ASSERT_TRUE(book->Persist(writer.state.get()).ok());
  }

  RegionRecord Record(const std::string& name) {
    auto state = book->Find(name);
    if (!state.ok()) return {};
    MutexLock lock(&(*state)->mutex);
    return (*state)->record.regions.at(0);
  }

  Key NewKey(Writer* writer, InFlight* commit) {
    const Key key =
        MakeRegionKey(writer->lineage, writer->fence, ++writer->counter);
    MutexLock lock(&writer->state->mutex);
    writer->state->in_hand.insert(key);
    return commit->made.emplace_back(key);
  }

  void BeginCommit(const std::string& name) {
    if (!writers.contains(name) || in_flight.contains(name)) return;
    Writer& writer = writers.at(name);
    const RegionRecord record = Record(name);
    InFlight commit;
    commit.writer = writer;
    commit.durable = Roll(4) != 0;
    commit.parent = record.head;
    NodeLoader loader(&blocks.blocks);
    VersionChange change;
    std::optional<Manifest> base;
    if (record.head.number != 0) {
      auto opened = OpenVersion(record.head, &blocks.blocks);
      ASSERT_TRUE(opened.ok()) << opened.status().ToString();
      base = *opened;
      commit.pages = content.at(record.head.key);
    }
    std::set<std::uint64_t> changed;
    for (std::uint32_t i = Roll(6) == 0 ? 300 : 1 + Roll(3); i > 0; --i) {
      changed.insert(Roll(2) == 0 ? Roll(8) : Roll(kRegionBytes / kPageBytes));
    }
    for (const std::uint64_t page : changed) {
      const Key key = NewKey(&writer, &commit);
      blocks.blocks.blocks[key] = "x";
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
    change.info.parent = record.head;
    change.info.number = record.head.number + 1;
    change.info.wall_time_ns = now_ns;
    change.base = base ? &*base : nullptr;
    auto version =
        BuildVersion(change, &loader, [&] { return NewKey(&writer, &commit); });
    ASSERT_TRUE(version.ok()) << version.status().ToString();
    for (const NewBlock& node : version->nodes) {
      blocks.blocks.blocks[node.key] = node.bytes;
    }
    commit.bytes = version->version.bytes;
    const Key& key = version->version.key;
    commit.link = {change.info.number, key,
                   static_cast<std::uint32_t>(commit.bytes.size())};
    if (!commit.durable) blocks.blocks.blocks[key] = commit.bytes;
    in_flight[name] = std::move(commit);
  }

  void FinishCommit(const std::string& name) {
    if (!in_flight.contains(name)) return;
    InFlight commit = std::move(in_flight[name]);
    in_flight.erase(name);
    if (commit.durable) Settle(name);
    AgentState* const state = commit.writer.state.get();
    const RefBlock block = {kTenant, commit.link.key, commit.bytes};
    RecordChange change;
    change.durable = commit.durable;
    if (commit.durable) {
      change.blocks = {&block, 1};
    } else {
      change.unsettled = commit.made;
    }
    change.edit = [&](AgentRecord* record) {
      RegionRecord& region = record->regions.at(0);
      region.head = commit.link;
      if (region.oldest_kept == 0) region.oldest_kept = commit.link.number;
      return absl::OkStatus();
    };
    const absl::Status status =
        book->Change(state, commit.writer.token, change);
    ASSERT_TRUE(status.ok()) << status.ToString();
    PutDown(commit);
    content[commit.link.key] = commit.pages;
    parents[commit.link.key] = commit.parent;
  }

  void GiveUp(const std::string& name) {
    const InFlight commit = std::move(in_flight[name]);
    in_flight.erase(name);
    PutDown(commit);
    book->NoteGarbage(commit.writer.lineage);
  }

  void PutDown(const InFlight& commit) {
    MutexLock lock(&commit.writer.state->mutex);
    for (const Key& key : commit.made) {
      commit.writer.state->in_hand.erase(key);
    }
  }

  // A version that the agent still has.
  VersionLink AnyVersion(const std::string& name) {
    const RegionRecord record = Record(name);
    if (record.head.number == 0) return {};
    VersionLink link = record.head;
    for (std::uint32_t back = Roll(4); back > 0; --back) {
      if (link.number <= record.oldest_kept) break;
      link = parents.at(link.key);
    }
    return link;
  }

  void Fork(const std::string& from, const std::string& to) {
    auto state = book->Find(from);
    if (!state.ok()) return;
    VersionLink at;
    std::unique_ptr<VersionHold> hold;
    if (Roll(2) == 0) {
      at = AnyVersion(from);
      if (at.number != 0) hold = std::make_unique<VersionHold>(*state, at);
    }
    if (writers.contains(from)) Settle(from);
    const absl::Status status = book->Fork(state->get(), to, at, now_ns);
    ASSERT_TRUE(status.ok() ||
                status.code() == absl::StatusCode::kAlreadyExists)
        << status.ToString();
  }

  void Delete(const std::string& name) {
    Close(name);
    auto state = book->Find(name);
    if (!state.ok()) return;
    ASSERT_TRUE(book->Delete(state->get()).ok());
  }

  void Read(const std::string& name) {
    auto state = book->Find(name);
    if (!state.ok()) return;
    Reader reader;
    reader.link = AnyVersion(name);
    if (reader.link.number == 0) return;
    reader.hold = std::make_unique<VersionHold>(*state, reader.link);
    readers.push_back(std::move(reader));
  }

  void Retain(const std::string& name) {
    auto state = book->Find(name);
    if (!state.ok()) return;
    if (writers.contains(name)) Settle(name);
    Retention retention;
    switch (Roll(3)) {
      case 0:
        retention = {RetentionKind::kLast, 1 + Roll(3)};
        break;
      case 1:
        retention = {RetentionKind::kAge, (1ULL + Roll(20)) * kSecond};
        break;
      default:
        break;
    }
    const absl::Status status =
        book->Amend(state->get(), [&](AgentRecord* record) {
          record->retention = retention;
          return absl::OkStatus();
        });
    ASSERT_TRUE(status.ok()) << status.ToString();
  }

  void Act() {
    now_ns += Roll(3) * kSecond;
    const std::string name(1, static_cast<char>('a' + Roll(5)));
    const std::string other(1, static_cast<char>('a' + Roll(5)));
    switch (Roll(16)) {
      case 0:
        return Retain(name);
      case 1:
        if (name != other) Fork(name, other);
        return;
      case 2:
        return Roll(4) == 0 ? Delete(name) : Close(name);
      case 3:
        return Read(name);
      case 4:
        if (!readers.empty()) {
          readers.erase(readers.begin() +
                        Roll(static_cast<std::uint32_t>(readers.size())));
        }
        return;
      case 5:
        if (in_flight.contains(name)) GiveUp(name);
        return;
      case 6:
      case 7:
      case 8:
        return Open(name);
      case 9:
      case 10:
      case 11:
      case 12:
        return BeginCommit(name);
      default:
        return FinishCommit(name);
    }
  }

  void CheckVersion(const VersionLink& link, std::set<Key>* needed) {
    auto version = OpenVersion(link, &blocks.blocks);
    ASSERT_TRUE(version.ok()) << version.status().ToString();
    NodeLoader loader(&blocks.blocks);
    const auto need = [&](const Key& key) {
      EXPECT_TRUE(blocks.blocks.blocks.contains(key)) << KeyText(key);
      needed->insert(key);
    };
    const absl::Status walked =
        ForEachBlock(*version, &loader, nullptr,
                     [&](const Key& key, std::uint32_t, BlockKind kind) {
                       if (kind != BlockKind::kPiece) need(key);
                       return absl::OkStatus();
                     });
    ASSERT_TRUE(walked.ok()) << walked.ToString();
    // (What an overlay hides is not needed.)
    for (const auto& [page, block] : content.at(link.key)) {
      auto found = version->Find(page, &loader);
      ASSERT_TRUE(found.ok()) << found.status().ToString();
      ASSERT_EQ(found->pieces.size(), 1u);
      ASSERT_EQ(found->pieces[0].key, block);
      need(block);
    }
  }

  // Every version that anyone may ask for is whole; the blocks of them all.
  std::set<Key> CheckAll() {
    std::set<Key> needed;
    const auto names = book->List("");
    EXPECT_TRUE(names.ok());
    for (const std::string& name : *names) {
      const RegionRecord record = Record(name);
      for (VersionLink link = record.head;
           link.number != 0 && link.number >= record.oldest_kept;
           link = parents.at(link.key)) {
        CheckVersion(link, &needed);
        if (::testing::Test::HasFatalFailure()) return needed;
      }
    }
    for (const Reader& reader : readers) CheckVersion(reader.link, &needed);
    for (const auto& [name, commit] : in_flight) {
      for (const Key& key : commit.made) {
        if (key == commit.link.key && commit.durable) continue;
        EXPECT_TRUE(blocks.blocks.blocks.contains(key)) << KeyText(key);
        needed.insert(key);
      }
    }
    return needed;
  }

  Collected Collect() {
    Collector collector(book.get(), &blocks, [] { return true; });
    const auto done = collector.Run(now_ns);
    EXPECT_TRUE(done.ok()) << done.status().ToString();
    return done.value_or(Collected());
  }

  std::mt19937 random_;
  FakeRefs refs_;
  std::uint64_t last_lineage_ = 0;
  std::unique_ptr<AgentBook> book = NewBook();
  HookedBlocks blocks;
  std::map<std::string, Writer> writers;
  std::map<std::string, InFlight> in_flight;
  std::vector<Reader> readers;
  std::map<Key, Pages> content;        // by version
  std::map<Key, VersionLink> parents;  // by version
  std::int64_t now_ns = 1'700'000'000 * kSecond;
  std::uint64_t token_ = 0;
};

class CollectorSeeds : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(CollectorSeeds, NothingThatIsNeededGoesAndAllElseDoes) {
  World world(GetParam());
  std::uint64_t dropped = 0;
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 20; ++i) world.Act();
    if (HasFatalFailure()) return;
    world.blocks.between = [&world] {
      if (world.Roll(3) != 0) return;
      for (std::uint32_t acts = 1 + world.Roll(12); acts > 0; --acts) {
        world.Act();
      }
    };
    const Collected done = world.Collect();
    world.blocks.between = nullptr;
    EXPECT_EQ(done.failed, 0u);
    dropped += done.dropped;
    world.CheckAll();
    if (HasFailure()) return;
    if (world.Roll(4) == 0) world.Crash();
    world.CheckAll();
    if (HasFailure()) return;
  }
  EXPECT_GT(dropped, 100u);
  // In peace, all that is left is needed.
  while (!world.writers.empty()) world.Close(world.writers.begin()->first);
  for (int i = 0; i < 3 || world.book->HasGarbage(); ++i) {
    ASSERT_LT(i, 10);
    world.book->NoteGarbageEverywhere();
    world.Collect();
  }
  const std::set<Key> needed = world.CheckAll();
  for (const auto& [key, bytes] : world.blocks.blocks.blocks) {
    EXPECT_TRUE(needed.contains(key)) << KeyText(key) << " is left";
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, CollectorSeeds,
                         ::testing::Range<std::uint32_t>(1, 41));

TEST(CollectorTest, WhatIsInUseGoesLater) {
  World world(1);
  world.Open("a");
  world.BeginCommit("a");
  world.FinishCommit("a");
  world.Delete("a");
  for (const auto& [key, bytes] : world.blocks.blocks.blocks) {
    world.blocks.in_use.insert(key);
  }
  EXPECT_GT(world.Collect().kept_back, 0u);
  EXPECT_TRUE(world.book->HasGarbage());
  world.blocks.in_use.clear();
  EXPECT_GT(world.Collect().dropped, 0u);
  EXPECT_TRUE(world.blocks.blocks.blocks.empty());
}

TEST(CollectorTest, AGoneAgentIsForgottenWithItsLastBlock) {
  World world(2);
  world.Open("a");
  world.BeginCommit("a");
  world.FinishCommit("a");
  world.Delete("a");
  EXPECT_EQ(world.book->Known()->size(), 1u);
  world.Collect();
  world.book->NoteGarbageEverywhere();
  world.Collect();
  EXPECT_TRUE(world.book->Known()->empty());
}

// A family whose versions cannot all be read keeps everything; others do not.
TEST(CollectorTest, AFamilyThatCannotBeWalkedKeepsItsBlocks) {
  World world(3);
  for (const char* const name : {"a", "b"}) {
    world.Open(name);
    for (int i = 0; i < 3; ++i) {
      world.BeginCommit(name);
      world.FinishCommit(name);
    }
    world.Close(name);
  }
  world.Fork("a", "c");
  world.Delete("a");
  world.Delete("b");
  world.blocks.blocks.blocks.erase(world.Record("c").head.key);
  const std::size_t before = world.blocks.blocks.blocks.size();
  const Collected done = world.Collect();
  EXPECT_EQ(done.failed, 1u);
  EXPECT_GT(done.dropped, 0u) << "b's";
  EXPECT_EQ(world.blocks.blocks.blocks.size(), before - done.dropped);
}

TEST(CollectorTest, ARoundThatIsStoppedIsMadeAgain) {
  World world(4);
  world.Open("a");
  world.BeginCommit("a");
  world.FinishCommit("a");
  world.Delete("a");
  Collector stopped(world.book.get(), &world.blocks, [] { return false; });
  EXPECT_FALSE(stopped.Run(world.now_ns).ok());
  EXPECT_TRUE(world.book->HasGarbage());
  EXPECT_GT(world.Collect().dropped, 0u);
}

}  // namespace
}  // namespace agentmem
