// Gather and scatter against a model on the CPU: every byte of both sides.
#include "tests/gpu/any_device.h"

namespace agentmem {
namespace {

using GatherScatterTest = AnyDeviceTest;
INSTANTIATE_TEST_SUITE_P(Devices, GatherScatterTest,
                         ::testing::Values(Kind::kHost, Kind::kGpu), KindName);

// Fragments apart from each other on both sides, in different orders. `unit`
// divides all places and sizes.
std::vector<Fragment> Fragments(DeviceAddress memory, std::span<char> host,
                                std::uint32_t unit, std::uint32_t bytes_max,
                                std::mt19937_64* random) {
  std::vector<Fragment> fragments;
  // Each lies somewhere in a cell of its own, on either side.
  const std::uint64_t cell = 2ULL * bytes_max;
  const std::uint64_t cells = host.size() / cell;
  std::vector<std::uint64_t> there(cells);
  for (std::uint64_t i = 0; i < cells; ++i) there[i] = i;
  std::shuffle(there.begin(), there.end(), *random);
  const auto within = [&](std::uint64_t below) {
    return (*random)() % (below / unit) * unit;
  };
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(cells, 2000); ++i) {
    const auto bytes = static_cast<std::uint32_t>(within(bytes_max) + unit);
    fragments.push_back({memory + there[i] * cell + within(bytes_max),
                         host.data() + i * cell + within(bytes_max), bytes});
  }
  return fragments;
}

TEST_P(GatherScatterTest, FragmentsOfAnySizeAndPlaceTouchTheirBytesAndNoOther) {
  std::mt19937_64 random(11);
  for (const std::uint32_t unit : {1u, 2u, 4u, 8u, 16u, 32u}) {
    for (const std::uint32_t bytes_max : {64u, 1024u, 16384u, 262144u}) {
      for (const CopyMethod method : kCopyMethods) {
        for (const Direction direction :
             {Direction::kToHost, Direction::kToDevice}) {
          const auto fragments =
              Fragments(memory_, host_, unit, bytes_max, &random);
          ASSERT_NO_FATAL_FAILURE(
              Post({direction, method, fragments}, StreamOf(direction)));
          ASSERT_NO_FATAL_FAILURE(Finish(StreamOf(direction)));
        }
      }
      ASSERT_NO_FATAL_FAILURE(ExpectAsModelled());
      ASSERT_FALSE(HasFailure()) << "unit " << unit << ", up to " << bytes_max;
    }
  }
}

TEST_P(GatherScatterTest, KernelsTakeMoreBatchesThanTheirDescriptorsHold) {
  const std::uint32_t most = device_->properties().kernel_fragments_max;
  if (most == 0) GTEST_SKIP() << "no kernels on this device";
  constexpr std::uint32_t kFragment = 16;
  std::vector<Fragment> fragments;
  for (std::uint64_t i = 0; i < most; ++i) {
    // An odd factor: each place once.
    const std::uint64_t place = i * 77773 % (kBytes / kFragment);
    fragments.push_back(
        {memory_ + place * kFragment, host_.data() + i * kFragment, kFragment});
  }
  const Stream stream = StreamOf(Direction::kToDevice);
  for (int batch = 0; batch < 12; ++batch) {
    Outcome posted;
    do {
      posted = device_->Copy(
          {Direction::kToDevice,
           batch % 2 == 0 ? CopyMethod::kKernel : CopyMethod::kStaged,
           fragments},
          stream);
      // Full: kernels are under way, and end.
      std::this_thread::yield();
    } while (posted.code == Code::kResourceExhausted);
    ASSERT_TRUE(posted.ok()) << posted.message;
  }
  Expect(Direction::kToDevice, fragments);
  fragments.push_back(fragments.front());
  EXPECT_EQ(
      device_
          ->Copy({Direction::kToDevice, CopyMethod::kKernel, fragments}, stream)
          .code,
      Code::kInvalidArgument);
  ASSERT_NO_FATAL_FAILURE(Finish(stream));
  ASSERT_NO_FATAL_FAILURE(ExpectAsModelled());
}

TEST_P(GatherScatterTest, CopiesBothWaysAtOnceDoNotMixTheirBytes) {
  constexpr std::uint32_t kFragment = 4096;
  constexpr std::uint64_t kHalf = kBytes / 2;
  for (const CopyMethod method : kCopyMethods) {
    std::vector<Fragment> down;
    std::vector<Fragment> up;
    for (std::uint64_t at = 0; at < kHalf; at += kFragment) {
      down.push_back({memory_ + at, host_.data() + at, kFragment});
      up.push_back(
          {memory_ + kHalf + at, host_.data() + kHalf + at, kFragment});
    }
    ASSERT_NO_FATAL_FAILURE(
        Post({Direction::kToHost, method, down}, StreamOf(Direction::kToHost)));
    ASSERT_NO_FATAL_FAILURE(Post({Direction::kToDevice, method, up},
                                 StreamOf(Direction::kToDevice)));
    ASSERT_NO_FATAL_FAILURE(Finish(StreamOf(Direction::kToHost)));
    ASSERT_NO_FATAL_FAILURE(Finish(StreamOf(Direction::kToDevice)));
    ASSERT_NO_FATAL_FAILURE(ExpectAsModelled());
    // Other bytes for the next method.
    on_host_ = Random(3);
    Restore();
  }
}

}  // namespace
}  // namespace agentmem
