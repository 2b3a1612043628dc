// Threads that store, load and evict, while the keeper's empties, brings back
// and is given other budgets: every byte is compared.
#include <atomic>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/unit/client/hbm_test_base.h"

namespace agentmem {
namespace {

// Slots of a fake memd do not come back: so many different keys.
constexpr std::uint32_t kKeys = 40;
constexpr int kRounds = 150;

class HbmPoolThreadTest : public HbmTest {
 protected:
  // An engine of its own, on its own stream.
  struct Worker {
    std::unique_ptr<EngineCache> pages;
    std::shared_ptr<const client::HbmKeep> keep;
    std::mt19937_64 random;
    int loaded = 0;
    int hits = 0;
  };

  // What a key's block has in it, everywhere the same.
  static char ByteOf(std::uint32_t number, std::uint32_t layer,
                     std::uint32_t plane, std::uint32_t token,
                     std::uint32_t head, std::uint32_t i) {
    std::uint32_t mixed = number * 2654435761u + layer * 40503u +
                          plane * 9176u + token * 977u + head * 131u + i;
    mixed ^= mixed >> 13;
    return static_cast<char>(mixed * 0x9e3779b1u >> 24);
  }
  template <typename Visit>
  static void Each(const EngineCache& pages, std::uint32_t first_page,
                   Visit visit) {
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      for (std::uint32_t plane = 0; plane < 2; ++plane) {
        for (std::uint32_t t = 0; t < kBlockPages * kPageTokens; ++t) {
          for (std::uint32_t head = 0; head < kHeads; ++head) {
            char* const at =
                pages.At(layer, plane, first_page + t / kPageTokens,
                         t % kPageTokens, head);
            for (std::uint32_t i = 0; i < kHeadSize * 2; ++i) {
              visit(at + i, layer, plane, t, head, i);
            }
          }
        }
      }
    }
  }
  static void Fill(const EngineCache& pages, std::uint32_t first_page,
                   std::uint32_t number) {
    Each(pages, first_page,
         [number](char* at, auto... place) { *at = ByteOf(number, place...); });
  }
  static int WrongBytes(const EngineCache& pages, std::uint32_t first_page,
                        std::uint32_t number) {
    int wrong = 0;
    Each(pages, first_page, [&wrong, number](const char* at, auto... place) {
      wrong += *at != ByteOf(number, place...);
    });
    return wrong;
  }

  client::KvParts PartsOf(const Worker& worker) {
    client::KvParts parts = KvTest::parts();
    parts.pool = pool_.get();
    parts.keep = worker.keep;
    return parts;
  }
  // Three different blocks.
  static std::vector<std::uint32_t> Some(Worker* worker) {
    const auto first = static_cast<std::uint32_t>(worker->random() % kKeys);
    return {first, (first + 7) % kKeys, (first + 19) % kKeys};
  }
  void Work(Worker* worker, Stream stream) {
    for (int round = 0; round < kRounds; ++round) {
      const std::vector<std::uint32_t> numbers = Some(worker);
      std::vector<Key> keys;
      for (const std::uint32_t number : numbers) {
        keys.push_back(AsKey(TestKey(1000 + number)));
      }
      const std::vector<std::uint32_t> pages = {4, 5, 0, 1, 2, 3};
      if (worker->random() % 3 == 0) {
        for (int i = 0; i < 3; ++i) {
          Fill(*worker->pages, pages[2 * i], numbers[i]);
        }
        client::KvStore store(PartsOf(*worker), worker->pages->cache(),
                              BlockClass::kCache, Ack::kVisible);
        EXPECT_TRUE(store.Post({keys, pages}, stream, Long()).ok());
        EXPECT_TRUE(store.Wait(Long()).ok());
        continue;
      }
      worker->pages->Poison();
      client::KvLoad load(PartsOf(*worker), worker->pages->cache());
      const Outcome posted = load.Post({keys, pages}, stream, Long());
      const Outcome loaded = load.Wait(Long());
      if (posted.code == Code::kNotFound) continue;
      EXPECT_TRUE(loaded.ok()) << loaded.message;
      if (!loaded.ok()) continue;
      ++worker->loaded;
      for (int i = 0; i < 3; ++i) {
        worker->hits += load.tiers()[i] == AGENTMEM_TIER_HBM;
        EXPECT_EQ(WrongBytes(*worker->pages, pages[2 * i], numbers[i]), 0)
            << "block " << numbers[i] << ", tier "
            << static_cast<int>(load.tiers()[i]);
      }
    }
  }
};

TEST_F(HbmPoolThreadTest, NoByteIsWrongWhateverComesAndGoes) {
  constexpr int kWorkers = 3;
  std::vector<Worker> workers(kWorkers);
  for (int i = 0; i < kWorkers; ++i) {
    workers[i].pages =
        std::make_unique<EngineCache>(&device_, i == 0 ? HeadsFirst() : Flash(),
                                      kPages, kBlockPages * kPageTokens);
    workers[i].keep = std::make_shared<client::HbmKeep>(
        pool_.get(), i == 2 ? "" : "agent" + std::to_string(i));
    workers[i].random.seed(100 + i);
  }
  engine_bytes_ = device_.counts().allocated_bytes;
  // So that none is missing later.
  for (std::uint32_t number = 0; number < kKeys; ++number) {
    Fill(*workers[1].pages, 0, number);
    client::KvStore store(PartsOf(workers[1]), workers[1].pages->cache(),
                          BlockClass::kCache, Ack::kVisible);
    const std::vector<Key> keys = {AsKey(TestKey(1000 + number))};
    const std::vector<std::uint32_t> pages = {0, 1};
    ASSERT_TRUE(store.Post({keys, pages}, engine_, Long()).ok());
    ASSERT_TRUE(store.Wait(Long()).ok());
  }
  link_.SetBudget(5 * kSlab);
  ASSERT_TRUE(StepUntil([this] { return PoolBytes() <= 5 * kSlab; }));
  std::atomic<int> working = kWorkers;
  std::vector<std::thread> threads;
  for (int i = 0; i < kWorkers; ++i) {
    threads.emplace_back([this, i, &workers, &working] {
      Work(&workers[i], Stream::Of(200 + i));
      --working;
    });
  }
  // This thread is the keeper's.
  std::mt19937_64 random(5);
  int evicted = 0;
  while (working.load() != 0) {
    switch (random() % 5) {
      case 0:
        link_.SetBudget((1 + random() % 6) * kSlab);
        break;
      case 1:
        link_.Wish(HbmWishKind::kEmpty, "agent0", kNoDeadline);
        break;
      case 2:
        // What is only in the pool then is written below before it leaves.
        if (const Key key = Keys(1000 + random() % kKeys, 1)[0];
            ++evicted <= 100 && memd_->IsResident(key)) {
          memd_->Evict(key);
        }
        break;
      case 3:
        link_.Wish(HbmWishKind::kBringBack, "agent0", kNoDeadline);
        break;
      default:
        link_.Wish(HbmWishKind::kEmpty, "agent1", kNoDeadline);
        break;
    }
    for (int i = 0; i < 20 && working.load() != 0; ++i) {
      keeper_->Step();
      EXPECT_LE(PoolBytes(), 6 * kSlab);
    }
  }
  for (std::thread& thread : threads) thread.join();
  int loaded = 0;
  int hits = 0;
  for (Worker& worker : workers) {
    loaded += worker.loaded;
    hits += worker.hits;
  }
  EXPECT_GT(loaded, kRounds);
  EXPECT_GT(hits, 0);
  EXPECT_GT(pool_->counts().dropped, 0u);
  for (Worker& worker : workers) worker.keep.reset();
  link_.SetBudget(0);
  ASSERT_TRUE(StepUntil([this] { return link_.allocated == 0; }));
  workers.clear();
  engine_bytes_ = device_.counts().allocated_bytes;
}

}  // namespace
}  // namespace agentmem
