// Events, waits, memory that is short, registration, measured crossovers.
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "cuda/copy_plan.h"
#include "tests/gpu/any_device.h"

namespace agentmem {
namespace {

using Registration = Device::Registration;

using DeviceRulesTest = AnyDeviceTest;
INSTANTIATE_TEST_SUITE_P(Devices, DeviceRulesTest,
                         ::testing::Values(Kind::kHost, Kind::kGpu), KindName);

TEST_P(DeviceRulesTest, WhatAnEventStandsBehindIsThereWhenItHasPassed) {
  const Stream stream = StreamOf(Direction::kToHost);
  for (int round = 0; round < 50; ++round) {
    std::memset(host_.data(), round, kBytes);
    const Fragment whole = {memory_, host_.data(), kBytes};
    const Outcome posted = device_->Copy(
        {Direction::kToHost, CopyMethod::kCopyEngine, {&whole, 1}}, stream);
    ASSERT_TRUE(posted.ok()) << posted.message;
    ASSERT_NO_FATAL_FAILURE(Finish(stream));
    // The last bytes first: they came last.
    ASSERT_TRUE(
        std::equal(on_device_.rbegin(), on_device_.rend(), host_.rbegin()))
        << "round " << round;
  }
  Restore();
}

TEST_P(DeviceRulesTest, AStreamThatWaitsReadsWhatTheOtherWrote) {
  constexpr std::uint64_t kHalf = kBytes / 2;
  constexpr std::uint32_t kFragment = 4096;
  const Stream to_device = StreamOf(Direction::kToDevice);
  const Stream to_host = StreamOf(Direction::kToHost);
  std::vector<Fragment> up;
  std::vector<Fragment> down;
  for (std::uint64_t at = 0; at < kHalf; at += kFragment) {
    up.push_back({memory_ + at, host_.data() + at, kFragment});
    down.push_back({memory_ + at, host_.data() + kHalf + at, kFragment});
  }
  // The last first, which are not there yet if nothing waits.
  std::reverse(down.begin(), down.end());
  for (int round = 0; round < 20; ++round) {
    const CopyMethod method = kCopyMethods[static_cast<std::size_t>(round) % 3];
    std::memset(host_.data(), 'a' + round, kHalf);
    std::memset(on_host_.data(), 'a' + round, kHalf);
    Event written;
    Event read;
    ASSERT_NO_FATAL_FAILURE(
        Post({Direction::kToDevice, method, up}, to_device));
    ASSERT_TRUE(device_->Record(to_device, &written).ok());
    ASSERT_TRUE(device_->Wait(to_host, written).ok());
    ASSERT_NO_FATAL_FAILURE(Post({Direction::kToHost, method, down}, to_host));
    ASSERT_TRUE(device_->Record(to_host, &read).ok());
    ASSERT_NO_FATAL_FAILURE(Await(read));
    ASSERT_NO_FATAL_FAILURE(Await(written));
    ASSERT_EQ(std::memcmp(host_.data() + kHalf, on_host_.data() + kHalf, kHalf),
              0)
        << "round " << round;
  }
  ASSERT_NO_FATAL_FAILURE(ExpectAsModelled());
}

TEST_P(DeviceRulesTest, EventsThatWereEndedAreUsedAnewWithoutEnd) {
  const Stream stream = StreamOf(Direction::kToHost);
  Event before;
  for (int i = 0; i < 30000; ++i) {
    Event event;
    const Outcome recorded = device_->Record(stream, &event);
    ASSERT_TRUE(recorded.ok()) << i << ": " << recorded.message;
    ASSERT_NE(event, before);
    ASSERT_NO_FATAL_FAILURE(Await(event));
    before = event;
  }
  std::vector<Event> pending;
  Outcome recorded;
  while (recorded.ok() && pending.size() < 100000) {
    Event event;
    recorded = device_->Record(stream, &event);
    if (recorded.ok()) pending.push_back(event);
  }
  EXPECT_EQ(recorded.code, Code::kResourceExhausted) << recorded.message;
  for (const Event event : pending) ASSERT_NO_FATAL_FAILURE(Await(event));
  ASSERT_NO_FATAL_FAILURE(Finish(stream));
}

TEST_P(DeviceRulesTest, MemoryThatIsShortIsToldAndTheRestGoesOn) {
  DeviceAddress more;
  const Outcome too_much =
      device_->Allocate(device_->properties().memory_bytes, &more);
  EXPECT_EQ(too_much.code, Code::kResourceExhausted) << too_much.message;
  // Until there is none, in pieces; then one fits where one was freed.
  const std::uint64_t piece = device_->properties().memory_bytes / 16;
  std::vector<DeviceAddress> taken;
  Outcome allocated;
  while (allocated.ok() && taken.size() < 17) {
    DeviceAddress memory;
    allocated = device_->Allocate(piece, &memory);
    if (allocated.ok()) taken.push_back(memory);
  }
  EXPECT_EQ(allocated.code, Code::kResourceExhausted) << allocated.message;
  EXPECT_GE(taken.size(), 1u);
  const Fragment one = {memory_ + 4096, host_.data(), 4096};
  ASSERT_NO_FATAL_FAILURE(
      Post({Direction::kToHost, CopyMethod::kKernel, {&one, 1}},
           StreamOf(Direction::kToHost)));
  ASSERT_NO_FATAL_FAILURE(Finish(StreamOf(Direction::kToHost)));
  if (!taken.empty()) {
    device_->Free(taken.back());
    EXPECT_TRUE(device_->Allocate(piece, &taken.back()).ok());
  }
  for (const DeviceAddress memory : taken) device_->Free(memory);
  ASSERT_NO_FATAL_FAILURE(ExpectAsModelled());
}

TEST_P(DeviceRulesTest, EachRegisteredChunkIsReachableUntilItsOwnEnd) {
  constexpr std::uint64_t kChunk = 1 << 20;
  constexpr std::uint64_t kChunks = 4;
  auto* const memory =
      static_cast<char*>(std::aligned_alloc(kPage, kChunks * kChunk));
  std::memset(memory, 0x5a, kChunks * kChunk);
  const std::span<char> all(memory, kChunks * kChunk);
  for (std::uint64_t i = 0; i < kChunks; ++i) {
    const Outcome registered = device_->Register(
        all.subspan(i * kChunk, kChunk), Registration::kBegin);
    ASSERT_TRUE(registered.ok()) << registered.message;
  }
  const Stream stream = StreamOf(Direction::kToHost);
  for (const CopyMethod method : kCopyMethods) {
    const auto copy = [&](std::uint64_t at) {
      const Fragment one = {memory_ + at, memory + at, 8192};
      return device_->Copy({Direction::kToHost, method, {&one, 1}}, stream)
          .code;
    };
    for (std::uint64_t i = 0; i < kChunks; ++i) {
      EXPECT_EQ(copy(i * kChunk), Code::kOk);
      EXPECT_EQ(copy((i + 1) * kChunk - 8192), Code::kOk);
    }
    // In two ranges, though both are registered.
    EXPECT_EQ(copy(kChunk - 4096), Code::kInvalidArgument);
  }
  ASSERT_NO_FATAL_FAILURE(Finish(stream));
  for (std::uint64_t i = 0; i < kChunks; ++i) {
    for (const std::uint64_t at : {i * kChunk, (i + 1) * kChunk - 8192}) {
      EXPECT_EQ(std::memcmp(memory + at, on_device_.data() + at, 8192), 0);
    }
    EXPECT_EQ(memory[i * kChunk + 8192], 0x5a);
  }
  EXPECT_TRUE(
      device_->Register(all.subspan(kChunk, kChunk), Registration::kEnd).ok());
  const Fragment gone = {memory_, memory + kChunk, 4096};
  const Fragment stays = {memory_, memory + 2 * kChunk, 4096};
  EXPECT_EQ(
      device_
          ->Copy({Direction::kToHost, CopyMethod::kKernel, {&gone, 1}}, stream)
          .code,
      Code::kInvalidArgument);
  EXPECT_TRUE(
      device_
          ->Copy({Direction::kToHost, CopyMethod::kKernel, {&stays, 1}}, stream)
          .ok());
  ASSERT_NO_FATAL_FAILURE(Finish(stream));
  for (const std::uint64_t i : {0, 2, 3}) {
    EXPECT_TRUE(
        device_->Register(all.subspan(i * kChunk, kChunk), Registration::kEnd)
            .ok());
  }
  std::free(memory);
}

// As memd's DRAM is: a shared file in memory, registered extent by extent, of
// which some have no pages yet or have lost them. What the device writes is
// what another process sees.
TEST_P(DeviceRulesTest, ASharedFileIsRegisteredAnewAfterItsPagesWereTakenAway) {
  constexpr std::uint64_t kExtent = 4 << 20;
  constexpr std::uint64_t kExtents = 8;
  const int file = ::memfd_create("extents", MFD_CLOEXEC);
  ASSERT_GE(file, 0);
  ASSERT_EQ(::ftruncate(file, kExtents * kExtent), 0);
  const auto map = [&] {
    void* const at = ::mmap(nullptr, kExtents * kExtent, PROT_READ | PROT_WRITE,
                            MAP_SHARED, file, 0);
    EXPECT_NE(at, MAP_FAILED);
    return static_cast<char*>(at);
  };
  char* const ours = map();
  char* const others = map();
  ::close(file);
  ASSERT_EQ(::madvise(ours, kExtents * kExtent, MADV_DONTFORK), 0);
  const Stream stream = StreamOf(Direction::kToHost);
  for (int round = 0; round < 3; ++round) {
    for (std::uint64_t i = 0; i < kExtents; ++i) {
      const std::span<char> extent(ours + i * kExtent, kExtent);
      const Outcome registered =
          device_->Register(extent, Registration::kBegin);
      ASSERT_TRUE(registered.ok()) << registered.message;
    }
    for (const CopyMethod method : kCopyMethods) {
      std::vector<Fragment> fragments;
      for (std::uint64_t i = 0; i < kExtents; ++i) {
        // At both ends of each.
        for (const std::uint64_t at : {std::uint64_t{0}, kExtent - 65536}) {
          fragments.push_back({memory_ + (i * 2 + (at != 0)) * 65536,
                               ours + i * kExtent + at, 65536});
        }
      }
      const Outcome posted =
          device_->Copy({Direction::kToHost, method, fragments}, stream);
      ASSERT_TRUE(posted.ok()) << posted.message;
      ASSERT_NO_FATAL_FAILURE(Finish(stream));
      for (const Fragment& one : fragments) {
        char* const seen = others + (one.host - ours);
        ASSERT_EQ(
            std::memcmp(seen, &on_device_[one.device.value() - memory_.value()],
                        one.bytes),
            0)
            << "round " << round;
        std::memset(seen, 0, one.bytes);
      }
    }
    for (std::uint64_t i = 0; i < kExtents; ++i) {
      const std::span<char> extent(ours + i * kExtent, kExtent);
      ASSERT_TRUE(device_->Register(extent, Registration::kEnd).ok());
    }
    ASSERT_EQ(::madvise(others, kExtents * kExtent, MADV_REMOVE), 0);
  }
  ::munmap(ours, kExtents * kExtent);
  ::munmap(others, kExtents * kExtent);
}

// From and to `device`, as the direction says; small fragments at odd places
// and long ones, by both methods.
TEST_P(DeviceRulesTest, ACopyWithinTheDeviceTouchesItsBytesAndNoOther) {
  DeviceAddress other;
  ASSERT_TRUE(device_->Allocate(kBytes, &other).ok());
  auto* const others = reinterpret_cast<char*>(other.value());
  std::string on_other = Random(5);
  std::copy(on_other.begin(), on_other.end(), host_.begin());
  const Fragment fill = {other, host_.data(), kBytes};
  const Stream stream = StreamOf(Direction::kToDevice);
  ASSERT_TRUE(
      device_
          ->Copy({Direction::kToDevice, CopyMethod::kCopyEngine, {&fill, 1}},
                 stream)
          .ok());
  ASSERT_NO_FATAL_FAILURE(Finish(stream));
  Restore();
  std::uint64_t at = 0;
  for (const CopyMethod method : kCopyMethods) {
    for (const Direction direction :
         {Direction::kToHost, Direction::kToDevice}) {
      std::vector<Fragment> fragments;
      for (std::uint32_t bytes : {1u, 16u, 256u, 4112u, 65536u, 262144u}) {
        for (int i = 0; i < 2; ++i, at += 2ULL * bytes + 1040) {
          fragments.push_back(
              {memory_ + at, others + (kBytes - at - 2ULL * bytes), bytes});
        }
      }
      const Outcome posted =
          device_->Copy({direction, method, fragments}, stream);
      ASSERT_TRUE(posted.ok()) << posted.message;
      ASSERT_NO_FATAL_FAILURE(Finish(stream));
      for (const Fragment& one : fragments) {
        char* const here = on_other.data() + (one.host - others);
        char* const there =
            on_device_.data() + (one.device.value() - memory_.value());
        const bool out = direction == Direction::kToHost;
        std::memcpy(out ? here : there, out ? there : here, one.bytes);
      }
    }
  }
  ASSERT_LT(at, kBytes);
  const Fragment back = {other, host_.data(), kBytes};
  ASSERT_TRUE(
      device_
          ->Copy({Direction::kToHost, CopyMethod::kCopyEngine, {&back, 1}},
                 stream)
          .ok());
  ASSERT_NO_FATAL_FAILURE(Finish(stream));
  EXPECT_TRUE(std::equal(on_other.begin(), on_other.end(), host_.begin()));
  Restore();
  // Neither registered nor this device's any more.
  device_->Free(other);
  const Fragment gone = {memory_, others, 4096};
  EXPECT_EQ(
      device_
          ->Copy({Direction::kToHost, CopyMethod::kKernel, {&gone, 1}}, stream)
          .code,
      Code::kInvalidArgument);
  ASSERT_NO_FATAL_FAILURE(ExpectAsModelled());
}

TEST_P(DeviceRulesTest, TheSameDeviceHasTheSameIdAndOneThatFitsTheWire) {
  const std::string id = device_->properties().id;
  EXPECT_GE(id.size(), 4u);
  EXPECT_LT(id.size(), 64u);
  std::unique_ptr<Device> again;
  if (GetParam() == Kind::kGpu) {
    ASSERT_TRUE(OpenDevice(0, &again).ok());
  } else {
    again = std::make_unique<HostDevice>(HostDevice::Options());
  }
  EXPECT_EQ(again->properties().id, id);
}

TEST_P(DeviceRulesTest, ACrossoverIsMeasuredForBothWaysAndMethods) {
  const MonotonicClock clock;
  MeasureBounds bounds;
  bounds.time_max = 60 * kSecondNs;
  bounds.bytes = 4 << 20;
  bounds.rounds = 1;
  Crossovers crossovers;
  const Outcome measured =
      MeasureCrossover(device_.get(), clock, bounds, &crossovers);
  ASSERT_TRUE(measured.ok()) << measured.message;
  for (const Direction direction : {Direction::kToHost, Direction::kToDevice}) {
    const Crossover& crossover = crossovers.of(direction);
    for (const CopyRates& rates : crossover.rates) {
      EXPECT_GT(rates.engine, 0u);
      EXPECT_GT(rates.kernel, 0u);
    }
    EXPECT_EQ(crossover.rule, RuleOf(crossover.rates));
  }
  ASSERT_NO_FATAL_FAILURE(ExpectAsModelled());
}

}  // namespace
}  // namespace agentmem
