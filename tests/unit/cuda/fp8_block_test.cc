#include "cuda/fp8_block.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

namespace agentmem {
namespace {

using ::testing::HasSubstr;

// 3 layers, K and V, 8 tokens of 2 heads of 20.
KvLayout Layout() {
  return KvLayout::VllmFlash(3, 10, 4, 2, 20, KvType::kBfloat16);
}

std::uint32_t WordAt(const std::string& block, std::size_t at) {
  std::uint32_t word = 0;
  std::memcpy(&word, block.data() + at, sizeof(word));
  return word;
}

TEST(Fp8BlockTest, TheHeaderAndTheZerosAreWhereFormatsSays) {
  // 4 scales are 16 bytes, in a unit of 128; 2 x 8 x 2 x 20 codes are 640,
  // five.
  const Fp8Block format(Layout(), 8);
  ASSERT_EQ(format.bytes(), 128u + 3 * (128 + 640));
  std::string block(format.bytes(), '\x5a');
  format.Begin(block.data());
  EXPECT_EQ(block.substr(0, 8), "AGEMKVF1");
  const std::vector<std::uint32_t> words = {1, 1, 3, 2, 8, 2, 20, 0, 2432, 0};
  for (std::size_t i = 0; i < words.size(); ++i) {
    EXPECT_EQ(WordAt(block, 8 + 4 * i), words[i]) << i;
  }
  EXPECT_EQ(block.substr(48, 80), std::string(80, '\0'));
  for (const std::size_t layer : {128u, 896u, 1664u}) {
    EXPECT_EQ(block.substr(layer, 16), std::string(16, '\x5a')) << "scales";
    EXPECT_EQ(block.substr(layer + 16, 112), std::string(112, '\0'));
    EXPECT_EQ(block.substr(layer + 128, 640), std::string(640, '\x5a'));
  }
}

TEST(Fp8BlockTest, CodesThatEndWithinAUnitAreFilledUpWithZeros) {
  const Fp8Block format(KvLayout::Mla(1, 4, 33, KvType::kFloat32),
                        4);  // 132 codes
  ASSERT_EQ(format.bytes(), 128u + 128 + 256);
  std::string block(format.bytes(), '\x5a');
  format.Begin(block.data());
  EXPECT_EQ(block.substr(256, 132), std::string(132, '\x5a'));
  EXPECT_EQ(block.substr(388), std::string(124, '\0'));
}

// What is sent so, and codes and scales behind it, are the whole block.
TEST(Fp8BlockTest, WhatIsBegunIsSentInWholeUnitsAndLacksOnlyCodesAndScales) {
  const KvLayout layouts[] = {
      Layout(), KvLayout::Mla(3, 4, 33, KvType::kFloat32),
      // Nothing is filled up: 32 scales, 256 codes.
      KvLayout::VllmFlash(2, 10, 1, 16, 4, KvType::kFloat16)};
  const std::size_t fragments[] = {3, 4, 1};
  for (std::size_t i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    const KvLayout& layout = layouts[i];
    const std::uint32_t tokens = 2 * layout.page_tokens;
    const Fp8Block format(layout, tokens);
    std::string block(format.bytes(), 'a');
    std::string sent(format.bytes(), 'b');
    format.Begin(block.data());
    std::vector<Fragment> begun;
    format.AppendBegun(DeviceAddress(1 << 20), block.data(), &begun);
    EXPECT_EQ(begun.size(), fragments[i]);
    for (const Fragment& one : begun) {
      const std::uint64_t at = one.device.value() - (1 << 20);
      ASSERT_EQ(one.host, block.data() + at);
      ASSERT_LE(at + one.bytes, format.bytes());
      EXPECT_TRUE(KernelTakes({one.device, nullptr, one.bytes}));
      sent.replace(at, one.bytes, one.host, one.bytes);
    }
    const std::vector<DeviceAddress> at(layout.layers, DeviceAddress(1 << 20));
    const KvView view = {layout, at, 10};
    for (std::string* const whole : {&block, &sent}) {
      std::vector<Fp8Piece> pieces;
      for (std::uint32_t layer = 0; layer < layout.layers; ++layer) {
        format.AppendPieces(view, layer, 0, 2, whole->data(), &pieces);
      }
      for (const Fp8Piece& piece : pieces) {
        std::memset(piece.codes, 'c',
                    std::size_t{tokens} * layout.heads * layout.head_size);
        std::memset(piece.scales, 's', layout.heads * sizeof(float));
      }
    }
    EXPECT_EQ(sent, block);
  }
}

TEST(Fp8BlockTest, APieceOfEachPlaneNamesItsCodesScalesAndPages) {
  const KvLayout layout = Layout();
  const std::vector<DeviceAddress> layers = {
      DeviceAddress(1 << 20), DeviceAddress(2 << 20), DeviceAddress(3 << 20)};
  const KvView view = {layout, layers, 10};
  const Fp8Block format(layout, 8);
  alignas(16) char block[2432];
  std::vector<Fp8Piece> pieces(1);
  format.AppendPieces(view, 2, 6, 2, block, &pieces);
  ASSERT_EQ(pieces.size(), 3u);
  for (const std::uint64_t plane : {0u, 1u}) {
    const Fp8Piece& piece = pieces[1 + plane];
    EXPECT_EQ(piece.device,
              DeviceAddress(3 << 20) + plane * layout.plane_stride);
    EXPECT_EQ(reinterpret_cast<char*>(piece.scales), block + 1664 + plane * 8);
    EXPECT_EQ(reinterpret_cast<char*>(piece.codes),
              block + 1664 + 128 + plane * 320);
    EXPECT_EQ(piece.first_page, 6u);
    EXPECT_EQ(piece.pages, 2u);
  }
}

TEST(Fp8BlockTest, AnotherShapeTypeOrVersionIsRefusedAndBothAreNamed) {
  const Fp8Block format(Layout(), 8);
  std::string block(format.bytes(), '\0');
  format.Begin(block.data());
  EXPECT_TRUE(format.Check(block.data()).ok());
  const struct {
    std::size_t at;
    const char* message;
  } fields[] = {{8, "version is 9, and 1"},     {12, "type is 9, and 1"},
                {16, "layers is 9, and 3"},     {20, "planes is 9, and 2"},
                {24, "tokens is 9, and 8"},     {28, "heads is 9, and 2"},
                {32, "head_size is 9, and 20"}, {40, "bytes is 9, and 2432"}};
  for (const auto& field : fields) {
    std::string other = block;
    const std::uint32_t nine = 9;
    std::memcpy(other.data() + field.at, &nine, sizeof(nine));
    const Outcome outcome = format.Check(other.data());
    EXPECT_EQ(outcome.code, Code::kDataLoss);
    EXPECT_NE(Fp8TagOf(other.data(), other.size()), format.tag());
    EXPECT_THAT(outcome.message, HasSubstr(field.message));
  }
  block[0] = 'B';
  EXPECT_THAT(format.Check(block.data()).message, HasSubstr("magic number"));
}

TEST(Fp8BlockTest, ATagIsOfTheShapeAloneAndPlainBlocksHaveNone) {
  const Fp8Block format(Layout(), 8);
  std::string block(format.bytes(), 'x');
  format.Begin(block.data());
  EXPECT_NE(format.tag(), 0u);
  EXPECT_EQ(Fp8TagOf(block.data(), block.size()), format.tag());
  block[60] = 'x';  // of the header's zeros, which Check leaves alone
  EXPECT_EQ(Fp8TagOf(block.data(), block.size()), format.tag());
  EXPECT_EQ(Fp8TagOf(block.data(), sizeof(Fp8BlockHeader) - 1), 0u);
  block[0] = 'B';
  EXPECT_EQ(Fp8TagOf(block.data(), block.size()), 0u);
}

TEST(Fp8BlockTest, WhatNoMemoryHoldsHasNoSize) {
  KvLayout layout = Layout();
  layout.heads = kKvHeadsMax;
  layout.head_size = kKvHeadSizeMax;
  EXPECT_EQ(Fp8Block(layout, UINT64_MAX / 2).bytes(), UINT64_MAX);
  EXPECT_EQ(Fp8Block(layout, 1 << 24).bytes(), UINT64_MAX);
}

}  // namespace
}  // namespace agentmem
