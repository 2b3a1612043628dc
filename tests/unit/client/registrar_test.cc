#include "client/registrar.h"

#include <memory>
#include <vector>

#include "client/extent_holds.h"
#include "gmock/gmock.h"
#include "tests/unit/client/kv_test_base.h"

namespace agentmem {
namespace {

using client::DeviceMemory;
using client::Registrar;
using testing::ElementsAre;

class RegistrarTest : public KvTest {
 protected:
  void SetUp() override {
    KvTest::SetUp();
    registrar_ =
        std::make_unique<Registrar>(&client_->channel(), memory_.get());
  }
  // In that extent, as if memd had put it there.
  void AddBlockIn(std::uint64_t extent) {
    memd_->AddResidentAt(AsKey(TestKey(100 + static_cast<int>(extent))),
                         extent * kExtentBytes, 100);
  }

  std::unique_ptr<Registrar> registrar_;
};

TEST_F(RegistrarTest, AFirstLoadFindsItsMemoryRegistered) {
  StoreTwo();
  for (const Key& key : keys_) AwaitResident(key);
  WatchedDevice device(&device_);
  int begins = 0;
  device.before_begin = [&] {
    ++begins;
    return Outcome();
  };
  memory_ = std::make_unique<DeviceMemory>(&device, &holds_);  // a new engine
  Registrar registrar(&client_->channel(), memory_.get());
  registrar.Step();
  EXPECT_GT(begins, 0);
  begins = 0;
  const int asked = holds_.asked;
  const auto load = NewLoad();
  const std::vector<std::uint32_t> pages = {1, 9, 8, 4};
  ASSERT_TRUE(load->Post(Blocks(2, pages), engine_, Long()).ok());
  ASSERT_TRUE(load->Wait(Long()).ok());
  EXPECT_EQ(begins, 0);
  EXPECT_EQ(holds_.asked, asked);
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    EXPECT_TRUE(to_->SamePage(layer, 1, *from_, 7)) << layer;
    EXPECT_TRUE(to_->SamePage(layer, 9, *from_, 0)) << layer;
    EXPECT_TRUE(to_->SamePage(layer, 8, *from_, 3)) << layer;
    EXPECT_TRUE(to_->SamePage(layer, 4, *from_, 11)) << layer;
  }
  memory_.reset();  // before its device
}

TEST_F(RegistrarTest, AnEmptyDramHasSomeForStoresToCome) {
  registrar_->Step();
  EXPECT_EQ(memory_->registered_bytes(), Registrar::kSpare * kExtentBytes);
  StoreTwo();
  EXPECT_EQ(memory_->late(), 0u);
}

TEST_F(RegistrarTest, WhatHasBlocksIsAskedForAtOnceAndBeforeTheRest) {
  for (const std::uint64_t extent : {9, 10, 11}) AddBlockIn(extent);
  std::vector<std::uint64_t> held;
  holds_.before_hold = [&] { held.push_back(holds_.held.size()); };
  registrar_->Step();
  EXPECT_THAT(held, ElementsAre(0u, 3u));
  EXPECT_TRUE(holds_.held.contains(10 * kExtentBytes));
  EXPECT_EQ(memory_->registered_bytes(),
            (3 + Registrar::kSpare) * kExtentBytes);
}

TEST_F(RegistrarTest, WhatComesLaterIsRegisteredWhenAUseWasLate) {
  registrar_->Step();
  AddBlockIn(14);
  registrar_->Step();
  EXPECT_EQ(memory_->registered_bytes(), Registrar::kSpare * kExtentBytes);
  client::Session* const session = client_->channel().Acquire();
  char* const used = session->data() + 12 * kExtentBytes;
  ASSERT_TRUE(memory_->Begin(session, used, 10, Long()).ok());
  memory_->End(used, 10);
  session->Unref();
  registrar_->Step();
  EXPECT_TRUE(holds_.held.contains(14 * kExtentBytes));
}

TEST_F(RegistrarTest, AnErrorEndsTheRound) {
  AddBlockIn(14);
  holds_.refusal = Fail(Code::kUnavailable, "gone");
  registrar_->Step();
  EXPECT_EQ(holds_.asked, 1);
  registrar_->Step();
  EXPECT_EQ(holds_.asked, 1);
}

TEST_F(RegistrarTest, MemdGetsBackWhatItWantsThoughNobodyCalls) {
  client::ChannelExtentHolds holds(&client_->channel());
  DeviceMemory memory(&device_, &holds);
  holds.Serve(&memory);
  Registrar registrar(&client_->channel(), &memory);
  registrar.Step();
  ASSERT_EQ(memory.registered_bytes(), Registrar::kSpare * kExtentBytes);
  memd_->Retire(2 * kExtentBytes, 77);
  registrar.Step();
  memd_->AwaitCount(Op::kExtentReleased, 1);
  EXPECT_EQ(memd_->Last(Op::kExtentReleased).sequence, 77u);
  EXPECT_EQ(memory.registered_bytes(), (Registrar::kSpare - 1) * kExtentBytes);
}

TEST_F(RegistrarTest, ItsThreadRegistersAndEnds) {
  AddBlockIn(12);
  ASSERT_TRUE(registrar_->Start().ok());
  while (memory_->registered_bytes() < (1 + Registrar::kSpare) * kExtentBytes) {
    std::this_thread::yield();
  }
  registrar_->AskToStop();
  while (!registrar_->HasStopped()) std::this_thread::yield();
  registrar_.reset();
}

}  // namespace
}  // namespace agentmem
