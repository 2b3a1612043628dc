// What tests of the pool's keeper and of transfers through it share: those of
// KV transfers, with a pool of four blocks a slab, a memd that is asked by
// hand, and a clock that is moved so.
//
// Ownership: owns all of it. Threads: one, unless a test starts the keeper's.
// Errors: an EXPECT. Cost: as KvTest.
#ifndef AGENTMEM_TESTS_UNIT_CLIENT_HBM_TEST_BASE_H_
#define AGENTMEM_TESTS_UNIT_CLIENT_HBM_TEST_BASE_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/hbm_keeper.h"
#include "client/hbm_link.h"
#include "client/hbm_pool.h"
#include "tests/unit/client/kv_test_base.h"

namespace agentmem {

// What memd would know and say.
class BookedLink final : public client::HbmLink {
 public:
  Outcome Open(std::uint64_t wanted_bytes, const client::Deadline&,
               std::uint64_t* budget_bytes) override {
    ++opens;
    if (!refusal.ok()) return refusal;
    wanted = wanted_bytes;
    uses.clear();
    lost = false;
    *budget_bytes = budget;
    return {};
  }
  Outcome Report(const client::HbmReport& report, const client::Deadline&,
                 client::HbmReply* reply) override {
    if (lost) return Fail(Code::kUnavailable, "memd is dead");
    ++reports;
    before_answer();
    if (!report_refusal.ok()) return report_refusal;
    EXPECT_LE(report.uses.size(), kHbmUsesMax);
    for (const HbmUse& use : report.uses) {
      EXPECT_EQ(use.bytes == 0, use.blocks == 0);
      EXPECT_LE(use.blocks, use.bytes);
      if (use.answers != 0) {
        answers[use.answers] = use;
        std::erase_if(wishes, [&use](const HbmWish& wish) {
          return wish.number == use.answers;
        });
      }
      uses[use.agent] = use;
    }
    allocated = report.allocated_bytes;
    hits = report.hits;
    reply->budget_bytes = budget;
    reply->wishes = wishes;
    return {};
  }
  void Close(const client::HbmHits& last) override {
    hits = last;
    ++closes;
  }
  bool IsLost() override { return lost; }
  std::uint32_t Bell() override { return bell.load(); }
  void Sleep(std::uint32_t, DurationNs) override { ++sleeps; }
  void Wake() override { ++bell; }

  // Rings for it.
  std::uint64_t Wish(HbmWishKind kind, const std::string& agent,
                     TimeNs deadline_ns) {
    std::erase_if(wishes,
                  [&](const HbmWish& one) { return agent == one.agent; });
    HbmWish wish = {};
    agent.copy(wish.agent, kAgentNameBytes - 1);
    wish.kind = kind;
    wish.number = ++numbers;
    wish.deadline_ns = deadline_ns;
    wishes.push_back(wish);
    ++bell;
    return numbers;
  }
  void SetBudget(std::uint64_t bytes) {
    budget = bytes;
    ++bell;
  }

  Outcome refusal;
  Outcome report_refusal;
  std::function<void()> before_answer = [] {};  // to a report
  bool lost = false;
  std::uint64_t budget = 1 << 20;
  std::uint64_t wanted = 0;
  std::uint64_t allocated = 0;
  client::HbmHits hits;
  int opens = 0;
  int reports = 0;
  int closes = 0;
  std::atomic<int> sleeps = 0;
  std::uint64_t numbers = 0;
  std::atomic<std::uint32_t> bell = 7;
  std::vector<HbmWish> wishes;
  std::map<std::string, HbmUse> uses;  // by agent, as told last
  std::map<std::uint64_t, HbmUse> answers;
};

class HbmTest : public KvTest {
 protected:
  static constexpr std::uint64_t kSlot = 4096;  // a block has 3072 bytes
  static constexpr std::uint64_t kSlab = 4 * kSlot;

  void SetUp() override {
    KvTest::SetUp();
    client::HbmPool::Options options;
    options.device = &device_;
    options.clock = &clock_;
    options.wanted_bytes = 1 << 20;
    options.slab_bytes = kSlab;
    options.granule_bytes = kSlot;
    client::Reader* const reader = &client_->reader();
    options.is_below = [reader](const Key& key, BlockClass) {
      return reader->ClassBelow(key).has_value();
    };
    engine_bytes_ = device_.counts().allocated_bytes;
    pool_ = std::make_unique<client::HbmPool>(std::move(options));
    client::HbmKeeper::Parts& keeper = keeper_parts_;
    keeper.kv = KvTest::parts();
    keeper.pool = pool_.get();
    keeper.link = &link_;
    keeper.clock = &clock_;
    keeper.sweep = [this] {
      ++sweeps_;
      return true;
    };
    keeper.meet = [this] { ++met_; };
    keeper_ = std::make_unique<client::HbmKeeper>(keeper);
    ASSERT_TRUE(keeper_->Open(Long()).ok());
  }
  void TearDown() override {
    keeps_.clear();
    if (keeper_ != nullptr) {
      EXPECT_TRUE(keeper_->Finish());
    }
    keeper_.reset();
    pool_.reset();
    EXPECT_EQ(device_.counts().allocated_bytes, engine_bytes_);
    KvTest::TearDown();
  }

  // For `agent`, "": for nobody.
  client::KvParts parts(const std::string& agent) {
    client::KvParts parts = KvTest::parts();
    parts.pool = pool_.get();
    auto& keep = keeps_[agent];
    if (keep == nullptr) {
      keep = std::make_shared<client::HbmKeep>(pool_.get(), agent);
    }
    parts.keep = keep;
    return parts;
  }
  std::vector<Key> Keys(std::uint32_t first, std::uint32_t count) {
    std::vector<Key> keys;
    for (std::uint32_t i = 0; i < count; ++i) {
      keys.push_back(AsKey(TestKey(first + i)));
    }
    return keys;
  }
  static std::vector<std::uint32_t> Pages(std::uint32_t count) {
    std::vector<std::uint32_t> pages;
    for (std::uint32_t i = 0; i < count * kBlockPages; ++i) pages.push_back(i);
    return pages;
  }
  std::unique_ptr<client::KvStore> StoreOf(
      const std::string& agent, BlockClass block_class = BlockClass::kCache) {
    return std::make_unique<client::KvStore>(parts(agent), from_->cache(),
                                             block_class, Ack::kVisible);
  }
  std::unique_ptr<client::KvLoad> LoadOf(const std::string& agent) {
    return std::make_unique<client::KvLoad>(parts(agent), to_->cache());
  }
  // Blocks first ... out of pages 0, 1, ... of `from_`; six at most.
  void Store(std::uint32_t first, std::uint32_t count, const std::string& agent,
             BlockClass block_class = BlockClass::kCache) {
    const auto store = StoreOf(agent, block_class);
    const std::vector<Key> keys = Keys(first, count);
    const std::vector<std::uint32_t> pages = Pages(count);
    Outcome outcome = store->Post({keys, pages}, engine_, Long());
    EXPECT_TRUE(outcome.ok()) << outcome.message;
    outcome = store->Wait(Long());
    EXPECT_TRUE(outcome.ok()) << outcome.message;
    // memd has published them.
    for (const Key& key : keys) AwaitResident(key);
  }
  // Into pages that were poisoned, and compares every byte with `from_`, block
  // i of which is in pages 2i and 2i + 1.
  std::vector<agentmem_tier> Load(std::uint32_t first, std::uint32_t count,
                                  const std::string& agent) {
    to_->Poison();
    const auto load = LoadOf(agent);
    const std::vector<Key> keys = Keys(first, count);
    const std::vector<std::uint32_t> pages = Pages(count);
    Outcome outcome = load->Post({keys, pages}, engine_, Long());
    EXPECT_TRUE(outcome.ok()) << outcome.message;
    outcome = load->Wait(Long());
    EXPECT_TRUE(outcome.ok()) << outcome.message;
    ExpectLoaded(count);
    return {load->tiers().begin(), load->tiers().end()};
  }
  void ExpectLoaded(std::uint32_t count) {
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      for (std::uint32_t page = 0; page < count * kBlockPages; ++page) {
        EXPECT_TRUE(to_->SamePage(layer, page, *from_, page))
            << "layer " << layer << ", page " << page;
      }
    }
  }
  // What is found in the pool of these keys has memd's bytes.
  void ExpectPoolIsRight(const std::vector<Key>& keys) {
    for (const Key& key : keys) {
      client::HbmBlock block;
      if (!pool_->Find(key, 3072, client::HbmAgent(), &block)) continue;
      AwaitResident(key);
      EXPECT_EQ(std::string(HostDevice::Bytes(block.at), 3072),
                memd_->BytesOf(key));
      pool_->EndUse(block);
    }
  }
  // Rounds of the keeper, until `done` says so.
  template <typename Done>
  ::testing::AssertionResult StepUntil(Done done) {
    for (int i = 0; i < 10'000; ++i) {
      keeper_->Step();
      if (done()) return ::testing::AssertionSuccess();
      clock_.Advance(kMillisecondNs);
      device_.Drain();
      Holds();  // memd has taken what was posted
    }
    return ::testing::AssertionFailure() << "not in 10,000 rounds";
  }
  TimeNs In(DurationNs duration) { return clock_.Now() + duration; }
  ::testing::AssertionResult StepUntilAnswered(std::uint64_t number) {
    return StepUntil([&] { return link_.answers.contains(number); });
  }
  std::uint64_t PoolBytes() {
    return device_.counts().allocated_bytes - engine_bytes_;
  }

  ManualClock clock_{kSecondNs};
  BookedLink link_;
  int sweeps_ = 0;
  int met_ = 0;
  std::uint64_t engine_bytes_ = 0;
  std::unique_ptr<client::HbmPool> pool_;
  client::HbmKeeper::Parts keeper_parts_;
  std::unique_ptr<client::HbmKeeper> keeper_;
  std::map<std::string, std::shared_ptr<const client::HbmKeep>> keeps_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_CLIENT_HBM_TEST_BASE_H_
