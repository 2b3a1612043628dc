// A device for tests of what each Device promises: a GPU, or the host device.
//
// With memory on both sides of which a model is kept here: what copies should
// have done to every byte, also to those beside the fragments.
//
// Ownership: owns the device and the memory. Threads: thread-compatible.
// Errors: a test that finds no GPU is skipped and says why.
#ifndef AGENTMEM_TESTS_GPU_ANY_DEVICE_H_
#define AGENTMEM_TESTS_GPU_ANY_DEVICE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cuda/host_device.h"
#include "cuda/open_device.h"

namespace agentmem {

enum class Kind : std::uint8_t { kHost, kGpu };

inline constexpr CopyMethod kCopyMethods[] = {
    CopyMethod::kCopyEngine, CopyMethod::kKernel, CopyMethod::kStaged};

inline std::string KindName(const ::testing::TestParamInfo<Kind>& info) {
  return info.param == Kind::kGpu ? "Gpu" : "Host";
}

class AnyDeviceTest : public ::testing::TestWithParam<Kind> {
 protected:
  static constexpr std::uint64_t kBytes = 8 << 20;
  static constexpr std::uint64_t kPage = 4096;

  void SetUp() override {
    if (GetParam() == Kind::kGpu) {
      const Outcome opened = OpenDevice(0, &device_);
      if (!opened.ok()) GTEST_SKIP() << opened.message;
    } else {
      device_ = std::make_unique<HostDevice>(HostDevice::Options());
    }
    host_ = {static_cast<char*>(std::aligned_alloc(kPage, kBytes)), kBytes};
    ASSERT_TRUE(device_->Allocate(kBytes, &memory_).ok());
    const Outcome registered =
        device_->Register(host_, Device::Registration::kBegin);
    ASSERT_TRUE(registered.ok()) << registered.message;
    on_host_ = Random(1);
    Restore();
    on_device_ = Random(2);
    ASSERT_NO_FATAL_FAILURE(ToDevice(on_device_));
  }
  void TearDown() override {
    if (device_ == nullptr) return;
    device_->Free(memory_);
    EXPECT_TRUE(device_->Register(host_, Device::Registration::kEnd).ok());
    device_.reset();
    std::free(host_.data());
  }

  static std::string Random(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::string bytes(kBytes, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    return bytes;
  }
  // Host memory becomes what the model says.
  void Restore() { std::copy(on_host_.begin(), on_host_.end(), host_.begin()); }

  Stream StreamOf(Direction direction) const {
    return direction == Direction::kToHost ? device_->properties().to_host
                                           : device_->properties().to_device;
  }
  void Await(Event event) {
    Outcome why;
    EventState state = EventState::kPending;
    while (state == EventState::kPending) {
      std::this_thread::yield();
      state = device_->Query(event, &why);
    }
    ASSERT_EQ(state, EventState::kPassed) << why.message;
  }
  void Finish(Stream stream) {
    Event event;
    const Outcome recorded = device_->Record(stream, &event);
    ASSERT_TRUE(recorded.ok()) << recorded.message;
    Await(event);
  }
  // Posts them and does to the model what they should do.
  void Post(const CopyBatch& batch, Stream stream) {
    const Outcome posted = device_->Copy(batch, stream);
    ASSERT_TRUE(posted.ok()) << posted.message;
    Expect(batch.direction, batch.fragments);
  }
  void Expect(Direction direction, std::span<const Fragment> fragments) {
    for (const Fragment& one : fragments) {
      char* const there =
          on_device_.data() + (one.device.value() - memory_.value());
      char* const here = on_host_.data() + (one.host - host_.data());
      const bool to_host = direction == Direction::kToHost;
      std::memcpy(to_host ? here : there, to_host ? there : here, one.bytes);
    }
  }
  // Both sides are as the model says, all of their bytes.
  void ExpectAsModelled() {
    EXPECT_EQ(FirstWrong(on_host_), kBytes) << "on the host";
    std::memset(host_.data(), 0x5a, kBytes);
    const Fragment whole = {memory_, host_.data(), kBytes};
    ASSERT_TRUE(
        device_
            ->Copy({Direction::kToHost, CopyMethod::kCopyEngine, {&whole, 1}},
                   StreamOf(Direction::kToHost))
            .ok());
    ASSERT_NO_FATAL_FAILURE(Finish(StreamOf(Direction::kToHost)));
    EXPECT_EQ(FirstWrong(on_device_), kBytes) << "on the device";
    Restore();
  }

  std::unique_ptr<Device> device_;
  // `bytes` are in the device's memory, and host_ is as on_host_ says.
  void ToDevice(const std::string& bytes) {
    std::copy(bytes.begin(), bytes.end(), host_.begin());
    const Fragment whole = {memory_, host_.data(), kBytes};
    ASSERT_TRUE(
        device_
            ->Copy({Direction::kToDevice, CopyMethod::kCopyEngine, {&whole, 1}},
                   StreamOf(Direction::kToDevice))
            .ok());
    ASSERT_NO_FATAL_FAILURE(Finish(StreamOf(Direction::kToDevice)));
    Restore();
  }

  DeviceAddress memory_;
  std::span<char> host_;
  std::string on_device_;  // the model
  std::string on_host_;

 private:
  std::uint64_t FirstWrong(const std::string& expected) const {
    return static_cast<std::uint64_t>(
        std::mismatch(expected.begin(), expected.end(), host_.begin()).first -
        expected.begin());
  }
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_GPU_ANY_DEVICE_H_
