#include "cuda/kv_layout.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace agentmem {
namespace {

constexpr std::uint64_t kBase = 1 << 20;

// A view with the arrays that it borrows.
struct Engine {
  KvLayout layout;
  std::uint64_t pages = 0;
  std::vector<DeviceAddress> layers;
  std::vector<DeviceAddress> values;

  KvView view() const { return {layout, layers, pages, values}; }
};

std::uint64_t PlaneAddress(const Engine& engine, std::uint32_t layer,
                           std::uint32_t plane) {
  if (plane == 0) return engine.layers[layer].value();
  if (!engine.values.empty()) return engine.values[layer].value();
  return engine.layers[layer].value() + engine.layout.plane_stride;
}

// Where each byte of a layer's part of a block is in the engine, one by one.
std::map<const char*, std::uint64_t> ModelOf(
    const Engine& engine, std::uint32_t layer,
    const std::vector<std::uint32_t>& pages, const char* block) {
  const KvLayout& layout = engine.layout;
  const std::uint64_t row = layout.head_size * BytesOf(layout.type);
  std::map<const char*, std::uint64_t> model;
  const char* at = block + layer * layout.planes * pages.size() *
                               layout.page_tokens * layout.heads * row;
  for (std::uint32_t plane = 0; plane < layout.planes; ++plane) {
    for (const std::uint64_t page : pages) {
      for (std::uint64_t token = 0; token < layout.page_tokens; ++token) {
        for (std::uint64_t head = 0; head < layout.heads; ++head) {
          for (std::uint64_t byte = 0; byte < row; ++byte) {
            model[at++] =
                PlaneAddress(engine, layer, plane) + page * layout.page_stride +
                token * layout.token_stride + head * layout.head_stride + byte;
          }
        }
      }
    }
  }
  return model;
}

// Whether no byte of the engine's is two elements'.
bool NoByteTwice(const Engine& engine) {
  std::vector<std::uint32_t> pages(engine.pages);
  for (std::uint32_t page = 0; page < pages.size(); ++page) pages[page] = page;
  std::vector<char> block(
      engine.layout.BlockBytes(pages.size() * engine.layout.page_tokens));
  std::set<std::uint64_t> seen;
  for (std::uint32_t layer = 0; layer < engine.layout.layers; ++layer) {
    for (const auto& [host, device] :
         ModelOf(engine, layer, pages, block.data())) {
      if (!seen.insert(device).second) return false;
    }
  }
  return true;
}

// Strides from any order of pages, layers, planes, tokens and heads, with gaps
// here and there.
Engine RandomEngine(std::mt19937_64* random) {
  const auto upto = [random](std::uint64_t n) { return (*random)() % n; };
  Engine engine;
  KvLayout& layout = engine.layout;
  layout.layers = 1 + upto(4);
  layout.planes = 1 + upto(2);
  layout.page_tokens = 1 + upto(4);
  layout.heads = 1 + upto(3);
  layout.head_size = 1 + upto(5);
  layout.type = static_cast<KvType>(upto(5));
  engine.pages = 1 + upto(5);
  const std::uint64_t element = BytesOf(layout.type);
  std::uint64_t layer_stride = 0;
  struct {
    std::uint64_t* stride;
    std::uint64_t count;
  } axes[] = {{&layout.page_stride, engine.pages},
              {&layer_stride, layout.layers},
              {&layout.plane_stride, layout.planes},
              {&layout.token_stride, layout.page_tokens},
              {&layout.head_stride, layout.heads}};
  std::shuffle(std::begin(axes), std::end(axes), *random);
  std::uint64_t inner = layout.head_size * element;
  for (const auto& axis : axes) {
    if (upto(4) == 0) inner += upto(3) * element;
    *axis.stride = inner;
    inner *= axis.count;
  }
  for (std::uint64_t layer = 0; layer < layout.layers; ++layer) {
    engine.layers.push_back(DeviceAddress(kBase + layer * layer_stride));
  }
  if (layout.planes == 2 && upto(2) == 0) {
    for (const DeviceAddress k : engine.layers) {
      engine.values.push_back(k + layout.plane_stride);
    }
    if (upto(2) == 0) std::swap(engine.layers, engine.values);
    layout.plane_stride = upto(100);
  }
  if (upto(2) == 0) {
    std::shuffle(engine.layers.begin(), engine.layers.end(), *random);
  }
  return engine;
}

class KvLayoutSeedTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Seeds, KvLayoutSeedTest, ::testing::Range(0, 8));

TEST_P(KvLayoutSeedTest, FragmentsHaveEachByteOnceWhereTheStridesSay) {
  std::mt19937_64 random(GetParam());
  for (int round = 0; round < 60; ++round) {
    Engine engine = RandomEngine(&random);
    std::vector<std::uint32_t> pages(engine.pages);
    for (std::uint32_t i = 0; i < pages.size(); ++i) pages[i] = i;
    if (round % 3 != 0) std::shuffle(pages.begin(), pages.end(), random);
    pages.resize(1 + random() % pages.size());
    std::vector<char> block(
        engine.layout.BlockBytes(pages.size() * engine.layout.page_tokens));

    std::map<const char*, std::uint64_t> found;
    for (std::uint32_t layer = 0; layer < engine.layout.layers; ++layer) {
      std::vector<Fragment> fragments;
      ASSERT_TRUE(
          AppendFragments(engine.view(), layer, pages, block.data(), &fragments)
              .ok());
      std::map<const char*, std::uint64_t> here;
      for (std::size_t i = 0; i < fragments.size(); ++i) {
        const Fragment& fragment = fragments[i];
        for (std::uint32_t byte = 0; byte < fragment.bytes; ++byte) {
          ASSERT_TRUE(
              here.emplace(fragment.host + byte, fragment.device.value() + byte)
                  .second);
        }
        if (i == 0) continue;
        const Fragment& before = fragments[i - 1];
        ASSERT_EQ(before.host + before.bytes, fragment.host);
        ASSERT_NE(before.device + before.bytes, fragment.device)
            << "two fragments that are one run, seed " << GetParam()
            << ", round " << round;
      }
      ASSERT_EQ(here, ModelOf(engine, layer, pages, block.data()))
          << "seed " << GetParam() << ", round " << round;
      found.merge(here);
      ASSERT_TRUE(here.empty()) << "two layers at one place of the block";
    }
    ASSERT_EQ(found.size(), block.size());
  }
}

TEST_P(KvLayoutSeedTest, AViewWhoseAxesNestIsTaken) {
  std::mt19937_64 random(GetParam());
  for (int round = 0; round < 200; ++round) {
    Engine engine = RandomEngine(&random);
    const Outcome checked = CheckView(engine.view());
    ASSERT_TRUE(checked.ok())
        << checked.message << ", seed " << GetParam() << ", round " << round;
    ASSERT_TRUE(NoByteTwice(engine));
  }
}

// Sound: what is taken has no byte twice. Exact for layers and planes: what is
// refused for them has one.
TEST_P(KvLayoutSeedTest, LayersAreRefusedIfAndOnlyIfTheyShareAByte) {
  std::mt19937_64 random(GetParam());
  int shared = 0;
  int apart = 0;
  for (int round = 0; round < 800; ++round) {
    Engine engine = RandomEngine(&random);
    KvLayout& layout = engine.layout;
    const std::uint64_t element = BytesOf(layout.type);
    const auto change = [&random, element](std::uint64_t value) {
      const std::uint64_t by = (random() % 8) * element;
      return random() % 2 == 0 ? value + by : value - std::min(by, value);
    };
    layout.plane_stride = change(layout.plane_stride) / element * element;
    if (round % 4 == 0) layout.token_stride = change(layout.token_stride);
    if (round % 4 == 1) layout.page_stride = change(layout.page_stride);
    DeviceAddress& moved = engine.layers[random() % engine.layers.size()];
    moved = DeviceAddress(change(moved.value()));

    const Outcome checked = CheckView(engine.view());
    if (checked.ok()) {
      ASSERT_TRUE(NoByteTwice(engine))
          << "seed " << GetParam() << ", round " << round;
      ++apart;
      continue;
    }
    ASSERT_EQ(checked.code, Code::kInvalidArgument);
    if (checked.message.find("overlap") == std::string::npos &&
        checked.message.find("plane_stride") != 0) {
      continue;  // within a plane more is asked for
    }
    ASSERT_FALSE(NoByteTwice(engine))
        << checked.message << ", seed " << GetParam() << ", round " << round;
    ++shared;
  }
  EXPECT_GT(shared, 50);
  EXPECT_GT(apart, 50);
}

// Strides of a tensor of this shape, row after row, in bytes.
std::vector<std::uint64_t> StridesOf(std::vector<std::uint64_t> shape,
                                     std::uint64_t element) {
  std::vector<std::uint64_t> strides(shape.size());
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = element;
    element *= shape[i];
  }
  return strides;
}

using Strides = std::array<std::uint64_t, 4>;
Strides Of(const KvLayout& layout) {
  return {layout.plane_stride, layout.page_stride, layout.token_stride,
          layout.head_stride};
}

constexpr std::uint32_t kLayers = 3;
constexpr std::uint32_t kPages = 10;
constexpr std::uint32_t kTokens = 16;
constexpr std::uint32_t kHeads = 8;
constexpr std::uint32_t kSize = 128;

TEST(KvLayoutTest, VllmsTensorsHaveTheStridesOfTheirShapes) {
  constexpr KvType kType = KvType::kBfloat16;
  auto s = StridesOf({2, kPages, kTokens, kHeads, kSize}, 2);
  EXPECT_EQ(
      Of(KvLayout::VllmFlash(kLayers, kPages, kTokens, kHeads, kSize, kType)),
      (Strides{s[0], s[1], s[2], s[3]}));
  s = StridesOf({2, kPages, kHeads, kTokens, kSize}, 2);
  EXPECT_EQ(Of(KvLayout::VllmFlash(kLayers, kPages, kTokens, kHeads, kSize,
                                   kType, KvOrder::kHeadsFirst)),
            (Strides{s[0], s[1], s[3], s[2]}));
  s = StridesOf({kPages, 2, kTokens, kHeads, kSize}, 2);
  EXPECT_EQ(
      Of(KvLayout::VllmFlashInfer(kLayers, kTokens, kHeads, kSize, kType)),
      (Strides{s[1], s[0], s[2], s[3]}));
  s = StridesOf({kPages, 2, kHeads, kTokens, kSize}, 2);
  EXPECT_EQ(Of(KvLayout::VllmFlashInfer(kLayers, kTokens, kHeads, kSize, kType,
                                        KvOrder::kHeadsFirst)),
            (Strides{s[1], s[0], s[3], s[2]}));
  s = StridesOf({kPages, kLayers, 2, kTokens, kHeads, kSize}, 2);
  EXPECT_EQ(Of(KvLayout::VllmAllLayers(kLayers, kTokens, kHeads, kSize, kType)),
            (Strides{s[2], s[0], s[3], s[4]}));
  s = StridesOf({kPages, kTokens, kHeads, 2, kSize}, 2);
  EXPECT_EQ(Of(KvLayout::VllmPacked(kLayers, kTokens, kHeads, kSize, kType)),
            (Strides{s[3], s[0], s[1], s[2]}));
  s = StridesOf({kPages, kHeads, kTokens, 2, kSize}, 2);
  EXPECT_EQ(Of(KvLayout::VllmPacked(kLayers, kTokens, kHeads, kSize, kType,
                                    KvOrder::kHeadsFirst)),
            (Strides{s[3], s[0], s[2], s[1]}));
}

TEST(KvLayoutTest, SglangsSlotsHaveTheStridesOfTheirShapes) {
  auto s = StridesOf({kPages * kTokens, kHeads, kSize}, 1);
  EXPECT_EQ(
      Of(KvLayout::SglangMha(kLayers, kTokens, kHeads, kSize, KvType::kFp8)),
      (Strides{0, s[0] * kTokens, s[0], s[1]}));
  const KvLayout latent = KvLayout::Mla(kLayers, 64, 576, KvType::kFloat32);
  EXPECT_EQ(latent.planes, 1u);
  s = StridesOf({kPages, 64, 1, 576}, 4);
  EXPECT_EQ(Of(latent), (Strides{0, s[0], s[1], s[2]}));
}

// How many fragments `count` pages in a row of layer 1 have.
std::size_t FragmentsOf(const KvLayout& layout, std::uint64_t layer_stride,
                        std::uint32_t count) {
  Engine engine{layout, kPages};
  for (std::uint64_t layer = 0; layer < layout.layers; ++layer) {
    engine.layers.push_back(DeviceAddress(kBase + layer * layer_stride));
  }
  const Outcome checked = CheckView(engine.view());
  EXPECT_TRUE(checked.ok()) << checked.message;
  std::vector<std::uint32_t> pages;
  for (std::uint32_t page = 0; page < count; ++page) pages.push_back(page + 2);
  std::vector<char> block(layout.BlockBytes(count * layout.page_tokens));
  std::vector<Fragment> fragments;
  EXPECT_TRUE(
      AppendFragments(engine.view(), 1, pages, block.data(), &fragments).ok());
  return fragments.size();
}

TEST(KvLayoutTest, EachEnginesFragmentsAreAsLongAsItsLayoutAllows) {
  constexpr KvType kType = KvType::kBfloat16;
  constexpr std::uint64_t kPlane = kTokens * kHeads * kSize * 2;
  constexpr std::uint64_t kTensor = 2 * kPlane * kPages;
  // Planes of pages in a row are one run.
  EXPECT_EQ(FragmentsOf(KvLayout::VllmFlash(kLayers, kPages, kTokens, kHeads,
                                            kSize, kType),
                        kTensor, 4),
            2u);
  // K and V of one page are one run, of several each is its own.
  const auto infer =
      KvLayout::VllmFlashInfer(kLayers, kTokens, kHeads, kSize, kType);
  EXPECT_EQ(FragmentsOf(infer, kTensor, 1), 1u);
  EXPECT_EQ(FragmentsOf(infer, kTensor, 4), 8u);
  EXPECT_EQ(FragmentsOf(
                KvLayout::VllmAllLayers(kLayers, kTokens, kHeads, kSize, kType),
                2 * kPlane, 4),
            8u);
  // A token's head is alone, but for the last of a page and the first of the
  // next: three times in each plane.
  EXPECT_EQ(FragmentsOf(KvLayout::VllmFlash(kLayers, kPages, kTokens, kHeads,
                                            kSize, kType, KvOrder::kHeadsFirst),
                        kTensor, 4),
            2u * (4 * kTokens * kHeads - 3));
  EXPECT_EQ(
      FragmentsOf(KvLayout::VllmPacked(kLayers, kTokens, kHeads, kSize, kType),
                  kTensor, 4),
      2u * 4 * kTokens * kHeads);
  EXPECT_EQ(FragmentsOf(KvLayout::Mla(kLayers, kTokens, 576, kType),
                        kTokens * 576 * 2 * kPages, 4),
            1u);
}

TEST(KvLayoutTest, ARunBeyond32BitsIsCutWhereTheNextIsAligned) {
  // Two pages of 4 GiB in a row; nothing is read or written.
  const Engine engine{
      KvLayout::Mla(1, 65536, 65536, KvType::kInt8), 2, {DeviceAddress(kBase)}};
  ASSERT_TRUE(CheckView(engine.view()).ok());
  constexpr std::size_t kBytes = std::size_t{8} << 30;
  void* const memory = mmap(nullptr, kBytes, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  const std::uint32_t pages[] = {0, 1};
  std::vector<Fragment> fragments;
  ASSERT_TRUE(AppendFragments(engine.view(), 0, pages,
                              static_cast<char*>(memory), &fragments)
                  .ok());
  std::uint64_t at = 0;
  for (const Fragment& fragment : fragments) {
    EXPECT_EQ(fragment.device.value(), kBase + at);
    EXPECT_EQ(fragment.host, static_cast<char*>(memory) + at);
    EXPECT_EQ(at % 256, 0u);
    at += fragment.bytes;
  }
  EXPECT_EQ(at, kBytes);
  EXPECT_EQ(fragments.size(), 3u);
  munmap(memory, kBytes);
}

Engine Usual() {
  Engine engine{KvLayout::VllmFlash(2, 4, 16, 8, 128, KvType::kBfloat16), 4};
  engine.layers = {DeviceAddress(kBase), DeviceAddress(kBase << 4)};
  return engine;
}

TEST(KvLayoutTest, WhatWasInTheListBeforeIsNotMadeLonger) {
  const Engine engine = Usual();
  std::vector<char> block(engine.layout.BlockBytes(16));
  std::vector<Fragment> fragments = {
      {DeviceAddress(kBase - 64), block.data() - 64, 64}};
  const std::uint32_t pages[] = {0};
  ASSERT_TRUE(
      AppendFragments(engine.view(), 0, pages, block.data(), &fragments).ok());
  ASSERT_EQ(fragments.size(), 3u);
  EXPECT_EQ(fragments[0].bytes, 64u);
}

TEST(KvLayoutTest, APageOrLayerThatIsNotThereLeavesTheListAsItWas) {
  const Engine engine = Usual();
  std::vector<char> block(engine.layout.BlockBytes(48));
  std::vector<Fragment> fragments = {{DeviceAddress(7), nullptr, 9}};
  const std::uint32_t pages[] = {0, 3, 4};
  Outcome outcome =
      AppendFragments(engine.view(), 1, pages, block.data(), &fragments);
  EXPECT_EQ(outcome.code, Code::kOutOfRange);
  EXPECT_NE(outcome.message.find("pages[2] is 4"), std::string::npos)
      << outcome.message;
  outcome = AppendFragments(engine.view(), 2, std::span(pages, 2), block.data(),
                            &fragments);
  EXPECT_EQ(outcome.code, Code::kOutOfRange);
  EXPECT_NE(outcome.message.find("layer 2"), std::string::npos);
  ASSERT_EQ(fragments.size(), 1u);
  EXPECT_EQ(fragments[0].device, DeviceAddress(7));
  EXPECT_EQ(fragments[0].bytes, 9u);
}

// Each wrong field, what the message begins with, and what it must hold too.
struct Wrong {
  const char* field;
  const char* also;
  void (*spoil)(Engine*);
};

void PrintTo(const Wrong& wrong, std::ostream* out) {
  *out << wrong.field << " " << wrong.also;
}

class KvWrongViewTest : public ::testing::TestWithParam<Wrong> {};

TEST_P(KvWrongViewTest, IsRefusedNamingTheField) {
  Engine engine = Usual();
  ASSERT_TRUE(CheckView(engine.view()).ok());
  GetParam().spoil(&engine);
  const Outcome checked = CheckView(engine.view());
  EXPECT_EQ(checked.code, Code::kInvalidArgument);
  EXPECT_EQ(checked.message.find(GetParam().field), 0u) << checked.message;
  EXPECT_NE(checked.message.find(GetParam().also), std::string::npos)
      << checked.message;
}

constexpr std::uint64_t kFar = UINT64_MAX - 1;

INSTANTIATE_TEST_SUITE_P(
    Fields, KvWrongViewTest,
    ::testing::Values(
        Wrong{"type is 9", "",
              [](Engine* e) { e->layout.type = static_cast<KvType>(9); }},
        Wrong{"layers is 0", "1 to 1024",
              [](Engine* e) { e->layout.layers = 0; }},
        Wrong{"layers is 1025", "1 to 1024",
              [](Engine* e) { e->layout.layers = 1025; }},
        Wrong{"layers is 3", "2 addresses",
              [](Engine* e) { e->layout.layers = 3; }},
        Wrong{"planes is 0", "1 to 2", [](Engine* e) { e->layout.planes = 0; }},
        Wrong{"planes is 3", "1 to 2", [](Engine* e) { e->layout.planes = 3; }},
        Wrong{"page_tokens is 0", "1 to 65536",
              [](Engine* e) { e->layout.page_tokens = 0; }},
        Wrong{"page_tokens is 65537", "1 to 65536",
              [](Engine* e) { e->layout.page_tokens = 65537; }},
        Wrong{"heads is 0", "1 to 4096",
              [](Engine* e) { e->layout.heads = 0; }},
        Wrong{"heads is 4097", "1 to 4096",
              [](Engine* e) { e->layout.heads = 4097; }},
        Wrong{"head_size is 0", "1 to 65536",
              [](Engine* e) { e->layout.head_size = 0; }},
        Wrong{"head_size is 65537", "1 to 65536",
              [](Engine* e) { e->layout.head_size = 65537; }},
        Wrong{"pages is 0", "1 to 4294967295", [](Engine* e) { e->pages = 0; }},
        Wrong{"pages is 4294967296", "1 to 4294967295",
              [](Engine* e) { e->pages = 1ULL << 32; }},
        Wrong{"values has 1", "one a layer",
              [](Engine* e) { e->values = {DeviceAddress(kBase << 5)}; }},
        Wrong{"values has 2", "planes is 2",
              [](Engine* e) {
                e->layout.planes = 1;
                e->values = e->layers;
              }},
        Wrong{"head_stride is 257", "multiple of an element's 2",
              [](Engine* e) { e->layout.head_stride = 257; }},
        Wrong{"head_stride is 254", "at least 256",
              [](Engine* e) { e->layout.head_stride = 254; }},
        Wrong{"head_stride is 0", "at least 256",
              [](Engine* e) { e->layout.head_stride = 0; }},
        Wrong{"token_stride is 2046", "at least 2048",
              [](Engine* e) { e->layout.token_stride = 2046; }},
        Wrong{"page_stride is 32766", "at least 32768",
              [](Engine* e) { e->layout.page_stride = 32766; }},
        Wrong{"page_stride is 9223372036854775808", "beyond 64 bits",
              [](Engine* e) { e->layout.page_stride = 1ULL << 63; }},
        Wrong{"page_stride is 6148914691236517204", "beyond 64 bits",
              [](Engine* e) { e->layout.page_stride = kFar / 3; }},
        Wrong{"plane_stride is 7", "multiple of an element's 2",
              [](Engine* e) { e->layout.plane_stride = 7; }},
        Wrong{"plane_stride is 131070", "share a place",
              [](Engine* e) { e->layout.plane_stride -= 2; }},
        Wrong{"plane_stride is 0", "share a place",
              [](Engine* e) { e->layout.plane_stride = 0; }},
        Wrong{"plane_stride is 18446744073709551614", "beyond 64 bits",
              [](Engine* e) { e->layout.plane_stride = kFar; }},
        Wrong{"layers[1] is 0", "an address",
              [](Engine* e) { e->layers[1] = DeviceAddress(0); }},
        Wrong{"layers[1] is 1048577", "a multiple of 2",
              [](Engine* e) { e->layers[1] = DeviceAddress(kBase + 1); }},
        Wrong{"layers[1] is 18446744073709289472", "beyond 64 bits",
              [](Engine* e) {
                e->layers[1] = DeviceAddress(0 - (1ULL << 18));
                e->layout.page_stride *= 4;
                e->layout.plane_stride = 32768;
              }},
        Wrong{"layers[1] is 1048576", "overlaps layers[0]",
              [](Engine* e) { e->layers[1] = e->layers[0]; }},
        Wrong{"layers[1] is 1310718", "overlaps layers[0]'s V",
              [](Engine* e) { e->layers[1] = DeviceAddress(1310718); }},
        Wrong{"values[0] is 16777216", "overlaps layers[1]", [](Engine* e) {
                e->values = {e->layers[1], DeviceAddress(kBase << 5)};
              }}));

TEST(KvLayoutTest, AStrideOfWhatThereIsOneOfIsNotLookedAt) {
  Engine engine = Usual();
  engine.pages = 1;
  engine.layout.page_stride = 3;
  engine.layout.heads = 1;
  engine.layout.head_stride = kFar;
  engine.values = {DeviceAddress(kBase << 6), DeviceAddress(kBase << 7)};
  engine.layout.plane_stride = 5;
  const Outcome checked = CheckView(engine.view());
  EXPECT_TRUE(checked.ok()) << checked.message;
}

TEST(KvLayoutTest, ABlockOfMoreBytesThan64BitsHoldIsNoSmallOne) {
  const KvLayout layout = Usual().layout;
  EXPECT_EQ(layout.token_bytes(), 2048u);
  EXPECT_EQ(layout.BlockBytes(0), 0u);
  EXPECT_EQ(layout.BlockBytes(3), 2u * 2 * 3 * 2048);
  EXPECT_EQ(layout.BlockBytes(1ULL << 51), UINT64_MAX);
}

TEST(KvLayoutTest, EachTypeHasItsBytes) {
  EXPECT_EQ(BytesOf(KvType::kFloat16), 2u);
  EXPECT_EQ(BytesOf(KvType::kBfloat16), 2u);
  EXPECT_EQ(BytesOf(KvType::kFloat32), 4u);
  EXPECT_EQ(BytesOf(KvType::kFp8), 1u);
  EXPECT_EQ(BytesOf(KvType::kInt8), 1u);
  EXPECT_EQ(BytesOf(static_cast<KvType>(5)), 0u);
}

}  // namespace
}  // namespace agentmem
