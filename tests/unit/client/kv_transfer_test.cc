#include <memory>
#include <string>
#include <vector>

#include "client/kv_open_transfer.h"
#include "gmock/gmock.h"
#include "tests/unit/client/kv_test_base.h"

namespace agentmem {
namespace {

using client::Deadline;
using testing::ElementsAre;
using testing::HasSubstr;

using KvTransferTest = KvTest;

TEST_F(KvTransferTest, ABlockStoredFromOneLayoutIsLoadedIntoAnother) {
  StoreTwo();
  const auto load = NewLoad();
  const std::vector<std::uint32_t> pages = {1, 9, 8, 4};
  Outcome outcome = load->Post(Blocks(2, pages), engine_, Long());
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  outcome = load->Wait(Long());
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    EXPECT_TRUE(to_->SamePage(layer, 1, *from_, 7)) << layer;
    EXPECT_TRUE(to_->SamePage(layer, 9, *from_, 0)) << layer;
    EXPECT_TRUE(to_->SamePage(layer, 8, *from_, 3)) << layer;
    EXPECT_TRUE(to_->SamePage(layer, 4, *from_, 11)) << layer;
    EXPECT_TRUE(to_->IsPoison(layer, 0)) << layer;
  }
  EXPECT_EQ(Holds(), 0u);
}

TEST_F(KvTransferTest, AStoreReadsWhatTheEngineHadPostedBeforeIt) {
  StoreTwo();  // registers memory: that would wait for the device
  // The engine's kernel, so to say: page 5 gets its bytes by a copy.
  std::vector<char> page(4096, 'e');
  ASSERT_TRUE(device_.Register(page, Device::Registration::kBegin).ok());
  device_.Hold();
  std::vector<Fragment> written;
  for (std::uint32_t token = 0; token < kPageTokens; ++token) {
    for (std::uint32_t head = 0; head < kHeads; ++head) {
      written.push_back({DeviceAddress(reinterpret_cast<std::uint64_t>(
                             from_->At(0, 0, 5, token, head))),
                         page.data(), 32});
    }
  }
  CopyBatch batch;
  batch.direction = Direction::kToDevice;
  batch.fragments = written;
  ASSERT_TRUE(device_.Copy(batch, engine_).ok());
  const auto store = NewStore();
  const std::vector<std::uint32_t> pages = {5, 6};
  client::KvBlocks blocks = Blocks(1, pages);
  const std::vector<Key> key = {AsKey(TestKey(50))};
  blocks.keys = key;
  ASSERT_TRUE(store->Post(blocks, engine_, Long()).ok());
  device_.Run();
  const Outcome outcome = store->Wait(Long());
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  EXPECT_EQ(memd_->BytesOf(key[0]).substr(0, 256), std::string(256, 'e'));
  device_.Drain();
  ASSERT_TRUE(device_.Register(page, Device::Registration::kEnd).ok());
}

TEST_F(KvTransferTest, ALoadWaitsForWhatTheEngineHadPostedBeforeIt) {
  StoreTwo();
  device_.Hold();
  std::vector<char> page(4096, 'e');
  ASSERT_TRUE(device_.Register(page, Device::Registration::kBegin).ok());
  const Fragment written = {
      DeviceAddress(reinterpret_cast<std::uint64_t>(to_->At(0, 0, 1, 0, 0))),
      page.data(), 32};
  CopyBatch batch;
  batch.direction = Direction::kToDevice;
  batch.fragments = {&written, 1};
  ASSERT_TRUE(device_.Copy(batch, engine_).ok());
  const auto load = NewLoad();
  const std::vector<std::uint32_t> pages = {1, 9};
  ASSERT_TRUE(load->Post(Blocks(1, pages), engine_, Long()).ok());
  EXPECT_EQ(device_.StepStream(device_.properties().to_device, 1), 0u);
  device_.Run();
  EXPECT_TRUE(load->Wait(Long()).ok());
  EXPECT_TRUE(to_->SamePage(0, 1, *from_, 7)) << "the engine was last";
  device_.Drain();
  ASSERT_TRUE(device_.Register(page, Device::Registration::kEnd).ok());
}

TEST_F(KvTransferTest, ALoadWhoseCopyFailsSaysSo) {
  StoreTwo();
  HostDevice::Failure failure;
  failure.point = HostDevice::Point::kCopy;
  failure.nth = 3;
  failure.code = Code::kInternal;
  device_.FailNth(failure);
  const auto load = NewLoad();
  const std::vector<std::uint32_t> pages = {1, 9};
  ASSERT_TRUE(load->Post(Blocks(1, pages), engine_, Long()).ok());
  EXPECT_EQ(load->Wait(Long()).code, Code::kInternal);
  EXPECT_EQ(load->WaitLayer(0, engine_).code, Code::kInternal);
  device_.Mend();
}

TEST_F(KvTransferTest, SmallFragmentsGoByTheKernelAndTheRestBesideThem) {
  // A head of a token has 32 bytes; tokens first, a plane of a page has 256.
  crossovers_.to_host.rule.below = kKernelAlways;
  crossovers_.to_device.rule.below = 64;
  StoreTwo();
  const std::uint64_t stored = device_.counts().kernel_fragments;
  EXPECT_NE(stored, 0u);
  const auto load = NewLoad();
  const std::vector<std::uint32_t> pages = {1, 9, 8, 4};
  ASSERT_TRUE(load->Post(Blocks(2, pages), engine_, Long()).ok());
  ASSERT_TRUE(load->Wait(Long()).ok());
  EXPECT_NE(device_.counts().kernel_fragments, stored);
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    EXPECT_TRUE(to_->SamePage(layer, 1, *from_, 7)) << layer;
    EXPECT_TRUE(to_->SamePage(layer, 4, *from_, 11)) << layer;
  }
}

TEST_F(KvTransferTest, WhatWasCopiedIsGivenBackWhenMemdAsks) {
  StoreTwo();
  {
    const auto load = NewLoad();
    const std::vector<std::uint32_t> pages = {1, 9, 8, 4};
    ASSERT_TRUE(load->Post(Blocks(2, pages), engine_, Long()).ok());
    ASSERT_TRUE(load->Wait(Long()).ok());
  }
  ASSERT_NE(memory_->registered_bytes(), 0u);
  client::Session* const session = client_->channel().Acquire();
  std::uint64_t token = 0;
  for (const std::uint64_t offset : holds_.held) {
    memory_->Retire(session, offset, kExtentBytes, ++token);
  }
  session->Unref();
  EXPECT_EQ(holds_.answered.size(), holds_.held.size());
  EXPECT_EQ(memory_->registered_bytes(), 0u);
  holds_.held.clear();
}

// The device lets go of memory when all of its copies have ended, others', too.
// Whoever advances a load does not wait for that with the load in his hand.
TEST_F(KvTransferTest, ALayerDoesNotWaitForTheDeviceToLetGoOfMemory) {
  StoreTwo();
  device_.Hold();
  auto load = NewLoad();
  const std::vector<std::uint32_t> pages = {1, 9, 8, 4};
  ASSERT_TRUE(load->Post(Blocks(2, pages), engine_, Long()).ok());
  ASSERT_NO_FATAL_FAILURE(StepTo(device_.properties().to_device));
  Event others;
  ASSERT_TRUE(device_.Record(Stream::Of(9), &others).ok());
  client::Session* const session = client_->channel().Acquire();
  memory_->Retire(session, 0, kExtentBytes, 5);
  session->Unref();
  client::KvOpenTransfer open(std::move(load));
  EXPECT_TRUE(open.AdvanceIfFree());
  EXPECT_TRUE(open.WaitLayer(0, engine_).ok());
  EXPECT_THAT(holds_.answered, testing::IsEmpty());
  device_.Run();
  EXPECT_TRUE(open.Wait(Long()).ok());
  EXPECT_THAT(holds_.answered, testing::ElementsAre(5u));
  EXPECT_EQ(memory_->registered_bytes(), 0u);
  EXPECT_EQ(device_.Query(others, nullptr), EventState::kPassed);
  holds_.held.clear();
}

TEST_F(KvTransferTest, WhatHasNoEventIsNotTakenForDone) {
  StoreTwo();
  device_.Hold();
  HostDevice::Failure failure;
  failure.point = HostDevice::Point::kRecord;
  failure.nth = 2;  // the block's; the first is the engine's
  failure.code = Code::kInternal;
  device_.FailNth(failure);
  const auto store = NewStore();
  const std::vector<std::uint32_t> pages = {5, 6};
  const std::vector<Key> key = {AsKey(TestKey(50))};
  ASSERT_TRUE(store->Post({key, pages}, engine_, Long()).ok());
  while (device_.StepStream(engine_, 1) != 0) {
  }
  failure.nth = 1;
  device_.FailNth(failure);
  EXPECT_FALSE(store->Advance());
  EXPECT_FALSE(store->Advance());
  device_.Run();
  EXPECT_TRUE(store->Wait(Long()).ok());
  EXPECT_TRUE(memd_->IsResident(key[0]));
}

TEST_F(KvTransferTest, ALayerIsThereBeforeTheNextIs) {
  StoreTwo();
  device_.Hold();
  const auto load = NewLoad();
  const std::vector<std::uint32_t> pages = {1, 9, 8, 4};
  ASSERT_TRUE(load->Post(Blocks(2, pages), engine_, Long()).ok());
  ASSERT_TRUE(load->WaitLayer(0, engine_).ok());
  ASSERT_NO_FATAL_FAILURE(StepTo(engine_));
  EXPECT_TRUE(to_->SamePage(0, 1, *from_, 7));
  EXPECT_TRUE(to_->SamePage(0, 4, *from_, 11));
  EXPECT_TRUE(to_->IsPoison(kLayers - 1, 1));
  EXPECT_FALSE(load->Advance());
  EXPECT_NE(Holds(), 0u) << "the device still reads them";
  device_.Run();
  EXPECT_TRUE(load->Wait(Long()).ok());
  EXPECT_TRUE(load->WaitLayer(kLayers - 1, engine_).ok()) << "there already";
  EXPECT_THAT(load->WaitLayer(kLayers, engine_).message, HasSubstr("layer 3"));
}

TEST_F(KvTransferTest, AStoreIsNotVisibleBeforeItsCopiesHaveEnded) {
  StoreTwo();
  device_.Hold();
  const auto store = NewStore();
  const std::vector<std::uint32_t> pages = {5, 6};
  client::KvBlocks blocks = Blocks(1, pages);
  const std::vector<Key> key = {AsKey(TestKey(50))};
  blocks.keys = key;
  ASSERT_TRUE(store->Post(blocks, engine_, Long()).ok());
  EXPECT_EQ(store->Wait(Deadline::After(0)).code, Code::kDeadlineExceeded);
  EXPECT_FALSE(memd_->IsResident(key[0]));
  device_.Run();
  EXPECT_TRUE(store->Wait(Long()).ok());
  EXPECT_TRUE(memd_->IsResident(key[0]));
}

TEST_F(KvTransferTest, ABlockWhoseCopyFailsIsNotPublished) {
  HostDevice::Failure failure;
  failure.point = HostDevice::Point::kCopy;
  failure.nth = 3;
  failure.code = Code::kInternal;
  device_.FailNth(failure);
  const std::vector<std::uint32_t> pages = {7, 0};
  {
    const auto store = NewStore();
    ASSERT_TRUE(store->Post(Blocks(1, pages), engine_, Long()).ok());
    EXPECT_EQ(store->Wait(Long()).code, Code::kInternal);
  }
  EXPECT_FALSE(memd_->IsResident(keys_[0]));
  device_.Mend();
  StoreTwo();
}

// Blocks come as memd has them: the second may have used up the quota.
TEST_F(KvTransferTest, ALoadWhoseFirstBlockFindsNoQuotaAsksForFewer) {
  StoreTwo();
  for (const std::uint32_t number : {1u, 2u}) {
    const Key key = AsKey(TestKey(number));
    const std::string bytes = memd_->BytesOf(key);
    memd_->Evict(key);
    memd_->AddBelow(key, bytes);
  }
  CompletionEntry full = {};
  full.code = Code::kResourceExhausted;
  memd_->AnswerOnce(Op::kFetch, AsKey(TestKey(1)), full);
  const auto load = NewLoad();
  const std::vector<std::uint32_t> pages = {1, 9, 8, 4};
  Outcome outcome = load->Post(Blocks(2, pages), engine_, Long());
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  outcome = load->Wait(Long());
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    EXPECT_TRUE(to_->SamePage(layer, 1, *from_, 7));
    EXPECT_TRUE(to_->SamePage(layer, 4, *from_, 11));
  }
  EXPECT_EQ(Holds(), 0u);
}

TEST_F(KvTransferTest, AMissingBlockIsNotFoundAndNothingStaysHeld) {
  StoreTwo();
  const auto load = NewLoad();
  const std::vector<std::uint32_t> pages = {1, 9, 8, 4, 2, 3};
  EXPECT_EQ(load->Post(Blocks(3, pages), engine_, Long()).code,
            Code::kNotFound);
  EXPECT_TRUE(load->Wait(Long()).code == Code::kNotFound);
  EXPECT_EQ(Holds(), 0u);
}

TEST_F(KvTransferTest, ABlockOfAnotherLengthIsDataLossAndNamed) {
  memd_->AddResident(AsKey(TestKey(1)), "too short");
  const auto load = NewLoad();
  const std::vector<std::uint32_t> pages = {1, 9};
  const Outcome outcome = load->Post(Blocks(1, pages), engine_, Long());
  EXPECT_EQ(outcome.code, Code::kDataLoss);
  EXPECT_THAT(outcome.message, HasSubstr("9 bytes"));
  EXPECT_FALSE(load->Wait(Long()).ok());
  EXPECT_EQ(Holds(), 0u);
}

TEST_F(KvTransferTest, TwoBlocksCannotBeLoadedIntoOnePage) {
  StoreTwo();
  const auto load = NewLoad();
  const std::vector<std::uint32_t> pages = {1, 9, 9, 4};
  const Outcome outcome = load->Post(Blocks(2, pages), engine_, Long());
  EXPECT_EQ(outcome.code, Code::kInvalidArgument);
  EXPECT_THAT(outcome.message, HasSubstr("page 9"));
}

// Who is told of a failure uses his pages again, by what he posts next.
TEST_F(KvTransferTest, AfterAFailureTheEngineIsHeldUpUntilTheCopiesHaveEnded) {
  StoreTwo();
  device_.Hold();
  HostDevice::Failure second;
  second.point = HostDevice::Point::kPost;
  second.nth = 2;
  second.code = Code::kInternal;
  const auto expect_held_up = [&] {
    Event event;
    ASSERT_TRUE(device_.Record(engine_, &event).ok());
    while (device_.StepStream(engine_, 1) != 0) {
    }
    EXPECT_EQ(device_.Query(event, nullptr), EventState::kPending);
    device_.Run();
    device_.Drain();
    EXPECT_EQ(device_.Query(event, nullptr), EventState::kPassed);
    device_.Hold();
  };
  const std::vector<std::uint32_t> pages = {1, 9, 8, 4};
  device_.FailNth(second);  // the second layer
  const auto load = NewLoad();
  EXPECT_EQ(load->Post(Blocks(2, pages), engine_, Long()).code,
            Code::kInternal);
  expect_held_up();
  EXPECT_EQ(load->Wait(Long()).code, Code::kInternal);

  device_.FailNth(second);  // the second block
  const std::vector<Key> keys = {AsKey(TestKey(50)), AsKey(TestKey(51))};
  const auto store = NewStore();
  EXPECT_EQ(store->Post({keys, pages}, engine_, Long()).code, Code::kInternal);
  expect_held_up();
  EXPECT_EQ(store->Wait(Long()).code, Code::kInternal);
  EXPECT_FALSE(memd_->IsResident(keys[0])) << "its pages may have changed";
}

// Whatever fails, everything is given back (TearDown looks), nothing of a
// failed block is seen, and it goes on when the device is well again.
TEST_F(KvTransferTest, AFailureAtAnyPointLosesNothing) {
  constexpr HostDevice::Point kPoints[] = {
      HostDevice::Point::kRegister, HostDevice::Point::kPost,
      HostDevice::Point::kCopy, HostDevice::Point::kRecord,
      HostDevice::Point::kWait};
  const std::vector<std::uint32_t> pages = {7, 0, 3, 11};
  // Block i of them, alone: all of it, or nothing.
  const auto load_one = [&](const std::vector<Key>& keys, std::size_t i) {
    to_->Poison();
    const auto load = NewLoad();
    const std::vector<std::uint32_t> own = {pages[2 * i], pages[2 * i + 1]};
    const Outcome begun = load->Post({{&keys[i], 1}, own}, engine_, Long());
    const Outcome loaded = load->Wait(Long());
    EXPECT_FALSE(!begun.ok() && loaded.ok());
    for (std::uint32_t layer = 0; loaded.ok() && layer < kLayers; ++layer) {
      for (const std::uint32_t page : own) {
        EXPECT_TRUE(to_->SamePage(layer, page, *from_, page));
      }
    }
    return loaded;
  };
  std::uint32_t number = 100;
  int failed_loads = 0;
  for (const HostDevice::Point point : kPoints) {
    int failed_stores = 0;
    for (std::uint64_t nth = 1; nth <= 9; ++nth) {
      SCOPED_TRACE("point " + std::to_string(static_cast<int>(point)) +
                   ", time " + std::to_string(nth));
      HostDevice::Failure failure;
      failure.point = point;
      failure.nth = nth;
      device_.FailNth(failure);
      const std::vector<Key> keys = {AsKey(TestKey(number)),
                                     AsKey(TestKey(number + 1))};
      number += 2;
      const auto store = NewStore();
      const Outcome posted = store->Post({keys, pages}, engine_, Long());
      const Outcome stored = store->Wait(Long());
      EXPECT_FALSE(!posted.ok() && stored.ok());
      failed_stores += !stored.ok();
      device_.Mend();
      device_.Disarm();
      // What a failed store has published is whole, too.
      for (std::size_t i = 0; i < keys.size(); ++i) {
        const Outcome loaded = load_one(keys, i);
        EXPECT_TRUE(loaded.ok() ||
                    (!stored.ok() && loaded.code == Code::kNotFound))
            << loaded.message;
      }
      if (stored.ok()) {
        memory_ = std::make_unique<client::DeviceMemory>(&device_, &holds_);
        device_.FailNth(failure);
        failed_loads += !load_one(keys, 0).ok();
        device_.Mend();
        device_.Disarm();
        EXPECT_TRUE(load_one(keys, 0).ok());
      }
      // Each starts with nothing registered.
      memory_ = std::make_unique<client::DeviceMemory>(&device_, &holds_);
    }
    EXPECT_GT(failed_stores, 0) << "at point " << static_cast<int>(point);
  }
  EXPECT_GT(failed_loads, 0);
  EXPECT_EQ(Holds(), 0u);
}

// What was resident can be read still; it cannot be held.
TEST_F(KvTransferTest, ALoadAfterMemdsRestartIsOfTheNextMemd) {
  StoreTwo();
  for (const Key& key : keys_) AwaitResident(key);
  const std::vector<std::string> bytes = {memd_->BytesOf(keys_[0]),
                                          memd_->BytesOf(keys_[1])};
  memory_->ReleaseAll();
  Kill();
  Start();
  for (int i = 0; i < 2; ++i) memd_->AddResident(keys_[i], bytes[i]);
  const auto load = NewLoad();
  const std::vector<std::uint32_t> pages = {1, 9, 8, 4};
  Outcome outcome = load->Post(Blocks(2, pages), engine_, Long());
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  outcome = load->Wait(Long());
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  EXPECT_TRUE(to_->SamePage(0, 1, *from_, 7));
  EXPECT_TRUE(to_->SamePage(kLayers - 1, 4, *from_, 11));
}

TEST_F(KvTransferTest, AStoreWhoseMemdDiesIsUnavailable) {
  StoreTwo();
  device_.Hold();
  const auto store = NewStore();
  const std::vector<std::uint32_t> pages = {7, 0};
  ASSERT_TRUE(store->Post(Blocks(1, pages), engine_, Long()).ok());
  Kill();
  device_.Run();
  EXPECT_EQ(store->Wait(Long()).code, Code::kUnavailable);
}

}  // namespace
}  // namespace agentmem
