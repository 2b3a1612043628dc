// KV transfers through a pool of blocks in device memory: every byte, and what
// is seen when copies are under way or fail.
#include <cstring>
#include <vector>

#include "gmock/gmock.h"
#include "tests/unit/client/hbm_test_base.h"

namespace agentmem {
namespace {

using client::Deadline;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::SizeIs;

constexpr agentmem_tier kHbm = AGENTMEM_TIER_HBM;
constexpr agentmem_tier kDram = AGENTMEM_TIER_DRAM;

using HbmTransferTest = HbmTest;

TEST_F(HbmTransferTest, WhatWasStoredIsLoadedWithoutTheBus) {
  Store(1, 4, "ada");
  const std::uint64_t in = device_.counts().bytes_to_device;
  EXPECT_THAT(Load(1, 4, "ada"), AllOf(SizeIs(4), Each(kHbm)));
  EXPECT_EQ(device_.counts().bytes_to_device, in);
  EXPECT_EQ(pool_->counts().hits, 4u);
}

TEST_F(HbmTransferTest, AStoreCrossesTheBusInOneFragmentABlock) {
  const std::uint64_t copied = device_.counts().fragments_copied;
  Store(1, 1, "ada");
  const HostDevice::Counts counts = device_.counts();
  const std::uint64_t block = from_->cache()->block_bytes;
  EXPECT_EQ(counts.bytes_to_host, block);
  EXPECT_EQ(counts.bytes_within, block);
  // Tokens first, and its pages are neighbours: a plane of a layer lies
  // together.
  EXPECT_EQ(counts.fragments_copied - copied, 6u + 1);
}

TEST_F(HbmTransferTest, WhatIsLoadedFromBelowIsFoundTheNextTime) {
  StoreTwo();  // without the pool, out of pages 7, 0 and 3, 11
  from_->Fill(&random_);
  Store(3, 3, "");
  keeps_.clear();
  pool_->SetBudget(0);
  pool_->GiveBack(client::HbmPool::Empty::kFreed);
  ASSERT_EQ(PoolBytes(), 0u);
  pool_->SetBudget(1 << 20);
  EXPECT_THAT(Load(3, 3, "ada"), AllOf(SizeIs(3), Each(kDram)));
  const std::uint64_t in = device_.counts().bytes_to_device;
  EXPECT_THAT(Load(3, 3, "ada"), AllOf(SizeIs(3), Each(kHbm)));
  EXPECT_EQ(device_.counts().bytes_to_device, in);
  EXPECT_EQ(pool_->UseOf("ada").blocks, 3u);
}

TEST_F(HbmTransferTest, ALoadTakesEachBlockFromWhereItIs) {
  Store(1, 2, "");
  client::KvStore plain(KvTest::parts(), from_->cache(), BlockClass::kCache,
                        Ack::kVisible);
  const std::vector<std::uint32_t> others = {6, 7, 8, 9};
  const std::vector<Key> beside = Keys(3, 2);
  ASSERT_TRUE(plain.Post({beside, others}, engine_, Long()).ok());
  ASSERT_TRUE(plain.Wait(Long()).ok());
  AwaitResident(Keys(4, 1)[0]);
  const std::vector<Key> keys = {Keys(3, 1)[0], Keys(1, 1)[0], Keys(4, 1)[0],
                                 Keys(2, 1)[0]};
  const std::vector<std::uint32_t> pages = {0, 1, 2, 3, 4, 5, 6, 7};
  const auto load = LoadOf("");
  ASSERT_TRUE(load->Post({keys, pages}, engine_, Long()).ok());
  ASSERT_TRUE(load->Wait(Long()).ok());
  EXPECT_THAT(load->tiers(), ElementsAre(kDram, kHbm, kDram, kHbm));
  const std::vector<std::uint32_t> came_from = {6, 7, 0, 1, 8, 9, 2, 3};
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    for (std::uint32_t page = 0; page < 8; ++page) {
      EXPECT_TRUE(to_->SamePage(layer, page, *from_, came_from[page])) << page;
    }
  }
}

TEST_F(HbmTransferTest, WhatIsInThePoolIsCopiedWhileTheRestIsAwaited) {
  Store(1, 1, "ada");
  const std::vector<Key> keys = Keys(1, 2);
  memd_->AddBelow(keys[1], memd_->BytesOf(keys[0]));
  memd_->Withhold(Op::kFetch, keys[1]);
  WatchedDevice device(&device_);
  device.before_copy = [this] { memd_->LetGo(); };
  client::KvParts of = parts("ada");
  of.device = &device;
  to_->Poison();
  client::KvLoad load(of, to_->cache());
  const std::vector<std::uint32_t> pages = Pages(2);
  Outcome outcome = load.Post({keys, pages}, engine_, Long());
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  outcome = load.Wait(Long());
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  EXPECT_THAT(load.tiers(), ElementsAre(kHbm, AGENTMEM_TIER_STORE));
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    for (const std::uint32_t page : pages) {
      EXPECT_TRUE(to_->SamePage(layer, page, *from_, page % kBlockPages));
    }
  }
}

TEST_F(HbmTransferTest, WithoutRoomInThePoolItGoesAsBefore) {
  pool_->SetBudget(kSlot);
  Store(1, 6, "ada");
  // The last of those that were seen below before it came.
  EXPECT_EQ(pool_->counts().blocks, 1u);
  const std::vector<agentmem_tier> tiers = Load(1, 6, "");
  EXPECT_EQ(std::count(tiers.begin(), tiers.end(), kHbm), 1);
  EXPECT_EQ(std::count(tiers.begin(), tiers.end(), kDram), 5);
}

TEST_F(HbmTransferTest, WhatIsNotKeptIsNotInThePool) {
  const auto plain = [this](auto make) {
    client::KvParts parts = KvTest::parts();
    parts.pool = pool_.get();
    return make(parts);
  };
  const std::vector<Key> keys = Keys(1, 2);
  const std::vector<std::uint32_t> pages = Pages(2);
  const auto store = plain([this](const client::KvParts& parts) {
    return std::make_unique<client::KvStore>(parts, from_->cache(),
                                             BlockClass::kCache, Ack::kVisible);
  });
  ASSERT_TRUE(store->Post({keys, pages}, engine_, Long()).ok());
  ASSERT_TRUE(store->Wait(Long()).ok());
  const auto load = plain([this](const client::KvParts& parts) {
    return std::make_unique<client::KvLoad>(parts, to_->cache());
  });
  ASSERT_TRUE(load->Post({keys, pages}, engine_, Long()).ok());
  ASSERT_TRUE(load->Wait(Long()).ok());
  EXPECT_EQ(PoolBytes(), 0u);
  EXPECT_EQ(pool_->counts().misses, 2u);
}

TEST_F(HbmTransferTest, ABlockIsNotFoundBeforeItsCopiesHaveEnded) {
  Store(9, 1, "ada");  // registers memory: that would wait for the device
  device_.Hold();
  const auto store = StoreOf("ada");
  const std::vector<Key> keys = Keys(1, 1);
  const std::vector<std::uint32_t> pages = Pages(1);
  ASSERT_TRUE(store->Post({keys, pages}, engine_, Long()).ok());
  EXPECT_EQ(store->Wait(Deadline::After(0)).code, Code::kDeadlineExceeded);
  client::HbmBlock block;
  EXPECT_FALSE(pool_->Find(keys[0], 3072, client::HbmAgent(), &block));
  device_.Run();
  ASSERT_TRUE(store->Wait(Long()).ok());
  EXPECT_TRUE(pool_->Find(keys[0], 3072, client::HbmAgent(), &block));
  pool_->EndUse(block);
}

TEST_F(HbmTransferTest, TheNextBlockIsGatheredWhileOneCrossesTheBus) {
  Store(9, 1, "ada");  // registers memory: that would wait for the device
  device_.Hold();
  const Stream within = device_.properties().gather;
  const Stream out = device_.properties().to_host;
  const std::uint64_t block = from_->cache()->block_bytes;
  const HostDevice::Counts before = device_.counts();
  const auto store = StoreOf("ada");
  const std::vector<Key> keys = Keys(1, 2);
  const std::vector<std::uint32_t> pages = Pages(2);
  ASSERT_TRUE(store->Post({keys, pages}, engine_, Long()).ok());
  EXPECT_EQ(device_.StepStream(within, 1), 0u) << "the engine was before it";
  while (device_.StepStream(engine_, 1) != 0) {
  }
  device_.StepStream(out, 100);
  EXPECT_EQ(device_.counts().bytes_to_host, before.bytes_to_host)
      << "it was not gathered yet";
  while (device_.StepStream(within, 1) != 0) {
  }
  EXPECT_EQ(device_.counts().bytes_within, before.bytes_within + 2 * block);
  EXPECT_EQ(device_.counts().bytes_to_host, before.bytes_to_host);
  EXPECT_FALSE(store->Advance());
  device_.Run();
  ASSERT_TRUE(store->Wait(Long()).ok());
  for (const Key& key : keys) AwaitResident(key);
  EXPECT_THAT(Load(1, 2, "ada"), AllOf(SizeIs(2), Each(kHbm)));
  ExpectPoolIsRight(keys);
}

TEST_F(HbmTransferTest, TheNextLayerCrossesTheBusWhileOneIsScattered) {
  pool_->SetBudget(0);
  Store(1, 2, "");
  pool_->SetBudget(1 << 20);
  clock_.Advance(2 * kSecondNs);
  const Stream within = device_.properties().scatter;
  const Stream in = device_.properties().to_device;
  const std::uint64_t block = from_->cache()->block_bytes;
  to_->Poison();
  device_.Hold();
  const HostDevice::Counts before = device_.counts();
  const auto load = LoadOf("ada");
  const std::vector<Key> keys = Keys(1, 2);
  const std::vector<std::uint32_t> pages = Pages(2);
  ASSERT_TRUE(load->Post({keys, pages}, engine_, Long()).ok());
  ASSERT_TRUE(load->WaitLayer(0, engine_).ok());
  EXPECT_EQ(device_.StepStream(within, 1), 0u) << "the engine was before it";
  while (device_.StepStream(engine_, 1) != 0) {
  }
  device_.StepStream(within, 100);
  EXPECT_EQ(device_.counts().bytes_within, before.bytes_within)
      << "nothing came over the bus yet";
  while (device_.StepStream(in, 1) != 0) {
  }
  EXPECT_EQ(device_.counts().bytes_to_device,
            before.bytes_to_device + 2 * block);
  EXPECT_EQ(device_.counts().bytes_within, before.bytes_within);
  EXPECT_FALSE(load->Advance());
  ASSERT_NO_FATAL_FAILURE(StepTo(engine_));
  EXPECT_TRUE(to_->SamePage(0, 3, *from_, 3));
  device_.Run();
  ASSERT_TRUE(load->Wait(Long()).ok());
  ExpectLoaded(2);
  ExpectPoolIsRight(keys);
}

// The first has a slot, the last has none.
TEST_F(HbmTransferTest, ALayerIsThereOfAllWindowsWhicheverWayTheyCame) {
  pool_->SetBudget(0);
  Store(1, 2, "");
  const std::vector<Key> keys = Keys(1, 2);
  const std::string bytes = memd_->BytesOf(keys[1]);
  memd_->Evict(keys[1]);
  memd_->AddBelow(keys[1], bytes);
  memd_->Withhold(Op::kFetch, keys[1]);
  pool_->SetBudget(kSlot);
  clock_.Advance(2 * kSecondNs);
  WatchedDevice device(&device_);
  device.before_copy = [this] { memd_->LetGo(); };
  client::KvParts of = parts("ada");
  of.device = &device;
  to_->Poison();
  device_.Hold();
  client::KvLoad load(of, to_->cache());
  const std::vector<std::uint32_t> pages = Pages(2);
  ASSERT_TRUE(load.Post({keys, pages}, engine_, Long()).ok());
  ASSERT_TRUE(load.WaitLayer(0, engine_).ok());
  Event event;
  ASSERT_TRUE(device_.Record(engine_, &event).ok());
  while (device_.StepStream(engine_, 1) != 0 ||
         device_.StepStream(device_.properties().to_device, 1) != 0) {
  }
  EXPECT_EQ(device_.Query(event, nullptr), EventState::kPending)
      << "the first is in its slot, and not in its pages";
  while (device_.StepStream(engine_, 1) != 0 ||
         device_.StepStream(device_.properties().scatter, 1) != 0) {
  }
  EXPECT_EQ(device_.Query(event, nullptr), EventState::kPassed);
  for (const std::uint32_t page : pages) {
    EXPECT_TRUE(to_->SamePage(0, page, *from_, page)) << page;
  }
  device_.Run();
  ASSERT_TRUE(load.Wait(Long()).ok());
  ExpectLoaded(2);
}

// The engine's pages are written on both streams.
TEST_F(HbmTransferTest, AfterAFailureTheEngineIsHeldUpUntilAllIsScattered) {
  pool_->SetBudget(0);
  Store(1, 1, "");
  pool_->SetBudget(1 << 20);
  clock_.Advance(2 * kSecondNs);
  device_.Hold();
  // Layer 0 over the bus, layer 0 into its pages, layer 1 over the bus.
  device_.FailNth({HostDevice::Point::kPost, 3, Code::kInternal});
  const auto load = LoadOf("ada");
  const std::vector<Key> keys = Keys(1, 1);
  const std::vector<std::uint32_t> pages = Pages(1);
  EXPECT_EQ(load->Post({keys, pages}, engine_, Long()).code, Code::kInternal);
  Event event;
  ASSERT_TRUE(device_.Record(engine_, &event).ok());
  while (device_.StepStream(engine_, 1) != 0 ||
         device_.StepStream(device_.properties().to_device, 1) != 0) {
  }
  EXPECT_EQ(device_.Query(event, nullptr), EventState::kPending);
  device_.Run();
  device_.Drain();
  EXPECT_EQ(device_.Query(event, nullptr), EventState::kPassed);
  EXPECT_EQ(load->Wait(Long()).code, Code::kInternal);
}

// The engine's pages are read on both streams.
TEST_F(HbmTransferTest, AfterAFailureTheEngineIsHeldUpUntilAllIsGathered) {
  Store(9, 1, "ada");
  device_.Hold();
  // Two wait for the engine; the third of one stream for the other.
  device_.FailNth({HostDevice::Point::kWait, 3, Code::kInternal});
  const auto store = StoreOf("ada");
  const std::vector<Key> keys = Keys(1, 1);
  const std::vector<std::uint32_t> pages = Pages(1);
  EXPECT_EQ(store->Post({keys, pages}, engine_, Long()).code, Code::kInternal);
  Event event;
  ASSERT_TRUE(device_.Record(engine_, &event).ok());
  while (device_.StepStream(engine_, 1) != 0 ||
         device_.StepStream(device_.properties().to_host, 1) != 0) {
  }
  EXPECT_EQ(device_.Query(event, nullptr), EventState::kPending);
  device_.Run();
  device_.Drain();
  EXPECT_EQ(device_.Query(event, nullptr), EventState::kPassed);
  EXPECT_EQ(store->Wait(Long()).code, Code::kInternal);
  ExpectPoolIsRight(keys);
}

TEST_F(HbmTransferTest, WhatALoadReadsStaysUntilItsCopiesHaveEnded) {
  Store(1, 4, "ada");
  device_.Hold();
  const auto load = LoadOf("ada");
  const std::vector<Key> keys = Keys(1, 4);
  const std::vector<std::uint32_t> pages = Pages(4);
  ASSERT_TRUE(load->Post({keys, pages}, engine_, Long()).ok());
  pool_->SetBudget(0);
  EXPECT_FALSE(pool_->GiveBack(client::HbmPool::Empty::kFreed));
  EXPECT_EQ(PoolBytes(), kSlab);
  device_.Run();
  ASSERT_TRUE(load->Wait(Long()).ok());
  ExpectLoaded(4);
  EXPECT_TRUE(pool_->GiveBack(client::HbmPool::Empty::kFreed));
  EXPECT_EQ(PoolBytes(), 0u);
}

TEST_F(HbmTransferTest, ALayerIsThereBeforeTheNextIsOutOfThePoolToo) {
  Store(1, 2, "");
  device_.Hold();
  const auto load = LoadOf("");
  const std::vector<Key> keys = Keys(1, 2);
  const std::vector<std::uint32_t> pages = Pages(2);
  ASSERT_TRUE(load->Post({keys, pages}, engine_, Long()).ok());
  ASSERT_TRUE(load->WaitLayer(0, engine_).ok());
  ASSERT_NO_FATAL_FAILURE(StepTo(engine_));
  EXPECT_TRUE(to_->SamePage(0, 3, *from_, 3));
  EXPECT_TRUE(to_->IsPoison(kLayers - 1, 0));
  device_.Run();
  EXPECT_TRUE(load->Wait(Long()).ok());
}

TEST_F(HbmTransferTest, AKeyThatIsInThePoolKeepsItsBytes) {
  Store(1, 1, "");
  const std::string first = memd_->BytesOf(Keys(1, 1)[0]);
  memd_->Evict(Keys(1, 1)[0]);
  from_->Fill(&random_);
  Store(1, 1, "");
  EXPECT_EQ(memd_->BytesOf(Keys(1, 1)[0]), first);
}

// The store is told; what it leaves is right, and of use to the next memd.
TEST_F(HbmTransferTest, ABlockWhoseMemdDiesIsRightOrNotInThePool) {
  Store(9, 1, "");
  device_.Hold();
  const auto store = StoreOf("", BlockClass::kState);
  const std::vector<Key> keys = Keys(1, 1);
  const std::vector<std::uint32_t> pages = Pages(1);
  ASSERT_TRUE(store->Post({keys, pages}, engine_, Long()).ok());
  Kill();
  device_.Run();
  EXPECT_EQ(store->Wait(Long()).code, Code::kUnavailable);
  link_.lost = true;  // so that its end does not wait for one
  link_.refusal = Fail(Code::kUnavailable, "dead");
  client::HbmBlock block;
  if (pool_->Find(keys[0], 3072, client::HbmAgent(), &block)) {
    EXPECT_EQ(
        std::memcmp(HostDevice::Bytes(block.at), from_->At(0, 0, 0, 0, 0), 256),
        0);
    pool_->EndUse(block);
  }
}

// Wherever it fails: no block of which a byte is wrong is ever found, and
// nothing stays in use (TearDown looks).
TEST_F(HbmTransferTest, AFailureAtAnyPointShowsNoWrongByte) {
  constexpr HostDevice::Point kPoints[] = {
      HostDevice::Point::kAllocate, HostDevice::Point::kPost,
      HostDevice::Point::kCopy, HostDevice::Point::kRecord,
      HostDevice::Point::kWait};
  std::uint32_t number = 100;
  for (const HostDevice::Point point : kPoints) {
    for (std::uint64_t nth = 1; nth <= 20; ++nth) {
      SCOPED_TRACE(testing::Message()
                   << "point " << static_cast<int>(point) << ", " << nth);
      pool_->SetBudget(0);
      pool_->GiveBack(client::HbmPool::Empty::kFreed);
      pool_->SetBudget(2 * kSlab);
      clock_.Advance(2 * kSecondNs);
      from_->Fill(&random_);
      const std::vector<Key> keys = Keys(number, 2);
      const std::vector<std::uint32_t> pages = Pages(2);
      number += 2;
      device_.FailNth({point, nth, Code::kInternal});
      bool stored = false;
      {
        const auto store = StoreOf("ada");
        const Outcome posted = store->Post({keys, pages}, engine_, Long());
        stored = store->Wait(Long()).ok();
        EXPECT_FALSE(!posted.ok() && stored);
      }
      device_.Disarm();
      device_.Mend();
      // What is in the pool is right, whatever the store answered.
      ExpectPoolIsRight(keys);
      if (stored) {
        // The load meets what is left of the failure.
        to_->Poison();
        const auto load = LoadOf("ada");
        (void)load->Post({keys, pages}, engine_, Long());
        if (load->Wait(Long()).ok()) ExpectLoaded(2);
        device_.Disarm();
        device_.Mend();
        ExpectPoolIsRight(keys);
      }
    }
  }
}

// As above, of loads that fill the pool.
TEST_F(HbmTransferTest, AFailureOfALoadShowsNoWrongByteEither) {
  constexpr HostDevice::Point kPoints[] = {
      HostDevice::Point::kAllocate, HostDevice::Point::kPost,
      HostDevice::Point::kCopy, HostDevice::Point::kRecord,
      HostDevice::Point::kWait};
  pool_->SetBudget(0);
  Store(1, 5, "");
  const std::vector<Key> keys = Keys(1, 5);
  const std::vector<std::uint32_t> pages = Pages(5);
  for (const HostDevice::Point point : kPoints) {
    for (std::uint64_t nth = 1; nth <= 30; ++nth) {
      SCOPED_TRACE(testing::Message()
                   << "point " << static_cast<int>(point) << ", " << nth);
      pool_->SetBudget(0);
      pool_->GiveBack(client::HbmPool::Empty::kFreed);
      pool_->SetBudget(2 * kSlab);
      clock_.Advance(2 * kSecondNs);
      device_.FailNth({point, nth, Code::kInternal});
      {
        to_->Poison();
        const auto load = LoadOf("ada");
        (void)load->Post({keys, pages}, engine_, Long());
        if (load->Wait(Long()).ok()) ExpectLoaded(5);
      }
      device_.Disarm();
      device_.Mend();
      ExpectPoolIsRight(keys);
    }
  }
}

}  // namespace
}  // namespace agentmem
