// What CudaDevice does when CUDA fails: at any call, on the device itself, or
// by being older than batches are.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "cuda/fp8_batch.h"
#include "cuda/open_device.h"
#include "tests/emulation/emulated_gpu.h"

namespace agentmem {
namespace {

using emulation::EmulatedGpu;
using ::testing::HasSubstr;
using Registration = Device::Registration;

constexpr std::uint64_t kBytes = 1 << 20;
constexpr std::uint32_t kFragment = 4096;

cudaStream_t Native(Stream stream) {
  return reinterpret_cast<cudaStream_t>(stream.native());
}

class CudaDeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    host_ = {static_cast<char*>(std::aligned_alloc(4096, kBytes)), kBytes};
    std::memset(host_.data(), 0x11, kBytes);
  }
  void TearDown() override {
    EmulatedGpu::Get().Disarm();
    EmulatedGpu::Get().HoldOthers(nullptr, false);
    EmulatedGpu::Get().ReleaseStream(nullptr);
    device_.reset();
    std::free(host_.data());
    EmulatedGpu::Get().SetDriverVersion(CUDART_VERSION);
  }

  Outcome Open() {
    if (Outcome opened = OpenDevice(0, &device_); !opened.ok()) return opened;
    Outcome outcome = device_->Register(host_, Registration::kBegin);
    if (!outcome.ok()) return outcome;
    return device_->Allocate(kBytes, &memory_);
  }
  // Every other fragment of the half that begins at `half`.
  std::vector<Fragment> Fragments(std::uint64_t half) const {
    std::vector<Fragment> fragments;
    for (std::uint64_t at = 0; at < kBytes / 2; at += 2 * kFragment) {
      fragments.push_back({memory_ + at, host_.data() + half + at, kFragment});
    }
    return fragments;
  }
  EventState Await(Event event, Outcome* why) {
    const MonotonicClock clock;
    const TimeNs until = clock.Now() + 60 * kSecondNs;
    EventState state = EventState::kPending;
    while (state == EventState::kPending && clock.Now() < until) {
      std::this_thread::yield();
      state = device_->Query(event, why);
    }
    return state;
  }
  // Up by one stream, behind it down by the other into the other half, and an
  // event. What it answers; OK: `passed` says whether the bytes are there.
  Outcome GoRound(CopyMethod method, EventState* state) {
    const DeviceProperties& of_device = device_->properties();
    Event up;
    Event down;
    Outcome outcome = device_->Copy(
        {Direction::kToDevice, method, Fragments(0)}, of_device.to_device);
    if (!outcome.ok()) return outcome;
    outcome = device_->Record(of_device.to_device, &up);
    if (!outcome.ok()) return outcome;
    outcome = device_->Wait(of_device.to_host, up);
    Outcome ignored;
    if (outcome.ok()) {
      outcome =
          device_->Copy({Direction::kToHost, method, Fragments(kBytes / 2)},
                        of_device.to_host);
    }
    if (outcome.ok()) outcome = device_->Record(of_device.to_host, &down);
    (void)Await(up, &ignored);
    if (outcome.ok()) *state = Await(down, &outcome);
    return outcome;
  }
  // What was posted before a failure is done when an event behind it says so.
  void FinishAll() {
    for (const Stream stream :
         {device_->properties().to_device, device_->properties().to_host}) {
      Event event;
      Outcome outcome = device_->Record(stream, &event);
      ASSERT_TRUE(outcome.ok()) << outcome.message;
      ASSERT_EQ(Await(event, &outcome), EventState::kPassed);
    }
  }
  bool HasComeRound() const {
    for (const Fragment& one : Fragments(0)) {
      if (std::memcmp(one.host, one.host + kBytes / 2, kFragment) != 0) {
        return false;
      }
    }
    return true;
  }
  void Fill(int byte) {
    std::memset(host_.data(), byte, kBytes / 2);
    std::memset(host_.data() + kBytes / 2, ~byte, kBytes / 2);
  }

  std::unique_ptr<Device> device_;
  std::span<char> host_;
  DeviceAddress memory_;
};

// Whichever call fails: it is told with its name, nothing is lost or left, and
// the same works right after it.
TEST_F(CudaDeviceTest, AnyCallOfCudaMayFail) {
  for (const CopyMethod method :
       {CopyMethod::kCopyEngine, CopyMethod::kKernel, CopyMethod::kStaged}) {
    std::uint64_t failed = 0;
    for (std::uint64_t call = 0;; ++call) {
      ASSERT_LT(call, 200u);
      EmulatedGpu::Get().FailCall(call, cudaErrorMemoryAllocation);
      EventState state = EventState::kPending;
      Outcome outcome = Open();
      if (outcome.ok()) {
        Fill(static_cast<int>(call));
        outcome = GoRound(method, &state);
      }
      const bool came = EmulatedGpu::Get().Disarm();
      if (!outcome.ok()) {
        EXPECT_TRUE(came);
        // Not that, once something was posted.
        EXPECT_TRUE(outcome.code == Code::kResourceExhausted ||
                    outcome.code == Code::kInternal)
            << outcome.message;
        EXPECT_THAT(outcome.message, HasSubstr("on GPU 0: out of memory"));
        ++failed;
      }
      // What the host program asks after calls of its own.
      EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "after call " << call;
      if (device_ != nullptr && memory_ != DeviceAddress()) {
        ASSERT_NO_FATAL_FAILURE(FinishAll());
        Fill(static_cast<int>(call) + 1);
        outcome = GoRound(method, &state);
        ASSERT_TRUE(outcome.ok()) << outcome.message;
        EXPECT_EQ(state, EventState::kPassed);
        EXPECT_TRUE(HasComeRound()) << "after call " << call;
      }
      memory_ = DeviceAddress();
      device_.reset();
      if (!came) break;
    }
    EXPECT_GT(failed, 10u);
  }
}

// Neighbours on the host are one copy, as far as one registered range goes; the
// ring is gone through several times, in pieces that end anywhere.
TEST_F(CudaDeviceTest, StagedCopiesAreOneForNeighboursOnTheHost) {
  constexpr std::uint64_t kAll = 48 << 20;
  constexpr std::uint64_t kChunk = 20 << 20;
  constexpr std::uint32_t kOdd = 40 << 10;
  ASSERT_TRUE(OpenDevice(0, &device_).ok());
  ASSERT_TRUE(device_->properties().stages);
  ASSERT_TRUE(device_->Allocate(kAll, &memory_).ok());
  auto* const host = static_cast<char*>(std::aligned_alloc(4096, kAll));
  for (std::uint64_t at = 0; at < kAll; at += kChunk) {
    const std::span<char> chunk(host + at, std::min(kChunk, kAll - at));
    ASSERT_TRUE(device_->Register(chunk, Registration::kBegin).ok());
  }
  // In the order of the host, anywhere on the device; a range ends between two.
  std::vector<Fragment> fragments;
  const std::uint64_t count = kAll / kOdd;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t at = i * kOdd;
    fragments.push_back({memory_ + i * 7 % count * kOdd, host + at, kOdd});
  }
  const DeviceProperties& of_device = device_->properties();
  const auto fill = [&](std::uint64_t seed) {
    std::minstd_rand random(static_cast<unsigned>(seed));
    std::generate(host, host + kAll,
                  [&] { return static_cast<char>(random()); });
  };
  fill(1);
  const std::string sent(host, kAll);
  const std::uint64_t before = EmulatedGpu::Get().memory().copies();
  ASSERT_TRUE(device_
                  ->Copy({Direction::kToDevice, CopyMethod::kStaged, fragments},
                         of_device.to_device)
                  .ok());
  ASSERT_NO_FATAL_FAILURE(FinishAll());
  // A piece of at most 4 MiB is one, or two at the end of a range.
  EXPECT_LE(EmulatedGpu::Get().memory().copies() - before, 12u + 1 + 2);
  fill(2);
  ASSERT_TRUE(device_
                  ->Copy({Direction::kToHost, CopyMethod::kStaged, fragments},
                         of_device.to_host)
                  .ok());
  ASSERT_NO_FATAL_FAILURE(FinishAll());
  for (const Fragment& one : fragments) {
    ASSERT_EQ(std::memcmp(one.host, &sent[one.host - host], one.bytes), 0);
  }
  device_->Free(memory_);
  device_.reset();
  std::free(host);
}

// The ring's DMA stands behind what its caller's stream had before.
TEST_F(CudaDeviceTest, AStagedCopyReadsWhatTheCopyBeforeItWrites) {
  ASSERT_TRUE(Open().ok());
  const Stream stream = device_->properties().to_device;
  const std::vector<Fragment> there = Fragments(0);
  std::vector<Fragment> elsewhere;
  for (const Fragment& one : there) {
    elsewhere.push_back({one.device + kBytes / 2, one.host, one.bytes});
  }
  for (int round = 0; round < 20; ++round) {
    Fill(round);
    const auto copy = [&](Direction direction, CopyMethod method,
                          const std::vector<Fragment>& fragments) {
      ASSERT_TRUE(device_->Copy({direction, method, fragments}, stream).ok());
    };
    copy(Direction::kToDevice, CopyMethod::kCopyEngine, there);
    ASSERT_NO_FATAL_FAILURE(FinishAll());
    Fill(round + 1);
    EmulatedGpu::Get().HoldStream(Native(stream));
    copy(Direction::kToHost, CopyMethod::kCopyEngine, there);
    copy(Direction::kToDevice, CopyMethod::kStaged, elsewhere);
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    EmulatedGpu::Get().ReleaseStream(Native(stream));
    ASSERT_NO_FATAL_FAILURE(FinishAll());
    Fill(round + 2);
    copy(Direction::kToHost, CopyMethod::kStaged, elsewhere);
    ASSERT_NO_FATAL_FAILURE(FinishAll());
    for (const Fragment& one : elsewhere) {
      const std::string expected(one.bytes, static_cast<char>(round));
      ASSERT_EQ(std::memcmp(one.host, expected.data(), one.bytes), 0);
    }
  }
}

// A kernel that was launched keeps its descriptors, whatever failed behind it.
TEST_F(CudaDeviceTest, AStagedCopyThatFailsHalfwayKeepsItsDescriptors) {
  constexpr std::uint64_t kAll = 8 << 20;  // two pieces
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(device_->Allocate(kAll, &memory_).ok());
  const std::span<char> host(static_cast<char*>(std::aligned_alloc(4096, kAll)),
                             kAll);
  std::memset(host.data(), 0x77, kAll);
  ASSERT_TRUE(device_->Register(host, Registration::kBegin).ok());
  std::vector<Fragment> fragments;
  for (std::uint64_t at = 0; at < kAll; at += kFragment) {
    fragments.push_back({memory_ + at, host.data() + at, kFragment});
  }
  const Stream stream = device_->properties().to_device;
  EmulatedGpu::Get().HoldStream(Native(stream));
  EmulatedGpu::Get().FailCall(1, cudaErrorLaunchOutOfResources,
                              "cudaLaunchKernelEx");
  EXPECT_FALSE(
      device_
          ->Copy({Direction::kToDevice, CopyMethod::kStaged, fragments}, stream)
          .ok());
  EXPECT_TRUE(EmulatedGpu::Get().Disarm());
  // Another takes the next ones.
  const std::span<const Fragment> last(&fragments.back(), 1);
  ASSERT_TRUE(
      device_->Copy({Direction::kToDevice, CopyMethod::kKernel, last}, stream)
          .ok());
  EmulatedGpu::Get().ReleaseStream(Native(stream));
  ASSERT_NO_FATAL_FAILURE(FinishAll());
  std::memset(host.data(), 0, kAll);
  fragments.resize(kAll / 2 / kFragment);
  ASSERT_TRUE(
      device_
          ->Copy({Direction::kToHost, CopyMethod::kCopyEngine, fragments},
                 stream)
          .ok());
  ASSERT_NO_FATAL_FAILURE(FinishAll());
  EXPECT_EQ(std::count(host.begin(), host.begin() + kAll / 2, 0x77), kAll / 2);
  ASSERT_TRUE(device_->Register(host, Registration::kEnd).ok());
  device_.reset();
  std::free(host.data());
}

// Of staged copies each stream alone, and what the other waits for.
class StagedOrderTest : public CudaDeviceTest {
 protected:
  static constexpr std::uint64_t kPiece = 4 << 20;
  static constexpr std::uint64_t kPieces = 5;

  void SetUp() override {
    CudaDeviceTest::SetUp();
    ASSERT_TRUE(Open().ok());
    ASSERT_TRUE(device_->Allocate(2 * kPieces * kPiece, &memory_).ok());
    all_ = {static_cast<char*>(std::aligned_alloc(4096, kPieces * kPiece)),
            kPieces * kPiece};
    ASSERT_TRUE(device_->Register(all_, Registration::kBegin).ok());
    to_host_ = device_->properties().to_host;
    to_device_ = device_->properties().to_device;
    for (std::uint64_t i = 0; i < kPieces; ++i) {
      std::memset(&all_[i * kPiece], static_cast<int>(i + 1), kPiece);
    }
    Copy(Direction::kToDevice, CopyMethod::kStaged, 0, kPieces, to_device_);
    FinishAll();
    std::memset(all_.data(), 0, all_.size());
  }
  void TearDown() override {
    CudaDeviceTest::TearDown();
    std::free(all_.data());
  }
  void Copy(Direction direction, CopyMethod method, std::uint64_t first,
            std::uint64_t count, Stream stream, std::uint64_t behind = 0) {
    std::vector<Fragment> fragments;
    for (std::uint64_t at = first * kPiece; at < (first + count) * kPiece;
         at += 64 << 10) {
      fragments.push_back({memory_ + behind + at, &all_[at], 64 << 10});
    }
    const Outcome posted =
        device_->Copy({direction, method, fragments}, stream);
    ASSERT_TRUE(posted.ok()) << posted.message;
  }
  // Until the stream has done so much; and no more, for a while.
  void AwaitWork(Stream stream, std::uint64_t done) {
    const MonotonicClock clock;
    const TimeNs until = clock.Now() + 60 * kSecondNs;
    EmulatedGpu& gpu = EmulatedGpu::Get();
    while (gpu.WorkDone(Native(stream)) < done && clock.Now() < until) {
      std::this_thread::yield();
    }
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    EXPECT_EQ(gpu.WorkDone(Native(stream)), done);
  }
  void ExpectPieces() {
    for (std::uint64_t i = 0; i < kPieces; ++i) {
      EXPECT_EQ(std::count(&all_[i * kPiece], &all_[i * kPiece] + kPiece,
                           static_cast<char>(i + 1)),
                static_cast<std::ptrdiff_t>(kPiece))
          << "piece " << i;
    }
  }

  std::span<char> all_;
  Stream to_host_ = Stream::LegacyDefault();
  Stream to_device_ = Stream::LegacyDefault();
};

// A wait, a kernel and a record each (and a record behind the batch, of its
// descriptors); the fourth waits for the first one's DMA.
TEST_F(StagedOrderTest, OutASlotIsFilledAnewOnceItsDmaIsDone) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const std::uint64_t before = gpu.WorkDone(Native(to_host_));
  gpu.HoldOthers(Native(to_host_), true);
  Copy(Direction::kToHost, CopyMethod::kStaged, 0, kPieces, to_host_);
  AwaitWork(to_host_, before + 3 * 3);
  gpu.HoldOthers(Native(to_host_), false);
  ASSERT_NO_FATAL_FAILURE(FinishAll());
  ExpectPieces();
}

TEST_F(StagedOrderTest, OutAnEventStandsBehindTheDmaAndTheNextBatchDoesNot) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const std::uint64_t before = gpu.WorkDone(Native(to_host_));
  gpu.HoldOthers(Native(to_host_), true);
  Copy(Direction::kToHost, CopyMethod::kStaged, 0, 1, to_host_);
  Event event;
  ASSERT_TRUE(device_->Record(to_host_, &event).ok());
  Copy(Direction::kToHost, CopyMethod::kStaged, 1, 1, to_host_);
  AwaitWork(to_host_, before + 4 + 1 + 4);
  Outcome why;
  EXPECT_EQ(device_->Query(event, &why), EventState::kPending);
  gpu.HoldOthers(Native(to_host_), false);
  EXPECT_EQ(Await(event, &why), EventState::kPassed);
  EXPECT_EQ(std::count(all_.begin(), all_.begin() + kPiece, 1),
            static_cast<std::ptrdiff_t>(kPiece));
  FinishAll();
}

TEST_F(StagedOrderTest, OutAnotherCopyStandsBehindTheDma) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  for (const CopyMethod method :
       {CopyMethod::kCopyEngine, CopyMethod::kKernel}) {
    std::memset(all_.data(), 0, all_.size());
    const std::uint64_t before = gpu.WorkDone(Native(to_host_));
    gpu.HoldOthers(Native(to_host_), true);
    Copy(Direction::kToHost, CopyMethod::kStaged, 0, 1, to_host_);
    // What has come out goes in again, elsewhere.
    Copy(Direction::kToDevice, method, 0, 1, to_host_, kPieces * kPiece);
    AwaitWork(to_host_, before + 4);
    gpu.HoldOthers(Native(to_host_), false);
    ASSERT_NO_FATAL_FAILURE(FinishAll());
    std::memset(all_.data(), 0, all_.size());
    Copy(Direction::kToHost, CopyMethod::kCopyEngine, 0, 1, to_host_,
         kPieces * kPiece);
    ASSERT_NO_FATAL_FAILURE(FinishAll());
    EXPECT_EQ(std::count(all_.begin(), all_.begin() + kPiece, 1),
              static_cast<std::ptrdiff_t>(kPiece));
  }
}

TEST_F(StagedOrderTest, InTheDmaOfTheNextBatchIsNotBehindTheFirstOnesKernel) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  for (std::uint64_t i = 0; i < kPieces; ++i) {
    std::memset(&all_[i * kPiece], static_cast<int>(i + 1), kPiece);
  }
  gpu.HoldStream(Native(to_device_));
  const std::uint64_t before = gpu.memory().copies();
  for (std::uint64_t i = 0; i < 3; ++i) {
    Copy(Direction::kToDevice, CopyMethod::kStaged, i, 1, to_device_,
         kPieces * kPiece);
  }
  const MonotonicClock clock;
  const TimeNs until = clock.Now() + 60 * kSecondNs;
  while (gpu.memory().copies() < before + 3 && clock.Now() < until) {
    std::this_thread::yield();
  }
  EXPECT_EQ(gpu.memory().copies(), before + 3);
  gpu.ReleaseStream(Native(to_device_));
  Copy(Direction::kToDevice, CopyMethod::kStaged, 3, 2, to_device_,
       kPieces * kPiece);
  ASSERT_NO_FATAL_FAILURE(FinishAll());
  std::memset(all_.data(), 0, all_.size());
  Copy(Direction::kToHost, CopyMethod::kCopyEngine, 0, kPieces, to_host_,
       kPieces * kPiece);
  ASSERT_NO_FATAL_FAILURE(FinishAll());
  ExpectPieces();
}

// Two threads on streams of their own share the ring.
TEST_F(CudaDeviceTest, StagedCopiesOfSeveralThreadsDoNotMixTheirBytes) {
  ASSERT_TRUE(Open().ok());
  Fill(5);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (std::uint64_t which = 0; which < 2; ++which) {
    threads.emplace_back([&, which] {
      const Stream stream = which == 0 ? Stream::PerThreadDefault()
                                       : device_->properties().to_device;
      std::vector<Fragment> mine;
      for (const Fragment& one : Fragments(0)) {
        mine.push_back({one.device + which * kBytes / 2,
                        one.host + which * kBytes / 2, one.bytes});
      }
      for (int round = 0; round < 20; ++round) {
        for (const Fragment& one : mine)
          std::memset(one.host, round, one.bytes);
        Event event;
        Outcome why;
        const bool posted =
            device_
                ->Copy({Direction::kToDevice, CopyMethod::kStaged, mine},
                       stream)
                .ok() &&
            device_->Record(stream, &event).ok();
        if (!posted || Await(event, &why) != EventState::kPassed) ++wrong;
        for (const Fragment& one : mine) std::memset(one.host, 0, one.bytes);
        const bool back =
            device_
                ->Copy({Direction::kToHost, CopyMethod::kStaged, mine}, stream)
                .ok() &&
            device_->Record(stream, &event).ok();
        if (!back || Await(event, &why) != EventState::kPassed) ++wrong;
        for (const Fragment& one : mine) {
          const std::string expected(one.bytes, static_cast<char>(round));
          if (std::memcmp(one.host, expected.data(), one.bytes) != 0) ++wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(CudaDeviceTest, AFailureOnTheDeviceIsTheLossOfItAndNamedFromThereOn) {
  ASSERT_TRUE(Open().ok());
  Fill(1);
  EventState state = EventState::kPending;
  ASSERT_TRUE(GoRound(CopyMethod::kKernel, &state).ok());
  EmulatedGpu::Get().FailOnDevice();
  const Outcome outcome = GoRound(CopyMethod::kKernel, &state);
  EXPECT_EQ(outcome.code, Code::kUnavailable) << outcome.message;
  const Outcome later = device_->Allocate(4096, &memory_);
  EXPECT_EQ(later.code, Code::kUnavailable);
  EXPECT_THAT(later.message, HasSubstr("was lost before"));
  Outcome why;
  EXPECT_EQ(device_->Query(Event(77), &why), EventState::kFailed);
  // Another process's, or this one's after it has closed the device.
  device_.reset();
  ASSERT_TRUE(Open().ok());
  Fill(2);
  ASSERT_TRUE(GoRound(CopyMethod::kKernel, &state).ok());
  EXPECT_TRUE(HasComeRound());
}

TEST_F(CudaDeviceTest, ADriverWithoutBatchesCopiesAll) {
  EmulatedGpu::Get().SetDriverVersion(12040);
  ASSERT_TRUE(Open().ok());
  EXPECT_FALSE(device_->properties().copies_batches);
  Fill(3);
  EventState state = EventState::kPending;
  // A batch would be a call that fails.
  EmulatedGpu::Get().FailCall(0, cudaErrorNotSupported, "cudaMemcpyBatchAsync");
  const Outcome outcome = GoRound(CopyMethod::kCopyEngine, &state);
  EXPECT_FALSE(EmulatedGpu::Get().Disarm());
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  EXPECT_TRUE(HasComeRound());
}

TEST_F(CudaDeviceTest, KernelsThatWereNotLaunchedGiveTheirDescriptorsBack) {
  ASSERT_TRUE(Open().ok());
  std::vector<Fragment> many;
  for (std::uint64_t at = 0; at < kBytes / 2; at += 16) {
    many.push_back({memory_ + at, host_.data() + at, 16});
  }
  ASSERT_EQ(many.size(), device_->properties().kernel_fragments_max);
  const Stream stream = device_->properties().to_host;
  const CopyBatch batch = {Direction::kToHost, CopyMethod::kKernel, many};
  for (int i = 0; i < 3; ++i) {
    EmulatedGpu::Get().FailCall(
        0, cudaErrorLaunchOutOfResources,
        i % 2 == 0 ? "cudaLaunchKernelEx" : "cudaEventRecord");
    const Outcome failed = device_->Copy(batch, stream);
    EXPECT_TRUE(EmulatedGpu::Get().Disarm());
    EXPECT_NE(failed.code, Code::kOk);
    EXPECT_THAT(failed.message, HasSubstr("an emulated error"));
  }
  EXPECT_TRUE(device_->Copy(batch, stream).ok());
}

TEST_F(CudaDeviceTest, AStreamThatIsCapturedTakesNothing) {
  ASSERT_TRUE(Open().ok());
  const Stream stream = Stream::PerThreadDefault();
  EmulatedGpu::Get().SetCapturing(Native(stream), true);
  const std::vector<Fragment> fragments = Fragments(0);
  Event event;
  for (const CopyMethod method :
       {CopyMethod::kCopyEngine, CopyMethod::kKernel, CopyMethod::kStaged}) {
    EXPECT_EQ(
        device_->Copy({Direction::kToHost, method, fragments}, stream).code,
        Code::kFailedPrecondition);
  }
  EXPECT_EQ(device_->Record(stream, &event).code, Code::kFailedPrecondition);
  ASSERT_TRUE(device_->Record(device_->properties().to_host, &event).ok());
  EXPECT_EQ(device_->Wait(stream, event).code, Code::kFailedPrecondition);
  Outcome why;
  EXPECT_EQ(Await(event, &why), EventState::kPassed);
}

TEST_F(CudaDeviceTest, MemoryIsFreedOnceWhatIsPostedIsDone) {
  ASSERT_TRUE(Open().ok());
  Fill(4);
  const DeviceProperties& of_device = device_->properties();
  // Held back, a copy out of the memory stands before its end.
  EmulatedGpu::Get().HoldStream(Native(of_device.to_host));
  ASSERT_TRUE(device_
                  ->Copy({Direction::kToHost, CopyMethod::kKernel,
                          Fragments(kBytes / 2)},
                         of_device.to_host)
                  .ok());
  std::atomic<bool> is_freed = false;
  std::thread freer([&] {
    device_->Free(memory_);
    is_freed = true;
  });
  std::this_thread::yield();
  EXPECT_FALSE(is_freed);
  EmulatedGpu::Get().ReleaseStream(Native(of_device.to_host));
  freer.join();
  // (Memory taken away under a copy is a finding.)
}

}  // namespace
}  // namespace agentmem
