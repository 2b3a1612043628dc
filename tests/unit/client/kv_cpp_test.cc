// The C++ layer of KV blocks, on the host device, where an address of the
// device is a pointer.
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "agentmem/kv.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/client/fake_node.h"

namespace {

using agentmem::Code;
using agentmem::KvEngine;
using agentmem::KvLayout;
using agentmem::KvOrder;
using agentmem::KvShape;
using agentmem::KvType;
using std::chrono_literals::operator""s;
using testing::HasSubstr;

constexpr KvShape kShape = {.layers = 2,
                            .page_tokens = 4,
                            .heads = 2,
                            .head_size = 8,
                            .type = KvType::kBfloat16};
constexpr std::uint64_t kPages = 6;

// K and V of both layers of all pages, with nothing between.
constexpr std::uint64_t kLayerBytes = kPages * 2 * 4 * 2 * 8 * 2;

class KvCppTest : public testing::Test {
 protected:
  void SetUp() override {
    auto client =
        agentmem::Client::Connect({.socket_path = node_.socket_path()});
    ASSERT_TRUE(client.ok()) << client.status().ToString();
    client_.emplace(std::move(client).value());
    auto device =
        agentmem::Device::Open(*client_, {.kind = agentmem::DeviceKind::kHost});
    ASSERT_TRUE(device.ok()) << device.status().ToString();
    device_.emplace(std::move(device).value());
  }
  std::vector<std::uint64_t> Layers() {
    std::vector<std::uint64_t> layers;
    for (int i = 0; i < 2; ++i) {
      const auto address = device_->Allocate(kLayerBytes);
      EXPECT_TRUE(address.ok()) << address.status().ToString();
      layers.push_back(*address);
    }
    return layers;
  }
  void Free(const std::vector<std::uint64_t>& layers) {
    for (const std::uint64_t address : layers) device_->Free(address);
  }

  FakeNode node_;
  std::optional<agentmem::Client> client_;
  std::optional<agentmem::Device> device_;
};

TEST_F(KvCppTest, TheHeadersExampleWorks) {
  const auto layout = KvLayout::Of(KvEngine::kVllmFlash, kShape, kPages);
  ASSERT_TRUE(layout.ok()) << layout.status().ToString();
  const std::vector<std::uint64_t> from = Layers();
  const std::vector<std::uint64_t> to = Layers();
  std::mt19937_64 random{std::random_device{}()};
  for (const std::uint64_t layer : from) {
    for (std::uint64_t i = 0; i < kLayerBytes; i += 8) {
      const std::uint64_t word = random();
      std::memcpy(reinterpret_cast<char*>(layer) + i, &word, 8);
    }
  }
  agentmem::KvCache cache = {
      .layout = *layout, .layers = from, .pages = kPages, .block_tokens = 8};
  auto source = device_->OpenKv(cache);
  ASSERT_TRUE(source.ok()) << source.status().ToString();
  cache.layers = to;
  auto target = device_->OpenKv(cache);
  ASSERT_TRUE(target.ok()) << target.status().ToString();
  EXPECT_EQ(source->block_bytes(), 2u * 2 * 8 * 2 * 8 * 2);
  EXPECT_EQ(source->block_pages(), 2u);

  std::vector<agentmem::Key> keys(3);
  for (std::uint32_t i = 0; i < 3; ++i) keys[i].name[0] = i;
  const std::vector<std::uint32_t> pages = {0, 1, 2, 3, 4, 5};
  const auto stream = agentmem::Stream::LegacyDefault();
  auto store = source->Store(keys, pages, stream);
  ASSERT_TRUE(store.Wait(10s).ok()) << store.status().ToString();
  auto load = target->Load(keys, pages, stream);
  for (std::uint32_t layer = 0; layer < kShape.layers; ++layer) {
    EXPECT_TRUE(load.WaitLayer(layer, stream).ok());
  }
  EXPECT_EQ(load.WaitLayer(2, stream).code(), Code::kInvalidArgument);
  ASSERT_TRUE(load.Wait(10s).ok());
  for (std::size_t i = 0; i < from.size(); ++i) {
    EXPECT_EQ(std::memcmp(reinterpret_cast<const char*>(from[i]),
                          reinterpret_cast<const char*>(to[i]), kLayerBytes),
              0);
  }
  EXPECT_GT(device_->Describe().value().registered_bytes, 0u);
  Free(from);
  Free(to);
}

TEST_F(KvCppTest, WhatWasNotPostedAnswersWhy) {
  const auto layout = KvLayout::Of(KvEngine::kVllmFlash, kShape, kPages);
  const std::vector<std::uint64_t> layers = Layers();
  auto kv = device_->OpenKv({.layout = *layout,
                             .layers = layers,
                             .pages = kPages,
                             .block_tokens = 8});
  const std::vector<agentmem::Key> keys(2);
  const std::vector<std::uint32_t> pages = {0, 1, 2};
  const auto stream = agentmem::Stream::LegacyDefault();
  auto store = kv->Store(keys, pages, stream);
  EXPECT_THAT(store.status().message(), HasSubstr("2 blocks of 2 pages"));
  EXPECT_EQ(store.Wait(0s).code(), Code::kInvalidArgument);
  const std::vector<std::uint32_t> beyond = {0, 1, 2, 6};
  auto load = kv->Load(keys, beyond, stream);
  EXPECT_EQ(load.Wait(0s).code(), Code::kOutOfRange);
  EXPECT_EQ(load.WaitLayer(0, stream).code(), Code::kOutOfRange);
  EXPECT_EQ(device_
                ->OpenKv({.layout = *layout,
                          .layers = std::span(layers).first(1),
                          .pages = kPages,
                          .block_tokens = 8})
                .status()
                .code(),
            Code::kInvalidArgument);
  Free(layers);
}

TEST_F(KvCppTest, ALoadTellsItsTiersAndCompressionIsOfTheKv) {
  const auto layout = KvLayout::Of(KvEngine::kVllmFlash, kShape, kPages);
  const std::vector<std::uint64_t> layers = Layers();
  auto kv = device_->OpenKv({.layout = *layout,
                             .layers = layers,
                             .pages = kPages,
                             .block_tokens = 8});
  ASSERT_TRUE(kv.ok()) << kv.status().ToString();
  ASSERT_TRUE(kv->Compress().ok());
  // Of each of 2 layers 128 bytes of scales and 256 of codes; a header.
  EXPECT_EQ(kv->block_bytes(), 128u + 2 * (128 + 256));
  const std::vector<agentmem::Key> keys(1);
  const std::vector<std::uint32_t> pages = {4, 1};
  const auto stream = agentmem::Stream::LegacyDefault();
  auto store = kv->Store(keys, pages, stream);
  ASSERT_TRUE(store.Wait(10s).ok()) << store.status().ToString();
  EXPECT_EQ(store.Tiers().status().code(), Code::kFailedPrecondition);
  auto load = kv->Load(keys, pages, stream);
  ASSERT_TRUE(load.Wait(10s).ok()) << load.status().ToString();
  EXPECT_THAT(load.Tiers().value(),
              testing::ElementsAre(agentmem::Tier::kDram));
  Free(layers);
}

TEST_F(KvCppTest, WithoutAPoolNothingIsKept) {
  const auto layout = KvLayout::Of(KvEngine::kVllmFlash, kShape, kPages);
  const std::vector<std::uint64_t> layers = Layers();
  auto kv = device_->OpenKv({.layout = *layout,
                             .layers = layers,
                             .pages = kPages,
                             .block_tokens = 8});
  EXPECT_EQ(kv->KeepFor("coder-7").code(), Code::kFailedPrecondition);
  EXPECT_EQ(kv->Keep().code(), Code::kFailedPrecondition);
  EXPECT_EQ(device_->DescribeHbm().status().code(), Code::kFailedPrecondition);
  EXPECT_EQ(device_->OpenHbm(0).code(), Code::kInvalidArgument);
  Free(layers);
}

struct Strides {
  KvEngine engine;
  KvOrder order;
  std::uint32_t planes;
  std::uint64_t plane;
  std::uint64_t page;
  std::uint64_t token;
  std::uint64_t head;
};

// Of tensors as kv.h describes them, in bytes, worked out by hand: 2 layers of
// 6 pages of 4 tokens of 2 heads of 8 elements of 2 bytes.
TEST(KvLayoutOfTest, EachEngineHasTheStridesOfItsTensor) {
  const Strides all[] = {
      // [2, 6, 4, 2, 8] and [2, 6, 2, 4, 8]
      {KvEngine::kVllmFlash, KvOrder::kTokensFirst, 2, 768, 128, 32, 16},
      {KvEngine::kVllmFlash, KvOrder::kHeadsFirst, 2, 768, 128, 16, 64},
      // [6, 2, 4, 2, 8] and [6, 2, 2, 4, 8]
      {KvEngine::kVllmFlashInfer, KvOrder::kTokensFirst, 2, 128, 256, 32, 16},
      {KvEngine::kVllmFlashInfer, KvOrder::kHeadsFirst, 2, 128, 256, 16, 64},
      // [6, 2 layers, 2, 4, 2, 8]
      {KvEngine::kVllmAllLayers, KvOrder::kTokensFirst, 2, 128, 512, 32, 16},
      // [6, 4, 2, 16] and [6, 2, 4, 16]
      {KvEngine::kVllmPacked, KvOrder::kTokensFirst, 2, 16, 256, 64, 32},
      {KvEngine::kVllmPacked, KvOrder::kHeadsFirst, 2, 16, 256, 32, 128},
      // [24, 2, 8], twice
      {KvEngine::kSglangMha, KvOrder::kTokensFirst, 2, 0, 128, 32, 16},
  };
  for (const Strides& expected : all) {
    const auto layout =
        KvLayout::Of(expected.engine, kShape, kPages, expected.order);
    ASSERT_TRUE(layout.ok()) << layout.status().ToString();
    const std::string name =
        "engine " + std::to_string(static_cast<int>(expected.engine));
    EXPECT_EQ(layout->planes, expected.planes) << name;
    EXPECT_EQ(layout->plane_stride, expected.plane) << name;
    EXPECT_EQ(layout->page_stride, expected.page) << name;
    EXPECT_EQ(layout->token_stride, expected.token) << name;
    EXPECT_EQ(layout->head_stride, expected.head) << name;
  }
  KvShape latent = kShape;
  latent.heads = 1;
  latent.head_size = 576;
  const auto mla = KvLayout::Of(KvEngine::kMla, latent, kPages);
  ASSERT_TRUE(mla.ok()) << mla.status().ToString();
  EXPECT_EQ(mla->planes, 1u);
  EXPECT_EQ(mla->token_stride, 1152u);
  EXPECT_EQ(mla->page_stride, 4608u);
}

std::string Refusal(KvEngine engine, const KvShape& shape,
                    std::uint64_t pages = kPages,
                    KvOrder order = KvOrder::kTokensFirst) {
  const auto layout = KvLayout::Of(engine, shape, pages, order);
  if (layout.ok()) return "(none)";
  EXPECT_EQ(layout.status().code(), Code::kInvalidArgument);
  return layout.status().message();
}

TEST(KvLayoutOfTest, WhatIsNoShapeIsRefusedByName) {
  KvShape shape = kShape;
  shape.heads = 0;
  EXPECT_THAT(Refusal(KvEngine::kVllmFlash, shape), HasSubstr("heads is 0"));
  shape = kShape;
  shape.layers = 1025;
  EXPECT_THAT(Refusal(KvEngine::kVllmFlash, shape), HasSubstr("layers is"));
  EXPECT_THAT(Refusal(KvEngine::kVllmFlash, kShape, 0), HasSubstr("pages is"));
  EXPECT_THAT(Refusal(KvEngine::kMla, kShape), HasSubstr("heads is 2"));
  EXPECT_THAT(
      Refusal(KvEngine::kSglangMha, kShape, kPages, KvOrder::kHeadsFirst),
      HasSubstr("heads_first"));
  EXPECT_THAT(Refusal(static_cast<KvEngine>(7), kShape),
              HasSubstr("engine is 7"));
  shape = kShape;
  shape.type = static_cast<KvType>(5);
  EXPECT_THAT(Refusal(KvEngine::kVllmFlash, shape), HasSubstr("type is 5"));
  shape = {
      .layers = 1, .page_tokens = 65536, .heads = 4096, .head_size = 65536};
  EXPECT_THAT(Refusal(KvEngine::kVllmFlash, shape), HasSubstr("page of K"));
  agentmem_error error;
  EXPECT_EQ(agentmem_kv_layout_of(AGENTMEM_KV_MLA, 0, 1, nullptr, &error),
            AGENTMEM_INVALID_ARGUMENT);
}

}  // namespace
