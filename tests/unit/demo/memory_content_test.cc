#include "tests/demo/memory_content.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace agentmem::demo {
namespace {

constexpr std::uint64_t kUnits = 300;
constexpr std::uint64_t kBytes = kUnits * kMemoryUnitBytes;

std::vector<std::byte> BytesOf(const MemoryContent& content) {
  std::vector<std::byte> bytes(kBytes);
  for (std::uint64_t unit = 0; unit < kUnits; ++unit) {
    content.FillUnit(unit, std::span(bytes).subspan(unit * kMemoryUnitBytes,
                                                    kMemoryUnitBytes));
  }
  return bytes;
}

TEST(MemoryContent, VersionZeroIsZeros) {
  const std::vector<std::byte> zeros(kBytes);
  EXPECT_EQ(MemoryContent(1, kBytes).FirstMismatch(0, zeros), std::nullopt);
}

TEST(MemoryContent, AWriteChangesTheUnitsThatItNamesAndNoOthers) {
  MemoryContent content(1, kBytes);
  for (std::uint32_t version = 1; version < 20; ++version) {
    const std::vector<std::byte> before = BytesOf(content);
    const std::vector<std::uint64_t> changed = content.Write({2, 1});
    EXPECT_GT(changed.size(), 10u);
    const std::vector<std::byte> after = BytesOf(content);
    for (std::uint64_t unit = 0; unit < kUnits; ++unit) {
      const auto at = static_cast<std::ptrdiff_t>(unit * kMemoryUnitBytes);
      const bool same =
          std::equal(before.begin() + at,
                     before.begin() + at + std::ptrdiff_t{kMemoryUnitBytes},
                     after.begin() + at);
      if (!std::binary_search(changed.begin(), changed.end(), unit)) {
        EXPECT_TRUE(same) << "version " << version << ", unit " << unit;
      }
    }
    EXPECT_NE(content.FirstMismatch(0, before), std::nullopt);
  }
}

TEST(MemoryContent, TheFirstWrongByteIsNamed) {
  const std::vector<MemoryWriter> writers(5, MemoryWriter{3, 1});
  const MemoryContent content(7, kBytes, writers);
  std::vector<std::byte> bytes = BytesOf(content);
  EXPECT_EQ(content.FirstMismatch(0, bytes), std::nullopt);
  bytes[2 * kMemoryUnitBytes + 77] ^= std::byte{1};
  bytes[9 * kMemoryUnitBytes] ^= std::byte{1};
  EXPECT_EQ(content.FirstMismatch(0, bytes), 2 * kMemoryUnitBytes + 77);
  EXPECT_EQ(
      content.FirstMismatch(4 * kMemoryUnitBytes,
                            std::span(bytes).subspan(4 * kMemoryUnitBytes)),
      9 * kMemoryUnitBytes);
}

TEST(MemoryContent, AnotherWriterAndAnotherSeedHaveOtherBytes) {
  const std::vector<MemoryWriter> writers = {{0, 1}, {0, 1}};
  const std::vector<MemoryWriter> again = {{0, 1}, {0, 2}};
  const std::vector<MemoryWriter> forked = {{0, 1}, {1, 1}};
  const std::vector<std::byte> bytes =
      BytesOf(MemoryContent(7, kBytes, writers));
  EXPECT_EQ(MemoryContent(7, kBytes, writers).FirstMismatch(0, bytes),
            std::nullopt);
  EXPECT_NE(MemoryContent(7, kBytes, again).FirstMismatch(0, bytes),
            std::nullopt);
  EXPECT_NE(MemoryContent(7, kBytes, forked).FirstMismatch(0, bytes),
            std::nullopt);
  EXPECT_NE(MemoryContent(8, kBytes, writers).FirstMismatch(0, bytes),
            std::nullopt);
}

}  // namespace
}  // namespace agentmem::demo
