// The tenant under random work, by a model that knows only keys and bytes, and
// under clients that lie in every field of their rings.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/unit/memd/tenant_bench.h"

namespace agentmem {
namespace {

std::string BytesOf(std::uint64_t n) {
  std::mt19937_64 random(n);
  const std::size_t sizes[] = {1, 700, 5000, 70'000, 400'000, 1 << 20};
  std::string bytes(sizes[random() % 6], '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

class TenantRandomTest : public testing::TestWithParam<std::uint64_t> {};

TEST_P(TenantRandomTest, EveryByteReadIsRightAndEveryStateBlockIsFound) {
  std::mt19937_64 random(GetParam());
  TenantBench bench;
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(bench.Attach());
  std::map<std::uint64_t, BlockClass> put;
  for (int step = 0; step < 1500; ++step) {
    TestClient* client = clients[random() % clients.size()].get();
    const std::uint64_t n = random() % 120;
    switch (random() % 8) {
      case 0:
      case 1:
      case 2: {
        const auto block_class =
            n % 3 == 0 ? BlockClass::kState : BlockClass::kCache;
        const auto ack = random() % 4 == 0 ? Ack::kDurable : Ack::kVisible;
        if (bench.PostPut(client, TestKey(n), BytesOf(n), block_class, ack)) {
          put[n] = block_class;
        }
        break;
      }
      case 3:
      case 4: {
        bench.PostFetch(client, TestKey(n));
        bench.Settle(client);
        while (const auto entry = client->Reap()) {
          if (entry->code != Code::kOk || entry->length == 0) continue;
          const Slot& slot = bench.reader().slot(SlotIndex(entry->slot));
          std::uint64_t which = 0;
          while (!(TestKey(which) ==
                   Key::FromWords(slot.key_low.load(), slot.key_high.load()))) {
            ASSERT_LT(++which, 120u);
          }
          ASSERT_EQ(bench.BytesIn(SlotIndex(entry->slot)), BytesOf(which));
          bench.PostRelease(client, *entry);
        }
        break;
      }
      case 5:
        bench.store.FinishOne();
        bench.PollStore();
        break;
      case 6:
        bench.Advance(static_cast<DurationNs>(random() % (2 * kSecondNs)));
        break;
      case 7:
        if (random() % 10 == 0) {
          const std::size_t which = random() % clients.size();
          bench.tenant->RemoveClient(clients[which]->id(), bench.now);
          clients[which] = bench.Attach();
        }
        break;
    }
    ASSERT_EQ(bench.tenant->CheckInvariants(), "") << "step " << step;
  }
  // What was answered late is held until it is released.
  for (const auto& each : clients) {
    bench.Settle(each.get());
    while (const auto entry = each->Reap()) {
      if (entry->code == Code::kOk && entry->length != 0) {
        bench.PostRelease(each.get(), *entry);
      }
    }
  }
  TestClient* client = clients[0].get();
  for (const auto& [n, block_class] : put) {
    if (block_class != BlockClass::kState) continue;
    bench.PostFetch(client, TestKey(n));
    bench.Settle(client);
    std::optional<CompletionEntry> entry;
    while (const auto next = client->Reap()) entry = next;
    ASSERT_TRUE(entry.has_value()) << n;
    ASSERT_EQ(static_cast<int>(entry->code), 0)
        << n << " reason " << static_cast<int>(entry->reason);
    ASSERT_EQ(bench.BytesIn(SlotIndex(entry->slot)), BytesOf(n));
    bench.PostRelease(client, *entry);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, TenantRandomTest,
                         testing::Range<std::uint64_t>(1, 9));

TEST(TenantHostileClientTest, GarbageInEverySubmissionFieldBreaksNothing) {
  std::mt19937_64 random(5);
  TenantBench bench;
  auto honest = bench.Attach();
  bench.PostPut(honest.get(), TestKey(1), "honest", BlockClass::kState,
                Ack::kDurable);
  bench.Settle(honest.get());
  for (int round = 0; round < 200; ++round) {
    auto hostile = bench.Attach();
    for (int i = 0; i < 100; ++i) {
      SubmissionEntry entry = {};
      auto* bytes = reinterpret_cast<unsigned char*>(&entry);
      for (std::size_t b = 0; b < sizeof(entry); ++b) {
        bytes[b] = static_cast<unsigned char>(random());
      }
      // Mostly real operations, so that their fields are looked at.
      entry.op = static_cast<Op>(random() % 11);
      if (random() % 2) entry.grant = random() % 300;
      if (random() % 2) entry.sequence = random() % 3;
      if (random() % 2) entry.slot = random() % 5000;
      if (random() % 2) entry.length = random() % 70'000;
      if (random() % 2) entry.key = TestKey(random() % 4);
      if (random() % 2) entry.block_class = BlockClass(random() % 3);
      if (random() % 2) entry.ack = Ack(random() % 5);
      hostile->Post(entry);
      // Scribble in what it shares with memd: grants, pins, notes, heads.
      auto* words = reinterpret_cast<std::uint64_t*>(hostile->base());
      const std::uint64_t at =
          kGrantOffset / 8 + random() % ((kClientFileBytes - kGrantOffset) / 8);
      words[at] = random() % 3 ? random() : random() % 5000;
      hostile->file().header().thread_table_mask.store(random());
      hostile->file().header().completion_head.store(
          hostile->file().header().completion_tail.load());
      bench.Drain(hostile.get());
    }
    if (round % 3 == 0) {
      hostile->file().header().submission_tail.store(random());
    }
    bench.Settle(hostile.get());
    bench.Advance(kMillisecondNs);
    ASSERT_EQ(bench.tenant->CheckInvariants(), "") << round;
    bench.tenant->RemoveClient(hostile->id(), bench.now);
    ASSERT_EQ(bench.tenant->CheckInvariants(), "") << round;
  }
  bench.PostFetch(honest.get(), TestKey(1));
  bench.Settle(honest.get());
  std::optional<CompletionEntry> entry;
  while (const auto next = honest->Reap()) entry = next;
  ASSERT_TRUE(entry.has_value());
  ASSERT_EQ(entry->code, Code::kOk);
  EXPECT_EQ(bench.BytesIn(SlotIndex(entry->slot)), "honest");
}

}  // namespace
}  // namespace agentmem
