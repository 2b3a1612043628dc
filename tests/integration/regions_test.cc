// Agents and regions against a real memd: what is committed comes back, whole
// and to whoever opens it.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include "tests/integration/region_bytes.h"

namespace agentmem {
namespace {

TEST(RegionsTest, ACommittedRegionComesBackToAnotherProcessAfterKillNine) {
  MemdProcess memd("64MiB");
  Child writer([&](int say) {
    Client client = ConnectTo(memd, "writer");
    auto agent = client.Agents().Open("a", {.write = true, .create = true});
    if (!agent) return Complain(agent.status());
    auto region = agent->OpenRegion("heap", {.bytes = 4 * kMiB});
    if (!region) return Complain(region.status());
    Fill(region->data(), 4 * kMiB, 1);
    auto version = region->Commit({.message = "first"});
    if (!version) return Complain(version.status());
    Fill(region->data() + kMiB, 4096, 2);  // not committed
    [[maybe_unused]] ssize_t said = ::write(say, "x", 1);
    ::pause();
    return 0;
  });
  ASSERT_TRUE(writer.Hear());
  writer.Kill();
  writer.Wait();
  for (int restart = 0; restart < 2; ++restart) {
    Client client = ConnectTo(memd, "reader");
    auto agent = client.Agents().Open("a", {.write = true});
    ASSERT_TRUE(agent) << agent.status().message();
    auto region = agent->OpenRegion("heap");
    ASSERT_TRUE(region) << region.status().message();
    ASSERT_NE(region->data(), nullptr);
    EXPECT_EQ(region->size(), 4 * kMiB);
    EXPECT_EQ(region->version(), 1u);
    EXPECT_TRUE(IsFilled(region->data(), 4 * kMiB, 1));
    if (restart == 0) {
      memd.Kill();
      memd.Start();
    }
  }
  EXPECT_EQ(memd.Stop(), 0) << memd.Log();
}

TEST(RegionsTest, EveryVersionOfRandomCommitsIsReadable) {
  MemdProcess memd("64MiB");
  Client client = ConnectTo(memd);
  auto agent = client.Agents().Open("a", {.write = true, .create = true});
  ASSERT_TRUE(agent) << agent.status().message();
  constexpr std::uint64_t kBytes = 2 * kMiB + 12288;
  auto region = agent->OpenRegion("heap", {.bytes = kBytes});
  ASSERT_TRUE(region) << region.status().message();
  std::vector<std::vector<std::byte>> versions;
  std::mt19937_64 random(7);
  for (std::uint64_t step = 0; step < 40; ++step) {
    const int writes = static_cast<int>(random() % 30);
    for (int i = 0; i <= writes; ++i) {
      const std::uint64_t length = 8 + random() % 9000 / 8 * 8;
      const std::uint64_t at = random() % (kBytes - length);
      if (random() % 8 == 0) {
        std::memset(region->data() + at, 0, length);
      } else {
        Fill(region->data() + at, length, random());
      }
    }
    const Ack ack = random() % 2 ? Ack::kDurable : Ack::kVisible;
    auto version = region->Commit({.ack = ack});
    ASSERT_TRUE(version) << version.status().message();
    ASSERT_EQ(*version, step + 1);
    versions.emplace_back(region->data(), region->data() + kBytes);
  }
  auto reader = client.Agents().Open("a");
  ASSERT_TRUE(reader) << reader.status().message();
  for (std::uint64_t step = 0; step < versions.size(); ++step) {
    auto old = reader->OpenRegion("heap", {.version = step + 1});
    ASSERT_TRUE(old) << old.status().message();
    ASSERT_EQ(std::memcmp(old->data(), versions[step].data(), kBytes), 0)
        << "version " << step + 1;
  }
  auto history = client.Agents().History("a", "heap");
  ASSERT_TRUE(history) << history.status().message();
  EXPECT_EQ(history->size(), versions.size());
}

TEST(RegionsTest, ARegionOfFourTimesTheMemoryKeepsItsBytes) {
  MemdProcess memd("32MiB");
  Client client = ConnectTo(memd);
  auto agent = client.Agents().Open("a", {.write = true, .create = true});
  ASSERT_TRUE(agent) << agent.status().message();
  constexpr std::uint64_t kPages = 2048;  // 128 MiB
  auto region = agent->OpenRegion("heap", {.bytes = kPages << 16});
  ASSERT_TRUE(region) << region.status().message();
  for (std::uint64_t page = 0; page < kPages; ++page) {
    Fill(region->data() + (page << 16), 1 << 16, page);
  }
  std::mt19937_64 random(3);
  for (int i = 0; i < 2000; ++i) {
    const std::uint64_t page = random() % kPages;
    ASSERT_TRUE(IsFilled(region->data() + (page << 16), 1 << 16, page))
        << "page " << page << "\n"
        << memd.Log();
  }
  auto version = region->Commit({.message = "all of it"});
  ASSERT_TRUE(version) << version.status().message() << memd.Log();
  for (std::uint64_t page = 0; page < kPages; ++page) {
    ASSERT_TRUE(IsFilled(region->data() + (page << 16), 1 << 16, page));
  }
}

TEST(RegionsTest, PagesOfAnIdleProcessMakeRoomForAnother) {
  MemdProcess memd("32MiB");
  Client idle = ConnectTo(memd, "idle");
  Client busy = ConnectTo(memd, "busy");
  auto first = idle.Agents().Open("a", {.write = true, .create = true});
  auto full = first->OpenRegion("heap", {.bytes = 64 * kMiB});
  ASSERT_TRUE(full) << full.status().message();
  Fill(full->data(), 64 * kMiB, 1);  // changed, and twice what there is
  auto second = busy.Agents().Open("b", {.write = true, .create = true});
  auto region = second->OpenRegion("heap", {.bytes = 64 * kMiB});
  ASSERT_TRUE(region) << region.status().message();
  Fill(region->data(), 64 * kMiB, 2);
  EXPECT_TRUE(IsFilled(region->data(), 64 * kMiB, 2));
  EXPECT_TRUE(IsFilled(full->data(), 64 * kMiB, 1));
}

TEST(RegionsTest, ACommitIsAMomentWhileAnotherThreadWrites) {
  MemdProcess memd("64MiB");
  Client client = ConnectTo(memd);
  auto agent = client.Agents().Open("a", {.write = true, .create = true});
  auto region = agent->OpenRegion("heap", {.bytes = 32 * kMiB});
  ASSERT_TRUE(region) << region.status().message();
  // first >= second >= first - 1, in pages far apart; second lies lower, so
  // that it is protected first.
  auto* const first =
      reinterpret_cast<std::atomic<std::uint64_t>*>(region->data() + 31 * kMiB);
  auto* const second =
      reinterpret_cast<std::atomic<std::uint64_t>*>(region->data());
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    for (std::uint64_t i = 1; !stop; ++i) {
      first->store(i);
      second->store(i);
      region->data()[(i * 4096 * 17) % (30 * kMiB) + 8192] = std::byte{1};
    }
  });
  for (int i = 0; i < 60; ++i) {
    auto version = region->Commit({.ack = Ack::kVisible});
    ASSERT_TRUE(version) << version.status().message();
  }
  stop = true;
  writer.join();
  auto reader = client.Agents().Open("a");
  for (std::uint64_t v = 1; v <= region->version(); ++v) {
    auto old = reader->OpenRegion("heap", {.version = v});
    ASSERT_TRUE(old) << old.status().message();
    std::uint64_t high;
    std::uint64_t low;
    std::memcpy(&high, old->data() + 31 * kMiB, 8);
    std::memcpy(&low, old->data(), 8);
    EXPECT_TRUE(high == low || high == low + 1)
        << "version " << v << ": " << high << ", " << low;
  }
}

TEST(RegionsTest, TheSecondWriterIsToldAndTheOldOneIsFencedOff) {
  MemdProcess memd("64MiB");
  Client one = ConnectTo(memd, "one");
  Client two = ConnectTo(memd, "two");
  auto agent = one.Agents().Open("a", {.write = true, .create = true});
  auto region = agent->OpenRegion("heap", {.bytes = kMiB});
  ASSERT_TRUE(region) << region.status().message();
  Fill(region->data(), kMiB, 1);
  ASSERT_TRUE(region->Commit());
  auto refused = two.Agents().Open("a", {.write = true});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.status().code(), Code::kFailedPrecondition);
  EXPECT_NE(refused.status().message().find("one"), std::string::npos)
      << refused.status().message();
  auto taken = two.Agents().Open("a", {.write = true, .take_over = true});
  ASSERT_TRUE(taken) << taken.status().message();
  Fill(region->data(), kMiB, 2);
  auto late = region->Commit();
  ASSERT_FALSE(late);
  EXPECT_EQ(late.status().code(), Code::kAborted) << late.status().message();
  auto theirs = taken->OpenRegion("heap");
  ASSERT_TRUE(theirs) << theirs.status().message();
  EXPECT_EQ(theirs->version(), 1u);
  EXPECT_TRUE(IsFilled(theirs->data(), kMiB, 1));
  Fill(theirs->data(), 4096, 3);
  auto second = theirs->Commit();
  ASSERT_TRUE(second) << second.status().message();
  EXPECT_EQ(*second, 2u);
}

TEST(RegionsTest, AForkIsIndependentAndHibernationKeepsWhatIsNotCommitted) {
  MemdProcess memd("64MiB");
  Client client = ConnectTo(memd);
  auto agent = client.Agents().Open("a", {.write = true, .create = true});
  auto region = agent->OpenRegion("heap", {.bytes = 8 * kMiB});
  ASSERT_TRUE(region) << region.status().message();
  Fill(region->data(), 8 * kMiB, 1);
  ASSERT_TRUE(region->Commit());
  const Status forked = client.Agents().Fork("a", "b");
  ASSERT_TRUE(forked) << forked.message();
  Fill(region->data() + kMiB, kMiB, 5);
  auto stats = client.Agents().Hibernate("a");
  ASSERT_TRUE(stats) << stats.status().message();
  EXPECT_GE(stats->released_bytes, 8 * kMiB);
  EXPECT_TRUE(IsFilled(region->data() + kMiB, kMiB, 5));
  ASSERT_TRUE(region->Commit());
  auto other = client.Agents().Open("b", {.write = true});
  ASSERT_TRUE(other) << other.status().message();
  auto copy = other->OpenRegion("heap");
  ASSERT_TRUE(copy) << copy.status().message();
  EXPECT_TRUE(IsFilled(copy->data(), 8 * kMiB, 1));
  Fill(copy->data(), 4096, 9);
  auto version = copy->Commit();
  ASSERT_TRUE(version) << version.status().message();
  EXPECT_EQ(*version, 2u);
}

TEST(RegionsTest, ARegionIsNotOpenedWithAnotherSize) {
  MemdProcess memd("64MiB");
  Client client = ConnectTo(memd);
  auto agent = client.Agents().Open("a", {.write = true, .create = true});
  { ASSERT_TRUE(agent->OpenRegion("heap", {.bytes = kMiB})); }
  const auto larger = agent->OpenRegion("heap", {.bytes = 2 * kMiB});
  ASSERT_FALSE(larger);
  EXPECT_EQ(larger.status().code(), Code::kFailedPrecondition);
  EXPECT_NE(larger.status().message().find("1048576 bytes, not 2097152"),
            std::string::npos)
      << larger.status().message();
}

TEST(RegionsTest, PagesTouchedInOrderBringTheNextOnes) {
  MemdProcess memd("64MiB");
  Client client = ConnectTo(memd);
  {
    auto agent = client.Agents().Open("a", {.write = true, .create = true});
    auto region = agent->OpenRegion("heap", {.bytes = 8 * kMiB});
    ASSERT_TRUE(region) << region.status().message();
    Fill(region->data(), 8 * kMiB, 1);
    ASSERT_TRUE(region->Commit());
  }
  auto agent = client.Agents().Open("a");
  auto region = agent->OpenRegion("heap");
  ASSERT_TRUE(region) << region.status().message();
  const auto touch = [&](std::uint64_t page) {
    return static_cast<volatile std::byte*>(region->data())[page << 16];
  };
  const auto resident = [&] {
    auto shown = client.Agents().Show("a");
    return shown ? shown->resident_bytes : 0;
  };
  touch(90);
  touch(20);
  touch(50);
  EXPECT_EQ(resident(), 3u << 16);
  touch(51);
  for (int i = 0; i < 100'000 && resident() < 8u << 16; ++i) {
  }
  EXPECT_EQ(resident(), 8u << 16);  // 52 to 55 as well
  for (std::uint64_t page = 0; page < 128; ++page) touch(page);
  EXPECT_TRUE(IsFilled(region->data(), 8 * kMiB, 1));
}

// The pages that were touched after one resume are there after the next.
TEST(RegionsTest, WhatWasTouchedAfterAResumeComesBackByItselfAfterTheNext) {
  MemdProcess memd("64MiB");
  const std::vector<std::uint64_t> touched = {90, 3, 47, 11, 70, 29, 101, 55};
  {
    Client client = ConnectTo(memd);
    auto agent = client.Agents().Open("a", {.write = true, .create = true});
    auto region = agent->OpenRegion("heap", {.bytes = 8 * kMiB});
    Fill(region->data(), 8 * kMiB, 1);
    ASSERT_TRUE(region->Commit());
  }
  std::vector<std::byte> expected(8 * kMiB);
  Fill(expected.data(), expected.size(), 1);
  for (int resume = 0; resume < 3; ++resume) {
    if (resume == 2) {  // it is written down
      memd.Kill();
      memd.Start();
    }
    Client client = ConnectTo(memd);
    ASSERT_TRUE(client.Agents().Hibernate("a"));
    auto agent = client.Agents().Open("a", {.write = true});
    ASSERT_TRUE(agent) << agent.status().message();
    auto region = agent->OpenRegion("heap");
    ASSERT_TRUE(region) << region.status().message();
    const auto is_right = [&](std::uint64_t page) {
      return std::memcmp(region->data() + (page << 16),
                         expected.data() + (page << 16), 1 << 16) == 0;
    };
    const auto resident = [&] {
      const auto shown = client.Agents().Show("a");
      return shown ? shown->resident_bytes >> 16 : 0;
    };
    // With the process, and without it.
    for (int sleep = 0; sleep < 2; ++sleep) {
      EXPECT_EQ(resident(), 0u);
      EXPECT_TRUE(is_right(touched[0]));
      const std::size_t expected_pages = resume + sleep == 0 ? 1 : 8;
      for (int i = 0; i < 10'000 && resident() < expected_pages; ++i) {
      }
      EXPECT_EQ(resident(), expected_pages) << resume << " " << sleep;
      for (const std::uint64_t page : touched) EXPECT_TRUE(is_right(page));
      EXPECT_EQ(resident(), touched.size());
      ASSERT_TRUE(client.Agents().Hibernate("a"));
    }
  }
}

TEST(RegionsTest, AReaderIsToldOfAVersionAndSeesOnlyWhatChanged) {
  MemdProcess memd("64MiB");
  Client client = ConnectTo(memd);
  Client other = ConnectTo(memd, "reader");
  auto agent = client.Agents().Open("a", {.write = true, .create = true});
  auto region = agent->OpenRegion("heap", {.bytes = kMiB});
  Fill(region->data(), kMiB, 1);
  ASSERT_TRUE(region->Commit());
  auto reader = other.Agents().Open("a");
  auto seen = reader->OpenRegion("heap");
  ASSERT_TRUE(seen) << seen.status().message();
  EXPECT_TRUE(IsFilled(seen->data(), kMiB, 1));
  std::thread writer([&] {
    Fill(region->data() + 65536, 4096, 2);
    ASSERT_TRUE(region->Commit());
  });
  auto version = seen->Watch(1, std::chrono::seconds(10));
  writer.join();
  ASSERT_TRUE(version) << version.status().message();
  EXPECT_EQ(*version, 2u);
  auto changed = seen->Refresh();
  ASSERT_TRUE(changed) << changed.status().message();
  ASSERT_EQ(changed->size(), 1u);
  EXPECT_EQ((*changed)[0], (Range{65536, 4096}));
  EXPECT_TRUE(IsFilled(seen->data() + 65536, 4096, 2));
  EXPECT_TRUE(IsFilled(seen->data(), 4096, 1));
}

TEST(RegionsTest, AnExplicitRegionIsReadAndWrittenWithoutFaults) {
  MemdProcess memd("64MiB");
  Client client = ConnectTo(memd);
  auto agent = client.Agents().Open("a", {.write = true, .create = true});
  auto region =
      agent->OpenRegion("heap", {.bytes = 4 * kMiB, .force_explicit = true});
  ASSERT_TRUE(region) << region.status().message();
  EXPECT_EQ(region->data(), nullptr);
  std::vector<std::byte> bytes(kMiB + 100);
  Fill(bytes.data(), kMiB, 4);
  Status status = region->Write(1000, bytes);
  ASSERT_TRUE(status) << status.message();
  auto version = region->Commit();
  ASSERT_TRUE(version) << version.status().message();
  auto reader = client.Agents().Open("a");
  auto mapped = reader->OpenRegion("heap");
  ASSERT_TRUE(mapped) << mapped.status().message();
  EXPECT_TRUE(IsFilled(mapped->data() + 1000, kMiB, 4));
}

// Asks memd until `done` is true of what it says of its tenant.
bool Becomes(const MemdProcess& memd,
             const std::function<bool(const nlohmann::json&)>& done) {
  for (int i = 0; i < 1000; ++i) {
    if (done(memd.Memctl("status")["tiers"])) return true;
  }
  return false;
}

std::uint64_t StoredBlocks(const nlohmann::json& tiers) {
  for (const auto& tier : tiers) {
    if (tier["tier"] == "store") return tier["blocks"];
  }
  return ~0ULL;
}

TEST(RegionsTest, WhatNoVersionNeedsAnyMoreLeavesTheStore) {
  MemdProcess memd("64MiB", "collect_ms = 10\n");
  Client client = ConnectTo(memd);
  auto agent = client.Agents().Open("a", {.write = true, .create = true});
  ASSERT_TRUE(agent) << agent.status().message();
  constexpr std::uint64_t kBytes = 16 * 65536;
  auto region = agent->OpenRegion("heap", {.bytes = kBytes});
  ASSERT_TRUE(region) << region.status().message();
  const auto commit = [&](std::uint64_t seed) {
    Fill(region->data(), kBytes, seed);
    auto version = region->Commit();
    ASSERT_TRUE(version) << version.status().message();
  };
  commit(1);
  // Who reads a version keeps it.
  Client reading = ConnectTo(memd, "reader");
  auto reader = reading.Agents().Open("a");
  auto first = reader->OpenRegion("heap", {.version = 1});
  ASSERT_TRUE(first) << first.status().message();
  ASSERT_TRUE(client.Agents().RetainLast("a", 2));
  for (std::uint64_t seed = 2; seed <= 20; ++seed) commit(seed);
  // 16 pages, a version and a node, of three versions.
  EXPECT_TRUE(Becomes(memd,
                      [](const nlohmann::json& tiers) {
                        return StoredBlocks(tiers) <= 3 * 18;
                      }))
      << memd.Memctl("status") << memd.Log();
  EXPECT_TRUE(IsFilled(first->data(), kBytes, 1));
  EXPECT_EQ(reader->OpenRegion("heap", {.version = 18}).status().code(),
            Code::kNotFound);
  ASSERT_TRUE(client.Agents().Fork("a", "b"));
  commit(21);
  { const auto closed = {std::move(*region), std::move(*first)}; }
  { const auto closed = {std::move(*agent), std::move(*reader)}; }
  Status deleted = client.Agents().Delete("a");
  ASSERT_TRUE(deleted) << deleted.message();
  EXPECT_TRUE(Becomes(
      memd,
      [](const nlohmann::json& tiers) { return StoredBlocks(tiers) <= 18; }))
      << memd.Memctl("status") << memd.Log();
  auto fork = client.Agents().Open("b");
  ASSERT_TRUE(fork) << fork.status().message();
  auto heap = fork->OpenRegion("heap");
  ASSERT_TRUE(heap) << heap.status().message();
  EXPECT_TRUE(IsFilled(heap->data(), kBytes, 20));
  { const auto closed = std::move(*heap); }
  { const auto closed = std::move(*fork); }
  deleted = client.Agents().Delete("b");
  ASSERT_TRUE(deleted) << deleted.message();
  EXPECT_TRUE(Becomes(
      memd,
      [](const nlohmann::json& tiers) { return StoredBlocks(tiers) == 0; }))
      << memd.Memctl("status") << memd.Log();
}

// A page that goes and comes again is given up once.
TEST(RegionsTest, APageThatIsTouchedAgainAfterARefreshIsGivenUpOnce) {
  MemdProcess memd("64MiB");
  Client client = ConnectTo(memd);
  Client other = ConnectTo(memd, "reader");
  auto agent = client.Agents().Open("a", {.write = true, .create = true});
  auto region = agent->OpenRegion("heap", {.bytes = kMiB});
  Fill(region->data(), 65536, 1);
  ASSERT_TRUE(region->Commit());
  auto reader = other.Agents().Open("a");
  auto seen = reader->OpenRegion("heap");
  ASSERT_TRUE(seen) << seen.status().message();
  for (std::uint64_t seed = 2; seed < 8; ++seed) {
    Fill(region->data(), 65536, seed);
    ASSERT_TRUE(region->Commit());
    ASSERT_TRUE(seen->Refresh());
    EXPECT_TRUE(IsFilled(seen->data(), 65536, seed));
  }
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(seen->Hint({0, 65536}, Timeout::max()));
    EXPECT_TRUE(IsFilled(seen->data(), 65536, 7));
  }
  auto slept = client.Agents().Hibernate("a");
  ASSERT_TRUE(slept) << slept.status().message() << memd.Log();
  EXPECT_TRUE(IsFilled(seen->data(), 65536, 7));
  EXPECT_EQ(memd.Stop(), 0) << memd.Log();
}

// A process that takes its mapping away is told, and memd does not wait.
TEST(RegionsTest, BringingInWhatIsNotMappedAnyMoreEnds) {
  MemdProcess memd("64MiB");
  Child child([&](int) {
    Client client = ConnectTo(memd);
    auto agent = client.Agents().Open("a", {.write = true, .create = true});
    auto region = agent->OpenRegion("heap", {.bytes = kMiB});
    if (!region) return Complain(region.status());
    ::munmap(region->data(), kMiB);
    const Status brought =
        region->Populate({0, kMiB}, std::chrono::seconds(20));
    ::_exit(brought.code() == Code::kFailedPrecondition ? 0
                                                        : Complain(brought));
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0) << memd.Log();
  EXPECT_EQ(memd.Stop(), 0) << memd.Log();
  EXPECT_EQ(memd.Log().find("did not end in time"), std::string::npos);
}

// What a Read answers is of one version, though another thread moves the
// region to the next ones meanwhile.
TEST(RegionsTest, AReadBesideARefreshIsOfOneVersion) {
  MemdProcess memd("256MiB");
  Client client = ConnectTo(memd);
  Client other = ConnectTo(memd, "reader");
  auto agent = client.Agents().Open("a", {.write = true, .create = true});
  auto region = agent->OpenRegion("heap", {.bytes = 8 * kMiB});
  constexpr std::uint8_t kVersions = 4;
  for (std::uint8_t version = 1; version <= kVersions; ++version) {
    std::memset(region->data(), version, 8 * kMiB);
    ASSERT_TRUE(region->Commit());
  }
  for (const bool force_explicit : {false, true}) {
    auto reader = other.Agents().Open("a");
    auto seen = reader->OpenRegion(
        "heap", {.version = 1, .force_explicit = force_explicit});
    ASSERT_TRUE(seen) << seen.status().message();
    std::atomic<bool> done = false;
    std::thread moves([&] {
      for (std::uint64_t turn = 0; !done.load(); ++turn) {
        const auto moved = seen->Refresh(1 + turn % kVersions);
        EXPECT_TRUE(moved) << moved.status().message();
      }
    });
    std::vector<std::byte> bytes(8 * kMiB);
    for (int i = 0; i < 20; ++i) {
      const Status read = seen->Read(0, bytes);
      EXPECT_TRUE(read) << read.message();
      const auto differs =
          std::find_if(bytes.begin(), bytes.end(),
                       [&](std::byte byte) { return byte != bytes[0]; });
      EXPECT_EQ(differs, bytes.end()) << "at " << differs - bytes.begin();
    }
    done.store(true);
    moves.join();
  }
}

}  // namespace
}  // namespace agentmem
