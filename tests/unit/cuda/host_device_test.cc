// The promises of cuda/device.h, on the host device.
#include "cuda/host_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace agentmem {
namespace {

using Point = HostDevice::Point;
using Registration = Device::Registration;
using ::testing::HasSubstr;

constexpr std::uint64_t kBytes = 4096;
constexpr Stream kFirst = Stream::Of(7);
constexpr Stream kSecond = Stream::Of(8);

class HostDeviceTest : public ::testing::Test {
 protected:
  void Start(HostDevice::Options options = {}) {
    device_ = std::make_unique<HostDevice>(options);
    host_.assign(kBytes, 'h');
    ASSERT_TRUE(device_->Allocate(kBytes, &memory_).ok());
    ASSERT_TRUE(Register(Registration::kBegin).ok());
  }
  void StartHeld() {
    HostDevice::Options options;
    options.held = true;
    Start(options);
  }
  Outcome Register(Registration what) {
    return device_->Register({host_.data(), host_.size()}, what);
  }
  Fragment At(std::uint64_t offset, std::uint32_t bytes) {
    return {memory_ + offset, host_.data() + offset, bytes};
  }
  Outcome Copy(Direction direction, Stream stream,
               std::vector<Fragment> fragments,
               CopyMethod method = CopyMethod::kCopyEngine) {
    return device_->Copy({direction, method, fragments}, stream);
  }
  Outcome ToDevice(Stream stream, std::vector<Fragment> fragments) {
    return Copy(Direction::kToDevice, stream, std::move(fragments));
  }
  Outcome ToHost(Stream stream, std::vector<Fragment> fragments) {
    return Copy(Direction::kToHost, stream, std::move(fragments));
  }
  Event Record(Stream stream) {
    Event event;
    const Outcome outcome = device_->Record(stream, &event);
    EXPECT_TRUE(outcome.ok()) << outcome.message;
    EXPECT_NE(event, Event());
    return event;
  }
  EventState Query(Event event) { return device_->Query(event, nullptr); }
  char Device(std::uint64_t offset) {
    return *HostDevice::Bytes(memory_ + offset);
  }

  std::unique_ptr<HostDevice> device_;
  DeviceAddress memory_;
  std::string host_;
};

TEST_F(HostDeviceTest, BytesMoveBetweenPostAndEventOnly) {
  StartHeld();
  ASSERT_TRUE(ToDevice(kFirst, {At(0, 16), At(64, 16)}).ok());
  const Event event = Record(kFirst);
  EXPECT_EQ(Device(0), HostDevice::kPoison);
  EXPECT_EQ(device_->Step(1), 1u);
  EXPECT_EQ(Device(0), 'h');
  EXPECT_EQ(Device(16), HostDevice::kPoison);
  EXPECT_EQ(Device(64), HostDevice::kPoison);
  EXPECT_EQ(device_->Step(1), 1u);
  EXPECT_EQ(Device(64), 'h');
  EXPECT_EQ(Query(event), EventState::kPending);
  EXPECT_EQ(device_->Step(5), 1u);
  EXPECT_EQ(Query(event), EventState::kPassed);
  EXPECT_EQ(device_->broken_rules(), 0u);
}

TEST_F(HostDeviceTest, TheArraysOfABatchAreReadInTheCall) {
  StartHeld();
  std::vector<Fragment> fragments = {At(0, 16)};
  ASSERT_TRUE(
      device_->Copy({Direction::kToDevice, {}, fragments}, kFirst).ok());
  fragments[0] = At(1024, 16);
  device_->Step(1);
  EXPECT_EQ(Device(0), 'h');
  EXPECT_EQ(Device(1024), HostDevice::kPoison);
}

TEST_F(HostDeviceTest, BothDirectionsCopyExactlyTheirBytes) {
  Start();
  for (std::size_t i = 0; i < kBytes; ++i) {
    host_[i] = static_cast<char>(i * 31 >> 3);
  }
  const std::string sent = host_;
  ASSERT_TRUE(ToDevice(kFirst, {At(0, 100), At(1001, 2047)}).ok());
  device_->Drain();
  host_.assign(kBytes, '-');
  ASSERT_TRUE(ToHost(kFirst, {At(0, kBytes)}).ok());
  device_->Drain();
  std::string expected(kBytes, HostDevice::kPoison);
  expected.replace(0, 100, sent, 0, 100);
  expected.replace(1001, 2047, sent, 1001, 2047);
  EXPECT_EQ(host_, expected);
  EXPECT_EQ(device_->counts().bytes_to_device, 2147u);
  EXPECT_EQ(device_->counts().bytes_to_host, kBytes);
  EXPECT_EQ(device_->counts().fragments_pending, 0u);
}

TEST_F(HostDeviceTest, AStreamKeepsItsOrder) {
  StartHeld();
  ASSERT_TRUE(ToDevice(kFirst, {At(0, 16)}).ok());
  const Event before = Record(kFirst);
  ASSERT_TRUE(ToDevice(kFirst, {At(16, 16)}).ok());
  const Event behind = Record(kFirst);
  device_->Step(2);
  EXPECT_EQ(Query(before), EventState::kPassed);
  EXPECT_EQ(Device(16), HostDevice::kPoison);
  EXPECT_EQ(Query(behind), EventState::kPending);
  device_->Step(2);
  EXPECT_EQ(Query(behind), EventState::kPassed);
}

TEST_F(HostDeviceTest, TwoStreamsInterleave) {
  StartHeld();
  ASSERT_TRUE(ToDevice(kFirst, {At(0, 16), At(16, 16)}).ok());
  ASSERT_TRUE(ToDevice(kSecond, {At(512, 16), At(528, 16)}).ok());
  EXPECT_EQ(device_->Step(2), 2u);
  EXPECT_EQ(Device(0), 'h');
  EXPECT_EQ(Device(512), 'h');
  EXPECT_EQ(Device(16), HostDevice::kPoison);
  EXPECT_EQ(device_->StepStream(kSecond, 9), 1u);
  EXPECT_EQ(Device(528), 'h');
  EXPECT_EQ(Device(16), HostDevice::kPoison);
}

TEST_F(HostDeviceTest, AStreamWaitsForAnotherOnesEvent) {
  StartHeld();
  ASSERT_TRUE(ToDevice(kFirst, {At(0, 16)}).ok());
  const Event event = Record(kFirst);
  ASSERT_TRUE(device_->Wait(kSecond, event).ok());
  ASSERT_TRUE(ToDevice(kSecond, {At(512, 16)}).ok());
  EXPECT_EQ(device_->StepStream(kSecond, 9), 0u);
  EXPECT_EQ(Device(512), HostDevice::kPoison);
  EXPECT_EQ(device_->StepStream(kFirst, 9), 2u);
  // Ended before the wait is over: the wait holds it.
  EXPECT_EQ(Query(event), EventState::kPassed);
  EXPECT_EQ(device_->StepStream(kSecond, 9), 2u);
  EXPECT_EQ(Device(512), 'h');
}

TEST_F(HostDeviceTest, NoEventIsOneThatHasPassed) {
  StartHeld();
  EXPECT_EQ(Query(Event()), EventState::kPassed);
  EXPECT_TRUE(device_->Wait(kFirst, Event()).ok());
  EXPECT_EQ(device_->Step(1), 0u);
  EXPECT_EQ(device_->broken_rules(), 0u);
}

TEST_F(HostDeviceTest, AnEventsPlaceIsUsedAnewAndItsIdIsNot) {
  HostDevice::Options options;
  options.pending_events_max = 2;
  Start(options);
  const Event first = Record(kFirst);
  const Event second = Record(kFirst);
  Event third;
  const Outcome full = device_->Record(kFirst, &third);
  EXPECT_EQ(full.code, Code::kResourceExhausted);
  EXPECT_THAT(full.message, HasSubstr("2 events"));
  device_->Drain();
  EXPECT_EQ(Query(first), EventState::kPassed);
  third = Record(kFirst);
  EXPECT_NE(third, first);
  Outcome why;
  EXPECT_EQ(device_->Query(first, &why), EventState::kFailed);
  EXPECT_EQ(why.code, Code::kInvalidArgument);
  EXPECT_EQ(device_->Wait(kFirst, first).code, Code::kInvalidArgument);
  EXPECT_EQ(device_->broken_rules(), 2u);
  device_->Drain();
  EXPECT_EQ(Query(second), EventState::kPassed);
  EXPECT_EQ(Query(third), EventState::kPassed);
  EXPECT_EQ(device_->counts().events_pending, 0u);
}

TEST_F(HostDeviceTest, MemoryIsPoisonAlignedAndLimited) {
  HostDevice::Options options;
  options.memory_bytes = kBytes + 1000;
  Start(options);
  DeviceAddress more;
  const Outcome refused = device_->Allocate(1001, &more);
  EXPECT_EQ(refused.code, Code::kResourceExhausted);
  EXPECT_THAT(refused.message, HasSubstr("1001 bytes"));
  EXPECT_THAT(refused.message, HasSubstr("1000 of 5096"));
  EXPECT_EQ(more, DeviceAddress());
  ASSERT_TRUE(device_->Allocate(1000, &more).ok());
  EXPECT_EQ(more.value() % 256, 0u);
  EXPECT_EQ(std::string(HostDevice::Bytes(more), 1000),
            std::string(1000, HostDevice::kPoison));
  device_->Free(memory_);
  EXPECT_EQ(device_->counts().allocated_bytes, 1000u);
  EXPECT_TRUE(device_->Allocate(kBytes, &memory_).ok());
  EXPECT_EQ(device_->Allocate(0, &more).code, Code::kInvalidArgument);
}

TEST_F(HostDeviceTest, ABatchWithOneWrongFragmentPostsNothing) {
  StartHeld();
  char unregistered[16] = {};
  DeviceAddress other;
  ASSERT_TRUE(device_->Allocate(256, &other).ok());
  const struct {
    Fragment fragment;
    const char* told;
  } cases[] = {
      {At(0, 0), "0 bytes"},
      {{memory_ + (kBytes - 15), host_.data(), 16}, "device memory"},
      {{DeviceAddress(64), host_.data(), 16}, "device memory"},
      {{memory_, unregistered, 16}, "host memory"},
      {{memory_, host_.data() + kBytes - 15, 16}, "host memory"},
  };
  for (const auto& wrong : cases) {
    const Outcome outcome = ToDevice(kFirst, {At(0, 16), wrong.fragment});
    EXPECT_EQ(outcome.code, Code::kInvalidArgument);
    EXPECT_THAT(outcome.message, HasSubstr(wrong.told));
    EXPECT_THAT(outcome.message, HasSubstr("fragment 1"));
  }
  EXPECT_EQ(device_->counts().fragments_pending, 0u);
  EXPECT_EQ(device_->Step(9), 0u);
}

TEST_F(HostDeviceTest, AFragmentLiesInOneRegisteredRange) {
  Start();
  ASSERT_TRUE(Register(Registration::kEnd).ok());
  const std::span<char> low(host_.data(), kBytes / 2);
  const std::span<char> high(host_.data() + kBytes / 2, kBytes / 2);
  ASSERT_TRUE(device_->Register(low, Registration::kBegin).ok());
  ASSERT_TRUE(device_->Register(high, Registration::kBegin).ok());
  EXPECT_TRUE(ToDevice(kFirst, {At(kBytes / 2 - 16, 16)}).ok());
  EXPECT_TRUE(ToDevice(kFirst, {At(kBytes / 2, 16)}).ok());
  EXPECT_EQ(ToDevice(kFirst, {At(kBytes / 2 - 8, 16)}).code,
            Code::kInvalidArgument);
}

TEST_F(HostDeviceTest, ARegistrationEndsAsItBegan) {
  Start();
  const std::span<char> all(host_.data(), kBytes);
  EXPECT_EQ(device_->Register(all.subspan(0, 16), Registration::kBegin).code,
            Code::kInvalidArgument);
  EXPECT_EQ(device_->Register(all.subspan(4080), Registration::kBegin).code,
            Code::kInvalidArgument);
  EXPECT_EQ(device_->Register(all.subspan(0, 16), Registration::kEnd).code,
            Code::kInvalidArgument);
  EXPECT_EQ(device_->Register({}, Registration::kBegin).code,
            Code::kInvalidArgument);
  ASSERT_TRUE(Register(Registration::kEnd).ok());
  EXPECT_EQ(device_->counts().registered_bytes, 0u);
  EXPECT_EQ(ToHost(kFirst, {At(0, 16)}).code, Code::kInvalidArgument);
  EXPECT_EQ(Register(Registration::kEnd).code, Code::kInvalidArgument);
  EXPECT_TRUE(Register(Registration::kBegin).ok());
}

TEST_F(HostDeviceTest, KernelsTakeAlignedShortFragmentsAndRefuseTooMany) {
  HostDevice::Options options;
  options.kernel_fragments_max = 3;
  Start(options);
  ASSERT_TRUE(Copy(Direction::kToDevice, kFirst,
                   {At(0, 32), At(64, 8), At(104, 16)}, CopyMethod::kKernel)
                  .ok());
  device_->Drain();
  // 64..72 and 104..120 are not for 16 bytes at a time, and are copied.
  EXPECT_EQ(device_->counts().kernel_fragments, 1u);
  EXPECT_EQ(device_->counts().fragments_copied, 3u);
  EXPECT_EQ(Device(71), 'h');
  EXPECT_EQ(Device(119), 'h');
  EXPECT_EQ(
      Copy(Direction::kToDevice, kFirst,
           {At(0, 16), At(16, 16), At(32, 16), At(48, 16)}, CopyMethod::kKernel)
          .code,
      Code::kInvalidArgument);
}

TEST_F(HostDeviceTest, ADeviceWithoutKernelsCopiesTheirBatchesAllTheSame) {
  HostDevice::Options options;
  options.kernel_fragments_max = 0;
  Start(options);
  ASSERT_TRUE(
      Copy(Direction::kToDevice, kFirst, {At(0, 32)}, CopyMethod::kKernel)
          .ok());
  device_->Drain();
  EXPECT_EQ(device_->counts().kernel_fragments, 0u);
  EXPECT_EQ(device_->counts().fragments_copied, 1u);
}

TEST_F(HostDeviceTest, AFailedFragmentFailsTheEventsBehindItUntilMended) {
  StartHeld();
  const Event before = Record(kFirst);
  ASSERT_TRUE(ToDevice(kFirst, {At(0, 16), At(16, 16), At(32, 16)}).ok());
  const Event behind = Record(kFirst);
  const Event later = Record(kFirst);
  const Event elsewhere = Record(kSecond);
  device_->FailNth({Point::kCopy, 2, Code::kDataLoss});
  device_->Run();
  device_->Drain();
  EXPECT_EQ(Query(before), EventState::kPassed);
  Outcome why;
  EXPECT_EQ(device_->Query(behind, &why), EventState::kFailed);
  EXPECT_EQ(why.code, Code::kDataLoss);
  EXPECT_EQ(Query(later), EventState::kFailed);
  EXPECT_EQ(Query(elsewhere), EventState::kPassed);
  EXPECT_EQ(Device(0), 'h');
  EXPECT_EQ(Device(16), HostDevice::kPoison);
  EXPECT_EQ(Device(32), HostDevice::kPoison);
  device_->Mend();
  ASSERT_TRUE(ToDevice(kFirst, {At(16, 16)}).ok());
  const Event mended = Record(kFirst);
  device_->Drain();
  EXPECT_EQ(Query(mended), EventState::kPassed);
  EXPECT_EQ(Device(16), 'h');
}

TEST_F(HostDeviceTest, WhoWaitsForAFailedEventFails) {
  StartHeld();
  ASSERT_TRUE(ToDevice(kFirst, {At(0, 16)}).ok());
  const Event event = Record(kFirst);
  ASSERT_TRUE(device_->Wait(kSecond, event).ok());
  ASSERT_TRUE(ToDevice(kSecond, {At(16, 16)}).ok());
  const Event behind = Record(kSecond);
  device_->FailNth({Point::kCopy, 1, Code::kInternal});
  device_->Run();
  device_->Drain();
  Outcome why;
  EXPECT_EQ(device_->Query(behind, &why), EventState::kFailed);
  EXPECT_EQ(why.code, Code::kInternal);
  EXPECT_EQ(Device(16), HostDevice::kPoison);
  EXPECT_EQ(Query(event), EventState::kFailed);
}

TEST_F(HostDeviceTest, EachPointFailsAtTheNthPassage) {
  HostDevice::Options options;
  options.failures = {{Point::kAllocate, 2, Code::kResourceExhausted},
                      {Point::kRegister, 2, Code::kInternal},
                      {Point::kPost, 2, Code::kResourceExhausted},
                      {Point::kRecord, 2, Code::kResourceExhausted},
                      {Point::kWait, 1, Code::kInternal}};
  Start(options);  // the first Allocate and Register
  DeviceAddress more;
  EXPECT_EQ(device_->Allocate(16, &more).code, Code::kResourceExhausted);
  EXPECT_TRUE(device_->Allocate(16, &more).ok());
  ASSERT_TRUE(Register(Registration::kEnd).ok());
  EXPECT_EQ(Register(Registration::kBegin).code, Code::kInternal);
  EXPECT_TRUE(Register(Registration::kBegin).ok());
  EXPECT_TRUE(ToDevice(kFirst, {At(0, 16)}).ok());
  const Outcome refused = ToDevice(kFirst, {At(16, 16)});
  EXPECT_EQ(refused.code, Code::kResourceExhausted);
  EXPECT_THAT(refused.message, HasSubstr("as asked for"));
  const Event event = Record(kFirst);
  Event none;
  EXPECT_EQ(device_->Record(kFirst, &none).code, Code::kResourceExhausted);
  EXPECT_EQ(none, Event());
  EXPECT_EQ(device_->Wait(kSecond, event).code, Code::kInternal);
  EXPECT_TRUE(device_->Wait(kSecond, event).ok());
  device_->Drain();
  EXPECT_EQ(Device(16), HostDevice::kPoison);
  EXPECT_EQ(Query(event), EventState::kPassed);
}

TEST_F(HostDeviceTest, ALostDeviceFailsEverythingAndWaitsForNothing) {
  StartHeld();
  ASSERT_TRUE(ToDevice(kFirst, {At(0, 16)}).ok());
  const Event event = Record(kFirst);
  device_->Lose();
  Outcome why;
  EXPECT_EQ(device_->Query(event, &why), EventState::kFailed);
  EXPECT_EQ(why.code, Code::kUnavailable);
  DeviceAddress more;
  EXPECT_EQ(device_->Allocate(16, &more).code, Code::kUnavailable);
  EXPECT_EQ(ToDevice(kFirst, {At(0, 16)}).code, Code::kUnavailable);
  Event none;
  EXPECT_EQ(device_->Record(kFirst, &none).code, Code::kUnavailable);
  EXPECT_EQ(device_->Wait(kFirst, event).code, Code::kUnavailable);
  device_->Run();
  device_->Free(memory_);
  EXPECT_EQ(device_->counts().fragments_copied, 0u);
  EXPECT_EQ(device_->broken_rules(), 0u);
}

TEST_F(HostDeviceTest, FreeWaitsForWhatWasPostedAndCountsWhatItTouches) {
  Start();
  device_->Hold();
  DeviceAddress other;
  ASSERT_TRUE(device_->Allocate(256, &other).ok());
  ASSERT_TRUE(ToHost(kFirst, {At(0, 16), At(16, 16)}).ok());
  device_->Run();
  device_->Free(other);
  EXPECT_EQ(device_->counts().fragments_copied, 2u);
  EXPECT_EQ(device_->broken_rules(), 0u);
  device_->Free(DeviceAddress(64));
  EXPECT_EQ(device_->broken_rules(), 1u);
  EXPECT_THAT(device_->first_broken_rule(), HasSubstr("did not give"));
}

TEST_F(HostDeviceTest, ADeviceEndsWithWorkLeft) {
  StartHeld();
  ASSERT_TRUE(ToDevice(kFirst, {At(0, 16)}).ok());
  Record(kFirst);
  device_.reset();  // neither waits nor leaks
}

TEST_F(HostDeviceTest, ItsPropertiesNameStreamsOfItsOwn) {
  Start();
  const DeviceProperties& properties = device_->properties();
  EXPECT_EQ(properties.name, "host");
  EXPECT_EQ(properties.memory_bytes, 1ULL << 30);
  EXPECT_FALSE(properties.to_host == properties.to_device);
  EXPECT_FALSE(properties.to_host == Stream::LegacyDefault());
  EXPECT_FALSE(properties.to_device == Stream::PerThreadDefault());
}

}  // namespace
}  // namespace agentmem
