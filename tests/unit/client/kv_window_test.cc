// A load whose blocks are not all in DRAM goes in windows: what is there is
// copied while memd brings the rest.
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "tests/unit/client/kv_test_base.h"

namespace agentmem {
namespace {

class KvWindowTest : public KvTest {
 protected:
  static constexpr std::uint32_t kBlocks = 100;

  void SetUp() override {
    KvTest::SetUp();
    constexpr std::uint64_t kAllPages = kBlocks * kBlockPages;
    constexpr std::uint32_t kTokens = kBlockPages * kPageTokens;
    many_from_ = std::make_unique<EngineCache>(
        &device_,
        KvLayout::VllmFlash(kLayers, kAllPages, kPageTokens, kHeads, kHeadSize,
                            KvType::kBfloat16),
        kAllPages, kTokens);
    many_to_ = std::make_unique<EngineCache>(&device_, HeadsFirst(), kAllPages,
                                             kTokens);
    many_from_->Fill(&random_);
    pages_.resize(kAllPages);
    std::iota(pages_.begin(), pages_.end(), 0);
  }
  void TearDown() override {
    KvTest::TearDown();
    many_from_.reset();
    many_to_.reset();
  }

  // Blocks 1 to `count` of many_from_, in their pages.
  client::KvBlocks First(std::uint32_t count) {
    const std::vector<std::uint32_t> pages(
        pages_.begin(), pages_.begin() + count * kBlockPages);
    client::KvBlocks blocks = Blocks(count, pages);
    blocks.pages = std::span(pages_).first(count * kBlockPages);
    return blocks;
  }
  void Store(std::uint32_t count) {
    client::KvStore store(parts(), many_from_->cache(), BlockClass::kCache,
                          Ack::kVisible);
    ASSERT_TRUE(store.Post(First(count), engine_, Long()).ok());
    ASSERT_TRUE(store.Wait(Long()).ok());
    for (const Key& key : keys_) AwaitResident(key);
  }
  void Demote(std::uint32_t number) {
    const Key key = AsKey(TestKey(number));
    const std::string bytes = memd_->BytesOf(key);
    memd_->Evict(key);
    memd_->AddBelow(key, bytes);
  }
  // memd has no answer for block `number` until a copy of another is posted.
  void WithholdUntilACopy(std::uint32_t number) {
    memd_->Withhold(Op::kFetch, AsKey(TestKey(number)));
    watched_.before_copy = [this] { memd_->LetGo(); };
  }
  // Loads blocks 1 to `count`, and compares all of their pages.
  void LoadAndCheck(std::uint32_t count) {
    many_to_->Poison();
    client::KvParts of = parts();
    of.device = &watched_;
    client::KvLoad load(of, many_to_->cache());
    Outcome outcome = load.Post(First(count), engine_, Long());
    ASSERT_TRUE(outcome.ok()) << outcome.message;
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      EXPECT_TRUE(load.WaitLayer(layer, engine_).ok());
    }
    outcome = load.Wait(Long());
    ASSERT_TRUE(outcome.ok()) << outcome.message;
    for (std::uint32_t page = 0; page < pages_.size(); ++page) {
      for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
        EXPECT_EQ(many_to_->SamePage(layer, page, *many_from_, page),
                  page < count * kBlockPages)
            << "page " << page << " of layer " << layer;
      }
    }
    EXPECT_EQ(Holds(), 0u);
  }

  WatchedDevice watched_{&device_};
  std::unique_ptr<EngineCache> many_from_;
  std::unique_ptr<EngineCache> many_to_;
  std::vector<std::uint32_t> pages_;
};

TEST_F(KvWindowTest, WhatIsInDramIsCopiedWhileTheRestIsAwaited) {
  ASSERT_NO_FATAL_FAILURE(Store(4));
  Demote(3);
  WithholdUntilACopy(3);
  LoadAndCheck(4);
}

TEST_F(KvWindowTest, TheFirstThatCameAreCopiedWhileTheNextAreAwaited) {
  ASSERT_NO_FATAL_FAILURE(Store(kBlocks));
  for (std::uint32_t number = 1; number <= kBlocks; ++number) Demote(number);
  WithholdUntilACopy(40);
  LoadAndCheck(kBlocks);
}

TEST_F(KvWindowTest, TheNextOnesAreOnTheirWayWhileTheFirstAreCopied) {
  ASSERT_NO_FATAL_FAILURE(Store(kBlocks));
  for (std::uint32_t number = 1; number <= kBlocks; ++number) Demote(number);
  int asked_at_first = 0;
  watched_.before_copy = [&] {
    if (asked_at_first == 0) asked_at_first = memd_->Count(Op::kPrefetch);
  };
  LoadAndCheck(kBlocks);
  EXPECT_EQ(asked_at_first, 64);
  EXPECT_EQ(memd_->Count(Op::kPrefetch), static_cast<int>(kBlocks));
}

}  // namespace
}  // namespace agentmem
