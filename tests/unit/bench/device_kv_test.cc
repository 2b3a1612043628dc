#include "benchmarks/device_kv.h"

#include <gtest/gtest.h>

#include <string>

#include "benchmarks/block_sizes.h"
#include "benchmarks/hbm_model.h"

namespace agentmem::bench {
namespace {

TEST(KvShapeTest, EachSizeThatIsMeasuredIsMadeUpOfWholeFragments) {
  for (const std::size_t size : kBlockSizes) {
    const KvShape shape = KvShapeOf(size);
    EXPECT_EQ(shape.BlockBytes(), size);
    EXPECT_EQ(shape.FragmentBytes(), size < 65536 ? 2048u : kLayerFragment);
    EXPECT_LE(shape.layers, kLayers);
  }
}

TEST(KvShapeTest, AShapeOfFragmentsHasThoseInBlocksOfTwoMebibytesOrMore) {
  for (std::uint32_t bytes = 2 << 10; bytes <= 2 << 20; bytes *= 2) {
    const KvShape shape = KvShapeOfFragments(bytes);
    EXPECT_EQ(shape.FragmentBytes(), bytes);
    EXPECT_EQ(shape.BlockBytes(), bytes < 2 << 20 ? 2u << 20 : 4u << 20);
    EXPECT_LE(shape.layers, kLayers);
  }
}

TEST(KvShapeTest, SixteenTokensOfAllLayersAreTwoMebibytes) {
  const KvShape shape = KvShapeOf(2 << 20);
  EXPECT_EQ(shape.layers, kLayers);
  EXPECT_EQ(shape.page_tokens, 16u);
  EXPECT_EQ(shape.block_pages, 1u);
}

TEST(DeviceKvTest, ASizeThatNoShapeHasIsRefusedAndNamed) {
  for (const std::uint64_t bytes : {6144u, 96u << 10}) {
    const auto kv = DeviceKv::Open(nullptr, bytes, 1);
    ASSERT_FALSE(kv.ok());
    EXPECT_EQ(kv.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(std::string(kv.status().message()).find(std::to_string(bytes)),
              std::string::npos);
  }
}

}  // namespace
}  // namespace agentmem::bench
