// What each Device does, on the host device and on a GPU where there is one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cuda/host_device.h"
#include "cuda/open_device.h"

namespace agentmem {
namespace {

using Registration = Device::Registration;

constexpr std::uint64_t kBytes = 4 << 20;
constexpr std::uint64_t kPage = 4096;

struct Case {
  bool gpu = false;
  CopyMethod method = CopyMethod::kCopyEngine;
};

std::string NameOf(const ::testing::TestParamInfo<Case>& info) {
  return std::string(info.param.gpu ? "Gpu" : "Host") +
         (info.param.method == CopyMethod::kKernel   ? "Kernel"
          : info.param.method == CopyMethod::kStaged ? "Staged"
                                                     : "Engine");
}

class DeviceCopyTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (GetParam().gpu) {
      const Outcome opened = OpenDevice(0, &device_);
      if (!opened.ok()) GTEST_SKIP() << opened.message;
    } else {
      auto host_device = std::make_unique<HostDevice>(HostDevice::Options());
      on_host_ = host_device.get();
      device_ = std::move(host_device);
    }
    // Whole pages of its own: what is registered is pinned by pages.
    host_ = {static_cast<char*>(std::aligned_alloc(kPage, 2 * kBytes)),
             2 * kBytes};
    ASSERT_TRUE(device_->Allocate(kBytes, &memory_).ok());
    const Outcome registered = device_->Register(host_, Registration::kBegin);
    ASSERT_TRUE(registered.ok()) << registered.message;
  }
  void TearDown() override {
    if (device_ == nullptr) return;
    EXPECT_TRUE(device_->Register(host_, Registration::kEnd).ok());
    device_->Free(memory_);
    device_.reset();
    std::free(host_.data());
  }

  std::span<char> sent() { return host_.subspan(0, kBytes); }
  std::span<char> fetched() { return host_.subspan(kBytes); }

  // Records an event on `stream` and waits for it.
  void Finish(Stream stream) {
    Event event;
    const Outcome recorded = device_->Record(stream, &event);
    ASSERT_TRUE(recorded.ok()) << recorded.message;
    Outcome why;
    EventState state = EventState::kPending;
    while (state == EventState::kPending) {
      std::this_thread::yield();
      state = device_->Query(event, &why);
    }
    ASSERT_EQ(state, EventState::kPassed) << why.message;
  }

  // Sends fragments of these sizes and fetches them, in another order.
  void SendAndFetch(const std::vector<std::uint32_t>& sizes, unsigned seed) {
    std::mt19937_64 random(seed);
    for (char& byte : sent()) byte = static_cast<char>(random());
    std::fill(fetched().begin(), fetched().end(), '\x5a');
    std::vector<Fragment> up, down;
    std::uint64_t at = 0;
    for (const std::uint32_t bytes : sizes) {
      ASSERT_LE(at + bytes, kBytes);
      up.push_back({memory_ + at, sent().data() + at, bytes});
      down.push_back({memory_ + at, fetched().data() + at, bytes});
      at += bytes;
    }
    std::shuffle(up.begin(), up.end(), random);
    std::shuffle(down.begin(), down.end(), random);
    const Stream stream = device_->properties().to_device;
    const CopyMethod method = GetParam().method;
    Outcome posted = device_->Copy({Direction::kToDevice, method, up}, stream);
    ASSERT_TRUE(posted.ok()) << posted.message;
    posted = device_->Copy({Direction::kToHost, method, down}, stream);
    ASSERT_TRUE(posted.ok()) << posted.message;
    ASSERT_NO_FATAL_FAILURE(Finish(stream));
    const auto [wrong, unused] = std::mismatch(
        sent().begin(), sent().begin() + static_cast<std::ptrdiff_t>(at),
        fetched().begin());
    EXPECT_EQ(wrong - sent().begin(), static_cast<std::ptrdiff_t>(at))
        << "seed " << seed;
    EXPECT_TRUE(std::all_of(fetched().begin() + static_cast<std::ptrdiff_t>(at),
                            fetched().end(),
                            [](char byte) { return byte == '\x5a'; }));
  }

  std::unique_ptr<Device> device_;
  HostDevice* on_host_ = nullptr;  // it, if it is one
  DeviceAddress memory_;
  std::span<char> host_;
};
INSTANTIATE_TEST_SUITE_P(Devices, DeviceCopyTest,
                         ::testing::Values(Case{false, CopyMethod::kCopyEngine},
                                           Case{false, CopyMethod::kKernel},
                                           Case{false, CopyMethod::kStaged},
                                           Case{true, CopyMethod::kCopyEngine},
                                           Case{true, CopyMethod::kKernel},
                                           Case{true, CopyMethod::kStaged}),
                         NameOf);

TEST_P(DeviceCopyTest, AllBytesComeBackInFragmentsOfEachSize) {
  for (const std::uint32_t bytes :
       {16u, 512u, 4096u, 4112u, 16384u, 65536u, 65552u, 1u << 20}) {
    const auto count =
        std::min<std::uint64_t>(kBytes / bytes, 3000);  // several runs
    ASSERT_NO_FATAL_FAILURE(
        SendAndFetch(std::vector<std::uint32_t>(count, bytes), 100 + bytes));
  }
}

TEST_P(DeviceCopyTest, AllBytesComeBackInFragmentsOfMixedAndOddSizes) {
  std::mt19937 random(9);
  std::vector<std::uint32_t> sizes;
  for (std::uint64_t total = 0; total < kBytes / 2;) {
    // Half of them keep what follows aligned to 16, if it was.
    std::uint32_t bytes = 1 + random() % 9000;
    if (random() % 2 != 0) bytes = (bytes + 15) & ~15u;
    sizes.push_back(bytes);
    total += bytes;
  }
  SendAndFetch(sizes, 10);
}

TEST_P(DeviceCopyTest, StreamsOfTheCallerWaitForEventsOfOthers) {
  const Stream to_device = device_->properties().to_device;
  const Stream to_host = device_->properties().to_host;
  for (const Stream back :
       {to_host, Stream::LegacyDefault(), Stream::PerThreadDefault()}) {
    std::fill(sent().begin(), sent().end(),
              static_cast<char>('a' + back.native() % 16));
    std::fill(fetched().begin(), fetched().end(), '\x5a');
    std::vector<Fragment> up, down;
    for (std::uint64_t at = 0; at < kBytes; at += 1 << 14) {
      up.push_back({memory_ + at, sent().data() + at, 1 << 14});
      down.push_back({memory_ + at, fetched().data() + at, 1 << 14});
    }
    // The last first, which are not there yet if nothing waits.
    std::reverse(down.begin(), down.end());
    const CopyMethod method = GetParam().method;
    Event event;
    // Or the host's thread may be done before the wait is posted.
    if (on_host_ != nullptr) on_host_->Hold();
    ASSERT_TRUE(
        device_->Copy({Direction::kToDevice, method, up}, to_device).ok());
    ASSERT_TRUE(device_->Record(to_device, &event).ok());
    ASSERT_TRUE(device_->Wait(back, event).ok());
    ASSERT_TRUE(device_->Copy({Direction::kToHost, method, down}, back).ok());
    if (on_host_ != nullptr) on_host_->Run();
    ASSERT_NO_FATAL_FAILURE(Finish(back));
    EXPECT_EQ(device_->Query(event, nullptr), EventState::kPassed);
    EXPECT_TRUE(std::equal(sent().begin(), sent().end(), fetched().begin()));
  }
}

TEST_P(DeviceCopyTest, WhatIsWrongIsRefusedAndLeavesTheDeviceUsable) {
  const Stream stream = device_->properties().to_host;
  std::string unregistered(4096, 'u');
  const auto copy = [&](Fragment fragment) {
    return device_
        ->Copy({Direction::kToHost, GetParam().method, {&fragment, 1}}, stream)
        .code;
  };
  EXPECT_EQ(copy({memory_, unregistered.data(), 16}), Code::kInvalidArgument);
  EXPECT_EQ(copy({memory_, host_.data(), 0}), Code::kInvalidArgument);
  EXPECT_EQ(copy({memory_, host_.data() + host_.size() - 8, 16}),
            Code::kInvalidArgument);
  DeviceAddress more;
  EXPECT_EQ(device_->Allocate(1ULL << 50, &more).code,
            Code::kResourceExhausted);
  EXPECT_FALSE(device_->Register(host_, Registration::kBegin).ok());
  EXPECT_FALSE(
      device_->Register(host_.subspan(kPage), Registration::kEnd).ok());
  Event event;
  ASSERT_TRUE(device_->Record(stream, &event).ok());
  while (device_->Query(event, nullptr) == EventState::kPending) {
    std::this_thread::yield();
  }
  EXPECT_EQ(device_->Wait(stream, event).code, Code::kInvalidArgument);
  EXPECT_EQ(device_->Query(event, nullptr), EventState::kFailed);
  SendAndFetch({4096, 4096}, 11);
}

}  // namespace
}  // namespace agentmem
