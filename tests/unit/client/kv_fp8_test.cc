// Compressed KV transfers: each element is the oracle's, with and without a
// pool in device memory; what is of another kind is refused; failures lose
// nothing.
#include "client/kv_fp8.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "cuda/fp8_codec.h"
#include "gmock/gmock.h"
#include "tests/unit/client/hbm_test_base.h"
#include "tests/unit/cuda/fp8_oracle.h"

namespace agentmem {
namespace {

using client::Deadline;
using client::KvCache;
using client::KvFp8Post;
using testing::Each;
using testing::HasSubstr;

// 3 layers of a unit of scales and 2 x 8 x 2 x 16 codes, behind a header.
constexpr std::uint64_t kBlockBytes = 128 + 3 * (128 + 512);

class KvFp8Test : public HbmTest {
 protected:
  void SetUp() override {
    HbmTest::SetUp();
    from_->Compress();
    to_->Compress();
  }

  // Block i out of the pages out[2i] and out[2i + 1] is in in[2i] and in[2i +
  // 1].
  void ExpectCame(std::uint32_t layer, const std::vector<std::uint32_t>& out,
                  const std::vector<std::uint32_t>& in) {
    const ElementOracle oracle(KvType::kBfloat16);
    for (std::size_t block = 0; block < out.size() / kBlockPages; ++block) {
      for (std::uint32_t row = 0; row < 2 * kHeads; ++row) {
        const auto gathered = [&](const EngineCache& cache,
                                  const std::vector<std::uint32_t>& pages) {
          std::vector<std::uint32_t> elements;
          for (std::uint32_t t = 0; t < kBlockPages * kPageTokens; ++t) {
            const char* const head =
                cache.At(layer, row / kHeads,
                         pages[block * kBlockPages + t / kPageTokens],
                         t % kPageTokens, row % kHeads);
            for (std::uint32_t i = 0; i < kHeadSize; ++i) {
              std::uint16_t element = 0;
              std::memcpy(&element, head + 2 * i, 2);
              elements.push_back(element);
            }
          }
          return elements;
        };
        std::vector<std::uint32_t> expected = gathered(*from_, out);
        const float scale = oracle.ScaleOf(expected);
        for (std::uint32_t& element : expected) {
          element = oracle.ElementOf(oracle.CodeOf(element, scale), scale);
        }
        EXPECT_EQ(gathered(*to_, in), expected)
            << "layer " << layer << ", block " << block << ", row " << row;
      }
    }
  }
  void ExpectAllCame(const std::vector<std::uint32_t>& out,
                     const std::vector<std::uint32_t>& in) {
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      ExpectCame(layer, out, in);
    }
  }
  Outcome LoadOne(client::KvLoad* load, const Key& key) {
    const std::vector<std::uint32_t> pages = {1, 9};
    const Outcome outcome = load->Post({{&key, 1}, pages}, engine_, Long());
    const Outcome waited = load->Wait(Long());
    EXPECT_EQ(waited.ok(), outcome.ok());
    return outcome;
  }
};

TEST_F(KvFp8Test, ACompressedBlockIsLoadedIntoAnotherLayout) {
  ASSERT_EQ(from_->cache()->block_bytes, kBlockBytes);
  StoreTwo();
  const auto load = NewLoad();
  const std::vector<std::uint32_t> pages = {1, 9, 8, 4};
  Outcome outcome = load->Post(Blocks(2, pages), engine_, Long());
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  outcome = load->Wait(Long());
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  ExpectAllCame({7, 0, 3, 11}, pages);
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    EXPECT_TRUE(to_->IsPoison(layer, 0)) << layer;
  }
  // Each block, in a piece a plane and layer, both ways; nothing else moved.
  EXPECT_EQ(device_.counts().fp8_pieces, 2u * 2 * kLayers * 2);
  EXPECT_EQ(device_.counts().fragments_copied, 0u);
  AwaitResident(keys_[0]);
  EXPECT_EQ(memd_->BytesOf(keys_[0]).size(), kBlockBytes);
  EXPECT_EQ(memd_->BytesOf(keys_[0]).substr(0, 8), "AGEMKVF1");
}

TEST_F(KvFp8Test, ALayerIsThereBeforeTheNextIs) {
  StoreTwo();
  device_.Hold();
  const auto load = NewLoad();
  const std::vector<std::uint32_t> pages = {1, 9, 8, 4};
  ASSERT_TRUE(load->Post(Blocks(2, pages), engine_, Long()).ok());
  ASSERT_TRUE(load->WaitLayer(0, engine_).ok());
  ASSERT_NO_FATAL_FAILURE(StepTo(engine_));
  ExpectCame(0, {7, 0, 3, 11}, pages);
  EXPECT_TRUE(to_->IsPoison(kLayers - 1, 1));
  device_.Run();
  EXPECT_TRUE(load->Wait(Long()).ok());
  ExpectAllCame({7, 0, 3, 11}, pages);
}

TEST_F(KvFp8Test, APoolHasTheBlocksThatMemdHas) {
  Store(1, 4, "ada");
  const std::vector<std::uint32_t> pages = Pages(4);
  for (const Key& key : Keys(1, 4)) {
    client::HbmBlock block;
    ASSERT_TRUE(pool_->Find(key, kBlockBytes, client::HbmAgent(), &block,
                            from_->cache()->tag()));
    EXPECT_EQ(std::string(HostDevice::Bytes(block.at), kBlockBytes),
              memd_->BytesOf(key));
    pool_->EndUse(block);
  }
  const auto load = LoadOf("ada");
  const std::vector<Key> keys = Keys(1, 4);
  const std::uint64_t in = device_.counts().bytes_to_device;
  ASSERT_TRUE(load->Post({keys, pages}, engine_, Long()).ok());
  ASSERT_TRUE(load->Wait(Long()).ok());
  EXPECT_THAT(load->tiers(), Each(AGENTMEM_TIER_HBM));
  EXPECT_EQ(device_.counts().bytes_to_device, in) << "over the bus";
  ExpectAllCame(pages, pages);
  // And a store of a key that is there copies the pool's.
  Store(1, 4, "ada");
}

TEST_F(KvFp8Test, AStoreIntoThePoolCrossesTheBusOnce) {
  Store(9, 1, "ada");  // memory is allocated
  const HostDevice::Counts before = device_.counts();
  Store(1, 2, "ada");
  const HostDevice::Counts after = device_.counts();
  EXPECT_EQ(after.bytes_to_host - before.bytes_to_host, 2 * kBlockBytes);
  // The header and, a layer, the unit of scales, of which the end is zeros.
  EXPECT_EQ(after.bytes_to_device - before.bytes_to_device,
            2 * (128 + kLayers * 128));
}

TEST_F(KvFp8Test, WhatALoadBringsIntoThePoolIsThereWhole) {
  StoreTwo();  // past it
  const std::vector<std::uint32_t> pages = {1, 9, 8, 4};
  const client::KvBlocks blocks = Blocks(2, pages);
  for (const agentmem_tier tier : {AGENTMEM_TIER_DRAM, AGENTMEM_TIER_HBM}) {
    to_->Poison();
    const auto load = LoadOf("ada");
    ASSERT_TRUE(load->Post(blocks, engine_, Long()).ok());
    ASSERT_TRUE(load->Wait(Long()).ok());
    EXPECT_THAT(load->tiers(), Each(tier));
    ExpectAllCame({7, 0, 3, 11}, pages);
  }
  client::HbmBlock block;
  ASSERT_TRUE(pool_->Find(keys_[0], kBlockBytes, client::HbmAgent(), &block,
                          from_->cache()->tag()));
  EXPECT_EQ(std::string(HostDevice::Bytes(block.at), kBlockBytes),
            memd_->BytesOf(keys_[0]));
  pool_->EndUse(block);
}

TEST_F(KvFp8Test, ABlockOfAnotherShapeOrVersionIsDataLossAndNamed) {
  StoreTwo();
  AwaitResident(keys_[0]);
  const std::string block = memd_->BytesOf(keys_[0]);
  const Key other = AsKey(TestKey(50));
  std::string changed = block;
  changed[8] = 2;
  memd_->AddResident(other, changed);
  Outcome outcome = LoadOne(NewLoad().get(), other);
  EXPECT_EQ(outcome.code, Code::kDataLoss);
  EXPECT_THAT(outcome.message, HasSubstr("version is 2, and 1"));
  EXPECT_THAT(outcome.message, HasSubstr("block "));

  // The same length: heads and head_size the other way around.
  changed = block;
  std::swap(changed[28], changed[32]);
  const Key third = AsKey(TestKey(51));
  memd_->AddResident(third, changed);
  outcome = LoadOne(NewLoad().get(), third);
  EXPECT_EQ(outcome.code, Code::kDataLoss);
  EXPECT_THAT(outcome.message, HasSubstr("heads is 16, and 2"));

  const Key plain = AsKey(TestKey(52));
  memd_->AddResident(plain, std::string(kBlockBytes, 'p'));
  outcome = LoadOne(NewLoad().get(), plain);
  EXPECT_EQ(outcome.code, Code::kDataLoss);
  EXPECT_THAT(outcome.message, HasSubstr("magic number"));
  EXPECT_TRUE(to_->IsPoison(0, 1));
  EXPECT_EQ(Holds(), 0u);
}

// As long, and under the same key: what the pool has is not what is wanted.
TEST_F(KvFp8Test, ABlockOfAnotherShapeInThePoolIsDataLossToo) {
  EngineCache swapped(&device_,
                      KvLayout::VllmFlash(kLayers, kPages, kPageTokens,
                                          kHeadSize, kHeads, KvType::kBfloat16),
                      kPages, kBlockPages * kPageTokens);
  swapped.Compress();
  ASSERT_EQ(swapped.cache()->block_bytes, kBlockBytes);
  swapped.Poison();
  const auto expect_both = [&] {
    client::KvLoad other(parts("ada"), swapped.cache());
    const Outcome outcome = LoadOne(&other, Keys(1, 1)[0]);
    EXPECT_EQ(outcome.code, Code::kDataLoss);
    EXPECT_THAT(outcome.message, HasSubstr("heads is 2, and 16"));
    EXPECT_TRUE(swapped.IsPoison(0, 1));
    const auto load = LoadOf("ada");
    EXPECT_TRUE(LoadOne(load.get(), Keys(1, 1)[0]).ok());
    EXPECT_THAT(load->tiers(), Each(AGENTMEM_TIER_HBM));
  };
  Store(1, 1, "ada");
  expect_both();
  // So it is when the keeper brings it back.
  const std::uint64_t left =
      link_.Wish(HbmWishKind::kEmpty, "ada", clock_.Now() + kSecondNs);
  ASSERT_TRUE(StepUntil([&] { return link_.answers.contains(left); }));
  ASSERT_EQ(pool_->counts().blocks, 0u);
  const std::uint64_t back =
      link_.Wish(HbmWishKind::kBringBack, "ada", kNoDeadline);
  ASSERT_TRUE(StepUntil([&] { return link_.answers.contains(back); }));
  ASSERT_EQ(pool_->counts().brought_back, 1u);
  expect_both();
}

TEST_F(KvFp8Test, ABlockWhoseCopyFailsIsNotPublished) {
  device_.FailNth({HostDevice::Point::kCopy, 3, Code::kInternal});
  const std::vector<std::uint32_t> pages = {7, 0};
  {
    const auto store = NewStore();
    ASSERT_TRUE(store->Post(Blocks(1, pages), engine_, Long()).ok());
    EXPECT_EQ(store->Wait(Long()).code, Code::kInternal);
  }
  Holds();
  EXPECT_FALSE(memd_->IsResident(keys_[0]));
  device_.Mend();
  StoreTwo();
}

// Whatever fails, everything is given back (TearDown looks), and what is said
// to be there is right.
TEST_F(KvFp8Test, AFailureAtAnyPointLosesNothing) {
  constexpr HostDevice::Point kPoints[] = {
      HostDevice::Point::kRegister, HostDevice::Point::kPost,
      HostDevice::Point::kCopy, HostDevice::Point::kRecord,
      HostDevice::Point::kWait};
  const std::vector<std::uint32_t> pages = {7, 0, 3, 11};
  std::uint32_t number = 100;
  for (const HostDevice::Point point : kPoints) {
    for (std::uint64_t nth = 1; nth <= 14; ++nth) {
      const bool with_pool = nth % 2 == 0;
      device_.FailNth({point, nth, Code::kInternal});
      const std::vector<Key> keys = Keys(number, 2);
      number += 2;
      const auto store = with_pool ? StoreOf("ada") : NewStore();
      const Outcome posted = store->Post({keys, pages}, engine_, Long());
      const Outcome stored = store->Wait(Long());
      EXPECT_FALSE(!posted.ok() && stored.ok());
      device_.Mend();
      if (!stored.ok()) continue;
      const auto load = with_pool ? LoadOf("ada") : NewLoad();
      to_->Poison();
      const Outcome begun = load->Post({keys, pages}, engine_, Long());
      const Outcome loaded = load->Wait(Long());
      EXPECT_FALSE(!begun.ok() && loaded.ok());
      if (loaded.ok()) ExpectAllCame(pages, pages);
      device_.Mend();
      // Each starts with nothing registered.
      memory_ = std::make_unique<client::DeviceMemory>(&device_, &holds_);
    }
  }
  EXPECT_EQ(Holds(), 0u);
}

TEST_F(KvFp8Test, DescriptorsThatAreAllInUseAreWaitedForUpToTheDeadline) {
  device_.FailNth({HostDevice::Point::kPost, 1, Code::kResourceExhausted});
  device_.FailNth({HostDevice::Point::kPost, 2, Code::kResourceExhausted});
  StoreTwo();
  AwaitResident(keys_[1]);
  for (std::uint64_t i = 1; i <= 1000; ++i) {
    device_.FailNth({HostDevice::Point::kPost, i, Code::kResourceExhausted});
  }
  std::vector<char> room(kBlockBytes);
  KvFp8Post post(&device_, *from_->cache(), Direction::kToHost,
                 device_.properties().to_host);
  const std::vector<std::uint32_t> pages = {1, 2};
  const Deadline now = Deadline::After(0);
  ASSERT_TRUE(post.Add(0, kLayers, pages, room.data(), now).ok());
  EXPECT_EQ(post.Flush(now).code, Code::kResourceExhausted);
  EXPECT_TRUE(post.Flush(now).ok()) << "nothing is left of it";
}

TEST_F(KvFp8Test, BatchesAreAsLongAsTheDeviceTakesThem) {
  HostDevice::Options options;
  options.kernel_fragments_max = 5;  // two blocks' layers, and their pages
  options.held = true;
  HostDevice device(options);
  const KvLayout layout = KvLayout::VllmFlash(2, kPages, kPageTokens, kHeads,
                                              kHeadSize, KvType::kFloat16);
  const std::uint32_t tokens = kBlockPages * kPageTokens;
  EngineCache engine(&device, layout, kPages, tokens);
  engine.Compress();
  std::vector<char> room(3 * engine.cache()->block_bytes);
  ASSERT_TRUE(device.Register(room, Device::Registration::kBegin).ok());
  KvFp8Post post(&device, *engine.cache(), Direction::kToHost,
                 device.properties().to_host);
  const std::vector<std::uint32_t> pages = {1, 2};
  const auto add = [&](int block) {
    return post
        .Add(1, 1, pages, room.data() + block * engine.cache()->block_bytes,
             Long())
        .ok();
  };
  ASSERT_TRUE(add(0) && add(1));
  EXPECT_EQ(device.counts().fragments_pending, 0u);
  ASSERT_TRUE(add(2));
  EXPECT_EQ(device.counts().fragments_pending, 4u);
  ASSERT_TRUE(post.Flush(Long()).ok());
  EXPECT_EQ(device.counts().fragments_pending, 6u);
  device.Run();
  device.Drain();
  ASSERT_TRUE(device.Register(room, Device::Registration::kEnd).ok());
}

TEST_F(KvFp8Test, OnePostMakesTheCodesOfSeveralBlocks) {
  const std::vector<std::uint32_t> pages = Pages(6);
  for (const bool with_pool : {false, true}) {
    const std::vector<Key> keys = Keys(with_pool ? 1 : 11, 6);
    for (int i = 0; i < 6; ++i)
      memd_->Grant(kBlockBytes);  // none is waited for
    const std::uint64_t before = device_.counts().fp8_batches;
    const auto store = with_pool ? StoreOf("ada") : NewStore();
    ASSERT_TRUE(store->Post({keys, pages}, engine_, Long()).ok());
    EXPECT_EQ(device_.counts().fp8_batches, before + 1);
    ASSERT_TRUE(store->Wait(Long()).ok());
    const auto load = NewLoad();
    ASSERT_TRUE(load->Post({keys, pages}, engine_, Long()).ok());
    ASSERT_TRUE(load->Wait(Long()).ok());
    ExpectAllCame(pages, pages);
  }
}

// Room that copies of the same store give back comes only when they begin.
TEST_F(KvFp8Test, WhoWaitsForRoomHasPostedWhatItHas) {
  std::vector<agentmem_reservation> taken(kGrantEntries - 2);
  for (agentmem_reservation& room : taken) {
    ASSERT_EQ(agentmem_reserve(client_, kBlockBytes, kLongNs, &room, nullptr),
              AGENTMEM_OK);
  }
  const std::vector<Key> keys = Keys(1, 6);
  const std::vector<std::uint32_t> pages = Pages(6);
  const auto store = NewStore();
  Outcome outcome = store->Post({keys, pages}, engine_, Long());
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  outcome = store->Wait(Long());
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  EXPECT_GE(device_.counts().fp8_batches, 3u);
  for (agentmem_reservation& room : taken) agentmem_abandon(client_, &room);
  const auto load = NewLoad();
  ASSERT_TRUE(load->Post({keys, pages}, engine_, Long()).ok());
  ASSERT_TRUE(load->Wait(Long()).ok());
  ExpectAllCame(pages, pages);
}

TEST_F(KvFp8Test, WhatCannotBeCompressedIsRefusedByName) {
  KvCache plain = *from_->cache();
  plain.fp8.reset();
  KvCache compressed;
  DeviceProperties properties = device_.properties();
  plain.layout.type = KvType::kInt8;
  Outcome outcome = Compress(properties, plain, &compressed);
  EXPECT_EQ(outcome.code, Code::kInvalidArgument);
  EXPECT_THAT(outcome.message, HasSubstr("type is 4"));
  plain.layout.type = KvType::kFloat32;
  EXPECT_TRUE(Compress(properties, plain, &compressed).ok());
  EXPECT_EQ(compressed.block_bytes, kBlockBytes);
  plain.block_pages = 8 * properties.kernel_fragments_max;
  outcome = Compress(properties, plain, &compressed);
  EXPECT_EQ(outcome.code, Code::kInvalidArgument);
  EXPECT_THAT(outcome.message, HasSubstr("pages"));
  plain.block_pages = 2;
  properties.kernel_fragments_max = 0;
  EXPECT_EQ(Compress(properties, plain, &compressed).code,
            Code::kFailedPrecondition);
}

}  // namespace
}  // namespace agentmem
