// FP8 on its way out of each Device and back, on the host device and on a GPU
// where there is one: every bit of both sides is the oracle's.
#include <gmock/gmock.h>

#include <cmath>
#include <numeric>
#include <optional>

#include "cuda/fp8_block.h"
#include "cuda/fp8_codec.h"
#include "tests/gpu/any_device.h"
#include "tests/unit/cuda/fp8_oracle.h"

namespace agentmem {
namespace {

using ::testing::HasSubstr;

// Of 8 MiB on either side, the engine that stores has the lower half of device
// memory, the one that loads the upper.
constexpr std::uint64_t kHalf = 4 << 20;
constexpr std::uint32_t kBlockPages = 3;

// An engine: its tensors one behind the other, from an offset of device memory.
struct Engine {
  KvLayout layout;
  std::vector<DeviceAddress> layers;
  std::vector<DeviceAddress> values;
  std::uint64_t pages = 0;

  KvView view() const { return {layout, layers, pages, values}; }
};

Engine EngineAt(DeviceAddress at, const KvLayout& layout, std::uint64_t pages,
                bool own_values = false) {
  Engine engine{layout, {}, {}, pages};
  const std::uint64_t tensor =
      std::max(pages * layout.page_stride, layout.planes * layout.plane_stride);
  for (std::uint32_t layer = 0; layer < layout.layers; ++layer) {
    engine.layers.push_back(at);
    at = at + tensor;
    if (!own_values) continue;
    // Before and behind its K, in turn.
    engine.values.push_back(at);
    at = at + tensor;
    if (layer % 2 == 1) std::swap(engine.layers.back(), engine.values.back());
  }
  const Outcome checked = CheckView(engine.view());
  EXPECT_TRUE(checked.ok()) << checked.message;
  return engine;
}

class DeviceFp8Test : public AnyDeviceTest {
 protected:
  // Where an element is in a model's bytes.
  std::uint64_t PlaceOf(const Fp8Shape& shape, const Fp8Piece& piece,
                        const std::vector<std::uint32_t>& pages,
                        std::uint64_t token, std::uint64_t head,
                        std::uint64_t i) const {
    return piece.device.value() - memory_.value() +
           pages[piece.first_page + token / shape.page_tokens] *
               shape.page_stride +
           token % shape.page_tokens * shape.token_stride +
           head * shape.head_stride + i * BytesOf(shape.type);
  }
  template <typename Pointer>
  std::uint64_t HostPlaceOf(Pointer* at) const {
    return static_cast<std::uint64_t>(reinterpret_cast<char*>(at) -
                                      host_.data());
  }

  // Does to the models what the device should do to both sides.
  void Model(Direction direction, const Fp8Shape& shape, const Fp8Piece& piece,
             const std::vector<std::uint32_t>& pages) {
    const ElementOracle oracle(shape.type);
    const std::uint32_t bytes = BytesOf(shape.type);
    const std::uint64_t tokens = std::uint64_t{piece.pages} * shape.page_tokens;
    for (std::uint64_t head = 0; head < shape.heads; ++head) {
      float* const scale = reinterpret_cast<float*>(
          on_host_.data() + HostPlaceOf(piece.scales + head));
      const auto each = [&](auto visit) {
        for (std::uint64_t n = 0; n < tokens * shape.head_size; ++n) {
          const std::uint64_t token = n / shape.head_size;
          const std::uint64_t i = n % shape.head_size;
          visit(
              on_device_.data() + PlaceOf(shape, piece, pages, token, head, i),
              reinterpret_cast<std::uint8_t&>(
                  on_host_[HostPlaceOf(piece.codes) +
                           (token * shape.heads + head) * shape.head_size +
                           i]));
        }
      };
      if (direction == Direction::kToDevice) {
        each([&](char* element, std::uint8_t& code) {
          const std::uint32_t bits = oracle.ElementOf(code, *scale);
          std::memcpy(element, &bits, bytes);
        });
        continue;
      }
      std::vector<std::uint32_t> elements;
      each([&](const char* element, std::uint8_t&) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, element, bytes);
        elements.push_back(bits);
      });
      *scale = oracle.ScaleOf(elements);
      std::size_t next = 0;
      each([&](char*, std::uint8_t& code) {
        code = oracle.CodeOf(elements[next++], *scale);
      });
    }
  }

  Outcome PostFp8(Direction direction, const Fp8Shape& shape,
                  const std::vector<Fp8Piece>& pieces,
                  const std::vector<std::uint32_t>& pages) {
    const Fp8Batch fp8 = {shape, pieces, pages};
    CopyBatch batch;
    batch.direction = direction;
    batch.fp8 = &fp8;
    return device_->Copy(batch, StreamOf(direction));
  }
  void Run(Direction direction, const Engine& engine, char* block,
           const std::vector<std::uint32_t>& pages) {
    const Fp8Block format(engine.layout,
                          kBlockPages * engine.layout.page_tokens);
    std::vector<Fp8Piece> pieces;
    std::uint64_t blocks = 0;
    for (std::uint32_t at = 0; at < pages.size(); at += kBlockPages) {
      for (std::uint32_t layer = 0; layer < engine.layout.layers; ++layer) {
        format.AppendPieces(engine.view(), layer, at, kBlockPages,
                            block + blocks * format.bytes(), &pieces);
      }
      ++blocks;
    }
    const Fp8Shape shape = Fp8Shape::Of(engine.layout);
    const Outcome posted = PostFp8(direction, shape, pieces, pages);
    ASSERT_TRUE(posted.ok()) << posted.message;
    for (const Fp8Piece& piece : pieces) Model(direction, shape, piece, pages);
    ASSERT_NO_FATAL_FAILURE(Finish(StreamOf(direction)));
  }
  // Elements as models have them, and stretches of random bytes, so of NaN and
  // infinities, too. In the lower half.
  void FillElements(KvType type, std::uint64_t seed) {
    const ElementOracle oracle(type);
    const std::uint32_t bytes = BytesOf(type);
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal(0, 3);
    std::vector<std::uint32_t> some(4096);
    for (std::uint32_t& bits : some) {
      const float value = normal(random);
      bits = oracle.ElementOf(0x38, std::fabs(value));  // of 1
      if (value < 0) bits |= 1u << (8 * bytes - 1);
    }
    for (std::uint64_t at = 0; at < kHalf; at += 8) {
      std::uint64_t word = random();
      char* const to = on_device_.data() + at;
      if (at / 8192 % 4 == 3) {
        std::memcpy(to, &word, 8);
        continue;
      }
      for (std::uint32_t i = 0; i < 8; i += bytes, word >>= 12) {
        std::memcpy(to + i, &some[word % some.size()], bytes);
      }
    }
    ASSERT_NO_FATAL_FAILURE(ToDevice(on_device_));
  }
  // Two blocks out of one engine's pages and into another's.
  void OutAndIn(const Engine& from, const Engine& to, std::uint64_t host_at) {
    ASSERT_NO_FATAL_FAILURE(FillElements(from.layout.type, 7));
    const std::vector<std::uint32_t> out = {6, 0, 3, 5, 2, 7};
    const std::vector<std::uint32_t> in = {1, 2, 7, 0, 6, 4};
    char* const blocks = host_.data() + host_at;
    ASSERT_NO_FATAL_FAILURE(Run(Direction::kToHost, from, blocks, out));
    ASSERT_NO_FATAL_FAILURE(Run(Direction::kToDevice, to, blocks, in));
    ASSERT_NO_FATAL_FAILURE(ExpectAsModelled());
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, DeviceFp8Test,
                         ::testing::Values(Kind::kHost, Kind::kGpu), KindName);

constexpr std::uint64_t kPages = 8;
constexpr std::uint32_t kLayers = 2;

TEST_P(DeviceFp8Test, HeadsOfEachSizeAndTypeGoOutOfOneLayoutAndIntoAnother) {
  for (const KvType type :
       {KvType::kFloat16, KvType::kBfloat16, KvType::kFloat32}) {
    for (const std::uint32_t head_size : {16u, 80u, 96u, 128u}) {
      const Engine from = EngineAt(
          memory_, KvLayout::VllmFlash(kLayers, kPages, 16, 3, head_size, type),
          kPages);
      const Engine to =
          EngineAt(memory_ + kHalf,
                   KvLayout::VllmFlashInfer(kLayers, 16, 3, head_size, type,
                                            KvOrder::kHeadsFirst),
                   kPages);
      ASSERT_NO_FATAL_FAILURE(OutAndIn(from, to, 0)) << head_size;
    }
  }
}

TEST_P(DeviceFp8Test, HeadsOfOddSizesAndPlacesAreTheSame) {
  for (const KvType type :
       {KvType::kFloat16, KvType::kBfloat16, KvType::kFloat32}) {
    for (const std::uint32_t head_size : {1u, 20u, 33u}) {
      const KvLayout layout =
          KvLayout::VllmFlash(kLayers, kPages, 5, 3, head_size, type);
      // Beside the places at which 16 bytes can be copied at once.
      const Engine from = EngineAt(memory_ + 4, layout, kPages);
      const Engine to = EngineAt(memory_ + kHalf + 8, layout, kPages);
      ASSERT_NO_FATAL_FAILURE(OutAndIn(from, to, 12)) << head_size;
    }
  }
  const KvLayout even =
      KvLayout::VllmFlash(kLayers, kPages, 4, 2, 64, KvType::kFloat16);
  const Engine aligned = EngineAt(memory_, even, kPages);
  const Engine beside = EngineAt(memory_ + kHalf + 2, even, kPages);
  ASSERT_NO_FATAL_FAILURE(OutAndIn(aligned, beside, 0));
  ASSERT_NO_FATAL_FAILURE(OutAndIn(aligned, aligned, 20));
}

TEST_P(DeviceFp8Test, LatentsAndTensorsOfTheirOwnAreFound) {
  const KvLayout latent = KvLayout::Mla(kLayers, 16, 576, KvType::kBfloat16);
  ASSERT_NO_FATAL_FAILURE(OutAndIn(EngineAt(memory_, latent, kPages),
                                   EngineAt(memory_ + kHalf, latent, kPages),
                                   0));
  const KvLayout slots =
      KvLayout::SglangMha(kLayers, 1, 8, 128, KvType::kFloat16);
  const KvLayout packed =
      KvLayout::VllmPacked(kLayers, 1, 8, 128, KvType::kFloat16);
  ASSERT_NO_FATAL_FAILURE(OutAndIn(EngineAt(memory_, slots, kPages, true),
                                   EngineAt(memory_ + kHalf, packed, kPages),
                                   256));
  // More heads than a warp has lanes.
  const KvLayout many =
      KvLayout::VllmFlash(kLayers, kPages, 2, 40, 64, KvType::kBfloat16);
  ASSERT_NO_FATAL_FAILURE(OutAndIn(EngineAt(memory_, many, kPages),
                                   EngineAt(memory_ + kHalf, many, kPages), 0));
}

// A slot a token: more pages than a warp has lanes, and heads beyond what it
// holds at once.
TEST_P(DeviceFp8Test, ABlockOfManyPagesIsGoneThroughInTheirOrder) {
  const KvLayout layout = KvLayout::SglangMha(1, 1, 2, 128, KvType::kBfloat16);
  const Engine from = EngineAt(memory_, layout, 400, true);
  const Engine to = EngineAt(memory_ + kHalf, layout, 400, true);
  ASSERT_NO_FATAL_FAILURE(FillElements(layout.type, 9));
  std::vector<std::uint32_t> pages(400);
  std::iota(pages.begin(), pages.end(), 0);
  std::mt19937 random(4);
  for (const std::uint32_t count : {31u, 33u, 65u, 300u}) {
    for (const Direction direction :
         {Direction::kToHost, Direction::kToDevice}) {
      std::shuffle(pages.begin(), pages.end(), random);
      const Fp8Block format(layout, count);
      const Engine& engine = direction == Direction::kToHost ? from : to;
      std::vector<Fp8Piece> pieces;
      format.AppendPieces(engine.view(), 0, 7, count, host_.data(), &pieces);
      const Fp8Shape shape = Fp8Shape::Of(layout);
      ASSERT_TRUE(PostFp8(direction, shape, pieces, pages).ok());
      for (const Fp8Piece& piece : pieces) {
        Model(direction, shape, piece, pages);
      }
      ASSERT_NO_FATAL_FAILURE(Finish(StreamOf(direction)));
    }
    ASSERT_NO_FATAL_FAILURE(ExpectAsModelled()) << count;
  }
}

// As a pool of blocks there has them.
TEST_P(DeviceFp8Test, CodesMayLieInTheDevicesOwnMemory) {
  const KvLayout layout =
      KvLayout::VllmFlash(1, kPages, 16, 4, 128, KvType::kBfloat16);
  const Engine from = EngineAt(memory_, layout, kPages);
  const Engine to = EngineAt(memory_ + kHalf, layout, kPages);
  ASSERT_NO_FATAL_FAILURE(FillElements(layout.type, 3));
  const std::vector<std::uint32_t> pages = {6, 0, 3};
  ASSERT_NO_FATAL_FAILURE(Run(Direction::kToHost, from, host_.data(), pages));
  // The same codes, by way of the device's memory, which is copied.
  const DeviceAddress there = memory_ + (kBytes - (1 << 20));
  const Fp8Block format(layout, kBlockPages * 16);
  const std::uint64_t offset = kBytes / 2;
  const auto bytes = static_cast<std::uint32_t>(format.bytes());
  const Fragment block = {there, host_.data() + offset, bytes};
  format.Begin(block.host);
  format.Begin(on_host_.data() + offset);
  const Fp8Shape shape = Fp8Shape::Of(layout);
  std::vector<Fp8Piece> pieces;
  const Stream stream = StreamOf(Direction::kToHost);
  ASSERT_TRUE(
      device_
          ->Copy({Direction::kToDevice, CopyMethod::kCopyEngine, {&block, 1}},
                 stream)
          .ok());
  format.AppendPieces(from.view(), 0, 0, kBlockPages,
                      reinterpret_cast<char*>(there.value()), &pieces);
  Outcome posted = PostFp8(Direction::kToHost, shape, pieces, pages);
  ASSERT_TRUE(posted.ok()) << posted.message;
  ASSERT_TRUE(
      device_
          ->Copy({Direction::kToHost, CopyMethod::kCopyEngine, {&block, 1}},
                 stream)
          .ok());
  ASSERT_NO_FATAL_FAILURE(Finish(stream));
  EXPECT_EQ(
      std::memcmp(block.host + kFp8BlockUnit, host_.data() + kFp8BlockUnit, 32),
      0)
      << "scales";
  // All but the header and the zeros, which the first has not.
  const std::uint64_t codes_at = 2 * kFp8BlockUnit;
  EXPECT_EQ(std::memcmp(block.host + codes_at, host_.data() + codes_at,
                        bytes - codes_at),
            0);
  std::memcpy(on_host_.data() + offset, block.host, bytes);
  std::memcpy(on_device_.data() + (there.value() - memory_.value()), block.host,
              bytes);
  // And from there into pages, as from the host.
  pieces.clear();
  format.AppendPieces(to.view(), 0, 0, kBlockPages,
                      reinterpret_cast<char*>(there.value()), &pieces);
  posted = PostFp8(Direction::kToDevice, shape, pieces, pages);
  ASSERT_TRUE(posted.ok()) << posted.message;
  ASSERT_NO_FATAL_FAILURE(Finish(StreamOf(Direction::kToDevice)));
  pieces.clear();
  format.AppendPieces(to.view(), 0, 0, kBlockPages, host_.data(), &pieces);
  for (const Fp8Piece& piece : pieces) {
    Model(Direction::kToDevice, shape, piece, pages);
  }
  ASSERT_NO_FATAL_FAILURE(ExpectAsModelled());
}

TEST_P(DeviceFp8Test, WhatIsWrongIsRefusedAndNothingIsPosted) {
  const KvLayout layout =
      KvLayout::VllmFlash(1, kPages, 4, 2, 64, KvType::kFloat16);
  const Engine engine = EngineAt(memory_, layout, kPages);
  const Fp8Block format(layout, 8);
  std::vector<Fp8Piece> pieces;
  format.AppendPieces(engine.view(), 0, 0, 2, host_.data(), &pieces);
  const std::vector<std::uint32_t> pages = {1, 2};
  const auto refusal = [&](const Fp8Shape& shape, const Fp8Piece& piece) {
    const Outcome outcome = PostFp8(Direction::kToHost, shape, {piece}, pages);
    EXPECT_EQ(outcome.code, Code::kInvalidArgument) << outcome.message;
    return outcome.message;
  };
  const Fp8Shape shape = Fp8Shape::Of(layout);
  Fp8Shape wrong = shape;
  wrong.type = KvType::kInt8;
  EXPECT_THAT(refusal(wrong, pieces[0]), HasSubstr("type is 4"));
  wrong = shape;
  wrong.heads = 0;
  EXPECT_THAT(refusal(wrong, pieces[0]), HasSubstr("heads is 0; 1 to 4096"));
  wrong = shape;
  wrong.token_stride = 257;
  EXPECT_THAT(refusal(wrong, pieces[0]), HasSubstr("token_stride is 257"));
  Fp8Piece piece = pieces[0];
  piece.pages = 0;
  EXPECT_THAT(refusal(shape, piece), HasSubstr("no pages"));
  piece.pages = 3;
  EXPECT_THAT(refusal(shape, piece), HasSubstr("not in the batch's list"));
  piece = pieces[0];
  piece.first_page = 4'000'000'000;
  EXPECT_THAT(refusal(shape, piece), HasSubstr("not in the batch's list"));
  piece = pieces[0];
  piece.device = piece.device + 1;
  EXPECT_THAT(refusal(shape, piece), HasSubstr("aligned to their size"));
  piece = pieces[0];
  piece.scales = reinterpret_cast<float*>(host_.data() + 2);
  EXPECT_THAT(refusal(shape, piece), HasSubstr("aligned to 4"));
  std::vector<std::uint8_t> unregistered(4096);
  piece = pieces[0];
  piece.codes = unregistered.data();
  EXPECT_THAT(refusal(shape, piece), HasSubstr("registered"));
  piece = pieces[0];
  piece.codes = reinterpret_cast<std::uint8_t*>(host_.data() + kBytes - 1023);
  EXPECT_THAT(refusal(shape, piece), HasSubstr("registered"));
  std::vector<float> scales(2);
  piece = pieces[0];
  piece.scales = scales.data();
  EXPECT_THAT(refusal(shape, piece), HasSubstr("registered"));
  // More than there are descriptors; and fragments beside them.
  const std::uint32_t most = device_->properties().kernel_fragments_max;
  EXPECT_THAT(PostFp8(Direction::kToHost, shape,
                      std::vector<Fp8Piece>(most, pieces[0]), pages)
                  .message,
              HasSubstr(std::to_string(most + 1) + " descriptors"));
  const Fp8Batch fp8 = {shape, pieces, pages};
  const Fragment fragment = {memory_, host_.data(), 16};
  CopyBatch both;
  both.fragments = {&fragment, 1};
  both.fp8 = &fp8;
  EXPECT_EQ(device_->Copy(both, StreamOf(Direction::kToHost)).code,
            Code::kInvalidArgument);
  ASSERT_NO_FATAL_FAILURE(Finish(StreamOf(Direction::kToHost)));
  ASSERT_NO_FATAL_FAILURE(ExpectAsModelled());
}

}  // namespace
}  // namespace agentmem
