// FP8 on the host device: order, failures, and the rules it is strict about.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "cuda/fp8_batch.h"
#include "cuda/host_device.h"

namespace agentmem {
namespace {

using Point = HostDevice::Point;
using Registration = Device::Registration;
using ::testing::HasSubstr;

constexpr std::uint64_t kBytes = 4096;
constexpr Stream kStream = Stream::Of(7);

// Pieces of a page of 4 elements of float32: 1, 2, 3, 448.
class HostFp8Test : public ::testing::Test {
 protected:
  void Start(HostDevice::Options options = {}) {
    options.held = true;
    device_ = std::make_unique<HostDevice>(options);
    host_.assign(kBytes, 'h');
    ASSERT_TRUE(device_->Allocate(kBytes, &memory_).ok());
    ASSERT_TRUE(device_->Register(host_, Registration::kBegin).ok());
    auto* const elements = reinterpret_cast<float*>(HostDevice::Bytes(memory_));
    for (std::uint64_t i = 0; i < kBytes / 16; ++i) {
      const float page[] = {1, 2, 3, 448};
      std::copy(std::begin(page), std::end(page), elements + 4 * i);
    }
    shape_.type = KvType::kFloat32;
    shape_.page_tokens = 1;
    shape_.heads = 1;
    shape_.head_size = 4;
    shape_.page_stride = 16;
  }
  // Its codes and scale are 16 bytes of host memory each.
  Fp8Piece Piece(std::uint32_t index, std::uint32_t page) {
    Fp8Piece piece;
    piece.device = memory_;
    piece.codes = reinterpret_cast<std::uint8_t*>(host_.data()) + 32 * index;
    piece.scales = reinterpret_cast<float*>(host_.data() + 32 * index + 16);
    piece.first_page = page;
    piece.pages = 1;
    return piece;
  }
  Outcome Post(Direction direction, const std::vector<Fp8Piece>& pieces) {
    const Fp8Batch fp8 = {shape_, pieces, pages_};
    CopyBatch batch;
    batch.direction = direction;
    batch.fp8 = &fp8;
    return device_->Copy(batch, kStream);
  }
  std::string Codes(std::uint32_t index) {
    return std::string(host_.data() + 32 * index, 4);
  }

  const std::string kEncoded = "\x38\x40\x44\x7e";
  std::unique_ptr<HostDevice> device_;
  std::vector<char> host_;
  DeviceAddress memory_;
  Fp8Shape shape_;
  std::vector<std::uint32_t> pages_ = {0, 1, 2, 255, 256};
};

TEST_F(HostFp8Test, APieceIsAStepAndWhatIsPostedBehindItComesBehindIt) {
  Start();
  ASSERT_TRUE(
      Post(Direction::kToHost, {Piece(0, 0), Piece(1, 1), Piece(2, 2)}).ok());
  Event event;
  ASSERT_TRUE(device_->Record(kStream, &event).ok());
  EXPECT_EQ(device_->counts().fragments_pending, 3u);
  EXPECT_EQ(device_->Step(2), 2u);
  EXPECT_EQ(Codes(0), kEncoded);
  EXPECT_EQ(Codes(1), kEncoded);
  EXPECT_EQ(Codes(2), "hhhh");
  EXPECT_EQ(device_->Query(event, nullptr), EventState::kPending);
  EXPECT_EQ(device_->Step(9), 2u);
  EXPECT_EQ(Codes(2), kEncoded);
  EXPECT_EQ(device_->Query(event, nullptr), EventState::kPassed);
  EXPECT_EQ(device_->counts().fp8_pieces, 3u);
  EXPECT_EQ(device_->counts().fragments_pending, 0u);
  EXPECT_EQ(device_->counts().bytes_to_host, 3u * 8);
  EXPECT_EQ(device_->broken_rules(), 0u);
}

TEST_F(HostFp8Test, APieceThatFailsIsToldAndTheRestIsNotWritten) {
  Start();
  device_->FailNth({Point::kCopy, 2, Code::kInternal});
  ASSERT_TRUE(
      Post(Direction::kToHost, {Piece(0, 0), Piece(1, 1), Piece(2, 2)}).ok());
  Event event;
  ASSERT_TRUE(device_->Record(kStream, &event).ok());
  device_->Step(9);
  Outcome why;
  EXPECT_EQ(device_->Query(event, &why), EventState::kFailed);
  EXPECT_EQ(why.code, Code::kInternal);
  EXPECT_EQ(Codes(0), kEncoded);
  EXPECT_EQ(Codes(1), "hhhh");
  EXPECT_EQ(Codes(2), "hhhh");
  device_->FailNth({Point::kPost, 1, Code::kResourceExhausted});
  EXPECT_EQ(Post(Direction::kToHost, {Piece(0, 0)}).code,
            Code::kResourceExhausted);
}

TEST_F(HostFp8Test, DeviceMemoryThatWasNotAllocatedIsRefused) {
  Start();
  EXPECT_TRUE(Post(Direction::kToHost, {Piece(0, 3)}).ok()) << "the last page";
  const auto refusal = [&](const Fp8Piece& piece) {
    const Outcome outcome = Post(Direction::kToDevice, {Piece(0, 0), piece});
    EXPECT_EQ(outcome.code, Code::kInvalidArgument);
    return outcome.message;
  };
  EXPECT_THAT(refusal(Piece(1, 4)), HasSubstr("piece 1: a page lies outside"));
  Fp8Piece before = Piece(1, 0);
  before.device = DeviceAddress(memory_.value() - 4);
  EXPECT_THAT(refusal(before), HasSubstr("a page lies outside"));
  // Strides by which it would come around to where it began.
  shape_.page_stride = 1ULL << 63;
  EXPECT_THAT(refusal(Piece(1, 2)), HasSubstr("a page lies outside"));
  shape_.page_stride = 16;
  shape_.page_tokens = 2;
  shape_.token_stride = ~15ULL;
  EXPECT_THAT(refusal(Piece(1, 0)), HasSubstr("a page lies outside"));
  device_->Step(9);
  EXPECT_EQ(device_->counts().fp8_pieces, 1u) << "the last page's alone";
}

TEST_F(HostFp8Test, WithoutKernelsThereIsNoFp8) {
  HostDevice::Options options;
  options.kernel_fragments_max = 0;
  Start(options);
  const Outcome outcome = Post(Direction::kToHost, {Piece(0, 0)});
  EXPECT_EQ(outcome.code, Code::kFailedPrecondition);
  EXPECT_THAT(outcome.message, HasSubstr("no kernels"));
}

}  // namespace
}  // namespace agentmem
