#include <atomic>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "tests/unit/client/kv_test_base.h"

namespace agentmem {
namespace {

using client::DeviceMemory;
using testing::ElementsAre;
using testing::IsEmpty;

class DeviceMemoryTest : public KvTest {
 protected:
  void SetUp() override {
    KvTest::SetUp();
    session_ = client_->channel().Acquire();
  }
  void TearDown() override {
    session_->Unref();
    KvTest::TearDown();
  }
  Outcome Begin(std::uint64_t offset, std::uint64_t bytes) {
    return memory_->Begin(session_, session_->data() + offset, bytes, Long());
  }
  void End(std::uint64_t offset, std::uint64_t bytes) {
    memory_->End(session_->data() + offset, bytes);
  }
  void Retire(std::uint64_t offset, std::uint64_t bytes, std::uint64_t token) {
    memory_->Retire(session_, offset, bytes, token);
  }

  client::Session* session_ = nullptr;
};

TEST_F(DeviceMemoryTest, AnExtentIsHeldBeforeItIsRegisteredAndStaysSo) {
  ASSERT_TRUE(Begin(100, 50).ok());
  EXPECT_THAT(holds_.held, ElementsAre(0u));
  EXPECT_EQ(device_.counts().registered_bytes, kExtentBytes);
  End(100, 50);
  EXPECT_THAT(holds_.held, ElementsAre(0u));
  EXPECT_EQ(memory_->registered_bytes(), kExtentBytes);
}

TEST_F(DeviceMemoryTest, ARangeOverTwoExtentsTakesBoth) {
  ASSERT_TRUE(Begin(kExtentBytes - 1, 2).ok());
  EXPECT_THAT(holds_.held, ElementsAre(0u, kExtentBytes));
  Retire(kExtentBytes, kExtentBytes, 9);
  EXPECT_THAT(holds_.answered, IsEmpty());
  End(kExtentBytes - 1, 2);
  EXPECT_THAT(holds_.answered, ElementsAre(9u));
  EXPECT_EQ(memory_->registered_bytes(), kExtentBytes);
  holds_.held.erase(kExtentBytes);  // the answer gave it back
}

TEST_F(DeviceMemoryTest, AnExtentInUseIsGivenBackAtTheEndOfItsLastUse) {
  ASSERT_TRUE(Begin(0, 10).ok());
  ASSERT_TRUE(Begin(20, 10).ok());
  Retire(0, kExtentBytes, 5);
  End(0, 10);
  EXPECT_THAT(holds_.answered, IsEmpty());
  EXPECT_EQ(memory_->registered_bytes(), kExtentBytes);
  End(20, 10);
  EXPECT_THAT(holds_.answered, ElementsAre(5u));
  EXPECT_EQ(device_.counts().registered_bytes, 0u);
  holds_.held.clear();
}

TEST_F(DeviceMemoryTest, WhatIsNotUsedIsGivenBackAtOnce) {
  ASSERT_TRUE(Begin(0, 10).ok());
  End(0, 10);
  Retire(0, kExtentBytes, 5);
  EXPECT_THAT(holds_.answered, ElementsAre(5u));
  EXPECT_EQ(memory_->registered_bytes(), 0u);
  holds_.held.clear();
}

TEST_F(DeviceMemoryTest, WhatWasNeverRegisteredIsGivenBackAtOnce) {
  Retire(0, kExtentBytes, 5);
  Retire(1ULL << 60, kExtentBytes, 6);  // nowhere
  Retire(0, UINT64_MAX, 7);
  EXPECT_THAT(holds_.answered, ElementsAre(5u, 6u, 7u));
}

TEST_F(DeviceMemoryTest, AnExtentThatMemdRefusesIsNotRegistered) {
  holds_.refusal = Fail(Code::kResourceExhausted, "no");
  EXPECT_EQ(Begin(0, 10).code, Code::kResourceExhausted);
  EXPECT_EQ(device_.counts().registered_bytes, 0u);
  holds_.refusal = {};
  EXPECT_TRUE(Begin(0, 10).ok());
  End(0, 10);
}

TEST_F(DeviceMemoryTest, AnExtentThatCannotBeRegisteredIsNotHeld) {
  HostDevice::Failure failure;
  failure.point = HostDevice::Point::kRegister;
  failure.nth = 2;
  device_.FailNth(failure);
  EXPECT_FALSE(Begin(kExtentBytes - 1, 2).ok());
  // The first one stays, unused.
  EXPECT_THAT(holds_.held, ElementsAre(0u));
  Retire(0, kExtentBytes, 5);
  EXPECT_THAT(holds_.answered, ElementsAre(5u));
  holds_.held.clear();
}

// memd does not answer the thread that asked, and that one has a long patience.
TEST_F(DeviceMemoryTest, WhoMeetsARegistrationWaitsForItUntilItsOwnDeadline) {
  std::promise<void> asked;
  std::promise<void> answered;
  holds_.before_hold = [&] {
    asked.set_value();
    answered.get_future().wait();
  };
  std::thread patient([this] { EXPECT_TRUE(Begin(0, 10).ok()); });
  asked.get_future().wait();
  const auto soon = client::Deadline::After(5 * kSecondNs);
  EXPECT_EQ(memory_
                ->Begin(session_, session_->data() + 20, 10,
                        client::Deadline::After(kShortNs))
                .code,
            Code::kDeadlineExceeded);
  EXPECT_FALSE(soon.Passed());
  answered.set_value();
  patient.join();
  EXPECT_TRUE(Begin(20, 10).ok());
  End(20, 10);
  End(0, 10);
}

TEST_F(DeviceMemoryTest, WhileTheDeviceLetsGoOthersGoOn) {
  WatchedDevice device(&device_);
  DeviceMemory memory(&device, &holds_);
  ASSERT_TRUE(memory.Begin(session_, session_->data(), 10, Long()).ok());
  memory.End(session_->data(), 10);
  std::vector<std::uint64_t> answered_meanwhile = {1};
  device.before_end = [&] {
    // Another extent, and one more wish for what is on its way.
    char* const other = session_->data() + kExtentBytes;
    EXPECT_TRUE(memory.Begin(session_, other, 10, Long()).ok());
    memory.End(other, 10);
    memory.Retire(session_, 0, kExtentBytes, 6);
    answered_meanwhile = holds_.answered;
    return Outcome();
  };
  memory.Retire(session_, 0, kExtentBytes, 5);
  EXPECT_THAT(answered_meanwhile, IsEmpty());
  EXPECT_THAT(holds_.answered, ElementsAre(5u, 6u));
  EXPECT_EQ(memory.registered_bytes(), kExtentBytes);
  holds_.held.erase(0);
  device.before_end = [] { return Outcome(); };
}

TEST_F(DeviceMemoryTest, ItsEndWaitsForWhoGivesSomeBack) {
  WatchedDevice device(&device_);
  DeviceMemory memory(&device, &holds_);
  ASSERT_TRUE(memory.Begin(session_, session_->data(), 10, Long()).ok());
  memory.End(session_->data(), 10);
  std::thread ends;
  std::atomic<bool> ended = false;
  device.before_end = [&] {
    ends = std::thread([&] {
      memory.ReleaseAll();
      ended = true;
    });
    // It cannot end before this returns; that it would, soon enough is seen.
    for (int i = 0; i < 1000 && !ended; ++i) std::this_thread::yield();
    EXPECT_FALSE(ended);
    return Outcome();
  };
  memory.Retire(session_, 0, kExtentBytes, 5);
  ends.join();
  EXPECT_THAT(holds_.answered, ElementsAre(5u));
  EXPECT_EQ(memory.registered_bytes(), 0u);
  holds_.held.clear();
}

TEST_F(DeviceMemoryTest, WhatTheDeviceDoesNotLetGoOfStaysHeld) {
  WatchedDevice device(&device_);
  {
    DeviceMemory memory(&device, &holds_);
    ASSERT_TRUE(memory.Begin(session_, session_->data(), 10, Long()).ok());
    memory.End(session_->data(), 10);
    device.before_end = [] { return Fail(Code::kUnavailable, "lost"); };
    memory.Retire(session_, 0, kExtentBytes, 5);
    EXPECT_THAT(holds_.answered, IsEmpty());
    EXPECT_EQ(memory.registered_bytes(), kExtentBytes);
    // It is reached still.
    EXPECT_TRUE(memory.Begin(session_, session_->data(), 10, Long()).ok());
    memory.End(session_->data(), 10);
    EXPECT_THAT(holds_.answered, IsEmpty());
  }
  EXPECT_THAT(holds_.held, ElementsAre(0u));
  holds_.held.clear();
  EXPECT_TRUE(device_
                  .Register({session_->data(), kExtentBytes},
                            Device::Registration::kEnd)
                  .ok());
}

TEST_F(DeviceMemoryTest, OfOtherSessionsSomeIsLetGoAtATime) {
  agentmem_client* const ours = client_;
  ASSERT_EQ(Connect(), AGENTMEM_OK);
  agentmem_client* const other = std::exchange(client_, ours);
  client::Session* const old = other->channel().Acquire();
  ASSERT_TRUE(
      memory_->Begin(old, old->data(), 2 * kExtentBytes + 1, Long()).ok());
  EXPECT_EQ(memory_->registered_bytes(), 3 * kExtentBytes);
  memory_->Tidy(session_, 2);  // in use
  EXPECT_EQ(memory_->registered_bytes(), 3 * kExtentBytes);
  memory_->End(old->data(), 2 * kExtentBytes + 1);
  memory_->Tidy(session_, 2);
  EXPECT_EQ(memory_->registered_bytes(), kExtentBytes);
  EXPECT_THAT(holds_.held, ElementsAre(2 * kExtentBytes));
  memory_->Tidy(session_, 2);
  EXPECT_EQ(memory_->registered_bytes(), 0u);
  EXPECT_THAT(holds_.held, IsEmpty());
  memory_->Tidy(session_, 2);  // its end
  old->Unref();
  agentmem_close(other);
}

TEST_F(DeviceMemoryTest, WhatWasRegisteredAheadIsUsedAsItIs) {
  ASSERT_TRUE(memory_->HoldAhead(session_, 0, 3).ok());
  EXPECT_EQ(holds_.asked, 1);
  EXPECT_THAT(holds_.held, ElementsAre(0u, kExtentBytes, 2 * kExtentBytes));
  EXPECT_EQ(memory_->registered_bytes(), 0u);
  for (std::uint64_t extent = 0; extent < 3; ++extent) {
    ASSERT_TRUE(memory_->RegisterAhead(session_, extent).ok());
  }
  EXPECT_EQ(memory_->registered_bytes(), 3 * kExtentBytes);
  ASSERT_TRUE(Begin(10, 3 * kExtentBytes - 20).ok());
  End(10, 3 * kExtentBytes - 20);
  EXPECT_EQ(holds_.asked, 1);
  EXPECT_EQ(memory_->late(), 0u);
  EXPECT_EQ(device_.counts().registered_bytes, 3 * kExtentBytes);
}

TEST_F(DeviceMemoryTest, WhatIsOnlyHeldYetIsRegisteredAtItsUse) {
  ASSERT_TRUE(memory_->HoldAhead(session_, 0, 3).ok());
  ASSERT_TRUE(Begin(kExtentBytes, 10).ok());
  EXPECT_EQ(holds_.asked, 1);
  EXPECT_EQ(memory_->late(), 1u);
  EXPECT_EQ(device_.counts().registered_bytes, kExtentBytes);
  ASSERT_TRUE(memory_->RegisterAhead(session_, 1).ok());
  EXPECT_EQ(device_.counts().registered_bytes, kExtentBytes);
  End(kExtentBytes, 10);
}

TEST_F(DeviceMemoryTest, WhatIsGivenAwayIsLeftOutOfWhatIsHeldAhead) {
  holds_.given_away = {0, 5 * kExtentBytes, 15 * kExtentBytes};
  ASSERT_TRUE(Begin(7 * kExtentBytes, 10).ok());
  End(7 * kExtentBytes, 10);
  ASSERT_TRUE(memory_->HoldAhead(session_, 0, 99).ok());
  EXPECT_EQ(holds_.held.size(), 13u);
  for (const std::uint64_t offset : holds_.given_away) {
    EXPECT_FALSE(holds_.held.contains(offset)) << offset;
  }
}

TEST_F(DeviceMemoryTest, WhatMemdRefusesAheadIsNotHeld) {
  holds_.refusal = Fail(Code::kUnavailable, "gone");
  EXPECT_EQ(memory_->HoldAhead(session_, 0, 3).code, Code::kUnavailable);
  EXPECT_EQ(holds_.asked, 1);
  ASSERT_TRUE(memory_->RegisterAhead(session_, 0).ok());
  EXPECT_EQ(device_.counts().registered_bytes, 0u);
}

TEST_F(DeviceMemoryTest, WhatCannotBeRegisteredAheadIsNotHeld) {
  WatchedDevice device(&device_);
  DeviceMemory memory(&device, &holds_);
  device.before_begin = [] { return Fail(Code::kResourceExhausted, "no"); };
  ASSERT_TRUE(memory.HoldAhead(session_, 0, 2).ok());
  EXPECT_EQ(memory.RegisterAhead(session_, 0).code, Code::kResourceExhausted);
  EXPECT_THAT(holds_.held, ElementsAre(kExtentBytes));
}

TEST_F(DeviceMemoryTest, WhatMemdWantsBackIsNotTakenAheadUntilItIsUsed) {
  ASSERT_TRUE(memory_->HoldAhead(session_, 0, 2).ok());
  ASSERT_TRUE(memory_->RegisterAhead(session_, 0).ok());
  Retire(0, kExtentBytes, 5);                 // registered
  Retire(kExtentBytes, kExtentBytes, 6);      // held
  Retire(2 * kExtentBytes, kExtentBytes, 7);  // neither
  EXPECT_THAT(holds_.answered, ElementsAre(5u, 6u, 7u));
  EXPECT_EQ(device_.counts().registered_bytes, 0u);
  holds_.held.clear();  // by the answers
  ASSERT_TRUE(memory_->HoldAhead(session_, 0, 4).ok());
  EXPECT_THAT(holds_.held, ElementsAre(3 * kExtentBytes));
  ASSERT_TRUE(Begin(0, 10).ok());
  End(0, 10);
  EXPECT_EQ(memory_->registered_bytes(), kExtentBytes);
}

TEST_F(DeviceMemoryTest, AWishThatCrossesAHoldAheadIsAnswered) {
  holds_.before_hold = [this] { Retire(kExtentBytes, kExtentBytes, 5); };
  ASSERT_TRUE(memory_->HoldAhead(session_, 0, 3).ok());
  EXPECT_THAT(holds_.answered, ElementsAre(5u));
  holds_.held.erase(kExtentBytes);
  ASSERT_TRUE(memory_->RegisterAhead(session_, 1).ok());
  EXPECT_EQ(device_.counts().registered_bytes, 0u);
}

TEST_F(DeviceMemoryTest, AWishThatCrossesARegistrationAheadIsAnswered) {
  WatchedDevice device(&device_);
  DeviceMemory memory(&device, &holds_);
  device.before_begin = [&] {
    memory.Retire(session_, 0, kExtentBytes, 5);
    EXPECT_THAT(holds_.answered, IsEmpty());
    return Outcome();
  };
  ASSERT_TRUE(memory.HoldAhead(session_, 0, 1).ok());
  ASSERT_TRUE(memory.RegisterAhead(session_, 0).ok());
  EXPECT_THAT(holds_.answered, ElementsAre(5u));
  EXPECT_EQ(device_.counts().registered_bytes, 0u);
  holds_.held.clear();
}

TEST_F(DeviceMemoryTest, WhatIsDoneAheadGivesWay) {
  WatchedDevice device(&device_);
  DeviceMemory memory(&device, &holds_);
  ASSERT_TRUE(memory.HoldAhead(session_, 0, 1).ok());
  std::thread ahead;
  std::atomic<int> begins = 0;
  device.before_begin = [&] {
    if (++begins > 1) return Outcome();
    ahead = std::thread(
        [&] { EXPECT_TRUE(memory.RegisterAhead(session_, 0).ok()); });
    // It cannot begin before this returns; that it would, soon enough is seen.
    for (int i = 0; i < 1000 && begins == 1; ++i) std::this_thread::yield();
    EXPECT_EQ(begins, 1);
    return Outcome();
  };
  char* const urgent = session_->data() + 3 * kExtentBytes;
  ASSERT_TRUE(memory.Begin(session_, urgent, 10, Long()).ok());
  ahead.join();
  EXPECT_EQ(begins, 2);
  EXPECT_EQ(memory.registered_bytes(), 2 * kExtentBytes);
  memory.End(urgent, 10);
}

TEST_F(DeviceMemoryTest, BytesOfNoMappingAreRefused) {
  EXPECT_EQ(Begin(session_->data_bytes(), 1).code, Code::kUnavailable);
  EXPECT_EQ(Begin(session_->data_bytes() - 1, 2).code, Code::kUnavailable);
  EXPECT_EQ(Begin(0, 0).code, Code::kUnavailable);
}

}  // namespace
}  // namespace agentmem
