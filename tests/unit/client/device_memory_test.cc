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

TEST_F(DeviceMemoryTest, BytesOfNoMappingAreRefused) {
  EXPECT_EQ(Begin(session_->data_bytes(), 1).code, Code::kUnavailable);
  EXPECT_EQ(Begin(session_->data_bytes() - 1, 2).code, Code::kUnavailable);
  EXPECT_EQ(Begin(0, 0).code, Code::kUnavailable);
}

}  // namespace
}  // namespace agentmem
