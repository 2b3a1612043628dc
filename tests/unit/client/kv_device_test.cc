// Transfers of a device, beside a memd that wants memory back, and one that is
// there and takes nothing: it hangs, or is stopped, and its ring is full. What
// has ended waits for that one; nobody else does.
#include "client/kv_device.h"

#include <memory>
#include <utility>
#include <vector>

#include "client/client.h"
#include "client/extent_holds.h"
#include "client/kv_wait.h"
#include "gmock/gmock.h"
#include "tests/unit/client/kv_test_base.h"

namespace agentmem {
namespace {

using client::Deadline;
using testing::HasSubstr;

class KvDeviceTest : public ClientTest {
 protected:
  static constexpr std::uint32_t kLayers = 2;
  static constexpr std::uint32_t kPageTokens = 4;
  static constexpr std::uint64_t kPages = 32;
  // Far more than what does not wait takes, and less than a wait for the ring
  // of 1 s for each block would.
  static constexpr std::uint64_t kAtOnceNs = 3 * kSecondNs;

  void SetUp() override {
    ClientTest::SetUp();
    StartAndConnect();
    auto host = std::make_unique<HostDevice>(HostDevice::Options());
    auto holds =
        std::make_unique<client::ChannelExtentHolds>(&client_->channel());
    host_ = host.get();
    client::ChannelExtentHolds* const hook = holds.get();
    device_ = std::make_unique<client::KvDevice>(
        client_, std::move(host), std::move(holds), Crossovers(), "");
    hook->Serve(device_->memory());
    engine_ = std::make_unique<EngineCache>(
        host_,
        KvLayout::VllmFlash(kLayers, kPages, kPageTokens, 2, 16,
                            KvType::kBfloat16),
        kPages, kPageTokens);
    // Memory is registered, and room is granted ahead.
    StoreAndWait(0);
    StoreAndWait(1);
    while (memd_->GrantsIn(GrantState::kGranted) < 16) memd_->Grant(1024);
  }
  void TearDown() override {
    if (memd_ != nullptr) {
      // When memd has taken all that was posted.
      agentmem_span span;
      EXPECT_EQ(Get(TestKey(99'999), &span), AGENTMEM_NOT_FOUND);
      EXPECT_EQ(memd_->GrantsIn(GrantState::kWriting), 0);
      EXPECT_EQ(memd_->holds(), 0u);
    }
    EXPECT_EQ(host_->counts().events_pending, 0u);
    engine_.reset();
    if (!is_closed_) {
      EXPECT_TRUE(device_->Close());
    }
    device_.reset();
    ClientTest::TearDown();
  }

  Deadline Long() { return Deadline::After(kLongNs); }
  // Block `number` is in page `number`.
  std::unique_ptr<client::KvStore> Store(std::uint32_t number) {
    auto store = std::make_unique<client::KvStore>(
        device_->parts(), engine_->cache(), BlockClass::kState, Ack::kVisible);
    Begin(store.get(), {number});
    return store;
  }
  std::unique_ptr<client::KvLoad> Load(std::uint32_t number) {
    auto load =
        std::make_unique<client::KvLoad>(device_->parts(), engine_->cache());
    Begin(load.get(), {number});
    return load;
  }
  template <typename Transfer>
  void Begin(Transfer* transfer, const std::vector<std::uint32_t>& numbers) {
    std::vector<Key> keys;
    for (const std::uint32_t i : numbers) keys.push_back(AsKey(TestKey(i)));
    const Outcome outcome =
        transfer->Post({keys, numbers}, Stream::Of(77), Long());
    EXPECT_TRUE(outcome.ok()) << outcome.message;
  }
  void StoreAndWait(std::uint32_t number) {
    const Outcome outcome = Store(number)->Wait(Long());
    EXPECT_TRUE(outcome.ok()) << outcome.message;
  }
  // From here on memd takes nothing, and there is no room in its ring.
  void StopMemd() {
    memd_->Pause();
    std::vector<Key> keys;
    for (std::uint32_t i = 0; i < 2 * kSubmissionEntries; ++i) {
      keys.push_back(AsKey(TestKey(100'000 + i)));
    }
    EXPECT_EQ(client_->reader().Prefetch(keys.data(), keys.size()).code,
              Code::kResourceExhausted);
  }
  void RunDevice() {
    host_->Run();
    host_->Drain();
  }

  HostDevice* host_ = nullptr;
  std::unique_ptr<client::KvDevice> device_;
  std::unique_ptr<EngineCache> engine_;
  bool is_closed_ = false;
};

TEST_F(KvDeviceTest, WhatMemdWantsIsGivenBackWhenATransferHasEnded) {
  host_->Hold();
  device_->Abandon(Load(1));
  memd_->Retire(0, 7);
  EXPECT_FALSE(device_->Sweep()) << "hears of it; the device reads it";
  RunDevice();
  EXPECT_TRUE(device_->Sweep());
  EXPECT_EQ(device_->memory()->registered_bytes(), 0u);
  auto load = Load(1);
  memd_->Retire(0, 8);
  EXPECT_TRUE(device_->Sweep());
  RunDevice();
  device_->Abandon(std::move(load));
  EXPECT_EQ(device_->memory()->registered_bytes(), 0u);
  // memd has heard.
  agentmem_span span;
  EXPECT_EQ(Get(TestKey(99'998), &span), AGENTMEM_NOT_FOUND);
  EXPECT_EQ(memd_->Count(Op::kExtentReleased), 2);
  EXPECT_EQ(memd_->Last(Op::kExtentReleased).sequence, 8u);
}

TEST_F(KvDeviceTest, BlocksThatMemdDoesNotTakeHoldUpNoLoad) {
  host_->Hold();
  const auto load = device_->Hand(Load(1));
  for (std::uint32_t i = 2; i < 8; ++i) device_->Abandon(Store(i));
  auto late = Store(8);
  StopMemd();
  RunDevice();
  const Deadline soon = Deadline::After(kAtOnceNs);
  device_->Abandon(std::move(late));
  EXPECT_TRUE(device_->Sweep()) << "as every call on the device does";
  EXPECT_TRUE(load->WaitLayer(kLayers - 1, Stream::Of(77)).ok());
  const Outcome outcome = load->Wait(Long());
  EXPECT_TRUE(outcome.ok()) << outcome.message;
  device_->Abandon(load->Take());
  EXPECT_TRUE(device_->SweepAll());
  EXPECT_FALSE(soon.Passed());
  EXPECT_EQ(memd_->GrantsIn(GrantState::kWriting), 7) << "they have their room";
  memd_->Resume();
  for (std::uint32_t i = 2; i < 9; ++i) {
    agentmem_span span;
    EXPECT_EQ(Get(TestKey(i), &span), AGENTMEM_OK) << i << " is lost";
    agentmem_release(client_, &span, 1);
  }
}

TEST_F(KvDeviceTest, WhatMemdDoesNotTakeStaysAndIsTakenLater) {
  host_->Hold();
  const auto store = std::make_unique<client::KvStore>(
      device_->parts(), engine_->cache(), BlockClass::kState, Ack::kVisible);
  Begin(store.get(), {2, 3, 4, 5});
  StopMemd();
  RunDevice();
  const Deadline soon = Deadline::After(kAtOnceNs);
  EXPECT_TRUE(store->Advance());
  Outcome outcome = store->Wait(Deadline::After(0));
  EXPECT_EQ(outcome.code, Code::kDeadlineExceeded);
  EXPECT_THAT(outcome.message, HasSubstr("4 blocks"));
  EXPECT_EQ(store->Wait(Deadline::After(kShortNs)).code,
            Code::kDeadlineExceeded);
  EXPECT_FALSE(soon.Passed());
  EXPECT_EQ(memd_->GrantsIn(GrantState::kWriting), 4) << "they have their room";
  memd_->Resume();
  outcome = store->Wait(Long());
  EXPECT_TRUE(outcome.ok()) << outcome.message;
  for (std::uint32_t i = 2; i < 6; ++i) {
    EXPECT_TRUE(memd_->IsResident(AsKey(TestKey(i)))) << i;
  }
}

TEST_F(KvDeviceTest, AStoreWaitsForRoomUntilItsDeadlineWhateverItHasCopied) {
  StopMemd();
  const auto store = std::make_unique<client::KvStore>(
      device_->parts(), engine_->cache(), BlockClass::kState, Ack::kVisible);
  std::vector<Key> keys;
  std::vector<std::uint32_t> pages;
  for (std::uint32_t i = 2; i < kPages; ++i) {
    keys.push_back(AsKey(TestKey(i)));
    pages.push_back(i);
  }
  const Deadline soon = Deadline::After(kAtOnceNs);
  EXPECT_EQ(
      store->Post({keys, pages}, Stream::Of(77), Deadline::After(kShortNs))
          .code,
      Code::kDeadlineExceeded);
  EXPECT_FALSE(soon.Passed());
  memd_->Resume();
  EXPECT_TRUE(client::WaitForDevice([&] { return store->Advance(); }, Long()));
  const auto whole = std::make_unique<client::KvStore>(
      device_->parts(), engine_->cache(), BlockClass::kState, Ack::kVisible);
  Outcome outcome = whole->Post({keys, pages}, Stream::Of(77), Long());
  EXPECT_TRUE(outcome.ok()) << outcome.message;
  outcome = whole->Wait(Long());
  EXPECT_TRUE(outcome.ok()) << outcome.message;
}

TEST_F(KvDeviceTest, AMemdThatDiesWithAFullRingIsNoticed) {
  host_->Hold();
  const auto store = Store(2);
  StopMemd();
  RunDevice();
  EXPECT_EQ(store->Wait(Deadline::After(0)).code, Code::kDeadlineExceeded);
  Kill();
  EXPECT_EQ(store->Wait(Deadline::After(0)).code, Code::kUnavailable);
}

TEST_F(KvDeviceTest, ADeviceIsClosedThoughMemdTakesNothing) {
  host_->Hold();
  for (std::uint32_t i = 2; i < 8; ++i) device_->Abandon(Store(i));
  StopMemd();
  RunDevice();
  engine_.reset();
  const Deadline soon = Deadline::After(kAtOnceNs);
  EXPECT_TRUE(device_->Close());
  is_closed_ = true;
  EXPECT_FALSE(soon.Passed());
  EXPECT_EQ(host_->counts().registered_bytes, 0u);
  memd_->Resume();
  for (std::uint32_t i = 2; i < 8; ++i) {
    agentmem_span span;
    EXPECT_EQ(Get(TestKey(i), &span), AGENTMEM_OK) << i << " is lost";
    agentmem_release(client_, &span, 1);
  }
}

// memd sees what it is asked in the order in which the client did.
TEST_F(KvDeviceTest, ALoadComesBehindAStoreForWhichTheRingHadNoRoom) {
  host_->Hold();
  auto store = Store(2);
  StopMemd();
  RunDevice();
  device_->Abandon(std::move(store));  // closed: it is copied
  EXPECT_TRUE(device_->Sweep()) << "the load's: the ring is full still";
  EXPECT_FALSE(memd_->IsResident(AsKey(TestKey(2))));
  // From here on there is room, which the load's own requests find first.
  memd_->Resume();
  const auto load = Load(2);
  const Outcome outcome = load->Wait(Long());
  EXPECT_TRUE(outcome.ok()) << outcome.message;
}

TEST_F(KvDeviceTest, WhatMemdWantsOfAStoreIsGivenBackBehindTheLocks) {
  host_->Hold();
  const auto store = Store(2);
  memd_->Retire(0, 7);
  EXPECT_TRUE(device_->Sweep()) << "hears of it; the device writes it";
  RunDevice();
  EXPECT_TRUE(store->Advance());
  EXPECT_NE(device_->memory()->registered_bytes(), 0u)
      << "who advances it may hold a lock: the device is not waited for";
  const Outcome outcome = store->Wait(Long());
  EXPECT_TRUE(outcome.ok()) << outcome.message;
  EXPECT_EQ(device_->memory()->registered_bytes(), 0u);
}

}  // namespace
}  // namespace agentmem
